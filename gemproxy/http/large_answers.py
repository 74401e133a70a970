"""Write answers that are too large to be copied at once.

Twisted copies what it is given to write, and copies it again before sending: for 30 MB each copy
blocks the reactor for 10 ms. So a large body is written in pieces, each after the client has taken
the one before. The exchange ends when the first piece is written, as with any other answer. The
request counts as in flight until the last piece is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from gemproxy.batched_writes import send

if TYPE_CHECKING:
    from gemproxy.buffer_list import BufferList
    from gemproxy.http.request import ProxyRequest

#: Bytes. A longer body is written in pieces.
LARGE = 1024 * 1024
#: Bytes of a piece, and pieces that are written in one turn of the reactor.
PIECE = 256 * 1024
_AT_ONCE = 4


@implementer(IPushProducer)
class LargeAnswer:
    """Writes ``body`` to the client of ``request`` after its head, and ends the request."""

    def __init__(self, reactor: IReactorTime, request: ProxyRequest, body: BufferList) -> None:
        self._reactor = reactor
        self._request = request
        self._pieces = _pieces(body)
        self._paused = False
        self._next: IDelayedCall | None = None

    def start(self) -> None:
        """Write as much as the client takes, and the rest later."""
        self._request.is_undelivered = True
        self._request.on_disconnect(self._disconnected)
        self._request.registerProducer(self, True)
        self._go_on()

    def pauseProducing(self) -> None:
        """See :class:`IPushProducer`."""
        self._paused = True

    def resumeProducing(self) -> None:
        """See :class:`IPushProducer`."""
        self._paused = False
        if self._next is None:
            self._go_on()

    def stopProducing(self) -> None:
        """See :class:`IPushProducer`. The request is notified separately."""

    def _go_on(self) -> None:
        self._next = None
        for _ in range(_AT_ONCE):
            if self._paused:
                return
            piece = next(self._pieces, None)
            if piece is None:
                self._request.is_undelivered = False
                self._request.end()
                return
            send(self._request.channel.transport, piece)
        if not self._paused:
            self._next = self._reactor.callLater(0, self._go_on)

    def _disconnected(self) -> None:
        self._request.is_undelivered = False
        self._paused = True
        self._pieces = iter(())
        if self._next is not None:
            self._next.cancel()
            self._next = None


def _pieces(body: BufferList) -> Iterator[bytes]:
    for part in body.parts:
        whole = memoryview(part)
        for start in range(0, len(whole), PIECE):
            yield bytes(whole[start : start + PIECE])
