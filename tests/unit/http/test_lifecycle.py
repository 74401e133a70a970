"""The lifecycle of public requests: what happens where the work fails, stalls or is cancelled."""

import io
import json

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from gemproxy.api.base import Route
from gemproxy.api.openai.errors import OPENAI
from gemproxy.config.settings import LoggingSettings
from gemproxy.core.admission import AdmissionLimits
from gemproxy.core.errors import InvalidRequest, NoHealthyKeys, UpstreamTrouble, UpstreamUnavailable
from gemproxy.core.events import RequestListener
from gemproxy.http.auth import TokenAuth
from gemproxy.http.lifecycle import LifecycleSettings, RequestLifecycle
from gemproxy.http.site import ProxySite
from gemproxy.secret import Secret
from gemproxy.telemetry.logs import LogSink
from gemproxy.telemetry.scrubbing import Scrubber

SECRET = "canary-of-the-entrance-Zq7Wm3"


class Told(RequestListener):
    """The telemetry, in memory."""

    def __init__(self):
        self.requests = []

    def request_ended(self, context, status, seconds):
        self.requests.append((context.id, status, context.outcome, seconds))


class Stage:
    """a lifecycle on a connection in memory; ``serve`` is what its one route does."""

    def __init__(self, **settings):
        self.clock = Clock()
        self.clock.advance(1000)
        self.told = Told()
        self.lifecycle = RequestLifecycle(
            self.clock,
            LifecycleSettings(heartbeat=settings.pop("heartbeat", 0.0), **settings),
            TokenAuth([], None, anonymous=True),
            self.told,
            lambda: "req_fresh",
            OPENAI,
        )
        self.site = ProxySite(Resource(), self.clock, self, OPENAI)
        self.site.fast_routes[b"POST", b"/"] = lambda request: self.lifecycle.handle(
            request, "/", self.serve
        )
        self.connect()

    async def serve(self, context, writer):
        writer.answer(b"{}")

    def check_head(self, request):
        self.lifecycle.check_head(request, Route("/", (b"POST",), OPENAI))

    def __getattr__(self, name):
        return getattr(self.lifecycle, name)

    def connect(self):
        self.transport = Transport()
        self.channel = self.site.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def ask(self, request_id="mine"):
        self.channel.dataReceived(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nX-Request-Id: %b\r\n\r\n{}"
            % request_id.encode()
        )

    def leave(self):
        self.channel.connectionLost(Failure(ConnectionDone()))

    @property
    def sent(self):
        return self.transport.value()

    @property
    def error(self):
        return json.loads(self.sent.partition(b"\r\n\r\n")[2])["error"]


class Transport(StringTransport):
    aborted = False

    def abortConnection(self):
        self.aborted = True


@pytest.fixture
def stage():
    return Stage()


@pytest.fixture
def log():
    """All that is logged, as the daemon would write it."""
    stream = io.StringIO()
    sink = LogSink(LoggingSettings(level="debug"), Scrubber([Secret(SECRET)]), stream)
    globalLogPublisher.addObserver(sink)
    yield stream
    globalLogPublisher.removeObserver(sink)


def raising(error):
    async def serve(_context, _writer):
        raise error

    return serve


def test_a_defect_is_a_500_that_says_nothing_and_a_log_line_that_says_all_but_secrets(stage, log):
    stage.serve = raising(LookupError(f"no route to https://x/?key={SECRET}"))
    stage.ask("the-crash")
    assert stage.sent.startswith(b"HTTP/1.1 500 ")
    assert stage.error["code"] == "internal_error"
    assert stage.error["type"] == "server_error"
    assert "the-crash" in stage.error["message"]
    assert b"LookupError" not in stage.sent
    assert SECRET.encode() not in stage.sent

    (line,) = [json.loads(each) for each in log.getvalue().splitlines()]
    assert line["level"] == "critical"
    assert line["request_id"] == "the-crash"
    assert line["error"].startswith("LookupError: no route")
    assert "Traceback" in line["traceback"]
    assert not any(SECRET[n : n + 9] in log.getvalue() for n in range(len(SECRET) - 8))
    assert stage.told.requests == [("the-crash", 500, "internal_error", 0.0)]
    assert stage.lifecycle.in_flight == 0


def test_a_defect_within_a_stream_ends_it_with_an_error_event(stage, log):
    async def serve(_context, writer):
        writer.begin_stream()
        writer.write(b"data: 1\n\n")
        raise LookupError(SECRET)

    stage.serve = serve
    stage.ask()
    assert b"data: 1\n\n" in stage.sent
    assert b'data: {"error":{"message":"The proxy failed' in stage.sent
    assert b"[DONE]" not in stage.sent
    assert SECRET.encode() not in stage.sent
    assert stage.told.requests[0][1] == 500
    assert SECRET not in log.getvalue()


