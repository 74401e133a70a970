"""The real programs as processes of their own: the daemon under twistd, and the simulator.

Both listen on free loopback ports and tell when they are ready; nothing here waits by sleeping.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from fakes.wire import PATIENCE, Answer, Wire
from prometheus_client.parser import text_string_to_metric_families

REPOSITORY = Path(__file__).resolve().parents[2]
ADMIN_TOKEN = "an-admin-token-for-the-tests"


class Process:
    """A program whose output is read line by line while it runs."""

    def __init__(self, *command: str | Path, cwd: Path, **environ: str) -> None:
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._news = threading.Condition()
        self.popen = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._readers = [
            threading.Thread(target=self._read, args=(self.popen.stdout, self.lines), daemon=True),
            threading.Thread(target=self._read, args=(self.popen.stderr, self.errors), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, lines: list[str]) -> None:
        with stream:
            for line in stream:
                with self._news:
                    lines.append(line)
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    @property
    def output(self) -> str:
        """Everything that was printed so far."""
        return "".join(self.lines) + "".join(self.errors)

    def wait_for_line(self, wanted: str, start: int = 0) -> str:
        """The first line of standard output from ``start`` on that holds ``wanted``."""
        deadline = time.monotonic() + PATIENCE
        with self._news:
            while True:
                for line in self.lines[start:]:
                    if wanted in line:
                        return line
                start = len(self.lines)
                ended = self.popen.poll() is not None and not any(
                    reader.is_alive() for reader in self._readers
                )
                left = deadline - time.monotonic()
                if ended or left <= 0:
                    raise AssertionError(f"no line with {wanted!r} in:\n{self.output}")
                self._news.wait(min(left, 1.0))

    def wait(self) -> int:
        """The exit status, once the program has ended and all of its output is read."""
        status = self.popen.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return status

    def stop(self) -> int:
        """Ask it to stop as systemd does, and wait; gives the exit status."""
        if self.popen.poll() is None:
            self.popen.terminate()
        return self.wait()

    def kill(self) -> None:
        """End it as ``kill -9`` does, and wait until it is gone."""
        self.popen.kill()
        self.wait()


class RunningSimulator(Process):
    """``gemproxy simulate`` with one key for each name; a key's secret is ``secret_of(name)``."""

    def __init__(self, folder: Path, names: tuple[str, ...], **settings: Any) -> None:
        self.names = names
        config = folder / "simulator.yaml"
        keys = [{"name": name, "key": secret_of(name)} for name in names]
        config.write_text(yaml.safe_dump({"keys": keys, **settings}))
        super().__init__(
            sys.executable,
            "-m",
            "gemproxy.simulator.main",
            "--port",
            "0",
            "--config",
            config,
            cwd=folder,
        )
        self.url = self.wait_for_line("http://").split("http://")[1].split(";")[0]
        self.url = "http://" + self.url.strip()

    def control(self, method: str, path: str, body: object = None) -> Any:
        """One control call; see ``docs/simulator.md``."""
        request = urllib.request.Request(
            f"{self.url}/_simulator/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return json.load(response)

    def behave(self, name: str, behaviour: str, **more: Any) -> None:
        """Let one key behave like ``behaviour``; ``more`` are fields of the control call."""
        self.control("PUT", f"keys/{name}", {"behaviour": behaviour, **more})

    def behave_all(self, behaviour: str, **more: Any) -> None:
        for name in self.names:
            self.behave(name, behaviour, **more)

    def reset(self) -> None:
        """Back to the start: behaviours, quotas, the log of requests."""
        self.control("POST", "reset")

    def requests(self) -> list[dict[str, Any]]:
        """What came in, oldest first."""
        return self.control("GET", "requests?limit=1000")["requests"]

    def wait_for_request(self, condition: Any) -> dict[str, Any]:
        """The first request for which ``condition`` holds, looked at until it does."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for request in self.requests():
                if condition(request):
                    return request
            time.sleep(0.02)
        raise AssertionError(f"no such request in {self.requests()}")


class RunningDaemon(Process):
    """``twistd -n gemproxy`` in front of ``upstream``, with its files in ``folder``."""

    #: What the program is run by.
    prefix: tuple[str, ...] = ()

    def __init__(
        self,
        folder: Path,
        upstream: str,
        keys: list[dict[str, Any]],
        /,
        *options: str,
        environ: dict[str, str] | None = None,
        **settings: dict[str, Any],
    ) -> None:
        self.folder = folder
        self.upstream = upstream
        config, key_file = write_configuration(folder, upstream, keys, **settings)
        super().__init__(
            *self.prefix,
            *TWISTD,
            "gemproxy",
            "--config",
            config,
            "--keys",
            key_file,
            *options,
            cwd=folder,
            **(environ or {}),
        )
        #: Where the admin API listens, which starts first where it has a place of its own.
        self.admin_address = self._listening_place()
        self.address = self.admin_address
        if settings.get("proxy", {}).get("adminEndpoint"):
            self.address = self._listening_place(but=self.admin_address)
        self.host, _, port = self.address.rpartition(":")
        #: 0 where it listens on a Unix socket.
        self.port = int(port) if port.isdigit() else 0
        self.url = f"http://{self.address}"

    def _listening_place(self, but: str = "") -> str:
        """The first place that the log names, or the first one other than ``but``."""
        seen = 0
        while True:
            line = self.wait_for_line("listening on", seen)
            seen = self.lines.index(line, seen) + 1
            place = re.search(r'listening on ([^\s"]+)', line)[1]
            if place != but:
                return place

    def admin(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        *,
        token: str | None = ADMIN_TOKEN,
        source: str | None = None,
        **headers: str,
    ) -> Answer:
        """One request to ``/admin/`` and ``path``, from the address ``source``."""
        if token is not None:
            headers.setdefault("authorization", f"Bearer {token}")
        with Wire(self, source=source, place=self.admin_address) as wire:
            return wire.ask(method, f"/admin/{path}", body, **headers)

    def health(self) -> dict[str, Any]:
        """``GET /admin/health``."""
        return self.admin("GET", "health").json

    def wait_for_checkpoint(self) -> None:
        """Wait until everything that was counted so far is on the disk."""
        now = datetime.fromisoformat(self.health()["timestamp"])

        def is_saved() -> bool:
            saved = self.health()["persistence"]["last_checkpoint"]
            return saved is not None and datetime.fromisoformat(saved) > now

        eventually(is_saved)

    def key(self, name: str) -> dict[str, Any]:
        """How the key ``name`` stands."""
        return next(key for key in self.admin("GET", "keys").json["keys"] if key["name"] == name)

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of a scrape, by its name and its labels."""
        text = self.admin("GET", "metrics").body.decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float | None:
        """One sample; ``None`` where there is no such series."""
        return self.metrics().get((name, frozenset(labels.items())))

    def configure(self, keys: list[dict[str, Any]], /, **settings: dict[str, Any]) -> None:
        """Write both files anew, in the same shape as at the start; nothing is reloaded by it."""
        write_configuration(self.folder, self.upstream, keys, **settings)

    def reload(self) -> Answer:
        """Ask for a reload and wait for what came of it."""
        return self.admin("POST", "config/reload")

    def events(self) -> list[dict[str, Any]]:
        """The log so far."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def request_line(self, request_id: str) -> dict[str, Any]:
        """The log line of one request, once it is there."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for event in self.events():
                if event["event"] == "request finished" and event["request_id"] == request_id:
                    return event
            time.sleep(0.01)
        raise AssertionError(f"no line for {request_id} in:\n{self.output}")


def eventually(look: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What ``look`` gives, looked at until it is true or the time is up."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


#: ``twistd`` of the environment that runs the tests.
TWISTD = (Path(sys.executable).parent / "twistd", "-n", "--pidfile=")


def secret_of(name: str) -> str:
    """The made-up API key of a name."""
    return f"test-key-of-{name}-0123456789"


def keys_of(*names: str, **more: Any) -> list[dict[str, Any]]:
    """Entries of ``keys.yaml`` for keys that the simulator knows; ``more`` goes to each."""
    return [{"name": name, "key": secret_of(name), **more} for name in names]


def write_configuration(
    folder: Path, upstream: str, keys: list[dict[str, Any]], /, **settings: dict[str, Any]
) -> tuple[Path, Path]:
    """Both files; ``settings`` are sections of ``proxy.yaml`` over what the tests need."""
    sections: dict[str, dict[str, Any]] = {
        "proxy": {"port": 0, "adminToken": ADMIN_TOKEN},
        "upstream": {"baseUrl": upstream},
    }
    for name, section in settings.items():
        sections[name] = {**sections.get(name, {}), **section}
    config, key_file = folder / "proxy.yaml", folder / "keys.yaml"
    config.write_text(yaml.safe_dump(sections))
    key_file.write_text(yaml.safe_dump({"keys": keys}))
    return config, key_file
