"""Write a large request body in pieces, as the socket has room, or as the client brings it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPullProducer, IPushProducer
from zope.interface import implementer

from gemproxy.batched_writes import send_now
from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import ProxyError
from gemproxy.core.interfaces import BodySource

_PIECE = 256 * 1024
#: Shorter parts are joined, since each piece costs a system call.
_SHORT = 64 * 1024
#: Pieces that are sent in one turn of the reactor, however fast the peer reads.
_AT_ONCE = 8


@implementer(IPullProducer)
class Upload:
    """Writes ``body`` to ``transport``; only bytes that the socket does not take are copied.

    The transport asks for more when its buffer is empty. ``done`` is called after the last byte.
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
        self._drop_body()

    def _next(self) -> bytes | memoryview:
        """Return the next piece: a view of a long part, or several short parts joined."""
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
        """The connection has ended. The exchange learns it from the connection."""
        self._drop_body()

    def _drop_body(self) -> None:
        """Drop the references to the body and its owner.

        Twisted keeps a TLS producer in a reference cycle, which lives until the next garbage
        collection.
        """
        self._rest.clear()
        self._done = _nothing


@implementer(IPushProducer)
class StreamedUpload:
    """Writes what ``source`` brings to ``transport``, and pauses it while that has no room.

    ``progressed`` is called with each piece, ``done`` after the last byte, and ``failed`` with the
    error that ends the body early.
    """

    def __init__(
        self,
        transport: Any,
        source: BodySource,
        progressed: Callable[[], None],
        done: Callable[[], None],
        failed: Callable[[ProxyError], None],
    ) -> None:
        self._transport = transport
        self._source = source
        self._is_chunked = source.length is None
        self._progressed = progressed
        self._done = done
        self._failed = failed

    def start(self) -> None:
        self._transport.registerProducer(self, streaming=True)
        self._source.begin(self._write, self._end)

    def pauseProducing(self) -> None:
        self._source.pause()

    def resumeProducing(self) -> None:
        self._source.resume()

    def stopProducing(self) -> None:
        """The connection has ended. The exchange learns it from the connection."""
        self._source.stop()

    def _write(self, data: bytes) -> None:
        self._progressed()
        if self._is_chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        if data:
            self._transport.write(data)

    def _end(self, error: ProxyError | None) -> None:
        if error is not None:
            self._transport.unregisterProducer()
            self._failed(error)
            return
        if self._is_chunked:
            self._transport.write(b"0\r\n\r\n")
        self._transport.unregisterProducer()
        self._done()


def _nothing() -> None:
    """Placeholder after the end."""
