"""Notice a peer that vanished silently, by TCP keepalive and TCP user timeout.

A machine without power, a dropped NAT entry or a pulled cable sends no reset. An idle connection
would then stay open for ever, and one with unacknowledged bytes for a quarter of an hour (tcp(7),
``tcp_retries2``). With these options the kernel probes the peer and gives up; the connection ends
with ``ETIMEDOUT``.
"""

from __future__ import annotations

import fcntl
import math
import socket
import struct
import termios
from contextlib import suppress
from typing import Any

#: Unanswered probes before the connection ends.
_PROBES = 3
_INT = struct.Struct("i")
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def notice_silence(transport: Any, seconds: float, *, stalled_seconds: float = 0.0) -> None:
    """Make the connection of ``transport`` end when its peer has vanished.

    After ``seconds`` of silence (``upstream.keepaliveSeconds``) TCP sends three probes, a quarter
    of that time apart. Both an idle connection and one with unacknowledged bytes end after
    :func:`gone_after` seconds: 35 with the default of 20. A peer that is alive but reads nothing
    (its window is closed) looks the same to the kernel and ends after the same time;
    ``stalled_seconds`` sets a longer time for unacknowledged bytes, ``inf`` none at all.

    ``transport`` is Twisted's, with or without TLS, or a socket. Other sockets than TCP are
    left as they are. Never raises: a connection without these options still works.
    """
    connection = socket_below(transport)
    if connection is None or connection.family not in _FAMILIES:
        return
    interval = _interval(seconds)
    patience = max(gone_after(seconds), stalled_seconds)
    # One at a time: other systems have only some of them.
    for level, name, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", _whole(seconds)),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", interval),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", _PROBES),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", _milliseconds(patience)),
    ):
        with suppress(OSError, AttributeError):
            connection.setsockopt(level, getattr(socket, name), value)


def gone_after(seconds: float) -> float:
    """The seconds of silence after which such a connection ends."""
    return _whole(seconds) + _PROBES * _interval(seconds)


def unacknowledged(transport: Any) -> int:
    """Bytes that the kernel has sent, or holds, and the peer has not acknowledged; 0 if unknown."""
    connection = socket_below(transport)
    if connection is None:
        return 0
    try:
        (waiting,) = _INT.unpack(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(_INT.size)))
    except (OSError, ValueError):
        return 0
    return int(waiting)


def _interval(seconds: float) -> int:
    return max(1, round(seconds / 4))


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))


def _milliseconds(seconds: float) -> int:
    """The value for ``TCP_USER_TIMEOUT``, where 0 is the system's default."""
    return 0 if math.isinf(seconds) else math.ceil(seconds * 1000)


def socket_below(transport: Any) -> socket.socket | None:
    """The socket below ``transport``, which may be wrapped in TLS any number of times."""
    for _ in range(4):
        if isinstance(transport, socket.socket):
            return transport
        inner = getattr(transport, "socket", None) or getattr(transport, "transport", None)
        if inner is None:
            return None
        transport = inner
    return None
