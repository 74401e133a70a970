"""Answers on the wire: heads, streams, heartbeats, and a client that reads slowly."""

import pytest
from fakes.gates import OpenGate
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from gemproxy.api.anthropic.errors import ANTHROPIC
from gemproxy.api.gemini.errors import GEMINI, GEMINI_ARRAY
from gemproxy.api.openai.errors import OPENAI
from gemproxy.buffer_list import BufferList
from gemproxy.core.context import Attempt, RequestContext
from gemproxy.core.errors import Draining, StreamIncomplete
from gemproxy.http.large_answers import LARGE, PIECE
from gemproxy.http.response_writer import RequestWriter
from gemproxy.http.site import SLACK_SECONDS, ProxySite


class Flow:
    """An upstream that can be held back."""

    def __init__(self):
        self.calls = []

    def pause(self):
        self.calls.append("pause")

    def resume(self):
        self.calls.append("resume")


class Stage:
    """A writer whose client sits on a transport in memory."""

    def __init__(
        self,
        heartbeat=15.0,
        version=b"HTTP/1.1",
        headers_after=None,
        clock=None,
        site=None,
        dialect=OPENAI,
    ):
        self.clock = clock or Clock()
        if clock is None:
            self.clock.advance(1_790_000_000)
        self.context = RequestContext("req_1", "/", self.clock.seconds())
        self.site = site or ProxySite(Resource(), self.clock, OpenGate(self.clock), OPENAI)
        self.site.fast_routes[b"POST", b"/"] = self.begin
        self.heartbeat = heartbeat
        self.dialect = dialect
        self.headers_after = headers_after
        self.transport = StringTransport()
        self.channel = self.site.buildProtocol(None)
        self.channel.makeConnection(self.transport)
        self.channel.dataReceived(b"POST / %b\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % version)

    def begin(self, request):
        self.request = request
        self.writer = RequestWriter(
            self.clock,
            request,
            self.context,
            b"",
            self.heartbeat,
            self.dialect,
            headers_after=self.headers_after,
        )

    @property
    def sent(self):
        return self.transport.value()

    @property
    def body(self):
        return self.sent.partition(b"\r\n\r\n")[2]


def test_an_answer_is_one_whole_message():
    stage = Stage()
    stage.clock.advance(0.25)
    stage.context.attempts.append(Attempt("id", "alpha", 0.0))
    stage.writer.answer(b'{"a":1}')
    head, _, body = stage.sent.partition(b"\r\n\r\n")
    assert body == b'{"a":1}'
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert b"Content-Length: 7" in lines
    assert b"openai-processing-ms: 250" in lines
    assert b"x-gemproxy-attempts: 1" in lines
    assert not any(line.startswith(b"x-gemproxy-key") for line in lines)


def test_a_clock_that_is_set_back_gives_neither_an_old_date_nor_a_time_before_the_start():
    for back in (0, 3600):
        stage = Stage()
        stage.clock.rightNow -= back
        stage.writer.answer(b"{}")
        assert b"openai-processing-ms: 0\r\n" in stage.sent
    assert b"Date: Mon, 21 Sep 2026 13:13:20 GMT\r\n" in stage.sent


def test_a_keys_name_is_told_to_those_who_may_know_and_cannot_break_the_head():
    stage = Stage()
    stage.context.attempts.append(Attempt("id", "schlüssel-1", 0.0))
    stage.writer.tells_key = True
    stage.writer.answer(b"{}")
    assert b"x-gemproxy-key: schl\\xfcssel-1\r\n" in stage.sent


def test_a_streams_head_leaves_with_its_first_events():
    stage = Stage()
    stage.writer.begin_stream()
    assert stage.sent == b""
    stage.writer.write(b"data: 1\n\n")
    assert stage.sent.startswith(b"HTTP/1.1 200 OK\r\n")
    assert stage.body == b"9\r\ndata: 1\n\n\r\n"
    stage.writer.finish()
    assert stage.body.endswith(b"0\r\n\r\n")


def test_no_events_are_no_chunk():
    """A chunk of length 0 would end the body."""
    stage = Stage()
    stage.writer.begin_stream()
    stage.writer.write(b"")
    assert stage.sent == b""


def test_an_old_client_gets_a_stream_without_chunks_that_ends_with_the_connection():
    stage = Stage(version=b"HTTP/1.0")
    stage.writer.begin_stream()
    stage.writer.write(b"data: 1\n\n")
    stage.writer.finish()
    assert b"Transfer-Encoding" not in stage.sent
    assert b"Connection: close" in stage.sent
    assert stage.body == b"data: 1\n\n"
    assert stage.transport.disconnecting


def test_a_silent_stream_beats_between_events():
    stage = Stage(heartbeat=15.0)
    stage.writer.begin_stream()
    stage.writer.write(b"data: 1\n\n")
    stage.clock.advance(10)
    stage.writer.write(b"data: 2\n\n")
    stage.clock.advance(14)
    assert b": heartbeat" not in stage.sent
    stage.clock.advance(1)
    assert stage.sent.endswith(b"d\r\n: heartbeat\n\n\r\n")
    stage.clock.advance(15)
    assert stage.sent.count(b": heartbeat\n\n") == 2


@pytest.mark.parametrize("end", ["finish", "close"])
def test_no_heart_beats_after_the_end(end):
    stage = Stage()
    stage.writer.begin_stream()
    stage.writer.write(b"data: 1\n\n")
    getattr(stage.writer, end)()
    stage.clock.advance(14)
    sent = stage.sent
    stage.clock.advance(40)
    assert stage.sent == sent


def test_no_heart_beats_where_none_is_wanted():
    stage = Stage(heartbeat=0)
    stage.writer.begin_stream()
    stage.writer.write(b"data: 1\n\n")
    stage.clock.advance(50)
    assert b"heartbeat" not in stage.sent


def test_a_stream_that_can_say_nothing_between_its_events_is_silent_and_cut_off():
    stage = Stage(heartbeat=15.0, headers_after=20.0, dialect=GEMINI_ARRAY)
    stage.writer.await_stream()
    stage.clock.advance(30)
    assert stage.sent == b""
    stage.writer.begin_stream()
    stage.writer.write(b"[{}")
    stage.clock.advance(30)
    assert b"\r\nContent-Type: application/json; charset=UTF-8\r\n" in stage.sent
    assert stage.body == b"3\r\n[{}\r\n"
    stage.writer.write_error(StreamIncomplete("It ended early."))
    stage.writer.finish()
    assert stage.body == b"3\r\n[{}\r\n"
    assert stage.transport.disconnecting


def test_a_client_that_reads_slowly_holds_the_upstream_back():
    stage, flow = Stage(), Flow()
    stage.writer.begin_stream()
    stage.writer.attach(flow)
    stage.writer.pauseProducing()
    assert flow.calls == ["pause"]
    stage.clock.advance(100)
    assert b"heartbeat" not in stage.sent  # would only pile up
    stage.writer.resumeProducing()
    assert flow.calls == ["pause", "resume"]


def test_a_second_upstream_is_held_back_by_a_client_that_still_does_not_read():
    stage, second = Stage(), Flow()
    stage.writer.begin_stream()
    stage.writer.attach(Flow())
    stage.writer.pauseProducing()
    stage.writer.attach(second)
    assert second.calls == ["pause"]


def test_the_transport_itself_asks_to_hold_back():
    stage, flow = Stage(), Flow()
    stage.writer.begin_stream()
    stage.writer.attach(flow)
    stage.transport.producer.pauseProducing()
    stage.transport.producer.resumeProducing()
    assert flow.calls == ["pause", "resume"]


# -- a stream that has not begun ------------------------------------------------------------------


def test_a_stream_that_is_silent_for_long_gets_its_head_and_a_comment():
    stage = Stage(heartbeat=15.0, headers_after=20.0)
    stage.writer.await_stream()
    stage.clock.advance(19.9)
    assert stage.sent == b""
    stage.clock.advance(0.2)
    assert stage.sent.startswith(b"HTTP/1.1 200 OK\r\n")
    assert stage.body == b"d\r\n: heartbeat\n\n\r\n"
    assert stage.writer.opened
    assert not stage.writer.started  # another key may still be tried
    stage.clock.advance(15)
    assert stage.sent.count(b": heartbeat\n\n") == 2

    stage.writer.begin_stream()
    stage.writer.write(b"data: 1\n\n")
    stage.writer.finish()
    assert stage.sent.count(b"HTTP/1.1") == 1
    assert stage.body.endswith(b"9\r\ndata: 1\n\n\r\n0\r\n\r\n")
    stage.clock.advance(100)
    assert stage.sent.count(b": heartbeat\n\n") == 2


def test_the_head_may_go_out_at_once_or_never():
    stage = Stage(headers_after=0.0)
    stage.writer.await_stream()
    assert stage.sent.startswith(b"HTTP/1.1 200 OK\r\n")
    assert stage.body == b"d\r\n: heartbeat\n\n\r\n"

    stage = Stage(headers_after=None)
    stage.writer.await_stream()
    stage.clock.advance(3600)
    assert stage.sent == b""


def test_without_heartbeats_the_head_goes_out_alone_and_once():
    stage = Stage(heartbeat=0, headers_after=20.0)
    stage.writer.await_stream()
    stage.clock.advance(20)
    assert stage.sent.endswith(b"\r\n\r\n")
    head = stage.sent
    stage.clock.advance(100)
    stage.writer.begin_stream()
    stage.writer.write(b"data: 1\n\n")
    assert stage.sent == head + b"9\r\ndata: 1\n\n\r\n"


@pytest.mark.parametrize(("heartbeat", "after"), [(15.0, 20.0), (15.0, 2.0), (15.0, 15.0)])
def test_a_stream_that_begins_in_time_has_one_timer_and_beats_as_ever(heartbeat, after):
    stage = Stage(heartbeat=heartbeat, headers_after=after)
    stage.writer.await_stream()
    stage.clock.advance(1.0)
    stage.writer.begin_stream()
    stage.writer.write(b"data: 1\n\n")
    assert len(stage.clock.getDelayedCalls()) == 2  # with the site's
    stage.clock.advance(14.9)
    assert b"heartbeat" not in stage.sent
    for seconds in (0.1 + SLACK_SECONDS, 15, 15):
        before = stage.sent.count(b"heartbeat")
        stage.clock.advance(seconds)
        assert stage.sent.count(b"heartbeat") == before + 1
        assert len(stage.clock.getDelayedCalls()) == 2


def test_what_fails_behind_the_head_is_told_by_an_event():
    stage = Stage(headers_after=20.0)
    stage.writer.await_stream()
    stage.clock.advance(20)
    stage.writer.fail(Draining("No more.", retry_after=1))
    assert b'data: {"error":{"message":"No more."' in stage.body
    assert stage.body.endswith(b"\n\n\r\n0\r\n\r\n")
    assert b"[DONE]" not in stage.sent
    assert stage.sent.count(b"HTTP/1.1") == 1


def test_the_head_is_not_sent_to_a_client_that_left():
    stage = Stage(headers_after=20.0)
    stage.writer.await_stream()
    stage.request._disconnected = True
    stage.clock.advance(100)
    assert stage.sent == b""


def test_a_request_that_is_over_opens_nothing():
    stage = Stage(headers_after=20.0)
    stage.writer.await_stream()
    stage.writer.fail(Draining("No more."))
    stage.writer.close()
    sent = stage.sent
    stage.clock.advance(25)
    assert stage.sent == sent


def test_an_old_client_gets_its_early_head_without_chunks():
    stage = Stage(version=b"HTTP/1.0", headers_after=20.0)
    stage.writer.await_stream()
    stage.clock.advance(20)
    stage.writer.begin_stream()
    stage.writer.write(b"data: 1\n\n")
    stage.writer.finish()
    assert stage.body == b": heartbeat\n\ndata: 1\n\n"
    assert stage.transport.disconnecting


def test_a_client_that_does_not_read_the_early_head_holds_back_whatever_comes():
    stage, flow = Stage(headers_after=20.0), Flow()
    stage.writer.await_stream()
    stage.clock.advance(20)
    stage.transport.producer.pauseProducing()
    stage.clock.advance(100)
    assert stage.sent.count(b"heartbeat") == 1
    stage.writer.attach(flow)
    assert flow.calls == ["pause"]


class TestLargeAnswers:
    """A body that is written in pieces, as the client takes them."""

    BODY = BufferList([b"a" * LARGE, b"", b"b" * (2 * LARGE + 1)])

    def test_all_of_it_arrives_over_several_turns(self):
        stage = Stage()
        stage.writer.answer(self.BODY)
        assert len(stage.body) == LARGE
        assert stage.request.is_undelivered
        stage.clock.advance(0)  # The clock makes of all turns one.
        assert stage.request.finished
        assert b"Content-Length: %d\r\n" % len(self.BODY) in stage.sent
        assert stage.body == bytes(self.BODY)
        assert not stage.request.is_undelivered

    def test_nothing_is_written_while_the_client_does_not_read(self):
        stage = Stage()
        stage.writer.answer(self.BODY)
        stage.channel.pauseProducing()
        before = stage.body
        stage.clock.advance(0)
        assert stage.body == before
        stage.channel.resumeProducing()
        stage.clock.advance(0)
        assert stage.body == bytes(self.BODY)

    def test_a_pause_in_the_middle_of_a_turn_ends_it(self):
        stage = Stage()
        write = stage.transport.write

        def take_one_piece(data):
            write(data)
            if len(data) == PIECE:
                stage.channel.pauseProducing()

        stage.transport.write = take_one_piece
        stage.writer.answer(self.BODY)
        assert len(stage.body) == PIECE

    def test_a_client_that_leaves_gets_no_more(self):
        stage = Stage()
        stage.writer.answer(self.BODY)
        before = stage.body
        stage.channel.connectionLost(Failure(ConnectionDone()))
        stage.clock.advance(0)
        assert stage.body == before
        assert not stage.request.is_undelivered

    def test_a_client_that_has_left_gets_none(self):
        stage = Stage()
        stage.channel.connectionLost(Failure(ConnectionDone()))
        stage.writer.answer(self.BODY)
        assert stage.sent == b""

    def test_a_small_one_is_written_at_once(self):
        stage = Stage()
        stage.writer.answer(BufferList([b"{", b"}"]))
        assert stage.body == b"{}"
        assert stage.request.finished

    def test_the_next_request_waits_for_its_end(self):
        stage = Stage()
        stage.writer.answer(self.BODY)
        stage.channel.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        stage.clock.advance(0)
        stage.writer.answer(b"{}")
        assert stage.body.count(b"HTTP/1.1 200 OK") == 1
        assert stage.body.startswith(bytes(self.BODY) + b"HTTP/1.1 200 OK")


# -- the dialects --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "heartbeat"),
    [
        (GEMINI, b": heartbeat\n\n"),
        (ANTHROPIC, b'event: ping\ndata: {"type":"ping"}\n\n'),
    ],
)
def test_a_silent_stream_in_each_dialect(dialect, heartbeat):
    stage = Stage(version=b"HTTP/1.0", headers_after=20.0, dialect=dialect)
    stage.writer.await_stream()
    stage.clock.pump([0.25] * 4 * 21)
    assert stage.body == heartbeat


