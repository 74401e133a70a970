"""The limit of open files, and what fits into it."""

from __future__ import annotations

import resource

from twisted.logger import Logger

#: Used if there is no hard limit.
_ENOUGH = 1_048_576
#: Descriptors that stay free for files, the state, listeners, the admin API and the threads' pipes.
_OTHERS = 128

_log = Logger()


def connections_within_limit(wanted: int, upstream: int) -> int:
    """The number of client connections that fit into the limit, ``wanted`` at most.

    ``upstream`` is the number of upstream connections. Warns if not all fit into the limit of open
    files; clients get at least a quarter of it.
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
    """Raise the soft limit of open files to the hard one, and return it.

    The soft limit is 1,024 on most systems because ``select`` cannot use higher descriptors. The
    reactor uses epoll, which can (systemd.exec, "LimitNOFILE=").
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft
