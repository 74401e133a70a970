"""A large request body, given to the socket piece by piece as it has room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

from gemproxy.sockets import send_now

_PIECE = 256 * 1024
#: So many pieces go in one turn of the reactor, however fast the other side reads.
_AT_ONCE = 8


@implementer(IPullProducer)
class Upload:
    """Writes ``body`` to ``transport`` without a second copy of it in memory.

    The transport asks for more when what was left to it is gone. ``done`` is called when all is.
    """

    def __init__(self, transport: Any, body: bytes, done: Callable[[], None]) -> None:
        self._transport = transport
        self._rest = memoryview(body)
        self._done = done

    def start(self) -> None:
        self._transport.registerProducer(self, streaming=False)

    def resumeProducing(self) -> None:
        turns = _AT_ONCE
        while self._rest:
            if not turns:
                self._transport.write(bytes(self._next()))
                return
            turns -= 1
            if not send_now(self._transport, self._next()):
                return
        self._done()
        self._transport.unregisterProducer()

    def _next(self) -> memoryview:
        piece, self._rest = self._rest[:_PIECE], self._rest[_PIECE:]
        return piece

    def stopProducing(self) -> None:
        """The connection is gone; whoever waits for the answer hears of it elsewhere."""
        self._rest = memoryview(b"")
