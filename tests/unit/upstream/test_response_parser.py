"""What is an answer, what is garbage, and what an answer leaves behind on its connection."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.upstream import response_parser
from gemproxy.upstream.response_parser import MAX_OVERHEAD_BYTES, NotHttp, ResponseParser

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def feed(answer, reads):
    for data in reads:
        answer.feed(data)


def read(wire):
    answer = ResponseParser()
    answer.feed(wire)
    return answer


WHOLE = {
    "content length": (OK + b"Content-Length: 5\r\n\r\nhello", 200, b"hello", True),
    "no body": (OK + b"Content-Length: 0\r\n\r\n", 200, b"", True),
    "chunks": (CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", 200, b"hello", True),
    "extensions and trailers": (
        CHUNKED + b"5;a=b;c\r\nhello\r\n0\r\nServer-Timing: x\r\nB: c\r\n\r\n",
        200,
        b"hello",
        True,
    ),
    "asked to close": (
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi",
        200,
        b"hi",
        False,
    ),
    "asked to close in a list": (
        OK + b"Connection: x, Close\r\nContent-Length: 2\r\n\r\nhi",
        200,
        b"hi",
        False,
    ),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
    "HTTP/1.0 that stays": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
        200,
        b"hi",
        True,
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "304 with a length": (b"HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n", 304, b"", True),
    "no phrase": (b"HTTP/1.1 429\r\nContent-Length: 2\r\n\r\nhi", 429, b"hi", True),
    "interim answers": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        + OK
        + b"Content-Length: 2\r\n\r\nhi",
        200,
        b"hi",
        True,
    ),
    "an offer to upgrade": (
        OK + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nhi",
        200,
        b"hi",
        True,
    ),
}


@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_wherever_an_answer_is_cut_it_is_the_same(name, data):
    wire, status, body, keep_alive = WHOLE[name]
    answer, got, rest = ResponseParser(), b"", wire
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        answer.feed(rest[:size])
        rest = rest[size:]
        got += answer.take()
        assert answer.complete == (not rest)
    assert (answer.status, got, answer.keep_alive) == (status, body, keep_alive)


GARBAGE = {
    "nothing of HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "TLS": b"\x16\x03\x01\x00\xee",
    "another protocol": b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "blank lines": b"\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "a version of another world": b"HTTP/3.7 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 abc OK\r\n\r\n",
    "a short status": b"HTTP/1.1 20\r\n\r\n",
    "a long status": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a status below 100": b"HTTP/1.1 099 OK\r\n\r\n",
    "another protocol from here": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n"
    b"Connection: Upgrade\r\n\r\n\x00\x01",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "a NUL in a header": OK + b"A: b\x00c\r\nContent-Length: 0\r\n\r\n",
    "a bare CR in a header": OK + b"A: b\rc\r\nContent-Length: 0\r\n\r\n",
    "a folded header": OK + b"A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": OK + b"Content-Length : 0\r\n\r\n",
    "a header without a name": OK + b": x\r\n\r\n",
    "a line without a colon": OK + b"nothing\r\n\r\n",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
    "the same length twice": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    "a list of lengths": OK + b"Content-Length: 2, 2\r\n\r\nhi",
    "a negative length": OK + b"Content-Length: -2\r\n\r\n",
    "a signed length": OK + b"Content-Length: +2\r\n\r\nhi",
    "an empty length": OK + b"Content-Length: \r\n\r\n",
    "a length past all numbers": OK + b"Content-Length: 99999999999999999999\r\n\r\n",
    "length and encoding": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "encoding and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "an encoding that nobody reads": OK + b"Transfer-Encoding: gzip\r\n\r\nxyz",
    "two encodings": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks that are not the outermost": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "a chunk past all numbers": CHUNKED + b"fffffffffffffffff\r\n",
    "a negative chunk": CHUNKED + b"-1\r\n",
    "a chunk of no size": CHUNKED + b"\r\nx",
    "a chunk that is longer than it says": CHUNKED + b"2\r\nhello\r\n0\r\n\r\n",
    "chunks on bare line feeds": CHUNKED + b"3\nhel\n0\n\n",
    "an interim answer with a body": b"HTTP/1.1 150 x\r\nContent-Length: 3\r\n\r\nabc"
    + OK
    + b"Content-Length: 0\r\n\r\n",
    "too many headers": OK + b"A: b\r\n" * 501 + b"Content-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_what_can_be_read_in_two_ways_is_not_read(name):
    wire = GARBAGE[name]
    for cut in (1, len(wire)):
        answer = ResponseParser()
        with pytest.raises(NotHttp):
            feed(answer, (wire[place : place + cut] for place in range(0, len(wire), cut)))
        assert not answer.complete


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_bytes_of_any_kind_are_read_or_refused(one, two):
    for beginning in (b"", b"HTTP/1.1 200 OK\r\n", CHUNKED):
        answer = ResponseParser()
        try:
            for data in (beginning + one, two):
                if data and not answer.complete:
                    answer.feed(data)
        except NotHttp:
            assert not answer.complete


def test_headers_are_kept_as_they_came_without_trailers():
    answer = read(
        CHUNKED.replace(b"\r\n\r\n", b"\r\nX-Two: a\r\nx-two: b\r\n\r\n")
        + b"0\r\nX-Two: trailer\r\n\r\n"
    )
    assert answer.headers == [
        (b"Transfer-Encoding", b"chunked"),
        (b"X-Two", b"a"),
        (b"x-two", b"b"),
    ]
    assert answer.header(b"x-two") == b"b"


def test_headers_of_interim_answers_are_not_the_answers():
    answer = read(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n")
    assert answer.headers == [(b"Content-Length", b"0")]
    assert answer.head.phrase == b"OK"


@pytest.mark.parametrize("excess", [b"H", b"x", OK + b"Content-Length: 0\r\n\r\n"])
@pytest.mark.parametrize("end", [b"Content-Length: 2\r\n\r\nhi", b"Content-Length: 0\r\n\r\n"])
def test_what_follows_an_answer_spoils_the_connection_not_the_answer(end, excess):
    answer = read(OK + end + excess)
    assert answer.complete
    assert (answer.status, len(answer.headers)) == (200, 1)
    assert not answer.keep_alive


@pytest.mark.parametrize(
    ("head", "endless"),
    [
        (OK, b"A: b\r\n"),
        (OK, b"a"),
        (OK + b"A: ", b"a"),
        (b"HTTP/1.1 200 ", b"O"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (CHUNKED, b"0"),
        (CHUNKED + b"1;", b"x"),
        (CHUNKED + b"0\r\n", b"A: b\r\n"),
        (CHUNKED + b"0\r\nA: ", b"x"),
    ],
)
def test_what_is_no_body_has_a_limit(head, endless):
    answer, fed = ResponseParser(), []
    if head:
        answer.feed(head)

    def pieces():
        for _ in range(10 * MAX_OVERHEAD_BYTES // 1000):
            fed.append(endless * (1000 // len(endless)))
            yield fed[-1]

    with pytest.raises(NotHttp):
        feed(answer, pieces())
    assert sum(map(len, fed)) <= MAX_OVERHEAD_BYTES + 1000


def test_a_head_of_many_kilobytes_is_fine():
    assert read(OK + b"A: %b\r\nContent-Length: 0\r\n\r\n" % (b"x" * 60_000)).complete


def test_small_chunks_are_no_overhead_however_many():
    answer = read(CHUNKED)
    for _ in range(MAX_OVERHEAD_BYTES // 3):
        for piece in (b"1\r\n", b"x", b"\r\n"):
            answer.feed(piece)
            answer.take()
    assert not answer.complete


def test_only_a_body_without_any_frame_ends_with_its_connection():
    assert read(OK + b"\r\nab").ends_with_connection
    assert not read(OK).ends_with_connection
    assert not read(CHUNKED).ends_with_connection
    assert not read(OK + b"Content-Length: 3\r\n\r\n").ends_with_connection
    assert not read(b"HTTP/1.1 204 N\r\n\r\n").ends_with_connection


HEADER_LINES = st.sampled_from(
    [
        b"Vary: Origin",
        b"Content-Length: 2",
        b"Transfer-Encoding: chunked",
        b"transfer-encoding: chunked",
        b"TRANSFER-ENCODING: Chunked",
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding:chunked",
        b"Transfer-Encoding: chunked ",
        b"X-Transfer-Encoding: gzip",
        b"Trailer: x",
        b"A: b\nTransfer-Encoding: gzip",
        b"A: b\rTransfer-Encoding: gzip",
        b" Transfer-Encoding: gzip",
        b"Content-Encoding: gzip",
        b"cONTENT-eNCODING:br",
        b"Content-Encodings: x",
        b"\tt: x",
        b"T",
        b"",
        b"HTTP/1.1 200 OK",
    ]
)


@given(
    st.sampled_from([OK, b"HTTP/1.1 204\r\n", b"HTTP/1.1 103 x\r\n", b"HTTP/1.0 200 OK\r\n"]),
    st.lists(HEADER_LINES, max_size=5),
    st.sampled_from([b"", b"hi", b"2\r\nhi\r\n0\r\n\r\n", OK + b"Transfer-Encoding: gzip\r\n\r\n"]),
    st.integers(0, 20),
)
def test_a_usual_head_is_taken_just_as_the_parser_would(first, lines, rest, cut):
    wire = b"".join([first, *(line + b"\r\n" for line in lines), b"\r\n", rest])
    reads = [wire[:cut], wire[cut:]] if 0 < cut < len(wire) else [wire]
    assert verdict(reads) == verdict(reads, usual=re.compile(rb"(?!)"))


def verdict(reads, usual=response_parser._USUAL_HEAD):
    """What becomes of an answer when ``usual`` tells which heads need no closer look."""
    answer, refused = ResponseParser(), False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(response_parser, "_USUAL_HEAD", usual)
        try:
            for data in reads:
                if not answer.complete:
                    answer.feed(data)
        except NotHttp:
            refused = True
    return (
        refused,
        answer.status,
        answer.complete,
        answer.keep_alive,
        answer.take(),
        answer.headers if answer.status else None,
        answer.ends_with_connection,
        answer.coding,
    )


def test_the_head_is_kept_without_what_came_with_it():
    answer = read(CHUNKED + b"3\r\nabc\r\n")
    assert answer._head_bytes == CHUNKED


GOOGLES_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=UTF-8\r\nVary: Origin\r\n"
    b"Cache-Control: private\r\nContent-Disposition: attachment\r\nconnection: keep-alive\r\n"
    b"Content-Length: 2\r\n"
)


def test_a_head_of_googles_takes_the_short_way():
    assert response_parser._USUAL_HEAD.match(GOOGLES_HEAD + b"\r\n")
    assert read(GOOGLES_HEAD + b"\r\n{}").coding is None


@pytest.mark.parametrize("name", [b"Content-Encoding", b"content-encoding", b"CONTENT-ENCODING"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_content_coding_takes_the_long_way_and_is_noted(name, place):
    lines = [GOOGLES_HEAD.split(b"\r\n")[0] + b"\r\n", GOOGLES_HEAD.partition(b"\r\n")[2]]
    head = b"".join([lines[0], *(lines[1:] if place else []), name + b": gzip\r\n"])
    head += b"" if place else lines[1]
    assert not response_parser._USUAL_HEAD.match(head + b"\r\n")
    assert read(head + b"\r\n{}").coding == b"gzip"
