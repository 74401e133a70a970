"""Which signals end the process.

Imported by the plugin before anything else of gemproxy, so it needs nothing but the standard
library.
"""

from __future__ import annotations

import signal

#: Signals that keep their default action: somebody sends them on purpose, they report a fault of
#: the process itself, or the default does no harm.
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

    SIGHUP reloads once the daemon runs. An earlier one can be ignored, since the files are read
    later anyway. A signal that has a handler keeps it.
    """
    for number in signal.valid_signals():
        if number not in _LEFT_ALONE and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.SIG_IGN)
