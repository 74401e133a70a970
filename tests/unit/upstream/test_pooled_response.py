"""Exchanges over connections in memory: deadlines to the moment, back-pressure, what is reused."""

import pytest
from fakes.scripted_server import chunked, ok
from fakes.upstream_stage import Stage, Told
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.defer import CancelledError
from twisted.internet.error import (
    ConnectError,
    ConnectionLost,
    ConnectionRefusedError,  # noqa: A004
    DNSLookupError,
    TCPTimedOutError,
    TimeoutError,  # noqa: A004
)

from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import FailureKind, UpstreamFailed
from gemproxy.upstream.pool import IDLE_SECONDS
from gemproxy.upstream.tunnel import TunnelRefused

HEAD = (
    b"POST /v1/x HTTP/1.1\r\nHost: h\r\nUser-Agent: gemproxy/test\r\n"
    b"Accept-Encoding: identity\r\n"
    b"Content-Type: application/json\r\nX-Goog-Api-Key: test-key-0123456789abcdef\r\n"
    b"Content-Length: %d\r\n\r\n"
)
HEADERS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def stage():
    return Stage()


# -- one request, one answer ---------------------------------------------------------------------


def test_a_request_is_one_write_and_an_answer_in_one_read_is_complete_at_once(stage):
    sent = stage.send()
    assert stage.wires[0].value() == HEAD % 2 + b"{}"
    stage.wires[0].says(ok(b'{"a": 1}', b"X-A: b", b"X-a: c"))
    assert (sent.result.status, sent.result.headers["x-a"]) == (200, "c")
    assert sent.result.take(8) == b'{"a": 1}'
    assert not stage.wires[0].closed


@pytest.mark.parametrize(
    "wire", [ok(b"{} "), chunked(b"{", b"} ")], ids=["of a known length", "chunked"]
)
def test_a_body_that_is_here_may_be_taken_or_read(stage, wire):
    for use in (lambda answer: answer.take(3), lambda answer: Told(answer.read(3)).result):
        sent = stage.send()
        stage.wires[-1].says(wire)
        assert use(sent.result) == b"{} "
    assert len(stage.wires) == 1


@pytest.mark.parametrize("rest", [b"", b"2\r\n{}\r\n"], ids=["no body", "a part of the body"])
def test_a_body_that_is_not_here_cannot_be_taken_but_read(stage, rest):
    sent = stage.send()
    stage.wires[0].says(HEADERS + rest)
    assert sent.result.take(9) == b""
    body = Told(sent.result.read(9))
    stage.wires[0].says(b"0\r\n\r\n")
    assert body.result == (b"{}" if rest else b"")


def test_an_empty_body_cannot_be_taken_but_read(stage):
    sent = stage.send()
    stage.wires[0].says(ok(b""))
    assert (sent.result.take(9), Told(sent.result.read(9)).result) == (b"", b"")


def test_a_body_over_the_limit_cannot_be_taken_and_costs_the_connection(stage):
    sent = stage.send()
    stage.wires[0].says(ok(b"{} "))
    with pytest.raises(UpstreamFailed) as failed:
        sent.result.take(2)
    assert failed.value.kind is FailureKind.TOO_LARGE
    assert stage.wires[0].aborted


def test_a_body_that_came_too_late_is_not_taken(stage):
    sent = stage.send()
    stage.wires[0].says(ok(b"{}"))
    stage.clock.advance(100)
    assert sent.result.take(9) == b""
    assert Told(sent.result.read(9)).kind is FailureKind.DEADLINE


@given(st.integers(1, 200))
def test_wherever_a_stream_is_cut_nothing_is_lost_and_each_read_is_one_piece(cut):
    stage = Stage()
    sent, got = stage.send(), []
    wire = chunked(*(b"%d," % n for n in range(30)))
    ended = None
    for place in range(0, len(wire), cut):
        before = len(got)
        stage.wires[0].says(wire[place : place + cut])
        if sent.results and ended is None:
            ended = Told(sent.result.stream(got.append))
        assert len(got) <= before + 1
    assert b"".join(got) == b"".join(b"%d," % n for n in range(30))
    assert ended.result is None
    assert not stage.wires[0].closed


