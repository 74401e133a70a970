"""How many files and sockets the process may have open."""

from __future__ import annotations

import resource

#: Where the hard limit is none at all.
_ENOUGH = 1_048_576


def raise_open_file_limit() -> int:
    """Raise the soft limit of open files to the hard one; gives it.

    The soft limit is 1,024 on most systems for the sake of programs that call ``select``, which
    cannot count further. The reactor uses epoll; a connection that is refused for want of a
    descriptor would be nobody's gain (systemd.exec, "LimitNOFILE=").
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft
