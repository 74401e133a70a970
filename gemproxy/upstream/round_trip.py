"""One request on its way: over a kept connection or a new one, and once more where it was stale."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from gemproxy.upstream.answer import Answer
from gemproxy.upstream.connection import UpstreamConnection
from gemproxy.upstream.pool import ConnectionPool


class RoundTrip(ABC):
    """A request and its answer. Subclasses say how it is written and who is told of the answer."""

    __slots__ = ("_connecting", "_left", "_pool", "answer", "connection", "sent")

    def __init__(self, pool: ConnectionPool, answer: Answer) -> None:
        self.answer = answer
        self.connection: UpstreamConnection | None = None
        #: Whether all of the request went out.
        self.sent = False
        self._pool = pool
        self._connecting: Deferred[Any] | None = None
        self._left = False

    def begin(self) -> None:
        """Send the request over the best connection there is."""
        idle = self._pool.idle
        if not idle:
            self._connect()
            return
        connection = self.connection = idle.pop()
        connection.trip = self
        self.write_to(connection)

    def abandon(self) -> None:
        """Stop here: the connection is closed, at whatever stage it is. Nobody is told."""
        self._left = True
        if self._connecting is not None:
            self._connecting.cancel()
        elif self.connection is not None and not self.answer.complete:
            self.connection.abort()

    def lost(self, reason: Failure) -> None:
        """The connection ended before the answer did."""
        if (
            self.connection is not None
            and self.connection.used
            and not self.answer.begun
            and self.repeatable
        ):
            # The upstream closed a kept connection just as it was used again, and has said nothing
            # to the request: that is nobody's failure, and safe to send anew.
            self._connect()
        else:
            self.fail(reason)

    def _connect(self) -> None:
        self.connection = None
        connecting = self._connecting = self._pool.connect()
        connecting.addCallbacks(self._connected, self._unreachable)

    def _connected(self, connection: UpstreamConnection) -> None:
        self._connecting = None
        if self._left:
            connection.abort()
        else:
            self.connection = connection
            connection.trip = self
            self.write_to(connection)

    def _unreachable(self, failure: Failure) -> None:
        self._connecting = None
        if not self._left:
            self.fail(failure)

    @property
    def repeatable(self) -> bool:
        """Whether the request can be written a second time."""
        return True

    @abstractmethod
    def write_to(self, connection: UpstreamConnection) -> None:
        """Write the request."""

    @abstractmethod
    def advance(self) -> None:
        """More of the answer has come, perhaps its end."""

    @abstractmethod
    def fail(self, failure: Failure) -> None:
        """No more of the answer will come."""
