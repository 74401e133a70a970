"""What a request and its answer use of the connection below them.

:class:`~gemproxy.http.connection.ClientConnection` implements it and creates requests, so that a
request cannot import it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress
    from twisted.internet.tcp import Connection
    from twisted.web.server import Request

    from gemproxy.core.errors import ProxyError
    from gemproxy.deadlines import Deadlines


class Site(Protocol):
    """The site, as an answer uses it."""

    #: The headers ``Server`` and ``Date`` as lines, for a monotonic time.
    server_headers: Callable[[float], bytes]
    #: The deadlines of silent streams.
    deadlines: Deadlines


class Channel(Protocol):
    """The connection, as its current request uses it: twisted.web's ``HTTPChannel`` and more.

    ``persistent`` tells whether the connection stays open after the answer.
    """

    persistent: bool
    transport: Connection

    @property
    def site(self) -> Site:
        """The site that the connection belongs to."""

    def reject(self, error: ProxyError) -> None:
        """Answer the current request with ``error``, in the dialect of its API."""

    def linger(self) -> None:
        """Close after an early answer so that the client can read it."""

    def requestDone(self, request: Request) -> None:
        """The answer is written: read the next request."""

    def isSecure(self) -> bool:
        """Whether it uses TLS."""

    def getPeer(self) -> IAddress:
        """The client's address."""

    def getHost(self) -> IAddress:
        """The address of this side."""