def test_the_id_of_a_request_has_a_second_header_for_anthropic():
    stage = Stage(dialect=ANTHROPIC)
    stage.writer.answer(b"{}")
    assert b"\r\nx-request-id: req_1\r\n" in stage.sent
    assert b"\r\nrequest-id: req_1\r\n" in stage.sent


def test_an_endpoint_may_end_a_broken_stream_in_its_own_way():
    stage = Stage()
    stage.writer.begin_stream(lambda error: b"event: failed\ndata: %b\n\n" % error.word.encode())
    stage.writer.write_error(StreamIncomplete("no"))
    assert b"event: failed\ndata: stream_incomplete\n\n" in stage.body


# -- many silent streams -------------------------------------------------------------------------


def test_streams_share_one_timer_and_each_gets_its_heartbeats():
    """A timer for each would cost more than to read the request that began it."""
    clock = Clock()
    site = ProxySite(Resource(), clock, OpenGate(clock), OPENAI)
    stages = []
    for _ in range(10):
        stages.append(Stage(headers_after=20.0, clock=clock, site=site))
        stages[-1].writer.await_stream()
        clock.advance(0.5)
    assert len(clock.getDelayedCalls()) == 2  # with the site's sweep
    for stage in stages[::2]:
        stage.writer.begin_stream()
        stage.writer.write(b"data: 1\n\n")
    clock.pump([0.25] * 4 * 65)
    assert len(clock.getDelayedCalls()) == 2
    # Half of them wrote at 5 s, so that 20, 35, 50 and 65 s are due; the others' heads at 20.5 s
    # to 24.5 s, and then every 15 s.
    assert [stage.sent.count(b"heartbeat") for stage in stages] == [4] * 10
    for stage in stages:
        stage.writer.close()
        stage.channel.connectionLost(Failure(ConnectionDone()))
    assert clock.getDelayedCalls() == []


def test_a_client_that_reads_again_after_long_gets_one_heartbeat_at_once():
    stage = Stage(heartbeat=15.0)
    stage.writer.begin_stream()
    stage.writer.write(b"data: 1\n\n")
    stage.writer.pauseProducing()
    stage.clock.pump([1] * 60)
    assert b"heartbeat" not in stage.sent
    stage.writer.resumeProducing()
    stage.clock.advance(0)
    assert stage.sent.count(b"heartbeat") == 1
    stage.clock.advance(14.9)
    assert stage.sent.count(b"heartbeat") == 1
    stage.clock.advance(0.2)
    assert stage.sent.count(b"heartbeat") == 2


def test_a_stream_without_an_event_yet_has_its_first_heartbeat_in_time():
    stage = Stage(heartbeat=15.0)
    stage.writer.begin_stream()
    stage.clock.advance(14.9)
    assert stage.sent == b""
    stage.clock.advance(0.2)
    assert stage.body == b"d\r\n: heartbeat\n\n\r\n"
