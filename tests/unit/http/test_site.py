"""A client's connection under a clock that the test holds: what drips, stalls, or never ends."""

import pytest
from fakes.gates import OpenGate
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from gemproxy.api.openai.errors import OPENAI
from gemproxy.http.connection import HEADER_SECONDS, LINGER_BYTES, LINGER_SECONDS
from gemproxy.http.connection_limits import ConnectionLimits
from gemproxy.http.response_writer import write_whole
from gemproxy.http.site import ProxySite
from gemproxy.http.upload_rate import IDLE_SECONDS, SPAN_SECONDS, WHOLE_BODY_SECONDS

LIMIT = 10_000
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


class Transport(StringTransport):
    """Tells how it was closed; ``disconnecting`` is an orderly close."""

    aborted = half_closed = False

    def abortConnection(self):
        self.aborted = True
        self.lose()

    def loseWriteConnection(self):
        self.half_closed = True

    def lose(self):
        if self.channel is not None:
            channel, self.channel = self.channel, None
            channel.connectionLost(Failure(ConnectionDone()))


class Client:
    """A connection to a site that answers POST / with the body's length, and never POST /wait."""

    def __init__(self):
        self.clock = Clock()
        self.clock.advance(1000)
        self.gate = OpenGate(self.clock, LIMIT)
        self.refused = self.gate.refused
        self.site = ProxySite(Resource(), self.clock, self.gate, OPENAI)
        self.site.fast_routes[b"POST", b"/"] = self.answer
        self.site.fast_routes[b"POST", b"/wait"] = lambda _: None
        self.connect()

    def connect(self):
        self.transport = Transport()
        channel = self.site.buildProtocol(None)
        self.transport.channel = channel
        self.transport.protocol = channel
        channel.makeConnection(self.transport)
        self.channel = channel

    def answer(self, request):
        write_whole(request, 200, b"", b"%d" % len(request.body()), self.clock.seconds())

    def send(self, data):
        self.channel.dataReceived(data)
        while self.channel._is_yielding:
            self.clock.advance(0)

    @property
    def statuses(self):
        return [
            int(line.split(b" ")[1])
            for line in self.transport.value().split(b"\r\n")
            if line.startswith(b"HTTP/1.1 ")
        ]

    @property
    def is_open(self):
        return not (self.transport.aborted or self.transport.disconnecting)


@pytest.fixture
def client():
    return Client()


def head(length, path=b"/"):
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path, length)


def advance(client, seconds):
    """Second by second, as the reactor does."""
    client.clock.pump([1.0] * seconds)


@pytest.mark.parametrize("begun", [b"", head(1) + b"a"])
def test_a_client_that_falls_silent_between_requests_is_closed_after_a_minute(client, begun):
    client.send(begun)
    advance(client, int(IDLE_SECONDS))
    assert client.is_open
    advance(client, 2)
    assert not client.is_open


@pytest.mark.parametrize("begun", [head(100), head(9000) + b"a" * 8999, CHUNKED])
def test_a_client_that_falls_silent_in_a_body_is_cut_off_after_half_a_minute(client, begun):
    client.send(begun)
    advance(client, int(SPAN_SECONDS) - 1)
    assert client.is_open
    advance(client, 3)
    assert client.transport.aborted
    assert client.statuses == []


def test_headers_that_stop_half_way_are_cut_off(client):
    client.send(b"POST / HT")
    client.clock.advance(HEADER_SECONDS)
    assert client.is_open
    client.clock.advance(1)
    assert client.transport.aborted


def test_headers_that_drip_are_cut_off(client):
    whole = head(0) + b"x" * 100
    for place in range(int(HEADER_SECONDS)):
        client.send(whole[place : place + 1])
        client.clock.advance(1)
    assert client.is_open
    client.clock.advance(1)
    client.send(b"x")
    assert client.transport.aborted


def test_headers_that_drip_on_a_kept_connection_are_cut_off_as_well(client):
    client.send(head(1) + b"a")
    client.clock.advance(IDLE_SECONDS - 1)  # silence between two requests is no dripping
    for _ in range(int(HEADER_SECONDS) + 1):
        assert client.is_open
        client.send(b"X")
        client.clock.advance(1)
    client.send(b"X")
    assert client.transport.aborted


@pytest.mark.parametrize("size", [18, 100])
def test_a_body_that_drips_is_cut_off(client, size):
    client.site.connections.apply(ConnectionLimits(minimum_upload_rate=101.0))
    client.send(head(9000))
    for _ in range(int(SPAN_SECONDS) + 3):
        client.send(b"a" * size)
        client.clock.advance(1)
    assert client.transport.aborted
    assert client.statuses == []


def test_a_body_that_drips_only_after_a_brisk_start_is_cut_off(client):
    client.send(head(9000) + b"a" * 8000)
    for _ in range(int(SPAN_SECONDS) + 3):
        client.send(b"a")
        client.clock.advance(1)
    assert client.transport.aborted


