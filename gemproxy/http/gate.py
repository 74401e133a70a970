"""Who decides from a request's head whether its body is read."""

from __future__ import annotations

from typing import Protocol

from gemproxy.core.errors import ProxyError
from gemproxy.http.request import ProxyRequest


class RequestGate(Protocol):
    """Admits a request by its head, accounts for its body, and answers it where it is refused."""

    def check_head(self, request: ProxyRequest) -> None:
        """Admit ``request``, of which only the head has been read, and record the decision on it.

        Reserves what the request needs of the limits that all requests share. Raises
        :class:`~gemproxy.core.errors.ProxyError` for a request that is refused: nothing is then
        reserved, and its body is not read.
        """

    def check_body_size(self, request: ProxyRequest, size: int) -> None:
        """Account for a chunked body, of which ``size`` bytes are there. Raises as check_head."""

    def release(self, request: ProxyRequest) -> None:
        """Give back what ``request`` reserved, unless it is still being worked on.

        The connection is done with it. May be called more than once.
        """

    def reject(self, request: ProxyRequest, error: ProxyError) -> None:
        """Answer a request that ended before its work began."""
