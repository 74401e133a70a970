"""Write to sockets in batches: what one turn of the reactor writes is sent at its end.

Theory of operation. Twisted's ``write`` queues: it registers the socket with the reactor for
writing, the next turn sends, and the socket is unregistered. If nothing is queued, the kernel
nearly always has room, and one ``send(2)`` replaces these four calls.

The cost of that call depends on whether it wakes the peer. Waking a process on another processor
costs the sender four times as much as sending; a peer that is awake already just finds more bytes.
So bytes are held until the end of the turn, and each peer is woken once.

A turn's end is when the reactor is about to wait. A delayed call for it would cost more than all
that this module saves: it is made, sorted among the timers, and called under the reactor's guards.
So :func:`flush_each_turn` takes a place in the reactor's loop, and only a reactor without it gets
delayed calls.
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

#: More than this is sent at once, and not copied behind held bytes.
_LARGE = 64 * 1024
#: More than a socket's buffer usually accepts: the rest would have to be copied into the queue.
_LARGEST = 256 * 1024
#: Transports. With more, a long turn sends earlier, so that peers can work meanwhile.
_MOST_WAITING = 32
_OFTEN_READ = (
    "TLS",
    "_aborting",
    "_writeDisconnected",
    "_writeDisconnecting",
    "bufferSize",
    "dataBuffer",
    "disconnecting",
)
_log = Logger()


class ErrorReportingClient(tcp.Client):
    """A client connection that reports the real reason of its end.

    An asynchronous error (ICMP host unreachable, TCP timeout) is reported before the kernel shuts
    the socket, and a read in between fails with no error of its own. Twisted then reports an
    orderly close. ``SO_ERROR`` still has the reason.
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


#: Neither TLS nor Unix sockets, which send in another way.
_PLAIN = (ErrorReportingClient, tcp.Server, tcp.Client)

#: Bytes to send at the end of this turn, by transport. One for the process, as the reactor is.
_waiting: dict[Any, bytes | bytearray] = {}
#: Reactors that send what is held before they wait.
_flushing: set[Any] = set()


def flush_each_turn(reactor: Any) -> None:
    """Let ``reactor`` send held bytes at the end of each turn, without a delayed call.

    Its loop calls ``runUntilCurrent`` between handling events and waiting for the next ones.
    """
    if reactor in _flushing:
        return
    run = reactor.runUntilCurrent

    def run_between_events() -> None:
        if _waiting:  # written by events
            _flush_all()
        run()
        if _waiting:  # written by timers, and by calls from threads
            _flush_all()

    reactor.runUntilCurrent = run_between_events
    _flushing.add(reactor)


def prepare(transport: Any) -> None:
    """Let a new ``transport`` have values of its own of what each write and each read asks for.

    Twisted's are values of a class until they change, which CPython looks up through all bases each
    time: 14 look-ups, half a percent of a request.
    """
    if type(transport) in _PLAIN:
        for name in _OFTEN_READ:
            setattr(transport, name, getattr(transport, name))


def send(transport: Any, data: bytes) -> None:
    """Write ``data`` to ``transport``, in order, before the reactor waits again.

    What the socket does not take, and every error, is left to ``transport.write``: the reactor
    meets the error again and reports it as usual. Call :func:`flush` before anything else is done
    to the transport that must come after ``data``.
    """
    before = _waiting.get(transport)
    if before is None:
        if type(transport) not in _PLAIN:
            transport.write(data)
        elif len(data) > _LARGE:
            _send(transport, data)
        else:
            if not _waiting and transport.reactor not in _flushing:
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
    """Write ``data`` to ``transport`` at once, after held bytes. Returns whether all was sent.

    For long data: it is copied only if the socket does not take it.
    """
    flush(transport)
    return _send(transport, data)


def flush(transport: Any) -> None:
    """Send held bytes now: the connection is about to be closed or handed over."""
    data = _waiting.pop(transport, None)
    if data is not None:
        _send(transport, data)


def is_waiting(transport: Any) -> bool:
    """Whether bytes written to ``transport`` are held until the end of the turn."""
    return transport in _waiting


def unsent(transport: Any) -> int:
    """Return how many bytes written to ``transport`` are still in this process."""
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
        # It may have been flushed since.
        data = _waiting.pop(transport, None)
        try:
            if data is not None:
                _send(transport, data)
        except Exception:  # noqa: BLE001 - the producer's own defect; others did nothing
            _log.failure("a connection's producer failed to pause")
    for transport in _waiting:  # More was written meanwhile.
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