def test_a_body_that_comes_in_bursts_far_apart_is_cut_off(client):
    """What counts is any span, not one that begins when it suits the client."""
    client.site.connections.apply(ConnectionLimits(minimum_upload_rate=10.0))
    client.send(head(9000))
    advance(client, 1)
    client.send(b"a" * 4000)
    advance(client, int(SPAN_SECONDS) + 3)
    client.send(b"a" * 4000)
    assert client.transport.aborted


def test_a_slow_but_steady_body_is_served(client):
    client.site.connections.apply(ConnectionLimits(minimum_upload_rate=40.0))
    client.send(head(9000))
    for _ in range(200):
        client.clock.advance(1)
        client.send(b"a" * 45)
    assert client.statuses == [200]
    assert client.transport.value().endswith(b"\r\n\r\n9000")
    assert client.is_open


def test_a_steady_body_that_takes_all_too_long_is_cut_off(client):
    client.site.connections.apply(ConnectionLimits(minimum_upload_rate=10.0))
    client.send(head(9000))
    for _ in range(int(WHOLE_BODY_SECONDS) - 1):
        client.clock.advance(1)
        client.send(b"a" * 20)
    assert client.is_open
    advance(client, 3)
    assert client.transport.aborted


def test_no_clock_runs_while_the_answer_is_awaited(client):
    client.send(head(1, b"/wait") + b"a")
    client.clock.advance(10_000)
    assert client.is_open


def test_what_comes_while_an_answer_is_awaited_is_held_back(client):
    client.send(head(1, b"/wait") + b"a")
    for _ in range(10):
        client.send(b"b" * 10_000)
        if client.transport.producerState == "paused":
            break
    assert client.transport.producerState == "paused"
    assert client.is_open


def test_a_refusal_comes_with_the_headers_and_drops_what_follows(client):
    client.send(head(LIMIT + 1))
    assert client.statuses == [413]
    assert client.transport.half_closed
    client.send(b"a" * (LIMIT + 1) + head(0))
    assert client.statuses == [413]
    assert len(client.refused) == 1
    client.clock.advance(LINGER_SECONDS - 1)
    assert not client.transport.aborted
    client.clock.advance(2)
    assert client.transport.aborted


def test_a_refused_client_may_send_so_much_more_and_no_more(client):
    client.send(head(LIMIT + 1))
    for _ in range(LINGER_BYTES // (1024 * 1024)):
        client.send(b"a" * 1024 * 1024)
    assert not client.transport.aborted
    client.send(b"a")
    assert client.transport.aborted


def test_a_chunked_body_is_counted_as_it_comes(client):
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.send(b"%x\r\n%b\r\n" % (LIMIT, b"a" * LIMIT))
    assert client.statuses == []
    client.send(b"1\r\na")
    assert client.statuses == [413]
    client.send(b"\r\n0\r\n\r\n")
    assert client.statuses == [413]


def test_lines_behind_a_bad_one_are_not_looked_at(client):
    client.send(b"rubbish\r\n\r\n" + head(1) + b"a")
    client.send(head(1) + b"a")
    assert client.statuses == [400]


def test_a_routes_defect_is_no_silence(client):
    def crash(_):
        raise LookupError("no such thing")

    client.site.fast_routes[b"POST", b"/"] = crash
    with capturedLogs() as events:
        client.send(head(1) + b"a")
    assert client.statuses == [500]
    assert [error.word for error in client.refused] == ["internal_error"]
    assert b"LookupError" not in client.transport.value()
    assert any("log_failure" in event for event in events)


def test_a_routes_defect_behind_its_answer_is_logged_and_no_second_answer(client):
    def answer_and_crash(request):
        client.answer(request)
        raise LookupError("too late")

    client.site.fast_routes[b"POST", b"/"] = answer_and_crash
    with capturedLogs() as events:
        client.send((head(1) + b"a") * 2)
    assert client.transport.value().count(b"HTTP/1.1 ") == 2
    assert client.is_open
    assert [str(event["log_failure"].value) for event in events] == ["too late"] * 2


def test_closing_fires_when_the_last_connection_is_gone(client):
    first = client.transport
    client.connect()
    second = client.transport
    closed = client.site.close()
    assert first.disconnecting
    assert second.disconnecting
    first.lose()
    assert not closed.called
    second.lose()
    assert closed.called
    assert client.clock.getDelayedCalls() == []


def test_closing_waits_for_a_slow_peer_only_so_long(client):
    closed = client.site.close()
    client.clock.advance(LINGER_SECONDS)
    assert client.transport.aborted
    assert closed.called


def test_closing_without_connections_fires_at_once(client):
    client.transport.lose()
    assert client.site.close().called
