"""Answers that are too large to be copied in one go.

Twisted copies what it is given to write, and again before it sends it: for 30 MB each copy holds up
the reactor for 10 ms. So a large body is written in pieces, each when the client has taken what was
written before. The exchange is over when the first piece is written, as it is with any other
answer; the request keeps its place among those in flight until the last piece is written.
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
#: Bytes of a piece, and pieces in a turn of the reactor.
PIECE = 256 * 1024
_AT_ONCE = 4


@implementer(IPushProducer)
class LargeAnswer:
    """Writes ``body``, whose head is written, to the client of ``request``, and ends it."""

    def __init__(self, reactor: IReactorTime, request: ProxyRequest, body: BufferList) -> None:
        self._reactor = reactor
        self._request = request
        self._pieces = _pieces(body)
        self._paused = False
        self._next: IDelayedCall | None = None

    def start(self) -> None:
        """Write what the client takes, and then the rest as it takes it."""
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
        """See :class:`IPushProducer`. The request hears of it by itself."""

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
