"""Bytes to sockets: those of one turn of the reactor leave together at its end.

Twisted's ``write`` queues: the reactor is asked to watch for room, its next turn sends, and it is
asked to watch no longer. Where nothing is queued the kernel has room nearly always, and one
``send(2)`` does the work of these four calls.

That one call is cheap or dear by whom it wakes. Whoever waits for the bytes on another processor
has to be woken, which costs the sender four times what the sending does; whoever is awake already,
because something was sent to it a moment ago, just finds more. So what a turn writes waits for the
turn's end: many bytes then wake each peer once.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any

from twisted.internet import abstract, tcp
from twisted.internet.error import ConnectionLost, getConnectError
from twisted.logger import Logger
from twisted.python.failure import Failure

#: More than this is sent without waiting for others, and not copied behind what waits.
_LARGE = 64 * 1024
#: More than a socket's buffer usually takes; the rest would have to be copied to be queued.
_LARGEST = 256 * 1024
#: In a long turn peers should not wait for the end: they could be at work meanwhile.
_MOST_WAITING = 32
_log = Logger()


class ErrorReportingClient(tcp.Client):
    """A connection of ours whose end is told with its reason.

    An error that comes by itself (a router says that there is no such host, TCP gives up) is
    reported before the kernel has shut the socket, and who looks in between cannot read from it
    yet. Twisted then calls it a connection that was closed in order. The socket knows better.
    """

    def connectionLost(self, reason: Failure) -> None:
        """See :class:`tcp.Client`."""
        number = 0
        with suppress(AttributeError, OSError):
            number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number and not self.connected:
            self.failIfNotConnected(getConnectError((number, os.strerror(number))))
            return
        super().connectionLost(Failure(ConnectionLost(os.strerror(number))) if number else reason)


#: Neither TLS nor Unix sockets, which have ways of their own to send.
_PLAIN = (ErrorReportingClient, tcp.Server, tcp.Client)

#: What is to be sent at the end of this turn, by the transport. There is one reactor in a process,
#: and so there is one of these.
_waiting: dict[Any, bytes | bytearray] = {}


def send(transport: Any, data: bytes) -> None:
    """Write ``data`` to ``transport`` before the reactor waits again; in order at any rate.

    What the socket does not take, and whatever goes wrong, is left to ``transport.write``: the
    reactor meets the error again and tells of it as ever. Before anything else is done to the
    transport that should come after ``data``, it is to be :func:`flush`-ed.
    """
    before = _waiting.get(transport)
    if before is None:
        if type(transport) not in _PLAIN:
            transport.write(data)
        elif len(data) > _LARGE:
            _send(transport, data)
        else:
            if not _waiting:
                _at_end_of_turn(transport.reactor)
            _waiting[transport] = data
            if len(_waiting) == _MOST_WAITING:
                _flush_all()
        return
    if len(before) + len(data) > _LARGE:
        send_now(transport, data)
    elif type(before) is bytearray:
        before += data
    else:
        _waiting[transport] = bytearray(before) + data


def send_now(transport: Any, data: bytes | memoryview) -> bool:
    """Write ``data`` to ``transport`` at once, behind what waits. Tells whether all of it is gone.

    For much: it is not copied before the socket was asked.
    """
    flush(transport)
    return _send(transport, data)


def flush(transport: Any) -> None:
    """Send what waits for the turn's end: the connection is about to close, or to change hands."""
    data = _waiting.pop(transport, None)
    if data is not None:
        _send(transport, data)


def is_waiting(transport: Any) -> bool:
    """Whether something that was written to ``transport`` waits for the turn's end."""
    return transport in _waiting


def unsent(transport: Any) -> int:
    """How many bytes wait in this process for the other side to read."""
    waiting = len(_waiting.get(transport, b""))
    while not isinstance(transport, abstract.FileDescriptor):
        waiting += sum(map(len, getattr(transport, "_appSendBuffer", ())))
        transport = getattr(transport, "transport", None)
        if transport is None:
            return waiting
    return waiting + len(transport.dataBuffer) - transport.offset + transport._tempDataLen


def _at_end_of_turn(reactor: Any) -> None:
    reactor.callLater(0, _flush_all)


def _flush_all() -> None:
    for transport in list(_waiting):
        # Somebody may have flushed it since.
        data = _waiting.pop(transport, None)
        try:
            if data is not None:
                _send(transport, data)
        except Exception:  # noqa: BLE001 - a producer that was told to pause; others did nothing
            _log.failure("a connection's producer failed when it was told to pause")
    for transport in _waiting:  # Something was written meanwhile.
        _at_end_of_turn(transport.reactor)
        break


def _send(transport: Any, data: bytes | bytearray | memoryview) -> bool:
    if (
        type(transport) not in _PLAIN
        or len(data) > _LARGEST
        or transport._tempDataBuffer
        or transport.dataBuffer
        or not transport.connected
        or transport.disconnecting
        or transport._aborting
        or transport.TLS
        or transport._writeDisconnected
        or transport._writeDisconnecting
    ):
        transport.write(bytes(data))
        return False
    try:
        sent = transport.socket.send(data)
    except OSError:
        sent = 0
    if sent == len(data):
        return True
    transport.write(bytes(data[sent:]))
    return False
