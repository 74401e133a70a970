"""What is decided from a request's head, before a byte of its body is read."""

import gc
import json
import os
import weakref
from contextlib import contextmanager
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from gemproxy.api.base import Route
from gemproxy.api.openai.errors import OPENAI
from gemproxy.config.settings import AccessToken
from gemproxy.core.admission import AdmissionLimits
from gemproxy.core.events import RequestListener
from gemproxy.http.auth import TokenAuth
from gemproxy.http.lifecycle import LifecycleSettings, RequestLifecycle
from gemproxy.http.site import ProxySite
from gemproxy.secret import Secret

TOKEN = "a-client-token-of-the-tests"
MEGABYTE = 1024 * 1024


class Transport(StringTransport):
    aborted = half_closed = False

    def loseWriteConnection(self):
        self.half_closed = True

    def abortConnection(self):
        self.aborted = True


class Client:
    """One connection to the stage's site."""

    def __init__(self, site):
        self.transport = Transport()
        self.channel = site.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def send(self, data):
        """In pieces as they come from a socket."""
        for start in range(0, len(data), 65536):
            self.channel.dataReceived(data[start : start + 65536])

    def post(self, headers=b"", token=TOKEN, method=b"POST"):
        if token:
            headers += b"Authorization: Bearer %b\r\n" % token.encode()
        self.send(b"%b / HTTP/1.1\r\nHost: x\r\n%b\r\n" % (method, headers))

    def leave(self):
        self.transport.producer = None  # A transport of Twisted's forgets it as well.
        self.channel.connectionLost(Failure(ConnectionDone()))

    @property
    def sent(self):
        return self.transport.value()

    @property
    def status(self):
        return int(self.sent.split(b" ")[1]) if self.sent else None

    @property
    def error(self):
        return json.loads(self.sent.partition(b"\r\n\r\n")[2])["error"]


class Stage(RequestListener):
    """A site with one route, whose work waits until it is told to answer."""

    def __init__(self, **settings):
        self.clock = Clock()
        self.clock.advance(1000)
        self.lifecycle = RequestLifecycle(
            self.clock,
            LifecycleSettings(AdmissionLimits(**settings), heartbeat=0.0),
            TokenAuth([AccessToken(None, Secret(TOKEN))], None, anonymous=False),
            self,
            lambda: "req_fresh",
            OPENAI,
        )
        self.told, self.works = [], []
        self.site = ProxySite(Resource(), self.clock, self, OPENAI)
        self.site.fast_routes[b"POST", b"/"] = lambda request: self.lifecycle.handle(
            request, "/", self.serve
        )

    def check_head(self, request):
        self.lifecycle.check_head(request, Route("/", (b"POST",), OPENAI))

    def __getattr__(self, name):
        return getattr(self.lifecycle, name)

    def request_ended(self, context, status, _seconds):
        self.told.append((context.route, status))

    async def serve(self, _context, writer):
        work = Deferred()
        self.works.append(work)
        await work
        writer.answer(b"{}")

    def connect(self):
        return Client(self.site)

    @property
    def taken(self):
        return self.lifecycle.in_flight, self.lifecycle.admission.buffered_bytes


@pytest.fixture
def stage():
    return Stage(max_body=10_000, max_in_flight=2, max_buffered=15_000)


LENGTH = b"Content-Length: 9000\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("body", [LENGTH, CHUNKED, b"Content-Length: 99999\r\n"])
@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
@pytest.mark.parametrize("token", [None, "a-wrong-token-of-the-tests"])
def test_without_the_right_token_no_byte_of_a_body_is_read(stage, body, expect, token):
    client = stage.connect()
    client.post(body + expect, token)
    assert client.status == 401
    assert b"Connection: close\r\n" in client.sent
    assert client.transport.half_closed
    client.send(b"x" * 5000)
    assert client.channel._buffer == b""
    assert stage.taken == (0, 0)
    assert stage.told == [("/", 401)]


def test_who_waits_for_leave_gets_it_with_the_right_token(stage):
    client = stage.connect()
    client.post(LENGTH + b"Expect: 100-continue\r\n")
    assert client.sent == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_a_refused_body_that_is_there_already_does_not_end_the_connection(stage):
    client = stage.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n{}{}")
    assert client.status == 401
    client.transport.clear()
    client.post(b"Content-Length: 0\r\n")
    stage.works.pop().callback(None)
    assert client.status == 200


def test_a_method_that_is_not_served_is_told_from_the_head(stage):
    client = stage.connect()
    client.post(LENGTH, method=b"PUT")
    assert client.status == 405
    assert stage.taken == (0, 0)


def test_a_place_is_taken_with_the_head(stage):
    for _ in range(2):
        stage.connect().post(LENGTH.replace(b"9000", b"10"))
    assert stage.taken == (2, 20)
    third = stage.connect()
    third.post(LENGTH)
    assert third.status == 429
    assert b"Retry-After: 1\r\n" in third.sent
    assert stage.taken == (2, 20)


