"""A large request body, given to the socket piece by piece as it has room."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

from gemproxy.batched_writes import send_now
from gemproxy.buffer_list import BufferList

_PIECE = 256 * 1024
#: What is shorter is not worth a system call of its own, where more follows.
_SHORT = 64 * 1024
#: So many pieces go in one turn of the reactor, however fast the other side reads.
_AT_ONCE = 8


@implementer(IPullProducer)
class Upload:
    """Writes ``body`` to ``transport``, of which nothing but what waits is copied.

    The transport asks for more when what was left to it is gone. ``done`` is called when all is.
    """

    def __init__(self, transport: Any, body: bytes | BufferList, done: Callable[[], None]) -> None:
        self._transport = transport
        parts = body.parts if isinstance(body, BufferList) else [body]
        self._rest = deque(memoryview(part) for part in parts if part)
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
        self._let_go()

    def _next(self) -> bytes | memoryview:
        """What is sent next: a view of a long part, or short ones together."""
        together: list[memoryview] = []
        size = 0
        while self._rest and size < _SHORT:
            part, room = self._rest.popleft(), _PIECE - size
            if len(part) > room:
                self._rest.appendleft(part[room:])
            together.append(part[:room])
            size += len(together[-1])
        return together[0] if len(together) == 1 else b"".join(together)

    def stopProducing(self) -> None:
        """The connection is gone; whoever waits for the answer hears of it elsewhere."""
        self._let_go()

    def _let_go(self) -> None:
        """Hold the body no more, nor whom it belongs to.

        Twisted keeps a producer for TLS in a cycle, which lives until the collector comes by.
        """
        self._rest.clear()
        self._done = _nothing


def _nothing() -> None:
    """Nobody waits any more."""
