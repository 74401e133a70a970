"""``twistd -n gemproxy --demo``: the real daemon in front of the simulator.

It needs no network and leaves no files. The simulator listens on a free loopback port and knows
three made-up keys. The configuration and the state are in a temporary folder, whose path is printed
so that the command line can be used with it.
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
    """Write the configuration of the demo: the simulator's keys, defaults for the rest."""
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
    """Make the daemon in front of the simulator; it prints how to try it.

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
    # Not those of an installed service.
    files = ConfigFiles(*places, os.environ, has_clients=False)
    seen = files.fingerprint()
    settings = files.read()
    sink = install(settings.logging, Scrubber([]), destination)
    daemon = Daemon(reactor, settings, files, seen, [backstage], sink=sink)
    greet = partial(_greet, admin_token=admin_token, config=places[0], show=daemon.show)
    daemon.listener.listening.addCallback(greet)
    return daemon.service


class DemoProcess(Service):
    """The simulator on a free port, and the temporary folder."""

    def __init__(self, simulator: Simulator, folder: TemporaryDirectory[str]) -> None:
        self._simulator = simulator
        self._folder = folder
        # Listening on loopback succeeds or fails at once.
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
    """Print how to try it. The token is made for this run only."""
    address: Any = port.getHost()
    origin = f"http://{address.host}:{address.port}"
    url = f"{origin}/v1"
    show(
        f"""
gemproxy demo: OpenAI's API at {url}, Anthropic's and Gemini's at {origin},
answered by a simulated Gemini API.
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
    """The path of ``gemproxy``; in another terminal PATH may not have this installation."""
    # Not resolved: the Python of a virtual environment is a link to another one.
    program = Path(sys.executable).with_name("gemproxy")
    words = [str(program)] if program.is_file() else [sys.executable, "-m", "gemproxy"]
    return shlex.join(words)
