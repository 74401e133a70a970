"""Bytes to a socket at once, instead of by way of the reactor's next turn.

Twisted's ``write`` queues: the reactor is asked to watch for room, its next turn sends, and it is
asked to watch no longer. Where nothing is queued the kernel has room nearly always, and one
``send(2)`` does the work of these four calls.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import abstract, tcp

#: More than a socket's buffer usually takes; the rest would have to be copied to be queued.
_LARGEST = 256 * 1024
#: Neither TLS nor Unix sockets, which have ways of their own to send.
_PLAIN = (tcp.Server, tcp.Client)


def send(transport: Any, data: bytes | memoryview) -> bool:
    """Write ``data`` to ``transport``, now if nothing waits before it; in order at any rate.

    Tells whether all of it is gone. What the socket does not take, and whatever goes wrong, is
    left to ``transport.write``: the reactor meets the error again and tells of it as ever.
    """
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


def unsent(transport: Any) -> int:
    """How many bytes wait in this process for the other side to read."""
    waiting = 0
    while not isinstance(transport, abstract.FileDescriptor):
        waiting += sum(map(len, getattr(transport, "_appSendBuffer", ())))
        transport = getattr(transport, "transport", None)
        if transport is None:
            return waiting
    return waiting + len(transport.dataBuffer) - transport.offset + transport._tempDataLen
