"""One request and its response, over an idle connection or a new one.

The request is sent once more, on a new connection, if the idle one proves to be stale: it closed
before the response began. This is safe, since nothing was received, and happens once, since a new
connection is not stale.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from gemproxy.upstream.connection import UpstreamConnection
from gemproxy.upstream.pool import ConnectionPool
from gemproxy.upstream.response_parser import ResponseParser


class UpstreamExchange(ABC):
    """A request and its response. Subclasses write the request and handle the response."""

    __slots__ = (
        "__weakref__",
        "_abandoned",
        "_connecting",
        "_pool",
        "connection",
        "is_repeatable",
        "parser",
        "reused",
        "sent",
    )

    def __init__(self, pool: ConnectionPool) -> None:
        self.parser = ResponseParser()
        self.connection: UpstreamConnection | None = None
        #: Whether the connection was idle before, so that it may be stale.
        self.reused = False
        #: Whether the whole request was sent.
        self.sent = False
        #: Whether it can be sent once more, on another connection.
        self.is_repeatable = True
        self._pool = pool
        self._connecting: Deferred[Any] | None = None
        self._abandoned = False

    def begin(self) -> None:
        """Send the request over the connection that was used last, or over a new one."""
        idle = self._pool.idle
        # On a new connection no request has to be repeated.
        if not idle or not self.is_repeatable:
            self._connect()
            return
        connection = self.connection = idle.pop()
        self.reused = True
        connection.exchange = self
        self.write_to(connection)

    def abandon(self) -> None:
        """Stop without further callbacks; close the connection unless the response is complete."""
        self._abandoned = True
        if self._connecting is not None:
            self._connecting.cancel()
        elif self.connection is not None and not self.parser.complete:
            self.connection.abort()

    def lost(self, reason: Failure) -> None:
        """Handle the end of the connection before that of the response."""
        connection = self.connection
        if connection is not None and self.reused and not self.parser.begun:
            # A stale connection: it closed at the moment of its reuse, or had been dead for some
            # time. Neither the key nor the upstream failed, and it is safe to send the request
            # again.
            if reason.check(ConnectionLost):
                self._pool.suspect(connection)
            self._connect()
            return
        self.fail(reason)

    def resend(self) -> None:
        """Send the request once more on a new connection, and drop the response received so far.

        For a response that says that the server got no request, on a connection that was idle.
        """
        connection = self.connection
        if connection is not None:
            connection.close_unless_reused(self)
        self.parser = ResponseParser()
        self._connect()

    def _connect(self) -> None:
        self.connection = None
        self.reused = False
        connecting = self._connecting = self._pool.connect()
        connecting.addCallbacks(self._connected, self._unreachable)

    def _connected(self, connection: UpstreamConnection) -> None:
        self._connecting = None
        if self._abandoned:
            connection.abort()
        else:
            self.connection = connection
            connection.exchange = self
            self.write_to(connection)

    def _unreachable(self, failure: Failure) -> None:
        self._connecting = None
        if not self._abandoned:
            self.fail(failure)

    @abstractmethod
    def write_to(self, connection: UpstreamConnection) -> None:
        """Write the request."""

    @abstractmethod
    def advance(self) -> None:
        """Handle more of the response, perhaps its end."""

    @abstractmethod
    def fail(self, failure: Failure) -> None:
        """Handle a response that cannot be read further."""