def test_bodies_that_are_too_much_together_are_refused_before_they_are_read(stage):
    first = stage.connect()
    first.post(LENGTH)
    second = stage.connect()
    second.post(LENGTH)
    assert second.status == 503
    assert second.error["code"] == "overloaded"
    assert b"Retry-After: 1\r\n" in second.sent
    assert stage.taken == (1, 9000)
    first.send(b"x" * 9000)
    third = stage.connect()
    third.post(LENGTH)
    assert third.status == 503  # The first is complete, but not yet answered.
    stage.works.pop().callback(None)
    assert first.status == 200
    assert stage.taken == (0, 0)


def test_a_body_in_chunks_counts_as_it_grows(stage):
    first, second = stage.connect(), stage.connect()
    first.post(CHUNKED)
    second.post(CHUNKED)
    first.send(b"1f40\r\n" + b"x" * 8000 + b"\r\n")
    assert stage.taken == (2, 8000)
    second.send(b"1f40\r\n" + b"x" * 8000)
    assert second.status == 503
    assert stage.taken == (1, 8000)
    second.send(b"\r\n0\r\n\r\n")
    second.leave()
    assert stage.taken == (1, 8000)
    first.send(b"0\r\n\r\n")
    stage.works.pop().callback(None)
    assert first.status == 200
    assert stage.taken == (0, 0)


def let_go(client):
    client.leave()


def garbled(client):
    client.send(b"no chunk\r\n\r\n")
    client.leave()


def too_large(client):
    client.send(b"ffffff\r\n" + b"x" * 10_001)
    assert client.status == 413
    client.leave()


def too_slow(client):
    client.channel.site.call_later.__self__.advance(1000)
    assert client.transport.aborted
    client.leave()


@pytest.mark.parametrize("end", [let_go, garbled, too_large, too_slow])
@pytest.mark.parametrize("begun", [b"", b"5\r\nhello\r\n"])
def test_whatever_ends_an_unfinished_body_gives_back_what_it_took_once(stage, end, begun):
    other = stage.connect()
    other.post(b"Content-Length: 0\r\n")  # its work goes on
    client = stage.connect()
    client.post(CHUNKED)
    client.send(begun)
    assert stage.taken == (2, len(begun) and 5)
    end(client)
    assert stage.taken == (1, 0)
    stage.works.pop().callback(None)
    assert stage.taken == (0, 0)


def test_a_client_that_leaves_its_work_gives_back_what_it_took(stage):
    client = stage.connect()
    client.post(LENGTH)
    client.send(b"x" * 9000)
    assert stage.taken == (1, 9000)
    client.leave()
    assert stage.taken == (0, 0)
    assert stage.told == [("/", 499)]


def test_a_defect_before_the_work_begins_keeps_no_place(stage):
    def fail(_request):
        raise ZeroDivisionError

    stage.site.fast_routes[b"POST", b"/"] = fail
    client = stage.connect()
    client.post(b"Content-Length: 4\r\n")
    client.send(b"{}{}")
    assert client.status == 500
    assert stage.taken == (0, 0)


def test_a_body_that_is_still_coming_is_in_flight_for_a_drain(stage):
    client = stage.connect()
    client.post(LENGTH)
    idle = stage.lifecycle.when_idle()
    assert not idle.called
    stage.lifecycle.draining = True
    client.send(b"x" * 9000)
    stage.works.pop().callback(None)
    assert client.status == 200
    assert idle.called


def test_a_body_that_never_ends_does_not_outlast_a_drain(stage):
    stage.connect().post(LENGTH)
    idle = stage.lifecycle.when_idle()
    stage.lifecycle.abort()
    assert idle.called


# -- nothing of a body waits for the garbage collector ---------------------------------------------


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def no_collector():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


def answered(stage, client):
    client.send(b"0\r\n\r\n")
    stage.works.pop().callback(None)
    assert client.status == 200


def aborted(_stage, client):
    client.leave()


def refused(stage, client):
    client.send(b"fffffff\r\n" + b"x" * 11 * MEGABYTE)
    assert client.status == 413
    client.leave()


def malformed(_stage, client):
    client.send(b"no chunk\r\n\r\n")
    assert client.status == 400
    client.leave()


def left_at_work(stage, client):
    client.send(b"0\r\n\r\n")
    stage.works.pop()
    client.leave()


def kept(stage, client):
    """Answered, and the connection waits for another request, which comes."""
    answered(stage, client)
    client.transport.clear()
    client.post(b"Content-Length: 0\r\n")
    answered_next = stage.works.pop()
    answered_next.callback(None)
    assert client.status == 200


@pytest.mark.parametrize("end", [answered, aborted, refused, malformed, left_at_work, kept])
def test_bodies_in_chunks_leave_at_once_and_not_with_the_collector(end):
    stage = Stage(max_body=20 * MEGABYTE)
    chunk = b"100000\r\n" + b"x" * MEGABYTE + b"\r\n"
    before, connections, requests = None, [], []
    with no_collector():
        for number in range(12):
            client = stage.connect()
            client.post(CHUNKED)
            for _ in range(10):
                client.send(chunk)
            connections.append(weakref.ref(client.channel))
            requests.append(weakref.ref(client.channel._request))
            end(stage, client)
            assert requests[-1]() is None
            if end in (answered, kept):
                client.leave()
            del client
            if end is not malformed:  # Twisted keeps what is logged before a log begins.
                assert connections[-1]() is None
            if number == 2:
                before = resident()
        assert resident() - before < 20 * MEGABYTE
    assert stage.taken == (0, 0)
