"""A client's connection on real sockets, where what a turn writes leaves at its end."""

import pytest
import pytest_twisted
from fakes.gates import OpenGate
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.web.resource import Resource
from zope.interface import implementer

from gemproxy.api.openai.errors import OPENAI
from gemproxy.batched_writes import unsent
from gemproxy.http.connection import LINGER_SECONDS
from gemproxy.http.response_writer import write_whole
from gemproxy.http.site import ProxySite

ANSWER = b"a" * 20_000


@implementer(IHalfCloseableProtocol)
class Client(Protocol):
    """A client that keeps its half of the connection open."""

    def __init__(self):
        self.received, self._expected = bytearray(), {}
        self.ended, self.lost = Deferred(), Deferred()

    def dataReceived(self, data):
        self.received += data
        for ending in [each for each in self._expected if self.received.endswith(each)]:
            self._expected.pop(ending).callback(None)

    def ends_with(self, ending):
        heard = self._expected[ending] = Deferred()
        return heard

    def connectionLost(self, reason):
        self.lost.callback(None)
        if not self.ended.called:
            self.ended.callback(None)

    def readConnectionLost(self):
        self.ended.callback(None)

    def writeConnectionLost(self):
        pass


class TestsClock(Clock):
    """The test's, but for the reactor's next turn."""

    __test__ = False

    def callLater(self, delay, act, *arguments):
        from twisted.internet import reactor

        if delay == 0:
            return reactor.callLater(0, act, *arguments)
        return super().callLater(delay, act, *arguments)


class Server:
    """Listens with a site that answers GET with ``ANSWER``; its clock is the test's."""

    def __init__(self):
        from twisted.internet import reactor

        self.clock = TestsClock()
        self.site = ProxySite(Resource(), self.clock, OpenGate(self.clock), OPENAI)
        self.site.fast_routes[b"GET", b"/"] = self._answer
        self.site.fast_routes[b"GET", b"/later"] = self._answer_later
        self.answers = 0
        self.when_answered = lambda: None
        self._port = reactor.listenTCP(0, self.site, interface="127.0.0.1")

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self._port.stopListening()

    async def client(self):
        from twisted.internet import reactor

        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self._port.getHost().port)
        client = await endpoint.connect(Factory.forProtocol(Client))
        while not self.site.channels:
            await next_turn()
        (self.channel,) = self.site.channels
        return client

    async def turns(self, count=20):
        for _ in range(count):
            await next_turn()

    def _answer(self, request):
        self.answers += 1
        write_whole(request, 200, b"", ANSWER, self.clock.seconds())
        self.when_answered()

    def _answer_later(self, request):
        from twisted.internet import reactor

        # In a timer's turn the sockets are looked at before what it writes has left.
        reactor.callLater(0.001, self._answer, request)


def next_turn():
    from twisted.internet import reactor

    return deferLater(reactor, 0.001)


@pytest_twisted.ensureDeferred
async def test_who_is_refused_and_goes_on_is_cut_off_in_time():
    async with Server() as server:
        client = await server.client()
        refused = client.ends_with(b"}")
        client.transport.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\nabc")
        await refused
        assert server.site.channels
        assert client.received.startswith(b"HTTP/1.1 413 ")
        server.clock.pump([1.0] * (int(LINGER_SECONDS) + 2))
        await server.turns()
        assert not server.site.channels
        client.transport.abortConnection()
        await client.lost


@pytest_twisted.ensureDeferred
async def test_who_asks_and_does_not_read_is_soon_served_no_more():
    async with Server() as server:
        client = await server.client()
        client.transport.pauseProducing()
        client.transport.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20_000)
        await server.turns(100)
        before = server.answers
        await server.turns(100)
        assert server.answers == before < 1000
        assert unsent(server.channel.transport) < 200_000
        client.transport.abortConnection()
        await client.lost
        await server.turns()
        assert not server.site.channels


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("behind", [b"", b"GET / HTTP/1.1\r\n"])
async def test_the_last_answer_of_a_connection_arrives_before_its_end(version, behind):
    async with Server() as server:
        client = await server.client()
        request = b"GET /later HTTP/%b\r\nHost: x\r\nConnection: close\r\n\r\n" % version
        client.transport.write(request + behind)
        await client.ended
        assert client.received.partition(b"\r\n\r\n")[2] == ANSWER
        client.transport.loseConnection()
        await client.lost


@pytest_twisted.ensureDeferred
async def test_a_drain_that_ends_with_an_answer_lets_it_out():
    async with Server() as server:
        client = await server.client()
        server.when_answered = server.site.close
        client.transport.write(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.ended
        assert client.received.partition(b"\r\n\r\n")[2] == ANSWER
        client.transport.loseConnection()
        await client.lost
