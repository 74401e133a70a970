"""Requests on one connection: cut anywhere, in a row, half-way, left, and answered late."""

import gc
import json
import re
import weakref

import pytest
from fakes.gates import OpenGate
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from twisted.web.resource import Resource
from zope.interface.verify import verifyObject

from gemproxy.api.openai.errors import OPENAI
from gemproxy.http.connection import MAX_HELD_BYTES
from gemproxy.http.http1 import MAX_HEAD_BYTES
from gemproxy.http.response_writer import write_whole
from gemproxy.http.site import ProxySite
from gemproxy.http.upload_rate import IDLE_SECONDS

LIMIT = 5000


class Transport(StringTransport):
    aborted = half_closed = False

    def abortConnection(self):
        self.aborted = True

    def loseWriteConnection(self):
        self.half_closed = True


class Leaf(Resource):
    """What serves a path without a fast route."""

    isLeaf = True  # noqa: N815 - twisted.web's word

    def render(self, request):
        request.setHeader(b"X-Args", b"%r" % sorted(request.args.items()))
        request.setHeader(b"X-Client", str(request.getClientAddress()).encode())
        request.setHeader(b"X-Cookie", request.getCookie(b"a") or b"none")
        return b"leaf of " + (request.getHeader(b"x-name") or b"nobody")


class Echo(ProxySite):
    """A site that answers POST /now with what it got, and keeps POST /later waiting."""

    def __init__(self, clock):
        super().__init__(Leaf(), clock, OpenGate(clock, LIMIT), OPENAI)
        self.clock = clock
        self.seen = []
        self.waiting = []
        for method in (b"POST", b"GET", b"HEAD"):
            self.fast_routes[method, b"/now"] = self._answer_now
            self.fast_routes[method, b"/later"] = self.waiting.append

    def answer(self, request):
        self.seen.append((request.method, request.uri, request.body()))
        write_whole(request, 200, b"", b"%d" % len(self.seen), self.clock.seconds())

    def _answer_now(self, request):
        self.answer(request)


class Client:
    def __init__(self):
        self.clock = Clock()
        self.clock.advance(1000)
        self.site = Echo(self.clock)
        self.transport = Transport()
        self.channel = self.site.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def send(self, data, cuts=()):
        start = 0
        for end in [*sorted(cuts), len(data)]:
            self.channel.dataReceived(data[start:end])
            start = max(start, end)
        self.take_turns()

    def take_turns(self):
        """As the reactor gives them, to a connection with more than one request."""
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)

    def leave(self):
        self.channel.connectionLost(Failure(ConnectionDone()))

    @property
    def sent(self):
        return self.transport.value()

    @property
    def statuses(self):
        return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d+) ", self.sent)]


@pytest.fixture
def client():
    return Client()


def post(path=b"/now", body=b"", headers=b"", version=b"1.1"):
    return b"POST %b HTTP/%b\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (
        path,
        version,
        headers,
        len(body),
        body,
    )


