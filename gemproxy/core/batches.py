"""One request of a client's that takes several jobs, and one answer made of theirs.

Each job goes through the loop of ``core.dispatch`` by itself, one after the other: it has a key of
its own choice, as many attempts as any request, and its failures are attributed by themselves. So
the jobs of one request spread over the keys, and a key that is used up in the middle costs nothing
but another attempt. A job that is larger than a minute's quota of tokens is cut in two, which are
asked for by themselves. The client gets the whole answer or an error: the first job that fails for
good ends the request.
"""

from __future__ import annotations

from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import ProxyError
from gemproxy.core.interfaces import Flow


class CollectedAnswer:
    """Keeps the answer to one job; the dispatcher's ``ReplyWriter`` for it."""

    started = False

    def __init__(self) -> None:
        self.body = b""

    def answer(self, body: bytes | BufferList) -> None:
        """See :class:`gemproxy.core.interfaces.ReplyWriter`."""
        self.body = bytes(body)

    def await_stream(self) -> None:
        """No job of several is a stream."""

    def begin_stream(self) -> None:
        """No job of several is a stream."""

    def write(self, events: bytes) -> None:
        """No job of several is a stream."""

    def write_error(self, error: ProxyError) -> None:
        """No job of several is a stream."""

    def attach(self, flow: Flow) -> None:
        """No job of several is a stream."""

    def finish(self) -> None:
        """No job of several is a stream."""
