"""``twistd -n gemproxy --demo``: the daemon as it is, in front of the simulator.

Nothing leaves the machine and nothing stays on it: the simulator listens on a free loopback port
with three made-up keys, and the state goes to a folder that is removed at the end.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort

from gemproxy.config.settings import (
    LoggingSettings,
    PersistenceSettings,
    ProxySettings,
    Settings,
    UpstreamSettings,
)
from gemproxy.daemon import Daemon
from gemproxy.keys.key import Key
from gemproxy.observability.destinations import Destination
from gemproxy.observability.logs import LoggedServices, install
from gemproxy.observability.scrubbing import Scrubber
from gemproxy.secret import Secret
from gemproxy.services.config_files import FixedSettings
from gemproxy.simulator import DEMO_KEYS, Simulator, demo_config

_MODEL = "gemini-3.8-flash"


def demo_settings(upstream: str, folder: str, admin_token: Secret) -> Settings:
    """The configuration of the demo: the simulator's keys, and everything else by default."""
    return Settings(
        keys=tuple(Key(name, Secret(secret), project=name) for name, secret in DEMO_KEYS),
        proxy=ProxySettings(admin_token=admin_token),
        upstream=UpstreamSettings(base_url=upstream),
        persistence=PersistenceSettings(
            path=Path(folder, "gemproxy.db"), fallback_path=Path(folder, "gemproxy.json")
        ),
        logging=LoggingSettings(format="text"),
    )


def make_demo(reactor: Any, destination: Destination) -> LoggedServices:
    """The daemon with the simulator underneath; greets whoever looks at the terminal."""
    simulator = Simulator(reactor, demo_config())
    folder = TemporaryDirectory(prefix="gemproxy-demo-")
    backstage = Backstage(simulator, folder)
    admin_token = Secret(secrets.token_urlsafe(24))
    settings = demo_settings(f"http://127.0.0.1:{backstage.port}", folder.name, admin_token)
    sink = install(settings.logging, Scrubber([]), destination)
    daemon = Daemon(reactor, settings, FixedSettings(), b"", [backstage], sink=sink)
    daemon.listener.listening.addCallback(_greet, admin_token, daemon.show)
    return daemon.service


class Backstage(Service):
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
    port: IListeningPort, admin_token: Secret, show: Callable[[str], None]
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

  {admin_token.reveal()}

"""
    )
    return port
