"""Bytes that leave at once, on real sockets of the real reactor."""

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport

from gemproxy.sockets import send, unsent


class Peer(Protocol):
    """One end of a connection; ``heard`` fires when ``expected`` bytes have come, or the end."""

    def __init__(self):
        self.received = b""
        self.expected = None
        self.made, self.heard, self.lost = Deferred(), Deferred(), Deferred()

    def connectionMade(self):
        self.made.callback(self)

    def dataReceived(self, data):
        self.received += data
        if len(self.received) == self.expected:
            self.heard.callback(self.received)

    def connectionLost(self, reason):
        self.lost.callback(None)


async def connected():
    """The two ends of a new connection, and what stops listening."""
    from twisted.internet import reactor

    server = Peer()
    factory = Factory.forProtocol(lambda: server)
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    clients = Factory.forProtocol(Peer)
    clients.noisy = False
    client = await endpoint.connect(clients)
    await server.made
    await port.stopListening()
    return client, server


@pytest_twisted.ensureDeferred
async def test_what_fits_is_at_the_peer_before_the_reactor_turns():
    client, server = await connected()
    assert send(client.transport, b"hello")
    assert server.transport.socket.recv(100) == b"hello"
    client.transport.loseConnection()
    await server.lost


@pytest_twisted.ensureDeferred
async def test_order_is_kept_when_the_socket_is_full():
    client, server = await connected()
    server.transport.pauseProducing()
    pieces = [bytes([65 + i % 26]) * 100_000 for i in range(100)]
    gone = [send(client.transport, memoryview(piece)) for piece in pieces]
    assert gone == sorted(gone, reverse=True)
    assert not gone[-1]
    assert client.transport._tempDataBuffer
    server.expected = 10_000_000
    server.transport.resumeProducing()
    assert await server.heard == b"".join(pieces)
    client.transport.loseConnection()
    await server.lost


@pytest_twisted.ensureDeferred
async def test_nothing_passes_what_was_written_the_usual_way():
    client, server = await connected()
    server.expected = 6
    client.transport.write(b"one")
    send(client.transport, b"two")
    assert await server.heard == b"onetwo"
    client.transport.loseConnection()
    await server.lost


@pytest_twisted.ensureDeferred
async def test_a_peer_that_is_gone_is_told_by_the_reactor_and_raises_nothing():
    client, server = await connected()
    server.transport.abortConnection()
    await server.lost
    send(client.transport, b"a")
    send(client.transport, b"b")
    await client.lost


def test_a_transport_of_another_kind_is_written_to_as_ever():
    transport = StringTransport()
    assert not send(transport, b"plain")
    assert transport.value() == b"plain"


@pytest_twisted.ensureDeferred
async def test_what_the_other_side_has_not_taken_is_counted():
    client, server = await connected()
    server.transport.pauseProducing()
    while not unsent(client.transport):
        send(client.transport, b"a" * 100_000)
    before = unsent(client.transport)
    client.transport.write(b"b" * 1000)
    assert unsent(client.transport) == before + 1000
    assert unsent(StringTransport()) == 0
    client.transport.abortConnection()
    server.transport.resumeProducing()
    await server.lost