def test_a_large_body_is_written_as_the_transport_has_room_and_not_copied_whole(stage):
    body = bytes(range(256)) * 2000
    sent = stage.send(body)
    wire = stage.wires[0]
    assert len(wire.value()) < len(HEAD) + len(body) / 2
    while wire.producer is not None:
        wire.producer.resumeProducing()
    assert wire.value() == HEAD % len(body) + body
    wire.says(ok(b"{}"))
    assert Told(sent.result.read(10)).result == b"{}"
    assert not wire.closed


def test_short_pieces_are_written_together_and_long_ones_as_they_lie(stage):
    parts = [b"%d" % (number % 10) * (200 if number % 2 else 40_000) for number in range(20)]
    stage.send(BufferList([*parts, memoryview(b"x" * 600_000), b"}"]))
    wire = stage.wires[0]
    turns = 0
    while wire.producer is not None:
        wire.producer.resumeProducing()
        turns += 1
    body = b"".join(parts) + b"x" * 600_000 + b"}"
    assert wire.value() == HEAD % len(body) + body
    assert turns < 12


# -- deadlines -----------------------------------------------------------------------------------


def test_the_first_byte_is_waited_for_as_long_as_allowed_and_no_longer(stage):
    sent = stage.send()
    stage.clock.advance(9.75)
    assert sent.results == []
    stage.clock.advance(0.25)
    assert sent.kind is FailureKind.FIRST_BYTE_TIMEOUT
    assert stage.wires[0].aborted


def test_interim_answers_and_headers_are_no_first_byte(stage):
    sent = stage.send()
    stage.clock.advance(9)
    stage.wires[0].says(b"HTTP/1.1 100 Continue\r\n\r\n" + HEADERS)
    body = Told(sent.result.read(100))
    stage.clock.advance(1)
    assert body.kind is FailureKind.FIRST_BYTE_TIMEOUT
    assert stage.wires[0].aborted


def test_connecting_counts_to_the_first_byte(stage):
    stage.endpoint.hold = True
    sent = stage.send()
    stage.clock.advance(10)
    assert sent.kind is FailureKind.FIRST_BYTE_TIMEOUT
    assert stage.endpoint.waiting[0].called


def test_each_piece_renews_the_patience(stage):
    sent = stage.send()
    stage.wires[0].says(HEADERS)
    body = Told(sent.result.stream(lambda _: None))
    for _ in range(10):
        stage.wires[0].says(b"1\r\nx\r\n")
        stage.clock.advance(4.75)
    assert body.results == []
    stage.clock.advance(0.25)
    assert body.kind is FailureKind.IDLE_TIMEOUT
    assert stage.wires[0].aborted


def test_the_deadline_of_the_whole_beats_the_others(stage):
    waiting = stage.send(deadline=3.0)
    streaming = stage.send(deadline=4.0)
    stage.wires[1].says(HEADERS + b"1\r\nx\r\n")
    body = Told(streaming.result.stream(lambda _: None))
    stage.clock.advance(3)
    assert waiting.kind is FailureKind.DEADLINE
    stage.wires[1].says(b"1\r\nx\r\n")
    assert body.results == []
    stage.clock.advance(1)
    assert body.kind is FailureKind.DEADLINE
    assert [wire.aborted for wire in stage.wires] == [True, True]


def test_a_deadline_that_has_passed_ends_the_exchange_in_the_next_turn(stage):
    sent = stage.send(deadline=-1.0)
    stage.clock.advance(0)
    assert sent.kind is FailureKind.DEADLINE


def test_waiting_for_a_slow_client_is_no_silence_but_has_an_end(stage):
    sent = stage.send(deadline=60.0)
    stage.wires[0].says(HEADERS + b"1\r\nx\r\n")
    body = Told(sent.result.stream(lambda _: None))
    sent.result.pause()
    stage.clock.pump([10] * 5)
    assert body.results == []
    sent.result.resume()
    stage.clock.advance(4.75)
    assert body.results == []
    sent.result.pause()
    stage.clock.advance(5.25)
    assert body.kind is FailureKind.DEADLINE


def test_an_exchange_that_is_over_has_no_deadline(stage):
    stage.ask()
    stage.clock.advance(150)
    assert not stage.wires[0].closed


# -- back-pressure -------------------------------------------------------------------------------


