"""Calls that go through treq: beside treq on twisted.web's own agent, and within our bounds."""

import gzip

import pytest
import pytest_twisted
import treq
from fakes.scripted_server import ScriptedServer, chunked, ok
from fakes.upstream_stage import KEY, Stage, Told
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.error import SchemeNotSupported
from twisted.web.iweb import IAgent, IResponse
from zope.interface.verify import verifyObject

from gemproxy.config.settings import UpstreamSettings
from gemproxy.core.errors import FailureKind, UpstreamFailed
from gemproxy.core.interfaces import UpstreamRequest
from gemproxy.upstream.client import GeminiUpstream
from gemproxy.upstream.pooled_response import ResponseLimits

PATH = b"/v1beta/models?pageSize=1000&pageToken=a%2Bb%2F%3D%25%20c"
GET = UpstreamRequest(b"GET", PATH, KEY)
OK = b"HTTP/1.1 200 OK\r\n"
CONNECTION_HEADERS = {"content-length", "transfer-encoding", "connection"}


# -- beside treq on Twisted's agent ----------------------------------------------------------------

ALIKE = {
    "length": (ok(b"hello", b"X-A: b", b"x-a: c"), False),
    "nothing": (ok(b""), False),
    "chunks": (chunked(b"one", b"two"), False),
    "chunks with trailers": (chunked(b"one")[:-2] + b"X-T: a\r\n\r\n", False),
    "to the end of the connection": (OK + b"X-A: b\r\n\r\nhello", True),
    "HTTP/1.0": (b"HTTP/1.0 200 Fine, thanks\r\n\r\nhello", True),
    "asked to close": (ok(b"hello", b"Connection: close"), False),
    "gzip": (ok(gzip.compress(b"hello"), b"Content-Encoding: gzip"), False),
    "a cookie": (ok(b"hello", b"Set-Cookie: a=b"), False),
    "a redirect": (b"HTTP/1.1 302 F\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n", False),
    "204": (b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", False),
    "304": (b"HTTP/1.1 304 Not Modified\r\nX-A: b\r\n\r\n", False),
    "interim": (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + ok(b"hello"), False),
    "no phrase": (b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", False),
    "a length cut short": (OK + b"Content-Length: 9\r\n\r\nhello", True),
    "chunks cut short": (chunked(b"hello", end=False), True),
    "headers cut short": (OK + b"Content-Le", True),
    "no answer": (b"", True),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", False),
    "no status": (b"HTTP/1.1 abc OK\r\n\r\n", False),
    "a wrong chunk": (chunked(b"hello", end=False) + b"zz\r\n", False),
    "a wrong length": (OK + b"Content-Length: x\r\n\r\n", False),
    "different lengths": (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", False),
    "a space before the colon": (ok(b"", b"X-A : b"), False),
    "an unknown encoding": (OK + b"Transfer-Encoding: br\r\n\r\nab", False),
}
STRICTER = {
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "a folded header": OK + b"X-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "a NUL in a header": OK + b"X-A: b\x00\r\nContent-Length: 0\r\n\r\n",
    "the same length twice": OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "length and encoding": OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another protocol": b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
}


async def stories(answer, close=False):
    """What treq on Twisted's agent gives, and what ours does; ``None`` for a failure."""
    from twisted.internet import reactor

    def script(connection, _request):
        connection.transport.write(answer)
        if close:
            connection.transport.loseConnection()

    server = ScriptedServer(script)
    url = server.listen(reactor)
    pool = HTTPConnectionPool(reactor)
    upstream = GeminiUpstream(reactor, UpstreamSettings(base_url=url), "gemproxy/test")
    upstream.start()
    try:
        return await twisteds(reactor, pool, url), await ours(upstream)
    finally:
        upstream.stop()
        await pool.closeCachedConnections()
        await server.stop()


async def twisteds(reactor, pool, url):
    client = HTTPClient(Agent(reactor, pool=pool))
    try:
        response = await client.get(url + PATH.decode(), allow_redirects=False, reactor=reactor)
        body = await treq.content(response)
    except Exception:  # noqa: BLE001
        return None
    headers = {
        name.decode().lower(): values[-1].decode()
        for name, values in response.headers.getAllRawHeaders()
        # Twisted adds an empty Content-Encoding.
        if values != [b""]
    }
    return response.code, headers, body


async def ours(upstream):
    try:
        got = await upstream.fetch(GET, 1000)
    except UpstreamFailed:
        return None
    headers = {n: value for n, value in got.headers.items() if n not in CONNECTION_HEADERS}
    return got.status, headers, got.body


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", ALIKE)
async def test_treq_gives_the_same_on_twisteds_agent_and_on_ours(name):
    theirs, here = await stories(*ALIKE[name])
    assert here == theirs


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", STRICTER)
async def test_our_agent_refuses_what_twisteds_guesses_at(name):
    theirs, here = await stories(STRICTER[name])
    assert theirs[0] == 200
    assert here is None


# -- within our bounds -----------------------------------------------------------------------------


@pytest.fixture
def stage():
    return Stage()


def fetch(stage, limit=1000, deadline=100.0, first_byte=10.0, idle=5.0):
    request = UpstreamRequest(b"GET", b"/x?y=z", KEY, None, stage.clock.seconds() + deadline)
    return Told(
        Deferred.fromCoroutine(stage.client.fetch(request, ResponseLimits(first_byte, idle), limit))
    )


def test_the_request_has_the_key_once_and_asks_for_no_coding(stage):
    fetch(stage)
    line, *headers = stage.wires[0].value().split(b"\r\n")
    assert line == b"GET /v1/x?y=z HTTP/1.1"
    assert sorted(headers) == [
        b"",
        b"",
        b"Accept-Encoding: identity",
        b"Host: h",
        b"User-Agent: gemproxy/test",
        b"X-Goog-Api-Key: test-key-0123456789abcdef",
    ]


def test_a_call_is_sent_with_its_method_headers_and_body(stage):
    until = stage.clock.seconds() + 10
    lines = b"x-goog-api-client: sdk/1\r\nX-Goog-Upload-Command: start\r\n"
    request = UpstreamRequest(b"PATCH", b"/x?y=%2F", KEY, b'{"a":1}', until, lines, False)
    got = Told(Deferred.fromCoroutine(stage.client.call(request, ResponseLimits(5, 5))))
    head, _, body = stage.wires[0].value().partition(b"\r\n\r\n")
    line, *headers = head.split(b"\r\n")
    assert (line, body) == (b"PATCH /v1/x?y=%2F HTTP/1.1", b'{"a":1}')
    assert sorted(headers) == [
        b"Accept-Encoding: identity",
        b"Content-Length: 7",
        b"Content-Type: application/json",
        b"Host: h",
        b"User-Agent: gemproxy/test",
        b"X-Goog-Api-Client: sdk/1",
        b"X-Goog-Api-Key: test-key-0123456789abcdef",
        b"X-Goog-Upload-Command: start",
    ]
    stage.wires[0].says(ok(b"answer", b"X-Goog-Upload-Status: active"))
    assert got.result.headers["x-goog-upload-status"] == "active"
    assert Told(got.result.read(100)).result == b"answer"


def test_both_ways_share_connections_and_no_cookie_goes_back(stage):
    got = fetch(stage)
    stage.wires[0].says(ok(b"{}", b"Set-Cookie: a=b"))
    assert got.result.body == b"{}"
    assert stage.ask() == b"{}"
    fetch(stage)
    assert len(stage.wires) == 1
    assert b"cookie" not in stage.wires[0].value().lower()


@pytest.mark.parametrize("answer", [ok(b"x" * 1001), chunked(b"x" * 1001, end=False)])
def test_a_body_over_the_limit_costs_the_connection(stage, answer):
    got = fetch(stage)
    stage.wires[0].says(answer)
    assert got.kind is FailureKind.TOO_LARGE
    assert stage.wires[0].closed


def test_a_coded_body_is_decoded_within_the_limit_and_no_further(stage):
    got = fetch(stage, limit=100)
    stage.wires[0].says(ok(gzip.compress(b"x" * 100), b"Content-Encoding: gzip"))
    assert got.result.body == b"x" * 100
    got = fetch(stage, limit=100_000_000)
    # 64 KiB may hold 64 MB: they are decoded in turns of the reactor, 256 KiB in each.
    stage.wires[0].says(ok(gzip.compress(b"x" * 2_000_000), b"Content-Encoding: gzip"))
    assert got.results == []
    for _ in range(9):
        stage.clock.advance(0)
    assert len(got.result.body) == 2_000_000
    got = fetch(stage)
    stage.wires[-1].says(ok(b"", b"Content-Encoding: br"))
    assert got.kind is FailureKind.CODING


def test_cancelling_closes_the_connection_at_any_time(stage):
    for said in (b"", chunked(end=False), chunked(b"one", end=False)):
        got = fetch(stage)
        stage.wires[-1].says(said)
        got.deferred.cancel()
        assert isinstance(got.error, CancelledError)
        assert stage.wires[-1].closed
    assert len(stage.wires) == 3


@pytest.mark.parametrize(
    ("said", "deadline", "kind"),
    [
        (b"", 100.0, FailureKind.FIRST_BYTE_TIMEOUT),
        (OK, 100.0, FailureKind.FIRST_BYTE_TIMEOUT),
        (chunked(b"one", end=False), 100.0, FailureKind.IDLE_TIMEOUT),
        (b"", 3.0, FailureKind.DEADLINE),
        (chunked(b"one", end=False), 3.0, FailureKind.DEADLINE),
    ],
)
def test_deadlines_hold_until_the_body_ends(stage, said, deadline, kind):
    got = fetch(stage, deadline=deadline)
    stage.wires[0].says(said)
    stage.clock.advance(10.0)
    assert got.kind is kind
    assert stage.wires[0].closed


def test_a_deadline_while_connecting_spares_the_key(stage):
    stage.endpoint.hold = True
    got = fetch(stage, deadline=3.0)
    stage.clock.advance(3.0)
    assert (got.kind, got.error.detail) == (FailureKind.DEADLINE, "while connecting")
    assert got.error.spares_key


def test_no_deadline_outlives_a_response_without_a_body(stage):
    got = fetch(stage)
    stage.wires[0].says(ok(b""))
    assert got.result.body == b""
    stage.clock.advance(1000.0)
    assert got.result.status == 200


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 408 T\r\nContent-Length: 0\r\n\r\n"])
def test_a_stale_connection_is_replaced_once(stage, answer):
    stage.ask()
    got = fetch(stage)
    stage.wires[0].says(answer)
    stage.wires[0].closes()
    assert len(stage.wires) == 2
    stage.wires[1].says(ok(b"{}"))
    assert got.result.body == b"{}"


# -- the agent -------------------------------------------------------------------------------------


def agent(stage):
    return stage.client.agent(ResponseLimits(10.0, 5.0), 100.0)


def test_the_agent_and_its_responses_are_what_twisted_asks_for(stage):
    assert verifyObject(IAgent, agent(stage))
    asked = Told(agent(stage).request(b"GET", b"http://h/"))
    stage.wires[0].says(ok(b"hello"))
    assert verifyObject(IResponse, asked.result)


def test_a_slow_receiver_holds_the_socket_back(stage):
    asked = Told(agent(stage).request(b"GET", b"http://h/"))
    wire = stage.wires[0]
    wire.says(chunked(b"one", end=False))
    assert wire.paused
    receiver, pieces = Protocol(), []
    receiver.dataReceived = pieces.append
    asked.result.deliverBody(receiver)
    assert not wire.paused
    receiver.transport.pauseProducing()
    assert wire.paused
    receiver.transport.resumeProducing()
    assert not wire.paused
    receiver.transport.loseConnection()
    assert wire.closed
    assert pieces == [b"one"]


@pytest.mark.parametrize(
    "url", [b"http://example.com/", b"https://h/", b"http://h:1/", b"ftp://h/"]
)
def test_no_other_origin_is_asked(stage, url):
    failed = Told(agent(stage).request(b"GET", url))
    assert isinstance(failed.error, SchemeNotSupported)
    assert stage.wires == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        (b"TRACE", b"/", None),
        (b"GET", b"/ HTTP/1.1\r\nA: b", None),
        (b"GET", b"/", object()),
    ],
)
def test_what_the_agent_cannot_send_is_refused(stage, method, path, body):
    failed = Told(agent(stage).request(method, b"http://h" + path, None, body))
    assert isinstance(failed.error, ValueError)
    assert stage.wires == []
