"""What is measured: the daemon, nginx as the floor, and the upstream that both stand in front of.

Each gateway is given requests in the format that it takes and answers from the same upstream:
gemproxy translates between OpenAI's format and Gemini's, nginx hands bytes through.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml
from processes import Program, free_port, get
from prometheus_client.parser import text_string_to_metric_families

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
#: Both gateways run here, the load generator on the other one.
GATEWAY_CPU = 0
LOAD_CPU = 1
ADMIN_TOKEN = "made-up-admin-token-of-the-benchmark"
CHAT = "/v1/chat/completions"

NGINX = """\
user root; daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_max_body_size 64m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream gemini {{ server 127.0.0.1:{upstream}; keepalive 300; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096; keepalive_requests 100000000;
    location / {{
      proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
      proxy_request_buffering off;
      proxy_set_header Authorization "Bearer made-up-key"; proxy_pass http://gemini/v1beta/openai/;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Lag:
    """How late the reactor came to its appointments: how many there were up to each bound, in s."""

    ticks_within: dict[float, float]

    def since(self, before: "Lag") -> "Lag":
        """What was added meanwhile."""
        return Lag({le: count - before.ticks_within[le] for le, count in self.ticks_within.items()})

    @property
    def ticks(self) -> int:
        """How many appointments there were."""
        return int(max(self.ticks_within.values()))

    @property
    def longest(self) -> float:
        """The least bound that no appointment was later than."""
        return min(le for le, count in self.ticks_within.items() if count == self.ticks)


@dataclass(frozen=True)
class Gateway:
    """A program that answers chat completions at ``address``."""

    program: Program
    address: str
    path: str
    stream_path: str

    def lag(self) -> Lag | None:
        """Of a program that has a reactor."""
        return None

    def stop(self) -> None:
        """As its supervisor would."""
        self.program.stop()


@dataclass(frozen=True)
class Daemon(Gateway):
    """gemproxy itself."""

    def lag(self) -> Lag:
        """From the metrics, which see everything since its start."""
        text = get(f"http://{self.address}/admin/metrics", ADMIN_TOKEN)
        return Lag(
            {
                float(sample.labels["le"]): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name == "gemproxy_reactor_lag_seconds_bucket"
            }
        )


@dataclass(frozen=True)
class Upstream(Gateway):
    """The made-up Gemini API; measured by itself for what is not the gateways' part."""

    def behave(self, chunks: int, pace: float) -> None:
        """So many chunks in each stream, ``pace`` seconds apart; 0 sends them in one write."""
        get(f"http://{self.address}/_control?chunks={chunks}&pace_us={round(pace * 1e6)}")


def start_upstream(folder: Path) -> Upstream:
    address = f"127.0.0.1:{free_port()}"
    port = address.partition(":")[2]
    program = Program("upstream", [BUILD / "upstream", port], folder)
    program.wait_until_up(f"http://{address}/_statistics")
    chat = "/v1beta/openai/chat/completions"
    return Upstream(program, address, chat, f"{chat}?stream")


def start_nginx(folder: Path, upstream: Upstream) -> Gateway:
    port = free_port()
    config = folder / "nginx.conf"
    upstream_port = upstream.address.partition(":")[2]
    config.write_text(NGINX.format(folder=folder, upstream=upstream_port, port=port))
    nginx = shutil.which("nginx") or "nginx"
    program = Program("nginx", [nginx, "-p", folder, "-c", config], folder, GATEWAY_CPU)
    address = f"127.0.0.1:{port}"
    program.wait_until_up(f"http://{address}/chat/completions")
    return Gateway(program, address, "/chat/completions", "/chat/completions?stream")


def start_daemon(folder: Path, upstream: Upstream, keys: int = 3, **proxy: int | str) -> Daemon:
    """With default settings but for ``proxy``: state on disk, log, metrics, every deadline.

    ``twistd`` is the one of the environment that runs this.
    """
    folder.mkdir(exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    config, key_file = folder / "proxy.yaml", folder / "keys.yaml"
    config.write_text(yaml.safe_dump(_settings(address, upstream, proxy)))
    key_file.write_text(yaml.safe_dump({"keys": _keys(keys)}))
    twistd = Path(sys.executable).parent / "twistd"
    command: list[str | Path] = [twistd, "-n", "--pidfile=", "gemproxy"]
    command += ["--config", config, "--keys", key_file]
    program = Program("gemproxy", command, folder, GATEWAY_CPU, PYTHONPATH=str(HERE.parent))
    program.wait_until_up(f"http://{address}/healthz")
    return Daemon(program, address, CHAT, CHAT)


def _settings(
    address: str, upstream: Upstream, proxy: dict[str, int | str]
) -> dict[str, dict[str, int | str]]:
    port = int(address.partition(":")[2])
    return {
        "proxy": {"port": port, "adminToken": ADMIN_TOKEN, **proxy},
        "upstream": {"baseUrl": f"http://{upstream.address}"},
    }


def _keys(count: int) -> list[dict[str, str]]:
    return [
        {"name": f"key-{number}", "key": f"made-up-key-{number:06}-0123456789"}
        for number in range(count)
    ]
