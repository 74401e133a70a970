"""``twistd -n gemproxy --demo``: the daemon as it is, in front of the simulator.

Nothing leaves the machine and nothing stays on it: the simulator listens on a free loopback port
with three made-up keys. The configuration and the state are in a folder that is named, for the
operator's program, and removed at the end.
"""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort

from gemproxy.config.settings import ProxySettings
from gemproxy.service.config_files import ConfigFiles
from gemproxy.service.daemon import Daemon
from gemproxy.simulator import DEMO_KEYS, Simulator, demo_config
from gemproxy.telemetry.destinations import Destination
from gemproxy.telemetry.logs import LoggedServices, install
from gemproxy.telemetry.scrubbing import Scrubber

_MODEL = "gemini-3.8-flash"


def write_files(folder: Path, upstream: str, port: int, admin_token: str) -> tuple[Path, Path]:
    """The configuration of the demo: the simulator's keys, and everything else by default."""
    proxy = {
        "proxy": {"port": port, "adminToken": admin_token},
        "upstream": {"baseUrl": upstream},
        "persistence": {
            "path": str(folder / "gemproxy.db"),
            "fallbackPath": str(folder / "gemproxy.json"),
        },
        "logging": {"format": "text"},
    }
    keys = {"keys": [{"name": name, "key": secret, "project": name} for name, secret in DEMO_KEYS]}
    # In a folder that only its owner can enter.
    files = folder / "proxy.yaml", folder / "keys.yaml"
    for file, content in zip(files, (proxy, keys), strict=True):
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return files


def make_demo(reactor: Any, destination: Destination, port: int | None = None) -> LoggedServices:
    """The daemon with the simulator underneath; greets whoever looks at the terminal.

    ``port`` is where it listens, 4806 by default.
    """
    simulator = Simulator(reactor, demo_config())
    temporary = TemporaryDirectory(prefix="gemproxy-demo-")
    backstage = DemoProcess(simulator, temporary)
    admin_token = secrets.token_urlsafe(24)
    places = write_files(
        Path(temporary.name),
        f"http://127.0.0.1:{backstage.port}",
        ProxySettings.port if port is None else port,
        admin_token,
    )
    files = ConfigFiles(*places, os.environ)
    seen = files.fingerprint()
    settings = files.read()
    sink = install(settings.logging, Scrubber([]), destination)
    daemon = Daemon(reactor, settings, files, seen, [backstage], sink=sink)
    greet = partial(_greet, admin_token=admin_token, config=places[0], show=daemon.show)
    daemon.listener.listening.addCallback(greet)
    return daemon.service


class DemoProcess(Service):
    """The simulator on a free port, and the folder for the state, gone when the demo is over."""

    def __init__(self, simulator: Simulator, folder: TemporaryDirectory[str]) -> None:
        self._simulator = simulator
        self._folder = folder
        # On loopback it is known at once whether listening works.
        listening: list[Any] = []
        simulator.listen().addCallback(listening.append)
        self._port = listening[0]
        self.port: int = self._port.getHost().port

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._simulator.abort_connections()
        await maybeDeferred(self._port.stopListening)
        self._folder.cleanup()


def _greet(
    port: IListeningPort, admin_token: str, config: Path, show: Callable[[str], None]
) -> IListeningPort:
    """Tell how to try it. The token is fresh, and as short-lived as the demo."""
    address: Any = port.getHost()
    origin = f"http://{address.host}:{address.port}"
    url = f"{origin}/v1"
    show(
        f"""
gemproxy demo: an OpenAI API at {url}, answered by a simulated Gemini API.
Three made-up keys: one steady, one rate limited, one flaky. Try it a few times:

  curl {url}/chat/completions -H 'Content-Type: application/json' \\
    -d '{{"model": "{_MODEL}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

Watch the keys at {origin}/admin/ with this token:

  {admin_token}

Or with the operator's program, in another terminal (its files are gone when the demo ends):

  {_operators_program()} keys --config {config} --url {origin}

"""
    )
    return port


def _operators_program() -> str:
    """By a path that holds in another terminal, whose PATH may not have this installation."""
    # Not resolved: the Python of a virtual environment is a link to another one.
    program = Path(sys.executable).with_name("gemproxy")
    words = [str(program)] if program.is_file() else [sys.executable, "-m", "gemproxy"]
    return shlex.join(words)