def test_after_a_defect_the_connection_serves_on(stage, log):
    stage.serve = raising(LookupError())
    stage.ask()
    del stage.serve
    stage.ask()
    assert stage.sent.count(b"HTTP/1.1 500 ") == 1
    assert stage.sent.count(b"HTTP/1.1 200 ") == 1


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (InvalidRequest("n: expected an integer.", param="n"), 400, "invalid_request_error"),
        (
            UpstreamUnavailable("Try later.", UpstreamTrouble.UNAVAILABLE, retry_after=2.1),
            503,
            "upstream_error",
        ),
    ],
)
def test_an_error_that_clients_may_see_is_the_answer(stage, error, status, outcome):
    stage.serve = raising(error)
    stage.ask()
    assert stage.sent.startswith(b"HTTP/1.1 %d " % status)
    assert stage.error["message"] == error.message
    assert stage.error["param"] == error.param
    assert (b"Retry-After: 3\r\n" in stage.sent) == (error.retry_after is not None)
    assert stage.told.requests[0][1:3] == (status, outcome)


def test_a_client_that_leaves_cancels_the_work_and_frees_its_place(stage):
    cancelled = []
    waiting = Deferred(cancelled.append)

    async def serve(_context, _writer):
        await waiting

    stage.serve = serve
    stage.ask()
    assert stage.lifecycle.in_flight == 1
    idle = stage.lifecycle.when_idle()
    stage.clock.advance(3)
    stage.leave()
    assert cancelled == [waiting]
    assert stage.told.requests == [("mine", 499, "client_gone", 3.0)]
    assert stage.lifecycle.in_flight == 0
    assert idle.called


def test_one_request_too_many_is_turned_away_and_takes_no_place():
    stage = Stage(limits=AdmissionLimits(max_in_flight=1))

    async def serve(_context, _writer):
        await Deferred()

    stage.serve = serve
    stage.ask("first")
    first = stage.channel
    stage.connect()
    stage.ask("second")
    assert stage.sent.startswith(b"HTTP/1.1 429 ")
    assert b"Retry-After: 1\r\n" in stage.sent
    assert stage.lifecycle.in_flight == 1
    first.connectionLost(Failure(ConnectionDone()))
    del stage.serve
    stage.ask("third")
    assert stage.sent.count(b"HTTP/1.1 200 ") == 1


def test_a_drain_turns_new_requests_away_and_closes_their_connection(stage):
    stage.lifecycle.draining = True
    stage.ask()
    assert stage.sent.startswith(b"HTTP/1.1 503 ")
    assert b"Connection: close\r\n" in stage.sent
    assert stage.error["code"] == "draining"
    assert stage.transport.disconnecting


def test_what_is_cut_off_before_its_answer_is_told_so(stage):
    async def serve(_context, _writer):
        await Deferred()

    stage.serve = serve
    stage.ask()
    stage.lifecycle.abort()
    assert stage.error["code"] == "draining"
    assert stage.transport.disconnecting
    assert stage.told.requests[0][1:3] == (503, "draining")
    assert stage.lifecycle.in_flight == 0


def test_a_stream_that_is_cut_off_ends_with_an_error_event(stage):
    async def serve(_context, writer):
        writer.begin_stream()
        writer.write(b"data: 1\n\n")
        await Deferred()

    stage.serve = serve
    stage.ask()
    stage.lifecycle.abort()
    assert b'data: {"error":{' in stage.sent
    assert b'"code":"draining"' in stage.sent
    assert stage.sent.endswith(b"0\r\n\r\n")
    assert stage.transport.disconnecting


def failing_late(clock, seconds):
    async def serve(_context, writer):
        writer.await_stream()
        await deferLater(clock, seconds)
        raise NoHealthyKeys("No key can serve.", retry_after=7)

    return serve


def test_a_stream_whose_head_is_out_fails_by_an_event(stage):
    stage.serve = failing_late(stage.clock, 30)
    stage.ask()
    stage.clock.advance(20)
    stage.clock.advance(20)
    assert stage.sent.startswith(b"HTTP/1.1 200 ")
    assert b'"code":"no_healthy_keys"' in stage.sent
    assert stage.sent.endswith(b"\n\n\r\n0\r\n\r\n")
    # The log tells what became of it, since the status on the wire says nothing any more.
    assert stage.told.requests[0][1:3] == (503, "no_healthy_keys")
    stage.ask()
    assert stage.sent.count(b"HTTP/1.1 200 ") == 1  # the connection serves on


def test_a_stream_whose_head_is_not_out_fails_by_its_status(stage):
    stage.serve = failing_late(stage.clock, 19)
    stage.ask()
    stage.clock.advance(19)
    assert stage.sent.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 7" in stage.sent


def test_a_stream_that_waits_for_its_beginning_is_cut_off_by_an_event_too(stage):
    stage.serve = failing_late(stage.clock, 1000)
    stage.ask()
    stage.clock.advance(20)
    stage.lifecycle.abort()
    assert b'"code":"draining"' in stage.sent
    assert stage.sent.count(b"HTTP/1.1") == 1


def test_idle_is_told_once_nothing_is_in_flight(stage):
    assert stage.lifecycle.when_idle().called
