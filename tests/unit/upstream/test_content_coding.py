"""Answers in gzip and zlib, though nobody asked for them: whole, streamed, as bombs."""

import gzip
import zlib

import pytest
from fakes.scripted_server import chunked, ok
from fakes.upstream_stage import Stage, Told
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError

from gemproxy.core.errors import FailureKind
from gemproxy.upstream.content_coding import PIECE_BYTES

BODY = b'{"candidates": [' + b'{"text": "Hello."}, ' * 500 + b"{}]}"
GZIP = b"Content-Encoding: gzip"


def compressed(body, coding):
    return zlib.compress(body) if coding == b"deflate" else gzip.compress(body)


@pytest.fixture
def stage():
    return Stage()


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Encoding: gzip",
        b"content-encoding: GZIP",
        b"CONTENT-ENCODING:x-gzip ",
        b"Content-Encoding: deflate",
    ],
)
def test_a_whole_answer_is_undone(stage, header):
    sent = stage.send()
    coding = b"deflate" if b"deflate" in header else b"gzip"
    stage.wires[0].says(ok(compressed(BODY, coding), b"Content-Type: application/json", header))
    assert sent.result.take(len(BODY)) == b""
    assert Told(sent.result.read(len(BODY))).result == BODY
    assert not stage.wires[0].closed
    assert stage.ask() == b"{}"


@pytest.mark.parametrize("header", [b"Content-Encoding: identity", b"Content-Encoding:"])
def test_no_coding_is_none(stage, header):
    sent = stage.send()
    stage.wires[0].says(ok(BODY, header))
    assert sent.result.take(len(BODY)) == BODY


@given(st.integers(1, 200), st.integers(0, 2))
def test_wherever_a_stream_is_cut_nothing_is_lost(cut, members):
    stage = Stage()
    sent, got = stage.send(), []
    body = b"".join(gzip.compress(BODY) for _ in range(members + 1))
    pieces = [body[place : place + 37] for place in range(0, len(body), 37)]
    wire = chunked(*pieces).replace(b"\r\n", b"\r\n" + GZIP + b"\r\n", 1)
    ended = None
    for place in range(0, len(wire), cut):
        stage.wires[0].says(wire[place : place + cut])
        if sent.results and ended is None:
            ended = Told(sent.result.stream(got.append))
    assert ended.result is None
    assert b"".join(got) == BODY * (members + 1)


def test_an_error_is_undone_as_well(stage):
    sent = stage.send()
    body = gzip.compress(b'{"error": {"code": 429}}')
    head = b"HTTP/1.1 429 No\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    stage.wires[0].says(head + body)
    assert sent.result.status == 429
    assert Told(sent.result.read(1000)).result == b'{"error": {"code": 429}}'


@pytest.mark.parametrize(
    "coding", [b"br", b"zstd", b"compress", b"gzip, br", b"gzip, gzip", b"br\x01<x>" * 30]
)
def test_another_coding_is_named_and_costs_the_connection(stage, coding):
    sent = stage.send()
    stage.wires[0].says(ok(b"\x0b\x02\x80", b"Content-Encoding: " + coding.replace(b"\x01", b"")))
    assert sent.kind is FailureKind.CODING
    failed = sent.result.value
    assert coding.split(b"\x01")[0].decode() in failed.detail
    assert len(failed.detail) < 80
    assert failed.spares_key
    assert stage.wires[0].closed


def test_codings_in_several_lines_are_several(stage):
    sent = stage.send()
    stage.wires[0].says(ok(b"x", b"Content-Encoding: gzip", b"Content-Encoding: br"))
    assert "gzip, br" in sent.result.value.detail


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_body_without_its_end_is_truncated(stage, coding, cut):
    sent = stage.send()
    stage.wires[0].says(ok(compressed(BODY, coding)[:-cut], b"Content-Encoding: " + coding))
    assert Told(sent.result.read(100_000)).kind is FailureKind.TRUNCATED


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", b"<html>not at all</html>"),
        (b"gzip", gzip.compress(BODY) + b"rest"),
        (b"gzip", gzip.compress(BODY)[:-8] + b"12345678"),
        (b"deflate", zlib.compress(BODY) + b"rest"),
        (b"deflate", BODY),
    ],
)
def test_what_is_not_in_its_coding_is_garbage(stage, coding, body):
    sent = stage.send()
    stage.wires[0].says(ok(body, b"Content-Encoding: " + coding))
    told = Told(sent.result.read(100_000))
    assert told.kind is FailureKind.GARBAGE
    assert coding.decode() in told.result.value.detail
    assert told.result.value.spares_key


