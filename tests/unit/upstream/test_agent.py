"""Our agent beside twisted.web's own, on the same server and the same bytes."""

from io import BytesIO

import pytest
import pytest_twisted
import treq
from fakes.scripted_server import ScriptedServer, chunked, ok
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, ResponseFailed
from twisted.web.error import SchemeNotSupported
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer
from zope.interface.verify import verifyObject

from gemproxy.config.settings import UpstreamSettings
from gemproxy.upstream.agent import UpstreamAgent
from gemproxy.upstream.endpoint import UpstreamEndpoint
from gemproxy.upstream.names import Names
from gemproxy.upstream.pool import ConnectionPool

OK = b"HTTP/1.1 200 OK\r\n"


class Receiver(Protocol):
    """Collects a body and its end."""

    def __init__(self):
        self.pieces, self.lost = [], Deferred()

    @property
    def body(self):
        return b"".join(self.pieces)

    def dataReceived(self, data):
        self.pieces.append(data)

    def connectionLost(self, reason):
        self.lost.callback(type(reason.value))


class Stage:
    """A scripted server, and both agents."""

    def __init__(self, reactor, script):
        self.reactor = reactor
        self.server = ScriptedServer(script)
        self.url = self.server.listen(reactor)
        endpoint = UpstreamEndpoint(reactor, UpstreamSettings(base_url=self.url), Names(reactor))
        self.pool = ConnectionPool(reactor, endpoint, 10)
        self.theirs = HTTPConnectionPool(reactor)
        self.agents = [Agent(reactor, pool=self.theirs), UpstreamAgent(self.pool, self.url)]

    def request(self, agent, method=b"GET", headers=None, body=None):
        return agent.request(method, self.url.encode() + b"/x?y=z", headers, body)

    async def stop(self):
        await self.theirs.closeCachedConnections()
        self.pool.stop()
        await self.server.stop()


@pytest.fixture
def stage():
    from twisted.internet import reactor

    stages = []

    def make(script):
        stages.append(Stage(reactor, script))
        return stages[-1]

    yield make
    for made in stages:
        pytest_twisted.blockon(Deferred.fromCoroutine(made.stop()))


def always(answer, close):
    def script(connection, _request):
        connection.transport.write(answer)
        if close:
            connection.transport.loseConnection()

    return script


async def story(requested):
    """All that a caller can see of an answer, or what it failed with."""
    try:
        response = await requested
    except Exception as failure:  # noqa: BLE001
        return type(failure).__name__
    verifyObject(IResponse, response)
    receiver = Receiver()
    response.deliverBody(receiver)
    end = await receiver.lost
    return (
        response.version,
        response.code,
        response.phrase,
        sorted(response.headers.getAllRawHeaders()),
        "unknown" if response.length is UNKNOWN_LENGTH else response.length,
        response.request.method,
        response.request.absoluteURI,
        receiver.body,
        end.__name__,
    )