def chunked(body, size, trailers=b"", path=b"/now"):
    chunks = [body[place : place + size] for place in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % path
    return head + framed + b"0\r\n" + trailers + b"\r\n"


# -- in a row, and cut anywhere --------------------------------------------------------------------

bodies = st.binary(max_size=60) | st.text("\r\n0a:", max_size=30).map(str.encode)
requests = st.lists(
    st.builds(post, body=bodies, path=st.sampled_from([b"/now", b"/now?a=%20"]))
    | st.builds(chunked, bodies, st.integers(1, 20), st.sampled_from([b"", b"A: b\r\n"]))
    | st.builds(lambda body: b"\r\n" + post(body=body), bodies)
    | st.just(b"GET /now HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
    min_size=1,
    max_size=6,
)


class Reference(Request):
    """twisted.web's own reading of the same bytes."""

    def process(self):
        self.channel.seen.append((self.method, self.uri, self.content.read()))
        self.finish()


def seen_by_twisted(data):
    channel = HTTPChannel()
    channel.requestFactory = Reference
    channel.seen, channel.timeOut = [], None
    channel.makeConnection(StringTransport())
    channel.dataReceived(data)
    return channel.seen


@given(requests, st.data())
def test_requests_in_a_row_are_the_same_wherever_they_are_cut(parts, data):
    whole = b"".join(parts)
    cuts = data.draw(st.lists(st.integers(0, len(whole))))
    client = Client()
    client.send(whole, cuts)
    assert client.site.seen == seen_by_twisted(whole)
    assert len(client.site.seen) == len(parts)
    assert client.statuses == [200] * len(parts)


def test_requests_in_a_row_are_the_same_byte_by_byte(client):
    whole = post(body=b"one") + chunked(b"two\r\n\r\n0\r\n\r\n", 3, b"A: b\r\n") + post(body=b"3")
    client.send(whole, range(len(whole)))
    assert [body for _, _, body in client.site.seen] == [b"one", b"two\r\n\r\n0\r\n\r\n", b"3"]


@given(requests, st.data())
def test_damaged_requests_do_no_harm_and_never_become_more(parts, data):
    whole = bytearray(b"".join(parts))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place : place + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\0", b":", b"0", b"\xff", b"x"])
        )
    client = Client()
    client.send(bytes(whole))
    assert len(client.site.seen) <= len(parts)
    # A message that is bad is the last one that is looked at.
    if 400 in client.statuses:
        assert client.statuses[-1] == 400
        assert client.statuses.count(400) == 1
        assert client.transport.half_closed
    answers, is_closed = client.sent, client.transport.half_closed
    client.send(post() * 2)
    assert not is_closed or client.sent == answers


def test_a_long_row_of_requests_nests_nothing(client):
    client.send(post() * 3000)
    assert len(client.site.seen) == 3000


# -- one at a time ---------------------------------------------------------------------------------


def test_what_comes_behind_a_request_waits_for_its_answer(client):
    client.send(post(b"/later") + post(body=b"second") + b"rubbish\r\n\r\n")
    assert client.sent == b""
    client.site.answer(client.site.waiting.pop())
    client.take_turns()
    assert client.statuses == [200, 200, 400]
    assert client.site.seen[1][2] == b"second"


def test_a_late_answer_ends_its_own_request_and_starts_the_next(client):
    client.send(post(b"/later", b"1") + post(b"/later", b"2") + post(b"/later", b"3"))
    for number in (b"1", b"2", b"3"):
        (request,) = client.site.waiting
        client.site.waiting.clear()
        client.site.answer(request)
        assert client.site.seen[-1][2] == number


def test_reading_stops_while_too_much_waits_and_goes_on_after_the_answer(client):
    client.send(post(b"/later"))
    client.send(post(body=b"x" * 4000) * 4)
    assert client.transport.producerState == "producing"
    client.send(post(body=b"y" * 4000))
    assert len(post(body=b"y" * 4000)) * 5 > MAX_HELD_BYTES
    assert client.transport.producerState == "paused"
    client.site.answer(client.site.waiting.pop())
    client.take_turns()
    assert client.transport.producerState == "producing"
    assert client.statuses == [200] * 6


def test_who_does_not_read_answers_is_not_read_either(client):
    verifyObject(IPushProducer, client.channel)
    client.transport.producer.pauseProducing()
    assert client.transport.producerState == "paused"
    client.send(post() * 3)
    assert client.site.seen == []
    client.transport.producer.resumeProducing()
    client.take_turns()
    assert client.transport.producerState == "producing"
    assert client.statuses == [200] * 3


def test_a_pipeline_takes_turns_with_others(client):
    client.channel.dataReceived(post(body=b"mine") * 3)
    assert client.statuses == [200]
    other = client.site.buildProtocol(None)
    other.makeConnection(Transport())
    other.dataReceived(post(body=b"another's"))
    client.take_turns()
    assert [body for *_, body in client.site.seen] == [b"mine", b"another's", b"mine", b"mine"]


def test_what_waits_for_its_turn_is_not_added_to(client):
    client.channel.dataReceived(post(body=b"x" * 4000) * 8)
    assert client.statuses == [200]
    assert client.transport.producerState == "paused"
    client.take_turns()
    assert client.transport.producerState == "producing"
    assert client.statuses == [200] * 8


def test_a_client_that_leaves_while_it_waits_for_its_turn_gets_none(client):
    client.channel.dataReceived(post() * 3)
    client.leave()
    client.take_turns()
    assert len(client.site.seen) == 1


def test_who_has_not_read_the_last_answer_is_not_read_behind_it(client):
    client.send(post(b"/later"))
    client.channel.pauseProducing()
    assert client.transport.producerState == "producing"
    client.site.answer(client.site.waiting.pop())
    assert client.transport.producerState == "paused"
    client.channel.resumeProducing()
    assert client.transport.producerState == "producing"


def test_a_client_that_leaves_is_told_to_who_asked(client):
    client.send(post(b"/later"))
    (request,) = client.site.waiting
    told = []
    request.on_disconnect(lambda: told.append("gone"))
    request.notifyFinish().addErrback(lambda failure: told.append(failure.type))
    client.leave()
    assert told == [ConnectionDone, "gone"]
    assert request._disconnected
    write_whole(request, 200, b"", b"nobody reads this", 0.0)
    assert client.sent == b""


def test_an_answered_request_hears_no_more_of_its_client(client):
    client.send(post(b"/later"))
    (request,) = client.site.waiting
    told = []
    request.on_disconnect(lambda: told.append("gone"))
    request.notifyFinish().addCallback(told.append)
    client.site.answer(request)
    client.leave()
    assert told == [None]


def test_a_body_is_held_once(client):
    client.send(post(b"/later", b"x" * 3000), [100, 1000])
    (request,) = client.site.waiting
    assert request.body() == b"x" * 3000
    assert request.body() == b""


def test_a_closed_connection_is_not_left_to_the_collector(client):
    client.send(post() + post(b"/later") + post())
    client.site.waiting.clear()
    client.leave()
    channel = weakref.ref(client.channel)
    gc.disable()
    try:
        client.transport.producer = client.channel = None
        assert channel() is None
    finally:
        gc.enable()


# -- refusals --------------------------------------------------------------------------------------


def test_a_request_that_is_bad_in_its_middle_is_answered_and_not_served(client):
    client.send(chunked(b"abc", 3).replace(b"0\r\n\r\n", b"zz\r\n") + post())
    assert client.statuses == [400]
    assert client.site.seen == []
    assert json.loads(client.sent.partition(b"\r\n\r\n")[2])["error"]["type"] == (
        "invalid_request_error"
    )


@pytest.mark.parametrize("size", [MAX_HEAD_BYTES - 100, MAX_HEAD_BYTES + 1])
@pytest.mark.parametrize("end", [b"", b"\r\nContent-Length: 0\r\n\r\n"])
def test_a_head_is_bounded_whether_it_ends_or_not(client, size, end):
    client.send(b"POST /now HTTP/1.1\r\nHost: x\r\nX: " + b"a" * size + end, [size // 2, size])
    if size > MAX_HEAD_BYTES:
        assert client.statuses == [400]
    else:
        assert client.statuses == [200] * bool(end)


@pytest.mark.parametrize(("size", "status"), [(LIMIT, 200), (LIMIT + 1, 413)])
@pytest.mark.parametrize("encode", [lambda body: post(body=body), lambda body: chunked(body, 999)])
@pytest.mark.parametrize("cuts", [(), (10, 200, 3000)])
def test_a_body_is_bounded_however_it_comes(client, size, status, encode, cuts):
    client.send(encode(b"a" * size) + post(), cuts)
    if status == 200:
        assert client.statuses == [200, 200]
    else:
        # Behind a body that was there as a whole the next request is found.
        assert client.statuses[0] == 413
        assert client.statuses[1:] in ([], [200])
        assert client.transport.half_closed == (len(client.statuses) == 1)


def test_two_empty_lines_are_no_request(client):
    client.send(b"\r\n\r\n" + post())
    assert client.statuses == [400]


def test_what_stands_behind_the_last_request_is_not_served(client):
    client.send(post(headers=b"Connection: close\r\n") + post())
    assert client.statuses == [200]
    assert b"Connection: close\r\n" in client.sent
    # It can still read the answer, although bytes of its are left.
    assert client.transport.half_closed


# -- leave to send ---------------------------------------------------------------------------------

EXPECT = b"Expect: 100-continue\r\n"


def test_leave_to_send_is_given_once_and_before_the_body(client):
    whole = post(body=b"abc", headers=EXPECT)
    client.send(whole[:-3])
    assert client.statuses == [100]
    client.send(whole[-3:])
    assert client.statuses == [100, 200]


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_leave_is_not_given_where_the_body_has_begun_or_none_comes(client, cut):
    body = b"abc" if cut else b""
    whole = post(body=body, headers=EXPECT)
    client.send(whole, [len(whole) - 3 + cut])
    assert client.statuses == [200]


def test_leave_is_not_given_ahead_of_an_earlier_answer(client):
    client.send(post(b"/later") + post(body=b"abc", headers=EXPECT)[:-3])
    assert client.sent == b""
    client.site.answer(client.site.waiting.pop())
    assert client.statuses == [200, 100]


# -- versions and methods --------------------------------------------------------------------------


@pytest.mark.parametrize("connection", [b"", b"Connection: keep-alive\r\n"])
def test_an_old_client_gets_one_answer_a_connection(client, connection):
    client.send(post(version=b"1.0", headers=connection))
    assert client.statuses == [200]
    assert b"Connection: close\r\n" in client.sent
    assert client.transport.disconnecting


def test_an_answer_to_head_has_no_body(client):
    client.send(b"HEAD /now HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.sent.endswith(b"\r\n\r\n")
    assert b"Content-Length: 1\r\n" in client.sent


def test_an_upgrade_is_not_followed_and_its_request_is_served(client):
    """Java's client asks for h2c with each request; no protocol but this one is spoken."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n"
    client.send(post(body=b"one", headers=upgrade))
    tail = chunked(b"two", 3)
    client.send(tail.replace(b"Transfer", upgrade + b"Transfer"))
    client.send(post(body=b"three"))
    assert [body for _, _, body in client.site.seen] == [b"one", b"two", b"three"]


def test_a_tunnel_is_refused_with_all_that_is_in_it(client):
    client.send(b"CONNECT /now HTTP/1.1\r\nHost: x\r\n\r\n" + post())
    assert client.statuses == [400]
    assert client.site.seen == []


# -- what has no fast route ------------------------------------------------------------------------


def test_a_resource_finds_all_that_twisted_web_gives_it(client):
    client.send(
        b"GET /leaf?a=1&b= HTTP/1.1\r\nHost: x\r\nX-Name: me\r\nCookie: a=b; c=d\r\n\r\n" * 2
    )
    head, _, body = client.sent.partition(b"\r\n\r\n")
    assert body.startswith(b"leaf of me")
    assert b"X-Args: [(b'a', [b'1']), (b'b', [b''])]" in head
    assert b"X-Cookie: b" in head
    assert b"X-Client: IPv4Address" in head
    assert client.statuses == [200, 200]


def test_a_resources_answer_ends_an_old_clients_connection(client):
    client.send(b"GET /leaf HTTP/1.0\r\n\r\n")
    assert client.statuses == [200]
    assert b"Connection: close\r\n" in client.sent
    assert client.transport.disconnecting


def test_an_answer_has_one_producer_and_no_pulled_one(client):
    client.send(post(b"/later"))
    (request,) = client.site.waiting
    with pytest.raises(RuntimeError):
        client.channel.registerProducer(client.channel, streaming=False)
    request.registerProducer(client.channel, streaming=True)
    with pytest.raises(RuntimeError):
        client.channel.registerProducer(client.channel, streaming=True)


# -- time ------------------------------------------------------------------------------------------


def test_a_slow_reader_has_a_minute_from_when_it_has_read(client):
    client.send(post())
    client.transport.producer.pauseProducing()
    client.clock.advance(IDLE_SECONDS - 1)
    client.transport.producer.resumeProducing()
    client.clock.advance(IDLE_SECONDS - 1)
    assert not client.transport.disconnecting
    client.clock.advance(2)
    assert client.transport.disconnecting


def test_an_idle_connection_that_does_not_go_is_cut(client):
    client.clock.advance(IDLE_SECONDS + 1)
    assert client.transport.disconnecting
    client.clock.advance(16)
    assert client.transport.aborted


def test_many_connections_have_one_timer(client):
    channels = [client.site.buildProtocol(None) for _ in range(50)]
    for channel in channels:
        channel.makeConnection(Transport())
        channel.dataReceived(post()[:-2])
    assert len(client.clock.getDelayedCalls()) == 1


def test_a_drain_lets_the_running_answer_out_and_serves_no_other(client):
    client.send(post(b"/later") + post())
    client.site.close()
    client.site.answer(client.site.waiting.pop())
    client.send(post())
    assert client.statuses == [200]
    assert client.transport.disconnecting


@pytest.mark.parametrize("headers", [b"Connection: close\r\n", b"Connection: close\r\nX: y\r\n"])
def test_a_connection_that_was_to_close_and_does_not_is_cut(client, headers):
    """Its client has gone without a word, or never reads what it was sent."""
    client.send(post(headers=headers))
    assert client.statuses == [200]
    client.clock.pump([1.0] * 14)
    assert not client.transport.aborted
    client.clock.pump([1.0] * 3)
    assert client.transport.aborted


def test_a_length_of_thousands_of_zeros_is_zero(client):
    client.send(b"POST /now HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\n\r\n" % (b"0" * 5000))
    assert client.statuses == [200]


@pytest.mark.parametrize("method", [b"OPTIONS", b"GET", b"HEAD"])
def test_what_is_asked_of_the_server_as_a_whole_is_answered_in_our_words(client, method):
    client.send(b"%b * HTTP/1.1\r\nHost: x\r\n\r\n" % method)
    assert client.statuses == [404]
    assert b"TwistedWeb" not in client.sent


def test_a_blank_line_behind_the_last_request_does_not_hurry_its_answer(client):
    client.send(post(b"/later", headers=b"Connection: close\r\n") + b"\r\n")
    client.site.answer(client.site.waiting.pop())
    assert client.transport.disconnecting
    assert not client.transport.half_closed
