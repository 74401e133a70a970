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
#: The daemon's path for each dialect of clients, and the one for streams where it is another.
NATIVE = "/v1beta/models/gemini-2.5-flash"
PATHS = {
    "chat": ("/v1/chat/completions", "/v1/chat/completions"),
    "messages": ("/v1/messages", "/v1/messages"),
    "responses": ("/v1/responses", "/v1/responses"),
    "native": (f"{NATIVE}:generateContent", f"{NATIVE}:streamGenerateContent?alt=sse"),
}

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
#: How often the text of a stream is in it, where that is more than once.
REPEATS = {"responses": 5}
#: What ends a stream of gemproxy's in each dialect, as far as its last bytes tell.
ENDS = {"chat": "[DONE]", "messages": "message_stop", "responses": "}}", "native": "}"}


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

    def path_of(self, _dialect: str, *, stream: bool) -> str:
        """Where it is asked; a gateway that hands bytes through has one place for all."""
        return self.stream_path if stream else self.path

    def end_of(self, _dialect: str) -> str:
        """The text that ends a stream."""
        return ENDS["chat"]

    def times_told(self, _dialect: str) -> int:
        """How often each chunk's text is in a stream."""
        return 1

    def lag(self) -> Lag | None:
        """Of a program that has a reactor."""
        return None

    def stop(self) -> None:
        """As its supervisor would."""
        self.program.stop()


@dataclass(frozen=True)
class Daemon(Gateway):
    """gemproxy itself."""

    def path_of(self, dialect: str, *, stream: bool) -> str:
        """The path of the dialect's endpoint."""
        return PATHS[dialect][stream]

    def end_of(self, dialect: str) -> str:
        """The end in the dialect."""
        return ENDS[dialect]

    def times_told(self, dialect: str) -> int:
        """Responses repeat the text in the events that end its parts."""
        return REPEATS.get(dialect, 1)

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
    return Daemon(program, address, *PATHS["chat"])


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
