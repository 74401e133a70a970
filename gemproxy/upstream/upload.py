"""A large request body, given to the transport piece by piece as it has room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

_PIECE = 128 * 1024


@implementer(IPullProducer)
class Upload:
    """Writes ``body`` to ``transport`` without a second copy of it in memory.

    ``done`` is called when the transport asks for more after the last piece.
    """

    def __init__(self, transport: Any, body: bytes, done: Callable[[], None]) -> None:
        self._transport = transport
        self._rest = memoryview(body)
        self._done = done

    def start(self) -> None:
        self._transport.registerProducer(self, streaming=False)

    def resumeProducing(self) -> None:
        if not self._rest:
            self._done()
            self._transport.unregisterProducer()
            return
        piece, self._rest = self._rest[:_PIECE], self._rest[_PIECE:]
        self._transport.write(bytes(piece))

    def stopProducing(self) -> None:
        """The connection is gone; whoever waits for the answer hears of it elsewhere."""
        self._rest = memoryview(b"")
