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
    """What an answer uses of the site."""

    #: The headers ``Server`` and ``Date`` as lines, for a monotonic time.
    server_headers: Callable[[float], bytes]
    #: Of streams that are silent.
    deadlines: Deadlines


class Channel(Protocol):
    """One connection, as its current request sees it: twisted.web's ``HTTPChannel`` and more.

    ``persistent`` tells whether the connection stays open after the answer.
    """

    persistent: bool
    transport: Connection

    @property
    def site(self) -> Site:
        """The site that the connection belongs to."""

    def reject(self, error: ProxyError) -> None:
        """Answer the current request with ``error``, in the words of its API."""

    def linger(self) -> None:
        """Close in a way that lets the client read an answer that came early."""

    def requestDone(self, request: Request) -> None:
        """Read the next request: the answer is written."""

    def getPeer(self) -> IAddress:
        """The client's address."""

    def getHost(self) -> IAddress:
        """Our end's address."""