def test_the_socket_rests_while_nobody_takes_the_body(stage):
    sent = stage.send()
    stage.wires[0].says(HEADERS)
    assert stage.wires[0].paused
    sent.result.stream(lambda _: None)
    assert not stage.wires[0].paused


def test_what_came_before_the_pause_is_kept_and_handed_on_after_it(stage):
    sent, got = stage.send(), []
    stage.wires[0].says(HEADERS)
    body = Told(sent.result.stream(got.append))
    sent.result.pause()
    assert stage.wires[0].paused
    stage.wires[0].says(b"3\r\none\r\n")
    stage.wires[0].says(b"3\r\ntwo\r\n0\r\n\r\n")
    assert (got, body.results) == ([], [])
    sent.result.resume()
    assert (got, body.result) == ([b"onetwo"], None)


def test_a_connection_whose_reader_had_paused_serves_the_next_request(stage):
    sent = stage.send()
    stage.wires[0].says(HEADERS)
    Told(sent.result.stream(lambda _: None))
    sent.result.pause()
    stage.wires[0].says(b"1\r\nx\r\n0\r\n\r\n")
    assert not stage.wires[0].paused
    again = stage.send()
    sent.result.resume()
    sent.result.pause()
    assert not stage.wires[0].paused
    stage.wires[0].says(ok(b"{}"))
    assert Told(again.result.read(10)).result == b"{}"


def test_a_reader_that_pauses_before_it_reads_is_not_overrun(stage):
    sent, got = stage.send(), []
    stage.wires[0].says(HEADERS + b"1\r\nx\r\n")
    sent.result.pause()
    sent.result.stream(got.append)
    assert (got, stage.wires[0].paused) == ([], True)
    sent.result.resume()
    assert (got, stage.wires[0].paused) == ([b"x"], False)


def test_a_reader_that_pauses_at_each_piece_gets_them_one_by_one(stage):
    sent, got = stage.send(), []
    stage.wires[0].says(HEADERS)

    def receive(data):
        got.append(data)
        sent.result.pause()

    body = Told(sent.result.stream(receive))
    for number in range(3):
        assert not stage.wires[0].paused
        stage.wires[0].says(b"1\r\n%d\r\n" % number)
        assert stage.wires[0].paused
        sent.result.resume()
    stage.wires[0].says(b"0\r\n\r\n")
    assert (got, body.result) == ([b"0", b"1", b"2"], None)


# -- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionRefusedError(), FailureKind.REFUSED),
        (DNSLookupError(), FailureKind.DNS),
        (TCPTimedOutError(), FailureKind.CONNECT_TIMEOUT),
        (TimeoutError(), FailureKind.CONNECT_TIMEOUT),
        (SSL.Error([("SSL", "", "certificate verify failed")]), FailureKind.TLS),
        (ConnectionLost(), FailureKind.RESET),
        (ConnectError(), FailureKind.RESET),
        (TunnelRefused("407"), FailureKind.REFUSED),
    ],
)
def test_what_keeps_a_connection_from_coming_about_has_a_kind(stage, error, kind):
    stage.endpoint.refuse = error
    sent = stage.send()
    assert sent.kind is kind
    assert sent.result.value.__cause__ is error


def test_a_proxy_that_refuses_is_named_by_its_setting(stage):
    stage.endpoint.refuse = TunnelRefused("proxy answered 407")
    assert str(stage.send().result.value) == "connection refused (upstream.httpProxy)"


