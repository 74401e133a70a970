"""``twistd gemproxy``: its options, and the service that it runs.

The only module that imports the reactor.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import IService, ServiceMaker
from twisted.logger import Logger
from twisted.python import usage

from gemproxy import __version__
from gemproxy.batched_writes import flush_each_turn
from gemproxy.clock import use_monotonic_time
from gemproxy.config.loading import locate_files
from gemproxy.config.settings import LoggingSettings
from gemproxy.core.errors import ConfigError, StartRefused
from gemproxy.event_loop import skip_log_context
from gemproxy.service.activation import Activation, StartFiles
from gemproxy.service.config_files import ConfigFiles
from gemproxy.service.daemon import Daemon
from gemproxy.service.handed_over import HandedOver
from gemproxy.service.open_files import raise_open_file_limit
from gemproxy.service.pid_file import PidFile
from gemproxy.service.signals import survive_signals
from gemproxy.telemetry import logs
from gemproxy.telemetry.destinations import Destination
from gemproxy.telemetry.scrubbing import Scrubber
from gemproxy.telemetry.twistd_options import log_destination

#: Seconds after which a thread gives the interpreter lock back to the reactor. Python's default of
#: 5 ms is as long as the reactor may be blocked at all.
SWITCH_SECONDS = 0.001
#: What twistd in the foreground reads from the daemon in the background.
_STATUS_BYTES = 100

_log = Logger()


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError("a port is a number up to 65535")
    return port


class Options(usage.Options):
    """Options of ``twistd gemproxy``."""

    parent: Any = None
    optParameters = (
        ["config", "c", None, "Settings of the proxy [GEMPROXY_CONFIG, config/proxy.yaml]"],
        ["keys", "k", None, "The API keys [GEMPROXY_KEYS, config/keys.yaml]"],
        ["clients", None, None, "Who may ask [GEMPROXY_CLIENTS, clients.yaml beside proxy.yaml]"],
        [
            "port",
            "p",
            None,
            "Listen on this port, whatever proxy.port says; 0: any free one",
            _port,
        ],
    )
    optFlags = (
        ["demo", None, "Try it without a key: proxy to a simulated Gemini API on this machine"],
    )
    longdesc = (
        "A gateway for OpenAI, Anthropic and Gemini clients in front of a pool of Gemini API keys."
    )

    def __init__(self) -> None:
        super().__init__()
        # Again, for callers that did not come through the plugin.
        survive_signals()
        #: In the place of twistd's own; none outside of twistd, or where it was not to be.
        self.pid_file: PidFile | None = None

    def postOptions(self) -> None:
        """Lock the pid file before twistd reads the number in it."""
        if self.parent is not None and self.parent["pidfile"]:
            with _refusals_told():
                self.pid_file = PidFile(Path(self.parent["pidfile"]).absolute())
            self.parent["pidfile"] = ""

    def opt_version(self) -> None:
        """Show the version and exit."""
        sys.stdout.write(f"gemproxy {__version__}\n")
        raise SystemExit(0)


def makeService(options: Options) -> IService:
    """Make the daemon's service. A mistake in the configuration ends the process with status 78."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    use_monotonic_time(reactor)
    flush_each_turn(reactor)
    skip_log_context(reactor)
    raise_open_file_limit()
    sys.setswitchinterval(SWITCH_SECONDS)
    twistd: Mapping[str, Any] = options.parent or {}
    with _refusals_told():
        services = _make(reactor, options, log_destination(reactor, twistd, os.environ))
    if options.pid_file is not None:
        options.pid_file.setServiceParent(services)
    if twistd and not (twistd["nodaemon"] or twistd["debug"]):
        services.tell = partial(_tell_parent, options.parent)
    return services


def _make(reactor: Any, options: Options, destination: Destination) -> logs.LoggedServices:
    if options["demo"]:
        from gemproxy.service.demo import make_demo  # noqa: PLC0415 - brings the simulator with it

        return make_demo(reactor, destination, options["port"])
    sink = logs.install(LoggingSettings(), Scrubber([]), destination)
    # Twisted removes two of the variables from the environment when it loads its plugins.
    handed = HandedOver.take(os.environ, os.getpid())
    if handed:
        start = StartFiles(
            options["config"], options["keys"], os.environ, clients=options["clients"]
        )
        return Activation(reactor, handed, start, sink, os.environ).in_log()
    places = locate_files(options["config"], options["keys"], os.environ)
    files = ConfigFiles(*places, os.environ, port=options["port"], clients=options["clients"])
    # Taken before the files are read, so that a later change is noticed.
    seen = files.fingerprint()
    return Daemon(reactor, files.read(), files, seen, sink=sink).service


@contextmanager
def _refusals_told() -> Iterator[None]:
    """Print why the start is refused on standard error, and exit."""
    try:
        yield
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        # The systemd unit does not restart after this status.
        raise SystemExit(os.EX_CONFIG) from None
    except StartRefused as refused:
        sys.stderr.write(f"gemproxy: {refused.reason}\n")
        raise


def _tell_parent(twistd: Any, reason: str) -> None:
    """Log it, and report it to the process that waits in the foreground."""
    _log.critical("{reason}", reason=reason)
    pipe = twistd.get("statusPipe")
    if pipe is not None:
        with suppress(OSError):
            os.write(pipe, f"1 {reason}".encode()[:_STATUS_BYTES])


def run_in_foreground(arguments: Sequence[str]) -> None:
    """Run the daemon as ``twistd -n --pidfile= gemproxy`` and ``arguments`` would.

    It skips twistd's search for plugins, since the plugin is known.
    """
    from twisted.scripts import twistd  # noqa: PLC0415 - only who has no twistd of his own

    maker = ServiceMaker("gemproxy", __name__, "", "gemproxy")

    class Twistd(twistd.ServerOptions):  # type: ignore[misc, name-defined]
        """twistd's options, with one command."""

        subCommands = (("gemproxy", None, Options, ""),)
        loadedPlugins = {"gemproxy": maker}  # noqa: RUF012 - Twisted's way

    options = Twistd()
    options.parseOptions(["--nodaemon", "--pidfile=", "gemproxy", *arguments])
    twistd.runApp(options)
