"""Choose the log's destination by the options of twistd.

twistd has an observer for each of them, which does not scrub secrets. The sink of this program
replaces it and writes to the same place.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from twisted.logger import Logger

from gemproxy.core.errors import StartRefused
from gemproxy.telemetry.destinations import Destination, standard
from gemproxy.telemetry.log_files import RotatedFile, Syslog

#: twistd's default in the background.
DEFAULT_FILE = "twistd.log"
_log = Logger()


def log_destination(
    reactor: Any, twistd: Mapping[str, Any], environ: Mapping[str, str]
) -> Destination:
    """The destination by the options ``twistd``; ``{}`` outside of twistd.

    With a file, SIGUSR1 makes the log open its path again. Raises :class:`StartRefused`.
    """
    in_foreground = not twistd or twistd["nodaemon"] or twistd["debug"]
    name = twistd.get("logfile")
    if twistd.get("syslog"):
        return Syslog(twistd["prefix"]).destination()
    if name == "-" and not in_foreground:
        raise StartRefused(
            1, "a daemon cannot log to standard output; give -n or another --logfile"
        )
    if in_foreground and name in {None, "", "-"}:
        return standard(sys.stdout, environ)
    if twistd.get("logger") is not None:
        # Another observer was configured; this one gets the rest.
        name = os.devnull
    return _log_file(reactor, name or DEFAULT_FILE)


def _log_file(reactor: Any, name: str) -> Destination:
    try:
        file = RotatedFile(name)
    except OSError as error:
        raise StartRefused(1, f"cannot write the log to {name}: {error.strerror}") from None

    def reopen(_number: int, _frame: object) -> None:
        file.reopen()
        # The next line opens the file.
        reactor.callFromThread(_log.info, "the log goes on in its file", file=name)

    signal.signal(signal.SIGUSR1, reopen)
    return file.destination()
