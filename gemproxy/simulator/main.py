"""The simulator as a program: ``gemproxy simulate``, or ``python -m gemproxy.simulator.main``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.error import CannotListenError

from gemproxy.clock import use_monotonic_time
from gemproxy.core.errors import ConfigError
from gemproxy.simulator.config import DEMO_KEYS, SimulatorConfig, demo_config, load
from gemproxy.simulator.server import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IListeningPort
    from twisted.python.failure import Failure

DEFAULT_PORT = 4807
_HOST = "127.0.0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the simulator."""
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="port on 127.0.0.1; 0: any free one"
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML with keys and behaviours; default: demo keys",
    )
    parser.add_argument("--seed", type=int, help="makes answers and random choices repeatable")
    parser.add_argument(
        "--keys",
        action="store_true",
        help="print the names and the made-up secrets of the demo keys and end",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit status.

    78 for a mistake in the file, 1 if the port is in use.
    """
    if args.keys:
        return _print_demo_keys()
    try:
        config = demo_config() if args.config is None else load(args.config)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return os.EX_CONFIG
    if args.seed is not None:
        config = replace(config, seed=args.seed)
    # Only here the simulator uses the global reactor.
    from twisted.internet import reactor  # noqa: PLC0415

    use_monotonic_time(reactor)
    return serve(reactor, config, args.port, _say)


def serve(reactor: Any, config: SimulatorConfig, port: int, write: Callable[[str], object]) -> int:
    """Run ``reactor`` with a simulator on ``port`` until a signal; returns the exit status."""
    simulator = Simulator(reactor, config)
    failures: list[str] = []

    def listening(listener: IListeningPort) -> None:
        address: Any = listener.getHost()
        write(_greeting(address.port, config))
        sys.stdout.flush()

    def failed(failure: Failure) -> None:
        failure.trap(CannotListenError)
        reason = getattr(failure.value, "socketError", failure.value)
        failures.append(f"cannot listen on {_HOST}:{port}: {reason}")
        reactor.stop()

    def start() -> None:
        simulator.listen(port, _HOST).addCallbacks(listening, failed)

    def stop(_signal: int, _frame: object) -> None:
        reactor.callFromThread(reactor.stop)

    reactor.callWhenRunning(start)
    reactor.addSystemEventTrigger("before", "shutdown", simulator.abort_connections)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    reactor.run(installSignalHandlers=False)
    for message in failures:
        sys.stderr.write(f"{message}\n")
    return 1 if failures else 0


def _say(text: str) -> None:
    """Print ``text`` in a thread, because a terminal in scroll lock blocks the writer."""

    def write() -> None:
        with suppress(OSError):
            os.write(1, text.encode())

    threading.Thread(target=write, daemon=True).start()


def _greeting(port: int, config: SimulatorConfig) -> str:
    address = f"http://{_HOST}:{port}"
    key = _key_to_show(config)
    body = '{"contents":[{"role":"user","parts":[{"text":"Hello"}]}]}'
    return (
        f"The simulator serves a Gemini API at {address}; try: "
        f"curl -s {address}/v1beta/models/gemini-3.8-flash:generateContent "
        f"-H 'x-goog-api-key: {key}' -H 'content-type: application/json' -d '{body}'\n"
    )


def _key_to_show(config: SimulatorConfig) -> str:
    """A made-up key is printed; of a key from a file only the name."""
    demo = dict(DEMO_KEYS)
    if config.keys and config.keys[0].name in demo:
        return demo[config.keys[0].name]
    return f"<the key of {config.keys[0].name}>" if config.keys else "any-key"


def _print_demo_keys() -> int:
    for name, secret in DEMO_KEYS:
        sys.stdout.write(f"{name}  {secret}\n")
    return 0


def main() -> int:
    """Entry of ``python -m gemproxy.simulator.main``."""
    parser = argparse.ArgumentParser(prog="gemproxy simulate", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
