"""Serve one request with several jobs, and join their answers to one.

The jobs go through the loop of ``core.dispatch`` one after the other. Each has its own choice of
keys, its own number of attempts and its own attribution. So the jobs of one request spread over the
keys, and a key whose quota ends in the middle costs one more attempt. A job that is larger than a
minute's quota of tokens is divided into two, which are sent separately. The client gets the whole
answer or an error: the first job that fails finally ends the request.
"""

from __future__ import annotations

from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import ProxyError
from gemproxy.core.interfaces import Flow


class CollectedAnswer:
    """Keeps the answer to one job; implements ``ReplyWriter``."""

    started = False
    #: Not used.
    upstream_headers = b""

    def __init__(self) -> None:
        self.body = b""

    def answer(self, body: bytes | BufferList) -> None:
        """See :class:`gemproxy.core.interfaces.ReplyWriter`."""
        self.body = bytes(body)

    def begin_body(self, headers: bytes, length: int | None) -> None:
        """Not used: the answers to the jobs of a batch are JSON."""

    def await_stream(self) -> None:
        """Not used: the jobs of a batch are not streams."""

    def begin_stream(self, failed: object = None) -> None:
        """Not used: the jobs of a batch are not streams."""

    def write(self, events: bytes) -> None:
        """Not used: the jobs of a batch are not streams."""

    def write_error(self, error: ProxyError) -> None:
        """Not used: the jobs of a batch are not streams."""

    def attach(self, flow: Flow) -> None:
        """Not used: the jobs of a batch are not streams."""

    def finish(self) -> None:
        """Not used: the jobs of a batch are not streams."""