@pytest.mark.parametrize("cleanly", [True, False])
@pytest.mark.parametrize(
    ("before", "kind"),
    [
        (b"", FailureKind.RESET),
        (b"HTTP/1.1 100 Continue\r\n\r\n", FailureKind.RESET),
        (b"HTTP/1.1 200 OK\r\nContent-", FailureKind.RESET),
        (HEADERS, FailureKind.TRUNCATED),
        (HEADERS + b"3\r\nab", FailureKind.TRUNCATED),
        (HEADERS + b"3\r\nabc\r\n", FailureKind.TRUNCATED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", FailureKind.TRUNCATED),
    ],
)
def test_an_end_before_the_end_is_told_from_it(stage, before, kind, cleanly):
    sent = stage.send()
    stage.wires[0].says(before)
    stage.wires[0].closes(cleanly=cleanly)
    told = sent if sent.results and not hasattr(sent.result, "read") else None
    told = told or Told(sent.result.read(100))
    assert told.kind is kind
    assert len(stage.wires) == 1


def test_a_body_that_lasts_as_long_as_its_connection_is_whole_when_that_ends_in_order(stage):
    sent = stage.send()
    stage.wires[0].says(b"HTTP/1.0 200 OK\r\n\r\nab")
    stage.wires[0].says(b"c")
    body = Told(sent.result.read(10))
    stage.wires[0].closes()
    assert body.result == b"abc"


def test_a_body_that_lasts_as_long_as_its_connection_is_cut_by_a_reset(stage):
    sent = stage.send()
    stage.wires[0].says(b"HTTP/1.0 200 OK\r\n\r\nab")
    body = Told(sent.result.read(10))
    stage.wires[0].closes(cleanly=False)
    assert body.kind is FailureKind.TRUNCATED


def test_garbage_before_the_headers_fails_the_request_and_costs_the_connection(stage):
    sent = stage.send()
    stage.wires[0].says(b"HTTP/1.1 200 OK\r\nA: b\x00\r\n\r\n")
    assert sent.kind is FailureKind.GARBAGE
    assert stage.wires[0].aborted


@pytest.mark.parametrize("together", [True, False])
def test_garbage_in_a_body_comes_after_what_was_good(stage, together):
    sent, got = stage.send(), []
    good, bad = HEADERS + b"3\r\nabc\r\n", b"zz\r\n"
    for data in [good + bad] if together else [good, bad]:
        stage.wires[0].says(data)
    body = Told(sent.result.stream(got.append))
    assert (got, body.kind) == ([b"abc"], FailureKind.GARBAGE)
    assert stage.wires[0].aborted


def test_a_body_over_the_limit_is_refused_before_it_is_whole(stage):
    sent = stage.send()
    stage.wires[0].says(HEADERS + b"ffff\r\n" + b"x" * 100)
    body = Told(sent.result.read(150))
    stage.wires[0].says(b"x" * 51)
    assert body.kind is FailureKind.TOO_LARGE
    assert stage.wires[0].aborted


def test_a_failure_waits_for_whoever_reads(stage):
    sent = stage.send()
    stage.wires[0].says(HEADERS + b"3\r\nabc\r\n")
    stage.wires[0].closes(cleanly=False)
    got = []
    assert Told(sent.result.stream(got.append)).kind is FailureKind.TRUNCATED
    assert got == [b"abc"]


# -- leaving -------------------------------------------------------------------------------------


def test_leaving_while_connecting_gives_the_connection_up(stage):
    stage.endpoint.hold = True
    sent = stage.send()
    sent.deferred.cancel()
    assert sent.result.check(CancelledError)
    assert stage.endpoint.waiting[0].called


def test_leaving_before_the_headers_closes(stage):
    sent = stage.send()
    sent.deferred.cancel()
    assert sent.result.check(CancelledError)
    assert stage.wires[0].aborted


def test_leaving_a_body_closes_and_nothing_more_is_handed_on(stage):
    sent, got = stage.send(), []
    stage.wires[0].says(HEADERS)
    body = Told(sent.result.stream(got.append))
    body.deferred.cancel()
    assert body.result.check(CancelledError)
    assert stage.wires[0].aborted
    assert got == []


def test_a_receiver_that_leaves_in_the_middle_hears_nothing_more(stage):
    sent, got = stage.send(), []
    stage.wires[0].says(HEADERS)

    def receive(data):
        got.append(data)
        body.deferred.cancel()

    body = Told(sent.result.stream(receive))
    stage.wires[0].says(b"1\r\nx\r\n0\r\n\r\n")
    assert got == [b"x"]
    assert body.result.check(CancelledError)


def test_what_a_receiver_raises_is_told_and_costs_the_connection(stage):
    sent = stage.send()
    stage.wires[0].says(chunked(b"x"))

    def receive(_):
        raise LookupError("no such thing")

    assert Told(sent.result.stream(receive)).result.check(LookupError)
    assert stage.wires[0].aborted


# -- connections ---------------------------------------------------------------------------------


def test_the_connection_used_last_is_used_next(stage):
    first, second = stage.send(), stage.send()
    for wire in stage.wires:
        wire.says(ok(b"{}"))
        wire.clear()
    assert [Told(sent.result.read(9)).result for sent in (first, second)] == [b"{}", b"{}"]
    stage.send()
    assert [bool(wire.value()) for wire in stage.wires] == [False, True]


def test_no_more_connections_are_kept_than_allowed(stage):
    for _ in range(3):
        stage.send()
    for wire in stage.wires:
        wire.says(ok(b"{}"))
    assert not any(wire.closed for wire in stage.wires)
    stage.clock.pump([1] * 20)
    assert [wire.closed for wire in stage.wires] == [True, False, False]


def test_a_crowd_of_requests_uses_the_connections_of_the_crowd_before(stage):
    for _ in range(3):
        for _ in range(5):
            stage.send()
        for wire in stage.wires:
            wire.says(ok(b"{}"))
        stage.clock.advance(1)
    assert len(stage.wires) == 5


def test_idle_connections_are_closed_in_time_and_used_ones_are_not(stage):
    stage.ask()
    stage.clock.pump([1] * int(IDLE_SECONDS - 20))
    assert not stage.wires[0].closed
    stage.ask()
    stage.clock.pump([1] * int(IDLE_SECONDS - 20))
    assert not stage.wires[0].closed
    stage.clock.pump([1] * 40)
    assert stage.wires[0].closed
    stage.ask()
    assert len(stage.wires) == 2


def test_a_stopped_pool_keeps_nothing(stage):
    stage.ask()
    sent = stage.send()
    stage.send()
    stage.pool.stop()
    stage.wires[0].says(ok(b"{}"))
    assert Told(sent.result.read(10)).result == b"{}"
    assert stage.wires[0].closed
    assert not stage.wires[1].closed


def test_what_nobody_asked_for_costs_the_connection(stage):
    """It would be taken for the next request's answer."""
    stage.ask()
    stage.wires[0].says(ok(b"of somebody else"))
    assert stage.wires[0].aborted
    assert stage.ask() == b"{}"
    assert len(stage.wires) == 2


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"{}") + b"H",
        ok(b"{}") + ok(b"{}"),
        chunked(b"{}") + b"rest",
        ok(b"{}", b"Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_a_connection_that_is_not_clean_is_not_used_again(stage, answer):
    assert stage.ask(answer) == b"{}"
    assert stage.wires[0].closed
    stage.ask()
    assert len(stage.wires) == 2


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=4)), max_size=6))
def test_whatever_came_before_each_request_gets_its_own_answer(exchanges):
    """Bytes left over from one exchange never reach another."""
    stage = Stage()
    for number, (framed, excess) in enumerate(exchanges):
        body = b"%d" % number
        assert stage.ask((ok(body) if framed else chunked(body)) + excess) == body
        wire = next(wire for wire in reversed(stage.wires))
        assert wire.closed == bool(excess.strip(b"\r\n"))


