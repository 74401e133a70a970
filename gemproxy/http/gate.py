"""Decide from a request's head whether its body is read."""

from __future__ import annotations

from typing import Protocol

from gemproxy.core.errors import ProxyError
from gemproxy.http.request import ProxyRequest


class RequestGate(Protocol):
    """Admits requests by their heads, accounts for their bodies, and answers refused ones."""

    def check_head(self, request: ProxyRequest) -> None:
        """Check ``request``, of which only the head was read, and store the result in it.

        Reserves the request's part of the limits that all requests share. Raises
        :class:`~gemproxy.core.errors.ProxyError` to refuse the request: then nothing is reserved,
        and its body is not read.
        """

    def check_body_size(self, request: ProxyRequest, size: int) -> None:
        """Account for a chunked body with ``size`` bytes so far. Raises as :meth:`check_head`."""

    def release(self, request: ProxyRequest) -> None:
        """Release what ``request`` reserved, unless it is still being served.

        Called when the connection has finished with it, perhaps more than once.
        """

    def reject(self, request: ProxyRequest, error: ProxyError) -> None:
        """Answer a request that was refused before it was served."""
