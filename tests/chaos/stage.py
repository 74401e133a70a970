"""What the chaos happens to: a simulated upstream, and a daemon on a socket that outlives it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections import deque
from pathlib import Path
from typing import Any

import yaml
from fakes.running import (
    ADMIN_TOKEN,
    PATIENCE,
    REPOSITORY,
    TWISTD,
    RunningSimulator,
    keys_of,
    secret_of,
    write_configuration,
)

CLIENT_TOKEN = "a-client-token-of-the-chaos-0123"
GOOD_KEYS = ("alpha", "beta", "gamma", "delta")
EXPIRED_KEY = "expired"
SECRETS = tuple(secret_of(name) for name in (*GOOD_KEYS, EXPIRED_KEY))
#: Lines that are kept of those that no daemon may write.
MOST_FORBIDDEN = 100
FAKETIME = next((path for path in Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


class Stage:
    """The upstream and the daemon, and everything that an actor may do to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.simulator = RunningSimulator(folder, (*GOOD_KEYS, EXPIRED_KEY))
        self.simulator.behave(EXPIRED_KEY, "expired")
        self.clock = folder / "clock"
        self.clock.write_text("+0s")
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port: int = self.listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        #: The last lines of the log, for whoever looks for the reason of a failure.
        self.lines: deque[str] = deque(maxlen=5000)
        #: Lines of the log that no daemon may write, of its whole life: tracebacks and secrets.
        self.forbidden: list[str] = []
        self.reading = threading.Event()
        self.reading.set()
        #: Ends of the daemon that nobody asked for.
        self.unplanned: list[str] = []
        #: Monotonic times at which the daemon was killed.
        self.kills: list[float] = []
        self.errors = (folder / "stderr").open("ab")
        self._lock = threading.Lock()
        self._is_expected = False
        self.configure()
        self._start()
        self.wait_until_live()

    # -- configuration ---------------------------------------------------------------------------

    def configure(self, **weights: int) -> None:
        """Write both files; ``weights`` are those of keys that do not have 1."""
        keys = keys_of(*GOOD_KEYS, EXPIRED_KEY)
        for key in keys:
            key["weight"] = weights.get(key["name"], 1)
        self.config, self.keys = write_configuration(
            self.folder,
            self.simulator.url,
            keys,
            proxy={
                "endpoint": "systemd:domain=INET:name=gemproxy",
                "accessTokens": [{"name": "honest", "token": CLIENT_TOKEN}],
                "drainSeconds": 15,
                "slowReaderSeconds": 10,
            },
            upstream={"keepaliveSeconds": 10, "connectTimeoutSeconds": 5},
            monitoring={"cooldownSeconds": 2, "recoveryTime": 10},
            persistence={
                "path": str(self.folder / "state.db"),
                "fallbackPath": str(self.folder / "state.json"),
                "checkpointSeconds": 1,
            },
        )

    def break_configuration(self) -> None:
        """Write what no reload takes."""
        self.keys.write_text(yaml.safe_dump({"keys": [{"nmae": "misspelt"}]}))

    # -- the process -----------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self, before_the_start: Any = None) -> None:
        """``kill -9``, perhaps do something to its files, and start it again."""
        with self._expecting_the_end():
            self.kills.append(time.monotonic())
            self.process.kill()
            self.process.wait(PATIENCE)
            if before_the_start is not None:
                before_the_start()
        self.wait_until_live()

    def restart(self) -> None:
        """As ``systemctl restart`` does it."""
        with self._expecting_the_end():
            self.process.terminate()
            status = self.process.wait(PATIENCE)
            if status != 0:
                self.unplanned.append(f"SIGTERM ended it with status {status}")
        self.wait_until_live()

    def signal(self, number: int) -> None:
        with self._lock, contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def stop(self) -> int:
        self.reading.set()
        with self._lock:
            self._is_expected = True
        self.process.terminate()
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self.simulator.stop()
        self.errors.close()
        self.listening.close()
        return status

    @contextlib.contextmanager
    def limited_descriptors(self, spare: int) -> Any:
        """The daemon may open ``spare`` more descriptors than it has now."""
        with self._lock:
            pid = self.pid
            used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + spare, hard))
        try:
            yield
        finally:
            # The daemon raises its limit to the hard one. Another act may have lowered the limit
            # before this one: to restore what was found would make its low limit permanent.
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))

    def rss(self) -> int:
        """Resident memory in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    # -- what it says ----------------------------------------------------------------------------

    def get(self, path: str, seconds: float = PATIENCE) -> Any:
        request = urllib.request.Request(
            f"{self.url}{path}", headers={"authorization": f"Bearer {ADMIN_TOKEN}"}
        )
        with urllib.request.urlopen(request, timeout=seconds) as response:
            return json.load(response)

    def wait_until_live(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.get("/livez", 5)
            except (OSError, ValueError):
                assert time.monotonic() < deadline, "\n".join(list(self.lines)[-50:])
                time.sleep(0.1)
            else:
                return

    def states(self) -> dict[str, str]:
        """The state of each key by its name."""
        return {key["name"]: key["status"] for key in self.get("/admin/keys")["keys"]}

    # -- insides ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _expecting_the_end(self) -> Any:
        with self._lock:
            self._is_expected = True
            try:
                yield
            finally:
                self._start()
                self._is_expected = False
                # A signal before the plugin is loaded is twistd's, and HUP would end it.
                self.wait_until_live()

    def _start(self) -> None:
        faked = {}
        if FAKETIME is not None:
            faked = {
                "LD_PRELOAD": str(FAKETIME),
                "FAKETIME_TIMESTAMP_FILE": str(self.clock),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
            }
        descriptor = self.listening.fileno()
        twistd = [str(part) for part in TWISTD]
        self.process = subprocess.Popen(
            [
                "bash",  # Not sh, which may know descriptors of one digit only.
                "-c",
                f'LISTEN_PID=$$ exec "$@" 3<&{descriptor}',
                "sh",
                *twistd,
                "gemproxy",
                "--config",
                str(self.config),
                "--keys",
                str(self.keys),
            ],
            cwd=self.folder,
            env={
                **os.environ,
                **faked,
                "PYTHONPATH": str(REPOSITORY),
                "LISTEN_FDS": "1",
                "LISTEN_FDNAMES": "gemproxy",
            },
            pass_fds=(descriptor,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        rest = b""
        while True:
            self.reading.wait()
            # No more than is there, so that a pause begins at once.
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                break
            *whole, rest = (rest + data).split(b"\n")
            self._take(whole)
        self._take([rest])
        process.stdout.close()
        status = process.wait()
        if not self._is_expected and process is self.process:
            self.unplanned.append(f"it ended by itself with status {status}")
            time.sleep(1)
            with self._lock:
                if not self._is_expected:
                    self._start()
                    self.wait_until_live()

    def _take(self, lines: list[bytes]) -> None:
        for line in lines:
            text = line.decode("utf-8", "replace")
            self.lines.append(text)
            if is_forbidden(text) and len(self.forbidden) < MOST_FORBIDDEN:
                self.forbidden.append(text)


def is_forbidden(text: str) -> bool:
    return "Traceback" in text or any(secret in text for secret in SECRETS)


SIGNALS_WITHOUT_HARM = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