def test_an_answer_before_the_request_is_out_costs_the_connection(stage):
    sent = stage.send(b"x" * 1_000_000)
    wire = stage.wires[0]
    wire.says(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}")
    assert sent.result.status == 413
    assert Told(sent.result.read(10)).result == b"{}"
    assert wire.aborted


# -- once more -----------------------------------------------------------------------------------


def test_a_kept_connection_that_closes_without_a_word_is_replaced_once(stage):
    stage.ask()
    sent = stage.send()
    stage.wires[0].closes()
    assert sent.results == []
    assert stage.wires[1].value() == HEAD % 2 + b"{}"
    stage.wires[1].closes()
    assert sent.kind is FailureKind.RESET
    assert len(stage.wires) == 2


def test_the_second_connection_is_a_new_one_though_another_is_idle(stage):
    """What closed one idle connection has probably closed them all."""
    one, two = stage.send(), stage.send()
    for wire in stage.wires:
        wire.says(ok(b"{}"))
    assert [Told(sent.result.read(9)).result for sent in (one, two)] == [b"{}", b"{}"]
    stage.send()
    stage.wires[1].closes(cleanly=False)
    assert len(stage.wires) == 3


@pytest.mark.parametrize("word", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", HEADERS])
def test_a_request_that_was_heard_is_not_sent_again(stage, word):
    stage.ask()
    sent = stage.send()
    stage.wires[0].says(word)
    stage.wires[0].closes()
    assert sent.results
    assert len(stage.wires) == 1


def test_a_new_connection_that_closes_is_not_replaced(stage):
    sent = stage.send()
    stage.wires[0].closes()
    assert sent.kind is FailureKind.RESET
    assert len(stage.wires) == 1


def test_our_own_deadline_is_no_stale_connection(stage):
    stage.ask()
    sent = stage.send()
    stage.clock.advance(10)
    assert sent.kind is FailureKind.FIRST_BYTE_TIMEOUT
    assert len(stage.wires) == 1


def test_a_large_body_begins_anew_on_the_second_connection(stage):
    stage.ask()
    body = b"x" * 500_000
    stage.send(body)
    stage.wires[0].producer.resumeProducing()
    stage.wires[0].closes()
    wire = stage.wires[1]
    while wire.producer is not None:
        wire.producer.resumeProducing()
    assert wire.value() == HEAD % len(body) + body


def test_the_second_try_may_find_nobody(stage):
    stage.ask()
    sent = stage.send()
    stage.endpoint.refuse = ConnectionRefusedError()
    stage.wires[0].closes()
    assert sent.kind is FailureKind.REFUSED


REQUEST_TIMEOUT = (
    b"HTTP/1.1 408 Request Time-out\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
)


@pytest.mark.parametrize("cut", [len(REQUEST_TIMEOUT), len(REQUEST_TIMEOUT) - 2])
def test_a_kept_connection_that_waited_too_long_for_a_request_is_replaced_once(stage, cut):
    """Its 408 left before the request came, and is no answer to it."""
    stage.ask()
    sent = stage.send()
    stage.wires[0].says(REQUEST_TIMEOUT[:cut])
    assert sent.results == []
    assert stage.wires[0].closed
    assert stage.wires[1].value() == HEAD % 2 + b"{}"
    stage.wires[1].says(ok(b"{}"))
    assert Told(sent.result.read(9)).result == b"{}"


def test_what_came_with_a_408_does_not_shorten_the_patience(stage):
    stage.ask()
    sent = stage.send(first_byte=10.0, idle=1.0)
    stage.wires[0].says(REQUEST_TIMEOUT[:-1])
    stage.clock.advance(9.75)
    assert sent.results == []
    stage.clock.advance(0.25)
    assert sent.kind is FailureKind.FIRST_BYTE_TIMEOUT


def test_a_408_on_the_second_connection_is_the_answer(stage):
    stage.ask()
    sent = stage.send()
    for wire in range(2):
        stage.wires[wire].says(REQUEST_TIMEOUT)
    assert sent.result.status == 408
    assert Told(sent.result.read(9)).result == b"no"
    assert len(stage.wires) == 2


def test_a_408_on_a_new_connection_is_the_answer(stage):
    sent = stage.send()
    stage.wires[0].says(REQUEST_TIMEOUT)
    assert sent.result.status == 408
    assert len(stage.wires) == 1


def test_the_deadline_stays_that_of_the_request_when_it_is_sent_again(stage):
    stage.ask()
    sent = stage.send(first_byte=1000.0, deadline=60.0)
    stage.clock.advance(35)
    stage.wires[0].closes(cleanly=False)
    stage.clock.advance(24)
    assert sent.results == []
    stage.clock.advance(1)
    assert sent.kind is FailureKind.DEADLINE
    assert stage.wires[1].aborted


# -- connections that died in silence ------------------------------------------------------------


def crowd(stage, size):
    """So many idle connections, each answered a second after the one before."""
    told = [stage.send() for _ in range(size)]
    for wire in stage.wires[-size:]:
        stage.clock.advance(0.1)
        wire.says(ok(b"{}"))
        wire.clear()
    assert [Told(each.result.read(9)).result for each in told] == [b"{}"] * size


def test_when_one_is_found_dead_those_that_are_silent_for_as_long_are_not_tried():
    stage = Stage(keep=10)
    crowd(stage, 5)
    sent = stage.send()
    stage.wires[4].closes(cleanly=False)
    assert [wire.closed for wire in stage.wires] == [True] * 5 + [False]
    stage.wires[5].says(ok(b"{}"))
    assert Told(sent.result.read(9)).result == b"{}"


def test_those_that_were_heard_later_are_trusted():
    stage = Stage(keep=10)
    crowd(stage, 2)
    sent = [stage.send(), stage.send()]
    stage.clock.advance(1)
    stage.wires[1].says(ok(b"{}"))
    assert Told(sent[0].result.read(9)).result == b"{}"
    stage.wires[0].closes(cleanly=False)
    assert not stage.wires[1].closed


def test_a_server_that_closes_in_order_says_nothing_of_the_other_connections():
    stage = Stage(keep=10)
    crowd(stage, 3)
    stage.send()
    stage.wires[2].closes()
    assert [wire.closed for wire in stage.wires] == [False, False, True, False]


def test_a_new_connection_that_dies_in_silence_is_charged_to_no_key(stage):
    sent = stage.send(first_byte=600.0, deadline=1200.0)
    stage.clock.advance(35)
    stage.wires[0].closes(cleanly=False)
    assert sent.kind is FailureKind.VANISHED
    assert sent.result.value.spares_key
    assert sent.result.value.detail == "nothing was heard or acknowledged for 35 s"


def test_a_stream_that_dies_in_silence_is_charged_to_no_key(stage):
    sent = stage.send(idle=300.0, deadline=1200.0)
    stage.wires[0].says(HEADERS + b"1\r\nx\r\n")
    body = Told(sent.result.stream(lambda _: None))
    stage.clock.advance(36)
    stage.wires[0].closes(cleanly=False)
    assert body.kind is FailureKind.VANISHED


@pytest.mark.parametrize(("seconds", "cleanly"), [(10, False), (60, True)])
def test_a_reset_and_an_end_in_order_are_what_they_were(stage, seconds, cleanly):
    sent = stage.send(first_byte=600.0, deadline=1200.0)
    stage.clock.advance(seconds)
    stage.wires[0].closes(cleanly=cleanly)
    assert sent.kind is FailureKind.RESET
    assert not sent.result.value.spares_key


def test_what_could_not_be_connected_in_time_is_charged_to_no_key(stage):
    stage.endpoint.hold = True
    sent = stage.send()
    stage.clock.advance(10)
    assert sent.kind is FailureKind.FIRST_BYTE_TIMEOUT
    assert (sent.result.value.spares_key, sent.result.value.detail) == (True, "while connecting")


def test_an_answer_that_does_not_come_is_not_spared(stage):
    sent = stage.send()
    stage.clock.advance(10)
    assert sent.kind is FailureKind.FIRST_BYTE_TIMEOUT
    assert not sent.result.value.spares_key


# -- connections grow old ------------------------------------------------------------------------


def test_a_connection_that_is_old_ends_with_its_request():
    stage = Stage(max_age=100.0)
    asked = stage.send(first_byte=600.0, deadline=600.0)
    stage.clock.pump([10] * 12)
    assert not stage.wires[0].closed
    stage.wires[0].says(ok(b"{}"))
    assert Told(asked.result.read(9)).result == b"{}"
    assert stage.wires[0].closed


def test_an_idle_connection_that_is_old_is_closed_by_itself():
    stage = Stage(max_age=100.0)
    stage.ask()
    stage.clock.pump([1] * 75)
    assert not stage.wires[0].closed
    stage.clock.pump([1] * 36)
    assert stage.wires[0].closed


def test_connections_that_began_together_do_not_end_together():
    stage = Stage(keep=100, max_age=100.0)
    crowd(stage, 50)
    ended = []
    for _ in range(12):
        stage.clock.pump([1] * 10)
        ended.append(sum(wire.closed for wire in stage.wires))
    assert ended[7] < 20
    assert 10 < ended[8] < 40
    assert ended[11] == 50


def test_retired_connections_end_with_their_requests_and_are_not_used_again():
    stage = Stage(keep=10)
    crowd(stage, 2)
    busy = stage.send()
    stage.pool.retire()
    assert [wire.closed for wire in stage.wires] == [True, False]
    stage.wires[1].says(ok(b"{}"))
    assert Told(busy.result.read(9)).result == b"{}"
    assert stage.wires[1].closed
    stage.ask()
    assert not stage.wires[2].closed
