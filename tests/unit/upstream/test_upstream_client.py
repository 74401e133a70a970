"""The upstream client against a real socket whose other end may do anything."""

import random
import socket

import pytest
import pytest_twisted
from fakes.scripted_server import ScriptedServer, chunked, ok
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from gemproxy.buffer_list import BufferList
from gemproxy.config.settings import UpstreamSettings
from gemproxy.core.errors import FailureKind, UpstreamFailed
from gemproxy.core.interfaces import UpstreamRequest
from gemproxy.secret import Secret
from gemproxy.upstream.client import GeminiUpstream

KEY = Secret("test-key-0123456789abcdef")
POST = UpstreamRequest(b"POST", b"/v1beta/models/m:generateContent", KEY, b'{"contents":[]}')


class Stage:
    """A scripted server and the client that talks to it."""

    def __init__(self, reactor, script, **settings):
        self.server = ScriptedServer(script)
        url = self.server.listen(reactor)
        self.client = GeminiUpstream(
            reactor, UpstreamSettings(base_url=url, **settings), "gemproxy/test"
        )
        self.client.start()

    async def stop(self):
        self.client.stop()
        await self.server.stop()


@pytest.fixture
def stage(request):
    from twisted.internet import reactor

    stages = []

    def make(script, **settings):
        stages.append(Stage(reactor, script, **settings))
        return stages[-1]

    yield make
    for made in stages:
        pytest_twisted.blockon(Deferred.fromCoroutine(made.stop()))


def always(answer):
    return lambda connection, _request: connection.transport.write(answer)


async def failure_of(awaitable):
    with pytest.raises(UpstreamFailed) as caught:
        await awaitable
    return caught.value


@pytest_twisted.ensureDeferred
async def test_a_whole_answer_is_read_with_status_and_headers(stage):
    here = stage(always(ok(b'{"a":1}', b"X-Gemini-Service-Tier: flex")))
    response = await here.client.send(POST)
    assert response.status == 200
    assert response.headers["x-gemini-service-tier"] == "flex"
    assert await response.read(100) == b'{"a":1}'


@pytest_twisted.ensureDeferred
async def test_the_key_is_the_only_credential_and_a_header(stage):
    here = stage(always(ok(b"{}")))
    await (await here.client.send(POST)).read(100)
    request = here.server.connections[0].requests[0]
    assert request.count(KEY.reveal().encode()) == 1
    assert b"x-goog-api-key: test-key-0123456789abcdef\r\n" in request.replace(
        b"X-Goog-Api-Key", b"x-goog-api-key"
    )
    assert b"authorization" not in request.lower()
    assert request.startswith(b"POST /v1beta/models/m:generateContent HTTP/1.1\r\n")
    assert request.endswith(b'\r\n\r\n{"contents":[]}')


@pytest_twisted.ensureDeferred
async def test_one_connection_serves_request_after_request(stage):
    here = stage(always(ok(b"{}")))
    for _ in range(3):
        await (await here.client.send(POST)).read(100)
    assert len(here.server.connections) == 1
    assert len(here.server.connections[0].requests) == 3


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("size", [64 * 1024 + 1, 2 * 1024 * 1024, 5_000_000])
async def test_a_large_body_arrives_whole_and_its_connection_is_kept(stage, size):
    here = stage(always(ok(b"{}")))
    body = random.Random(size).randbytes(size)
    request = UpstreamRequest(b"POST", b"/x", KEY, body)
    for _ in range(2):
        assert await (await here.client.send(request)).read(100) == b"{}"
    (connection,) = here.server.connections
    assert [got.endswith(b"\r\n\r\n" + body) for got in connection.requests] == [True, True]


@pytest_twisted.ensureDeferred
async def test_a_body_that_lies_in_pieces_arrives_in_one(stage):
    here = stage(always(ok(b"{}")))
    image = random.Random(1).randbytes(3_000_000)
    pieces = BufferList(
        [b'{"a":"', memoryview(image)[1000:], b"", b'","b":"', memoryview(image), b'"}']
    )
    request = UpstreamRequest(b"POST", b"/x", KEY, pieces)
    for _ in range(2):
        assert await (await here.client.send(request)).read(100) == b"{}"
    for got in here.server.connections[0].requests:
        head, _, body = got.partition(b"\r\n\r\n")
        assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n"
        assert body == b'{"a":"%b","b":"%b"}' % (image[1000:], image)


