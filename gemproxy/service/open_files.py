"""How many files and sockets the process may have open."""

from __future__ import annotations

import resource

from twisted.logger import Logger

#: Where the hard limit is none at all.
_ENOUGH = 1_048_576
#: Descriptors that stay free for files, the state, listeners, the admin API and the threads' pipes.
_OTHERS = 128

_log = Logger()


def connections_within_limit(wanted: int, upstream: int) -> int:
    """How many connections of clients there may be, ``wanted`` at most.

    ``upstream`` connections may be open at a time as well. Warns where not all fit into the limit
    of open files: a quarter of it is the clients' at any rate.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return wanted
    room = max(limit - upstream - _OTHERS, limit // 4)
    if wanted > room:
        _log.warn(
            "the limit of open files, {limit}, leaves room for {room} connections of clients"
            " beside {upstream} to the upstream, not for the {wanted} of proxy.maxConnections",
            limit=limit,
            room=room,
            upstream=upstream,
            wanted=wanted,
        )
    return min(wanted, room)


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