ALIKE = {
    "length": (b"GET", ok(b"hello", b"X-A: b", b"x-a: c"), False),
    "nothing": (b"GET", ok(b""), False),
    "chunks": (b"GET", chunked(b"one", b"two"), False),
    "chunks with trailers": (b"GET", chunked(b"one")[:-2] + b"X-T: a\r\n\r\n", False),
    "to the end of the connection": (b"GET", OK + b"X-A: b\r\n\r\nhello", True),
    "HTTP/1.0": (b"GET", b"HTTP/1.0 200 Fine, thanks\r\n\r\nhello", True),
    "asked to close": (b"GET", ok(b"hello", b"Connection: close"), False),
    "HEAD": (b"HEAD", OK + b"Content-Length: 5\r\nX-A: b\r\n\r\n", False),
    "HEAD of chunks": (b"HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n", False),
    "204": (b"GET", b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", False),
    "304": (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", False),
    "interim": (b"GET", b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + ok(b"hello"), False),
    "no phrase": (b"GET", b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", False),
    "a length cut short": (b"GET", OK + b"Content-Length: 9\r\n\r\nhello", True),
    "chunks cut short": (b"GET", chunked(b"hello", end=False), True),
    "headers cut short": (b"GET", OK + b"Content-Le", True),
    "nothing at all": (b"GET", b"", True),
    "no HTTP": (b"GET", b"SSH-2.0-OpenSSH\r\n\r\n", False),
    "no status": (b"GET", b"HTTP/1.1 abc OK\r\n\r\n", False),
    "a wrong chunk": (b"GET", chunked(b"hello", end=False) + b"zz\r\n", False),
    "a wrong length": (b"GET", OK + b"Content-Length: x\r\n\r\n", False),
    "different lengths": (b"GET", OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", False),
    "a space before the colon": (b"GET", ok(b"", b"X-A : b"), False),
    "an unknown encoding": (b"GET", OK + b"Transfer-Encoding: br\r\n\r\nab", False),
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", ALIKE)
async def test_both_agents_tell_the_same_story(stage, name):
    method, answer, close = ALIKE[name]
    here = stage(always(answer, close))
    theirs, ours = [await story(here.request(agent, method)) for agent in here.agents]
    assert ours == theirs


STRICTER = {
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "a folded header": OK + b"X-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "a NUL in a header": OK + b"X-A: b\x00\r\nContent-Length: 0\r\n\r\n",
    "the same length twice": OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "length and encoding": OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another protocol": b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", STRICTER)
async def test_what_theirs_guesses_at_ours_refuses(stage, name):
    here = stage(always(STRICTER[name], close=False))
    theirs, ours = [await story(here.request(agent)) for agent in here.agents]
    assert theirs[1] == 200
    assert ours == "ResponseFailed"


@pytest_twisted.ensureDeferred
async def test_nobody_switches_protocols(stage):
    here = stage(always(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", close=False))
    assert await story(here.request(here.agents[1])) == "ResponseFailed"


@pytest_twisted.ensureDeferred
async def test_both_send_the_same_request(stage):
    here = stage(always(ok(b""), close=False))
    for agent in here.agents:
        await story(here.request(agent, b"GET", Headers({b"X-A": [b"b", b"c"]})))
        await story(here.request(agent, b"POST"))
        await story(here.request(agent, b"PUT", None, FileBodyProducer(BytesIO(b"hello"))))
    theirs, ours = [connection.requests for connection in here.server.connections]
    assert [sorted(r.split(b"\r\n")) for r in ours] == [sorted(r.split(b"\r\n")) for r in theirs]


@pytest_twisted.ensureDeferred
async def test_both_keep_connections_that_are_clean(stage):
    here = stage(always(chunked(b"one"), close=False))
    for agent in here.agents:
        for _ in range(3):
            await story(here.request(agent))
    assert [len(connection.requests) for connection in here.server.connections] == [3, 3]


@pytest_twisted.ensureDeferred
async def test_both_send_again_what_a_stale_connection_did_not_answer(stage):
    def script(connection, _request):
        if len(connection.requests) == 2:
            connection.transport.loseConnection()
        else:
            connection.transport.write(ok(b"hello"))

    here = stage(script)
    for agent in here.agents:
        for _ in range(2):
            assert (await story(here.request(agent)))[1] == 200
    assert [len(connection.requests) for connection in here.server.connections] == [2, 1, 2, 1]


@pytest_twisted.ensureDeferred
async def test_neither_sends_a_body_again_that_it_does_not_hold(stage):
    def script(connection, _request):
        if len(connection.requests) == 2:
            connection.transport.loseConnection()
        else:
            connection.transport.write(ok(b"hello"))

    here = stage(script)
    for agent in here.agents:
        told = [
            await story(here.request(agent, b"POST", None, FileBodyProducer(BytesIO(b"x"))))
            for _ in range(2)
        ]
        assert told[1] == "ResponseNeverReceived"


@pytest_twisted.ensureDeferred
async def test_both_close_when_nobody_waits_for_the_headers(stage):
    for index in range(2):
        arrived = Deferred()
        here = stage(lambda *_, arrived=arrived: arrived.callback(None))
        requested = here.request(here.agents[index])
        await arrived
        requested.cancel()
        assert await story(requested) == "ResponseNeverReceived"
        await here.server.connections[0].closed


@implementer(IBodyProducer)
class Broken:
    """A body that cannot be had."""

    length = 10

    def startProducing(self, consumer):
        consumer.write(b"abc")
        return succeed(None)

    def pauseProducing(self):
        pass

    def resumeProducing(self):
        pass

    def stopProducing(self):
        pass


@pytest_twisted.ensureDeferred
async def test_both_give_up_a_request_whose_body_is_not_what_it_said(stage):
    here = stage(always(ok(b""), close=False))
    theirs, ours = [
        await story(here.request(agent, b"POST", None, Broken())) for agent in here.agents
    ]
    assert ours == theirs == "RequestGenerationFailed"


@pytest_twisted.ensureDeferred
async def test_both_give_up_a_request_that_cannot_be_written(stage):
    here = stage(always(ok(b""), close=False))
    twice = Headers({b"Host": [b"a", b"b"]})
    theirs, ours = [await story(here.request(agent, headers=twice)) for agent in here.agents]
    assert ours == theirs == "RequestGenerationFailed"


class Endless(Broken):
    """A body that never ends; ``stopped`` once nobody wants it."""

    stopped = False

    def startProducing(self, consumer):
        consumer.write(b"abc")
        return Deferred()

    def stopProducing(self):
        self.stopped = True


@pytest_twisted.ensureDeferred
async def test_an_answer_before_the_body_is_out_is_given_and_costs_the_connection(stage):
    def script(connection):
        connection.transport.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")

    here = stage(lambda *_: None)
    for agent in here.agents:
        body = Endless()
        requested = here.request(agent, b"POST", None, body)
        while len(here.server.connections) < here.agents.index(agent) + 1:
            await deferLater(here.reactor, 0.01)
        connection = here.server.connections[-1]
        script(connection)
        told = await story(requested)
        assert (told[1], told[7], told[8]) == (413, b"no", "ResponseDone")
        await connection.closed
        await deferLater(here.reactor, 0)
        assert body.stopped


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_holds_the_socket_back(stage):
    """The server cannot get rid of more than the sockets' buffers hold."""
    body = b"x" * 30_000_000
    here = stage(always(ok(body), close=False))
    response = await here.request(here.agents[1])
    receiver = Receiver()
    response.deliverBody(receiver)
    receiver.transport.pauseProducing()
    await deferLater(here.reactor, 0.3)
    assert len(receiver.body) < 200_000
    receiver.transport.resumeProducing()
    assert (await receiver.lost).__name__ == "ResponseDone"
    assert receiver.body == body


@pytest_twisted.ensureDeferred
async def test_who_takes_no_body_holds_the_socket_back(stage):
    here = stage(always(ok(b"x" * 30_000_000), close=False))
    response = await here.request(here.agents[1])
    await deferLater(here.reactor, 0.3)
    assert here.server.connections[0].transport.dataBuffer
    receiver = Receiver()
    response.deliverBody(receiver)
    receiver.transport.abortConnection()
    await receiver.lost


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("way", ["loseConnection", "stopProducing", "abortConnection"])
async def test_a_reader_may_end_the_connection(stage, way):
    here = stage(always(chunked(b"one", end=False), close=False))
    response = await here.request(here.agents[1])
    receiver = Receiver()
    response.deliverBody(receiver)
    getattr(receiver.transport, way)()
    assert await receiver.lost is ResponseFailed
    await here.server.connections[0].closed


@pytest_twisted.ensureDeferred
async def test_a_body_is_delivered_once(stage):
    here = stage(always(ok(b"hello"), close=False))
    for agent in here.agents:
        response = await here.request(agent)
        response.deliverBody(Receiver())
        with pytest.raises(RuntimeError):
            response.deliverBody(Receiver())


@pytest.mark.parametrize(
    "url", [b"http://example.com/", b"https://127.0.0.1/", b"http://127.0.0.1:1/", b"ftp://x/"]
)
def test_no_other_origin_is_asked(url):
    agent = UpstreamAgent(None, "http://127.0.0.1:2")
    verifyObject(IAgent, agent)
    failed = []
    agent.request(b"GET", url).addErrback(failed.append)
    assert failed[0].check(SchemeNotSupported)


@pytest.mark.parametrize(
    ("method", "path"), [(b"GE T", b"/"), (b"GET", b"/ HTTP/1.1\r\nA: b"), (b"", b"/")]
)
def test_what_cannot_stand_in_a_request_line_is_refused(method, path):
    failed = []
    agent = UpstreamAgent(None, "http://h")
    agent.request(method, b"http://h" + path).addErrback(failed.append)
    assert failed[0].check(ValueError)


@pytest_twisted.ensureDeferred
async def test_treq_works_on_it_as_on_any_agent(stage):
    answers = iter(
        [
            chunked(b'{"a":', b"1}"),
            b"HTTP/1.1 302 F\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n",
            ok(b"there"),
        ]
    )
    here = stage(lambda connection, _: connection.transport.write(next(answers)))
    client = HTTPClient(here.agents[1])
    assert await treq.json_content(await client.post(here.url, json={"q": 1})) == {"a": 1}
    assert await treq.text_content(await client.get(here.url + "/x")) == "there"
    (connection,) = here.server.connections
    assert connection.requests[0].endswith(b'{"q":1}')


@pytest_twisted.ensureDeferred
async def test_treq_on_it_follows_no_redirect_to_another_host(stage):
    here = stage(
        always(
            b"HTTP/1.1 302 F\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", False
        )
    )
    with pytest.raises(SchemeNotSupported):
        await HTTPClient(here.agents[1]).get(here.url)
