"""The upstream's side of connections in memory: an endpoint that is connected at once."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure


class Wire(StringTransport):
    """One connection; ``says`` and ``closes`` are what the upstream does."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False
        self.lost = False

    def connect(self, protocol) -> None:
        self.protocol = protocol
        protocol.makeConnection(self)

    @property
    def closed(self) -> bool:
        return self.aborted or self.disconnecting or self.lost

    @property
    def paused(self) -> bool:
        return self.producerState == "paused"

    def abortConnection(self) -> None:
        if not self.closed:
            self.aborted = True
            self._lose(ConnectionAborted())

    def says(self, data: bytes) -> None:
        """Bytes arrive in one read; none do after the connection is closed."""
        if data and not self.closed:
            self.protocol.dataReceived(data)

    def closes(self, *, cleanly: bool = True) -> None:
        if not self.aborted:
            self._lose(ConnectionDone() if cleanly else ConnectionLost())

    def _lose(self, reason: Exception) -> None:
        if not self.lost:
            self.lost = True
            self.protocol.connectionLost(Failure(reason))


class WireEndpoint:
    """Makes wires. ``refuse`` is an exception to fail with, ``hold`` lets connects wait."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.refuse: Exception | None = None
        self.hold = False
        self.waiting: list[Deferred] = []

    def connect(self, factory) -> Deferred:
        if self.refuse is not None:
            return fail(self.refuse)
        if self.hold:
            self.waiting.append(Deferred())
            return self.waiting[-1]
        wire = Wire()
        self.wires.append(wire)
        wire.connect(factory.buildProtocol(None))
        return succeed(wire.protocol)
