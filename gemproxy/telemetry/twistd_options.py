"""Where the log goes, by the options of twistd that the user has given.

twistd would make an observer of its own for each of them. Ours stands in its place, since it takes
secrets out; so it goes where that one would have gone.
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

#: twistd's, where it runs in the background and nothing else was said.
DEFAULT_FILE = "twistd.log"
_log = Logger()


def log_destination(
    reactor: Any, twistd: Mapping[str, Any], environ: Mapping[str, str]
) -> Destination:
    """The destination that ``twistd`` asks for: its options, ``{}`` outside of it.

    With a file, SIGUSR1 makes the log go on in the one that stands there by then. Raises
    :class:`StartRefused`.
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
        # Asked for besides; what goes here is what nobody else gets.
        name = os.devnull
    return _log_file(reactor, name or DEFAULT_FILE)


def _log_file(reactor: Any, name: str) -> Destination:
    try:
        file = RotatedFile(name)
    except OSError as error:
        raise StartRefused(1, f"cannot write the log to {name}: {error.strerror}") from None

    def reopen(_number: int, _frame: object) -> None:
        file.reopen()
        # A line is what makes it go on there.
        reactor.callFromThread(_log.info, "the log goes on in its file", file=name)

    signal.signal(signal.SIGUSR1, reopen)
    return file.destination()
