"""Measure how much of what was sent a client has received.

A write succeeds as long as a buffer has room; only the kernel knows what has reached the other
side. Linux counts the bytes that a TCP peer has acknowledged (tcp(7), ``TCP_INFO``); for other
sockets it reports the bytes that were not received yet (``SIOCOUTQ``).
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from gemproxy.batched_writes import unsent
from gemproxy.tcp_keepalive import socket_below, unacknowledged

_INTERNET = (socket.AF_INET, socket.AF_INET6)
# Offsets in ``struct tcp_info`` (linux/tcp.h), whose first byte is the state: tcpi_unacked in
# segments, tcpi_last_data_sent and tcpi_last_ack_recv in milliseconds ago, tcpi_bytes_acked.
_UNACKED, _LAST_SENT, _LAST_ACK, _ACKED = 24, 44, 56, 120
_INFO_BYTES = 128
#: Milliseconds that an acknowledgement may take.
_ROUND_TRIP = 1000
_TCP_ESTABLISHED = 1

_number = struct.Struct("=I").unpack_from
_long_number = struct.Struct("=Q").unpack_from


class ClientProgress:
    """Watches what the client behind ``transport`` receives, from ``now`` (monotonic) on."""

    def __init__(self, transport: Any, now: float) -> None:
        self._transport = transport
        self._socket = socket_below(transport)
        self._taken = -1
        self._waiting = -1
        #: When the client was last seen to have received something.
        self.advanced_at = now

    def update(self, now: float) -> int:
        """Return how many bytes the client has yet to receive. Call it every few seconds."""
        waiting, taken = self._ask()
        if taken > self._taken if taken >= 0 else waiting < self._waiting:
            self.advanced_at = now
        self._taken, self._waiting = taken, waiting
        return waiting

    def _ask(self) -> tuple[int, int]:
        """Return the waiting bytes and the bytes received so far; -1 if they are not counted."""
        waiting = unsent(self._transport)
        if self._socket is None:
            return waiting, -1
        try:
            waiting += unacknowledged(self._socket)
            info = _tcp_info(self._socket)
        except OSError:  # The socket is closed.
            return waiting, -1
        return waiting, _long_number(info, _ACKED)[0] if len(info) == _INFO_BYTES else -1


def has_closed(transport: Any) -> bool:
    """Whether a TCP peer has closed the connection, or its half of it."""
    below = socket_below(transport)
    try:
        return below is not None and _tcp_info(below)[:1] not in (b"", bytes([_TCP_ESTABLISHED]))
    except OSError:
        return False


def is_unresponsive(transport: Any, seconds: float) -> bool:
    """Whether a TCP peer was silent for ``seconds`` and has not acknowledged the last bytes.

    A live peer acknowledges what it receives. One with a full window may be silent for as long,
    because the kernel probes it at growing intervals, but it answers each probe.
    """
    below = socket_below(transport)
    try:
        info = b"" if below is None else _tcp_info(below)
    except OSError:
        return False
    if len(info) < _INFO_BYTES or not _number(info, _UNACKED)[0]:
        return False
    heard: int = _number(info, _LAST_ACK)[0]
    return heard >= seconds * 1000 and _ROUND_TRIP <= _number(info, _LAST_SENT)[0] < heard


def _tcp_info(connection: socket.socket) -> bytes:
    if connection.family not in _INTERNET or not hasattr(socket, "TCP_INFO"):
        return b""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
