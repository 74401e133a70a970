"""``twistd gemproxy``: its options, and the service that it runs.

The only module that imports the reactor.
"""

from __future__ import annotations

import os
import sys

from twisted.application.service import IService
from twisted.python import usage

from gemproxy import __version__
from gemproxy.activation import Activation, StartFiles
from gemproxy.clock import use_monotonic_time
from gemproxy.config.loading import locate_files
from gemproxy.config.settings import LoggingSettings
from gemproxy.daemon import Daemon
from gemproxy.errors import ConfigError
from gemproxy.observability import logs
from gemproxy.observability.scrubbing import Scrubber
from gemproxy.services.config_files import ConfigFiles
from gemproxy.services.handed_over import HandedOver
from gemproxy.services.open_files import raise_open_file_limit

#: EX_CONFIG of sysexits.h; the systemd unit does not restart on it.
CONFIGURATION_FAULT = 78
#: How long a thread may keep the reactor waiting for the interpreter's lock: a fifth of Python's
#: default, which is all that a block of the reactor may last.
SWITCH_SECONDS = 0.001


class Options(usage.Options):
    """Options of ``twistd gemproxy``."""

    optParameters = (
        ["config", "c", None, "Settings of the proxy [GEMPROXY_CONFIG, config/proxy.yaml]"],
        ["keys", "k", None, "The API keys [GEMPROXY_KEYS, config/keys.yaml]"],
    )
    optFlags = (
        ["demo", None, "Try it without a key: proxy to a simulated Gemini API on this machine"],
    )
    longdesc = "An OpenAI-compatible gateway in front of a pool of Gemini API keys."

    def opt_version(self) -> None:
        """Show the version and exit."""
        sys.stdout.write(f"gemproxy {__version__}\n")
        raise SystemExit(0)


def makeService(options: Options) -> IService:
    """The daemon as a service. A mistake in the configuration ends the process with status 78."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    use_monotonic_time(reactor)
    raise_open_file_limit()
    sys.setswitchinterval(SWITCH_SECONDS)
    if options["demo"]:
        from gemproxy.demo import make_demo  # noqa: PLC0415 - brings the simulator with it

        demo: IService = make_demo(reactor)
        return demo
    # Twisted has taken two of the variables out of the environment while it loaded its plugins.
    handed = HandedOver.take(os.environ, os.getpid())
    if handed:
        start = StartFiles(options["config"], options["keys"], os.environ)
        sink = logs.install(LoggingSettings(), Scrubber([]), sys.stdout)
        return Activation(reactor, handed, start, sink, os.environ).in_log()
    try:
        files = ConfigFiles(
            *locate_files(options["config"], options["keys"], os.environ), os.environ
        )
        # Before the files are read, so that a change in this moment is noticed afterwards.
        seen = files.fingerprint()
        return Daemon(reactor, files.read(), files, seen).service
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(CONFIGURATION_FAULT) from None
