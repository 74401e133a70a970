"""``gemproxy serve``: the daemon in the foreground, as ``twistd -n --pidfile= gemproxy``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemproxy.service.signals import survive_signals

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_MOST = 65535


def add_arguments(parser: ArgumentParser) -> None:
    """``--demo`` and ``--port``."""
    parser.add_argument(
        "--demo",
        action="store_true",
        help="try it without a key: proxy to a simulated Gemini API on this machine",
    )
    parser.add_argument(
        "--port",
        type=_port,
        metavar="N",
        help="listen on this port, whatever proxy.port says; 0: any free one",
    )


def run(arguments: Namespace) -> int:
    """Serve until SIGINT or SIGTERM. Exits with the daemon's status."""
    survive_signals()
    from gemproxy.tap import run_in_foreground  # noqa: PLC0415 - it takes its time

    run_in_foreground(_options(arguments))
    return 0


def _options(arguments: Namespace) -> list[str]:
    given = [
        f"--{name}={value}"
        for name in ("config", "keys", "clients", "port")
        if (value := getattr(arguments, name)) is not None
    ]
    return [*given, "--demo"] if arguments.demo else given


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= _MOST:
        raise ValueError
    return port