@pytest_twisted.ensureDeferred
async def test_pieces_that_came_together_go_on_together(stage):
    here = stage(always(chunked(b"one", b"two", b"three")))
    response = await here.client.send(POST)
    got = []
    await response.stream(got.append)
    assert b"".join(got) == b"onetwothree"
    assert len(got) == 1


@pytest_twisted.ensureDeferred
async def test_a_stream_arrives_piece_by_piece(stage):
    def script(connection, _):
        connection.transport.write(chunked(b"one", end=False))

    here = stage(script)
    response = await here.client.send(POST)
    got = []
    ended = response.stream(
        lambda data: (
            (got.append(data), here.server.connections[0].transport.write(b"3\r\ntwo\r\n0\r\n\r\n"))
            if not got
            else got.append(data)
        )
    )
    await ended
    assert got == [b"one", b"two"]


@pytest_twisted.ensureDeferred
async def test_refused_connections_are_told_as_such(stage):
    here = stage(always(b""))
    await here.server.port.stopListening()
    assert (await failure_of(here.client.send(POST))).kind is FailureKind.REFUSED


@pytest_twisted.ensureDeferred
async def test_an_answer_that_does_not_begin_times_out_by_name(stage):
    here = stage(lambda *_: None, first_byte_timeout_seconds=0.1)
    failure = await failure_of(here.client.send(POST))
    assert failure.kind is FailureKind.FIRST_BYTE_TIMEOUT
    assert failure.setting == "firstByteTimeoutSeconds"
    await here.server.connections[0].closed


@pytest_twisted.ensureDeferred
async def test_cancelling_a_body_closes_the_connection(stage):
    here = stage(always(chunked(b"one", end=False)))
    response = await here.client.send(POST)
    body = response.stream(lambda _: None)
    body.cancel()
    with pytest.raises(CancelledError):
        await body
    await here.server.connections[0].closed


@pytest_twisted.ensureDeferred
async def test_a_kept_connection_that_was_closed_meanwhile_is_replaced_once(stage):
    """The upstream closes in the moment the connection is used again: nobody's failure."""

    def script(connection, _request):
        if len(here.server.connections) == 1 and len(connection.requests) == 2:
            connection.transport.loseConnection()
        else:
            connection.transport.write(ok(b"{}"))

    here = stage(script)
    await (await here.client.send(POST)).read(100)
    assert await (await here.client.send(POST)).read(100) == b"{}"
    assert len(here.server.connections) == 2


@pytest_twisted.ensureDeferred
async def test_redirects_are_answers_not_followed(stage):
    here = stage(
        always(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
    )
    response = await here.client.send(POST)
    assert response.status == 302
    assert len(here.server.connections[0].requests) == 1


# -- what is written leaves at the end of the reactor's turn ---------------------------------------


async def in_a_timer_with_a_kept_connection(stage):
    """What is written from here on leaves after the sockets were read once more."""
    from twisted.internet import reactor

    here = stage(always(ok(b"asked for")))
    await (await here.client.send(POST)).read(100)
    (kept,) = here.server.connections
    await deferLater(reactor, 0.02)
    return here, kept


@pytest_twisted.ensureDeferred
async def test_what_came_before_the_request_left_is_no_answer_to_it(stage):
    here, kept = await in_a_timer_with_a_kept_connection(stage)
    kept.transport.socket.send(ok(b"of somebody else"))
    one = here.client.send(POST)
    assert await (await one).read(100) == b"asked for"
    assert [len(each.requests) for each in here.server.connections] == [1, 1]
    await kept.closed


@pytest_twisted.ensureDeferred
async def test_a_kept_connection_found_closed_before_the_request_left_is_replaced(stage):
    here, kept = await in_a_timer_with_a_kept_connection(stage)
    kept.transport.socket.shutdown(socket.SHUT_WR)
    assert await (await here.client.send(POST)).read(100) == b"asked for"
    assert [len(each.requests) for each in here.server.connections] == [1, 1]
    await kept.closed


@pytest_twisted.ensureDeferred
async def test_a_request_that_was_given_up_before_it_left_does_not_leave(stage):
    here, kept = await in_a_timer_with_a_kept_connection(stage)
    sent = here.client.send(POST)
    sent.cancel()
    with pytest.raises(CancelledError):
        await sent
    await kept.closed
    assert len(kept.requests) == 1
    assert await (await here.client.send(POST)).read(100) == b"asked for"
