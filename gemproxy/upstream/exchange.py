"""One request on its way: over a kept connection or a new one, and once more where it was stale."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from gemproxy.upstream.answer import Answer
from gemproxy.upstream.connection import UpstreamConnection
from gemproxy.upstream.pool import ConnectionPool


class UpstreamExchange(ABC):
    """A request and its answer. Subclasses say how it is written and who is told of the answer."""

    __slots__ = ("_connecting", "_left", "_pool", "answer", "connection", "reused", "sent")

    def __init__(self, pool: ConnectionPool, answer: Answer) -> None:
        self.answer = answer
        self.connection: UpstreamConnection | None = None
        #: Whether the connection was idle before: then it may have died meanwhile.
        self.reused = False
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
        self.reused = True
        connection.exchange = self
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
        connection = self.connection
        if connection is not None and self.reused and not self.answer.begun:
            # A kept connection closed just as it was used again, or had been dead for some time,
            # and nothing was said to the request: that is nobody's failure, and safe to send anew.
            if reason.check(ConnectionLost):
                self._pool.doubt(connection)
            if self.repeatable:
                self._connect()
                return
        self.fail(reason)

    def again(self) -> None:
        """Send the request once more, on a new connection; what has come of an answer is nothing.

        For an answer that says that the request was not heard, on a connection that was idle.
        """
        connection = self.connection
        if connection is not None:
            connection.distrust(self)
        self.answer = Answer()
        self._connect()

    def _connect(self) -> None:
        self.connection = None
        self.reused = False
        connecting = self._connecting = self._pool.connect()
        connecting.addCallbacks(self._connected, self._unreachable)

    def _connected(self, connection: UpstreamConnection) -> None:
        self._connecting = None
        if self._left:
            connection.abort()
        else:
            self.connection = connection
            connection.exchange = self
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
