"""Bytes that leave together at the end of a turn, on real sockets of the real reactor."""

import time

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport

from gemproxy import batched_writes
from gemproxy.batched_writes import flush, flush_each_turn, send, send_now, unsent


class Peer(Protocol):
    """One end of a connection; ``heard`` fires when ``expected`` bytes have come, or the end."""

    def __init__(self):
        self.received = bytearray()
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


def next_turn():
    """Fires when the reactor has done what this turn left for its end."""
    from twisted.internet import reactor

    return deferLater(reactor, 0)


def arrived(peer):
    """What is in the socket of ``peer`` by now."""
    try:
        return peer.transport.socket.recv(1_000_000)
    except BlockingIOError:
        return b""


@pytest_twisted.ensureDeferred
async def test_what_one_turn_writes_leaves_in_one_piece_at_its_end():
    client, server = await connected()
    server.transport.pauseProducing()
    for piece in (b"one ", b"two ", b"three"):
        send(client.transport, piece)
    assert arrived(server) == b""
    assert unsent(client.transport) == 13
    await next_turn()
    assert arrived(server) == b"one two three"
    assert unsent(client.transport) == 0
    client.transport.abortConnection()
    server.transport.resumeProducing()
    await server.lost


@pytest_twisted.ensureDeferred
async def test_what_is_flushed_leaves_before_the_connection_closes():
    client, server = await connected()
    send(client.transport, b"the end")
    flush(client.transport)
    client.transport.loseConnection()
    await server.lost
    assert server.received == b"the end"


@pytest_twisted.ensureDeferred
async def test_peers_of_a_long_turn_need_not_wait_for_its_end():
    pairs = [await connected() for _ in range(33)]
    for _, server in pairs:
        server.transport.pauseProducing()
    for client, _ in pairs:
        send(client.transport, b"hello")
    assert [arrived(server) for _, server in pairs] == [b"hello"] * 32 + [b""]
    await next_turn()
    assert arrived(pairs[-1][1]) == b"hello"
    for client, server in pairs:
        client.transport.abortConnection()
        server.transport.resumeProducing()
        await server.lost


@pytest.fixture
def flushing_reactor(monkeypatch):
    """The reactor as the daemon prepares it."""
    from twisted.internet import reactor

    monkeypatch.setattr(reactor, "runUntilCurrent", reactor.runUntilCurrent)
    monkeypatch.setattr(batched_writes, "_flushing", set())
    flush_each_turn(reactor)
    return reactor


@pytest_twisted.ensureDeferred
async def test_a_prepared_reactor_needs_no_timer_for_what_events_write(flushing_reactor):
    client, server = await connected()
    client.expected, server.expected = 4, 5
    timers = []

    def answer(received):
        before = len(flushing_reactor.getDelayedCalls())
        send(server.transport, b"pong")
        timers.append(len(flushing_reactor.getDelayedCalls()) - before)
        assert arrived(client) == b""

    server.heard.addCallback(answer)
    client.transport.write(b"ping!")
    assert await client.heard == b"pong"
    assert timers == [0]
    client.transport.abortConnection()
    await server.lost


@pytest_twisted.ensureDeferred
async def test_a_prepared_reactor_sends_what_timers_and_threads_write_before_it_waits(
    flushing_reactor,
):
    for schedule in (lambda work: flushing_reactor.callLater(0, work), in_turn_of_threads):
        client, server = await connected()
        server.expected = 5
        schedule(lambda: send(client.transport, b"hello"))  # noqa: B023
        assert await server.heard == b"hello"
        client.transport.abortConnection()
        await server.lost


def in_turn_of_threads(work):
    from twisted.internet import reactor

    reactor.callFromThread(work)


class FailingProducer:
    def pauseProducing(self):
        raise RuntimeError("a defect")

    def stopProducing(self):
        pass


async def congested_with_a_defect():
    """A connection whose next write tells a producer to pause that fails at it, and its peer."""
    broken, stalled = await connected()
    stalled.transport.pauseProducing()
    while not unsent(broken.transport):
        send_now(broken.transport, b"a" * 100_000)
    broken.transport.registerProducer(FailingProducer(), True)
    return broken, stalled