def test_nothing_in_gzip_is_nothing(stage):
    sent = stage.send()
    stage.wires[0].says(ok(b"", GZIP))
    assert Told(sent.result.read(10)).result == b""


# -- bombs ---------------------------------------------------------------------------------------


def test_what_comes_out_counts_to_the_limit(stage):
    sent = stage.send()
    stage.wires[0].says(ok(gzip.compress(b"x" * 50_000_000), GZIP))
    told = Told(sent.result.read(1_000_000))
    stage.clock.advance(0)
    assert told.kind is FailureKind.TOO_LARGE
    assert stage.wires[0].closed


def test_what_comes_out_comes_in_pieces(stage):
    sent, sizes = stage.send(), []
    stage.wires[0].says(ok(gzip.compress(b"x" * 5_000_000), GZIP))
    told = Told(sent.result.stream(lambda piece: sizes.append(len(piece))))
    stage.clock.advance(0)
    assert told.result is None
    assert (sum(sizes), max(sizes)) == (5_000_000, PIECE_BYTES)


def test_a_reader_that_pauses_gets_no_more_than_one_piece(stage):
    sent, got = stage.send(), []

    def receive(piece):
        got.append(piece)
        sent.result.pause()

    stage.wires[0].says(ok(gzip.compress(b"x" * (2 * PIECE_BYTES + 5)), GZIP))
    told = Told(sent.result.stream(receive))
    for count in (1, 2):
        assert len(got) == count
        assert told.results == []
        sent.result.resume()
    assert told.result is None
    assert b"".join(got) == b"x" * (2 * PIECE_BYTES + 5)


def head(size):
    return b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % size


def test_each_piece_has_a_turn_of_the_reactor_and_nothing_is_read_meanwhile(stage):
    """64 MB in one turn would keep everybody waiting for a tenth of a second."""
    sent, got, wire = stage.send(), [], stage.wires[0]
    bomb = gzip.compress(b"x" * (4 * PIECE_BYTES))
    wire.says(head(len(bomb)) + bomb[:-10])
    told = Told(sent.result.stream(got.append))
    assert len(got) == 1
    assert wire.paused
    stage.clock.advance(0)
    assert not wire.paused
    wire.says(bomb[-10:])
    stage.clock.advance(0)
    assert told.result is None
    assert b"".join(got) == b"x" * (4 * PIECE_BYTES)
    assert stage.ask() == b"{}"


def test_members_with_nothing_in_them_have_turns_as_well(stage):
    sent, got = stage.send(), []
    body = gzip.compress(b"") * 3000 + gzip.compress(b"x")
    stage.wires[0].says(ok(body, GZIP))
    told = Told(sent.result.stream(got.append))
    assert got == []
    stage.clock.advance(0)
    assert told.result is None
    assert got == [b"x"]


def test_who_leaves_between_two_pieces_leaves_no_turn_behind(stage):
    sent, got = stage.send(), []
    stage.wires[0].says(ok(gzip.compress(b"x" * (4 * PIECE_BYTES)), GZIP))
    streaming = sent.result.stream(got.append)
    told = Told(streaming)
    streaming.cancel()
    told.result.trap(CancelledError)
    stage.clock.advance(0)
    assert len(got) == 1


def test_a_connection_that_ends_between_two_pieces_is_told_behind_what_came(stage):
    sent, got = stage.send(), []
    bomb = gzip.compress(b"x" * (4 * PIECE_BYTES))
    stage.wires[0].says(head(len(bomb)) + bomb[:-10])
    told = Told(sent.result.stream(got.append))
    stage.wires[0].closes()
    assert told.results == []
    stage.clock.advance(0)
    assert told.kind is FailureKind.TRUNCATED
    assert len(b"".join(got)) >= 3 * PIECE_BYTES
