"""Which signals end the process.

Imported by the plugin before anything else of gemproxy, so it needs nothing but the standard
library.
"""

from __future__ import annotations

import signal

#: These stop, end or trace the process as ever: they are asked for on purpose, they tell of a fault
#: of its own, or they are no trouble.
_LEFT_ALONE = frozenset(
    {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGKILL,
        signal.SIGSTOP,
        signal.SIGTSTP,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGCONT,
        signal.SIGCHLD,
        signal.SIGURG,
        signal.SIGWINCH,
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGSEGV,
        signal.SIGSYS,
        signal.SIGTRAP,
    }
)


def survive_signals() -> None:
    """Ignore every signal whose default is to end the process, but SIGTERM and SIGINT.

    SIGHUP reloads once the daemon runs; one that comes before is not needed, since the files are
    read later. What has a handler already keeps it.
    """
    for number in signal.valid_signals():
        if number not in _LEFT_ALONE and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.SIG_IGN)