@pytest_twisted.ensureDeferred
async def test_a_producer_that_fails_holds_up_nobody_else():
    broken, stalled = await congested_with_a_defect()
    client, server = await connected()
    send(broken.transport, b"a" * 65_000)
    send(client.transport, b"hello")
    server.expected = 5
    assert await server.heard == b"hello"
    client.transport.abortConnection()
    broken.transport.abortConnection()
    stalled.transport.resumeProducing()
    await stalled.lost


@pytest_twisted.ensureDeferred
async def test_a_producer_that_fails_is_no_trouble_of_who_writes_when_many_wait():
    broken, stalled = await congested_with_a_defect()
    pairs = [await connected() for _ in range(31)]
    send(broken.transport, b"a" * 65_000)
    for client, server in pairs:
        server.expected = 5
        send(client.transport, b"hello")
    for client, server in pairs:
        assert await server.heard == b"hello"
        client.transport.abortConnection()
        await server.lost
    broken.transport.abortConnection()
    stalled.transport.resumeProducing()
    await stalled.lost


@pytest_twisted.ensureDeferred
async def test_a_clock_that_is_set_back_within_a_turn_holds_up_nobody(monkeypatch):
    from twisted.internet import reactor

    client, server = await connected()
    send(client.transport, b"hello")
    monkeypatch.setattr(reactor, "seconds", lambda: time.time() - 3600)
    server.expected = 5
    assert await server.heard.addTimeout(2, reactor) == b"hello"
    monkeypatch.undo()
    client.transport.loseConnection()
    await server.lost


@pytest_twisted.ensureDeferred
async def test_what_is_sent_now_is_at_the_peer_before_the_reactor_turns_and_behind_what_waited():
    client, server = await connected()
    send(client.transport, b"hello ")
    assert send_now(client.transport, b"world")
    assert server.transport.socket.recv(100) == b"hello world"
    client.transport.loseConnection()
    await server.lost


@pytest_twisted.ensureDeferred
async def test_much_does_not_wait():
    client, server = await connected()
    server.transport.pauseProducing()
    much = b"m" * 65_531
    send(client.transport, b"start ")
    send(client.transport, much)
    send(client.transport, b"end")
    assert unsent(client.transport) == 3
    flush(client.transport)
    server.expected = 6 + len(much) + 3
    server.transport.resumeProducing()
    assert await server.heard == b"start " + much + b"end"
    client.transport.loseConnection()
    await server.lost


@pytest_twisted.ensureDeferred
async def test_order_is_kept_when_the_socket_is_full():
    client, server = await connected()
    server.transport.pauseProducing()
    pieces = [bytes([65 + i % 26]) * 100_000 for i in range(100)]
    gone = [send_now(client.transport, memoryview(piece)) for piece in pieces]
    assert gone == sorted(gone, reverse=True)
    assert not gone[-1]
    assert client.transport._tempDataBuffer
    send(client.transport, b"!")
    server.expected = 10_000_001
    server.transport.resumeProducing()
    assert await server.heard == b"".join(pieces) + b"!"
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
    await next_turn()
    send(client.transport, b"b")
    await client.lost
    send(client.transport, b"c")
    await next_turn()


def test_a_transport_of_another_kind_is_written_to_as_ever():
    transport = StringTransport()
    send(transport, b"plain")
    assert not send_now(transport, b" and now")
    flush(transport)
    assert transport.value() == b"plain and now"


@pytest_twisted.ensureDeferred
async def test_what_the_other_side_has_not_taken_is_counted():
    client, server = await connected()
    server.transport.pauseProducing()
    while not unsent(client.transport):
        send_now(client.transport, b"a" * 100_000)
    before = unsent(client.transport)
    client.transport.write(b"b" * 1000)
    assert unsent(client.transport) == before + 1000
    assert unsent(StringTransport()) == 0
    client.transport.abortConnection()
    server.transport.resumeProducing()
    await server.lost
