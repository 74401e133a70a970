"""Heads and chunked bodies: what is taken, what is refused, and nothing in between."""

import contextlib
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gemproxy.http.http1 import (
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    ChunkedBody,
    MalformedRequest,
    SizedBody,
    read_head,
)

UPGRADE = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"


def head(headers=b"", line=b"POST /v1 HTTP/1.1", host=b"Host: x\r\n"):
    return read_head(line + b"\r\n" + host + headers + b"\r\n")


def test_a_head_says_what_was_asked_for():
    headers = b"HOST: x:80\r\nX-One:  1 \t\r\nx-one: 2\r\n"
    read = head(headers, b"GET /a/b%20?c=d&e HTTP/1.1", host=b"")
    assert (read.method, read.target, read.path) == (b"GET", b"/a/b%20?c=d&e", b"/a/b%20")
    assert read.fields == [(b"HOST", b"x:80"), (b"X-One", b"1"), (b"x-one", b"2")]
    assert read.values == {b"host": b"x:80", b"x-one": b"2"}
    assert (read.length, read.persistent, read.expects_continue) == (0, True, False)


def test_printing_a_head_tells_no_token():
    read = head(b"Authorization: Bearer token-of-a-client\r\n", b"GET /?key=a-key HTTP/1.1")
    for printed in (repr(read), str(read), f"{[read]}"):
        assert "token" not in printed
        assert "a-key" not in printed


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"GET /",
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b" GET / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET / http/1.1",
        b"GET / HTTP/0.9",
        b"GET / HTTP/1.2",
        b"GET / HTTP/2.0",
        b"PRI * HTTP/2.0",
        b"DESCRIBE / RTSP/1.0",
        b"SOURCE / ICE/1.0",
        b"GE(T / HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"GET /\x7f HTTP/1.1",
        b"GET /\xc3\xa9 HTTP/1.1",
        b"GET foo HTTP/1.1",
        b"GET ftp://x/ HTTP/1.1",
        b"GET //",
        b"CONNECT x:443 HTTP/1.1",
        b"CONNECT / HTTP/1.1",
        b"GET / HTTP/1.1\nX: y",
        b"GET / HTTP/1.1\rX: y",
    ],
)
def test_a_line_that_asks_for_nothing_here_is_refused(line):
    with pytest.raises(MalformedRequest):
        head(line=line)


def test_of_what_was_understood_only_so_much_is_remembered():
    long = b"x" * (MAX_HEAD_BYTES // 3)
    tracemalloc.start()
    try:
        for number in range(1000):
            host = b"Host: %d%b\r\n" % (number, long)
            head(line=b"GET /%d%b HTTP/1.1" % (number, long), host=host)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 300 * len(long)


@pytest.mark.parametrize("method", [b"FANCY", b"get", b"M-SEARCH", b"A.b~1"])
def test_methods_of_which_nobody_has_heard_are_left_to_the_routes(method):
    assert head(line=method + b" /v1 HTTP/1.1").method == method


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://host:80/v1/models?a=b", b"/v1/models"),
        (b"HTTPS://host/", b"/"),
        (b"http://host", b"/"),
        (b"http://host?a", b"/"),
        (b"//host/a", b"//host/a"),
        (b"*", b"*"),
    ],
)
def test_the_absolute_form_is_taken_for_its_path(target, path):
    read = head(line=b"GET " + target + b" HTTP/1.1")
    assert read.path == path
    assert read.target.startswith(path)


def test_the_authority_of_a_target_stands_for_the_host():
    """RFC 9112 section 3.2.2: Host is not looked at then, as little as there may be of it."""
    line = b"GET http://Good.example:80/v1 HTTP/1.%d"
    assert head(line=line % 1, host=b"Host: evil\r\n").values[b"host"] == b"Good.example:80"
    assert head(line=line % 0, host=b"").values[b"host"] == b"Good.example:80"
    assert head(line=b"GET /http://good/ HTTP/1.1").values[b"host"] == b"x"
    for target in (b"http://user@good/", b"http://go\\od/", b"http://x@/"):
        with pytest.raises(MalformedRequest):
            head(line=b"GET " + target + b" HTTP/1.1")
    with pytest.raises(MalformedRequest):  # Section 3.2: it has to be there all the same.
        head(line=line % 1, host=b"")


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: \r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: 5_0\r\n",
        b"Content-Length: 5 0\r\n",
        b"Content-Length: \xd9\xa3\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length : 5\r\n",
        b"Content-Length\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, gzip\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b'Transfer-Encoding: "chunked"\r\n',
        b"Transfer-Encoding:\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Host: y\r\n",
        b"Host: x\r\n",
        b"X: a\r\n b\r\n",
        b" X: a\r\n",
        b"X: a\nY: b\r\n",
        b"X: a\rY: b\r\n",
        b"X: a\r\r\n",
        b"X: a\x00b\r\n",
        b"X: a\x01b\r\n",
        b"X: a\x7fb\r\n",
        b": a\r\n",
        b"X\r\n",
        b"X Y: a\r\n",
        b"X\xe9: a\r\n",
        b"X" * MAX_HEAD_BYTES + b": a\r\n",
        b"".join(b"X-%d: a\r\n" % n for n in range(MAX_HEADERS)),
        b"X: a\r\n" * MAX_HEADERS,
    ],
)
def test_headers_that_two_readers_could_read_in_two_ways_are_refused(headers):
    for head_of_two in (headers, headers + UPGRADE, UPGRADE + headers):
        with pytest.raises(MalformedRequest):
            head(head_of_two)


def test_of_repeated_headers_the_last_is_taken_and_connection_adds_up():
    headers = b"X: 1\r\nConnection: a \r\nx: 2\t\r\nHost:  x \r\nConnection: close\r\n"
    read = head(headers, host=b"")
    assert read.values == {b"x": b"2", b"host": b"x", b"connection": b"a,close"}
    assert read.fields == [
        (b"X", b"1"),
        (b"Connection", b"a"),
        (b"x", b"2"),
        (b"Host", b"x"),
        (b"Connection", b"close"),
    ]


@pytest.mark.parametrize("host", [b"", b"Host: a b\r\n", b"Host: \xff\r\n", b"Host: a/b\r\n"])
def test_http_1_1_wants_a_host(host):
    with pytest.raises(MalformedRequest):
        head(host=host)


@pytest.mark.parametrize("host", [b"", b"[::1]:80", b"a.b:80", b"under_score", b"%c3%a9"])
def test_every_kind_of_host_is_taken(host):
    assert head(host=b"Host: " + host + b"\r\n").values[b"host"] == host


def test_http_1_0_wants_none_and_knows_no_chunks():
    assert head(line=b"GET / HTTP/1.0", host=b"").length == 0
    with pytest.raises(MalformedRequest):
        head(b"Transfer-Encoding: chunked\r\n", b"POST / HTTP/1.0")


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        (b"", 0),
        (b"Content-Length: 0\r\n", 0),
        (b"content-length:007 \r\n", 7),
        (b"Transfer-Encoding: Chunked \r\n", None),
        (UPGRADE + b"Content-Length: 7\r\n", 7),
        (UPGRADE + b"Transfer-Encoding: chunked\r\n", None),
    ],
)
def test_the_length_of_the_body_is_known_before_it_comes(headers, length):
    assert head(headers).length == length


@pytest.mark.parametrize(
    ("version", "connection", "persistent"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: keep-alive\r\n", True),
        (b"1.1", b"Connection: disclose\r\n", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: Close\r\n", False),
        (b"1.1", b"Connection: keep-alive,close\r\n", False),
        (b"1.1", b"Connection: close\r\nConnection: keep-alive\r\n", False),
        (b"1.1", UPGRADE, True),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive\r\n", False),
    ],
)
def test_whether_the_connection_stays(version, connection, persistent):
    assert head(connection, b"GET / HTTP/" + version).persistent is persistent


def test_leave_to_send_is_asked_for_by_http_1_1_only():
    expect = b"Expect: 100-Continue\r\n"
    assert head(expect).expects_continue
    assert not head(expect, b"POST / HTTP/1.0").expects_continue
    assert not head(b"Expect: 200-ok\r\n").expects_continue


# -- bodies ----------------------------------------------------------------------------------------


def read_chunked(data, cuts=()):
    """What was read, how much of ``data`` that took, and the body."""
    written = bytearray()
    body = ChunkedBody(written.extend)
    places = [0, *sorted(cuts), len(data)]
    taken = 0
    for end in places[1:]:
        taken += body.receive(data[taken:end])
        while body.has_more:
            taken += body.receive(data[taken:end])
    assert body.size == len(written)
    return bytes(written), taken, body


WHOLE = (
    b'3\r\nabc\r\n00a;x=y;z="q r"\r\n\r\n\r\n0\r\n\r\nz\r\n1\r\n\r\r\n'
    b"0;last\r\nTrailer: one\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
)
DATA = b"abc\r\n\r\n0\r\n\r\nz\r"


@given(st.lists(st.integers(0, len(WHOLE) + 40)))
@example(range(len(WHOLE) + 40))
def test_chunks_give_the_same_body_wherever_they_are_cut(cuts):
    behind = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"
    written, taken, body = read_chunked(WHOLE + behind, cuts)
    assert written == DATA
    assert taken == len(WHOLE)
    assert body.complete


@pytest.mark.parametrize(
    "data",
    [
        b"\r\nabc",
        b"zz\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nab\r\n0\r\n\r\n",
        b'3;a="\r\n\r\nabc\r\n0\r\n\r\n',
        b"3;a\nabc\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\n",
        b"0\r\nno trailer\r\n\r\n",
        b"0\r\nA: b\r\n c: d\r\n\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"0\r\nA: b\n\r\n\r\n",
    ],
)
def test_chunks_that_two_readers_could_read_in_two_ways_are_refused(data):
    with pytest.raises(MalformedRequest):
        read_chunked(data)
    with pytest.raises(MalformedRequest):
        read_chunked(data, range(len(data)))


@pytest.mark.parametrize(
    ("begun", "more"), [(b"3;", b"a"), (b"0\r\nX: ", b"a"), (b"0\r\n", b"a: b\r\n")]
)
def test_what_stands_between_two_chunks_is_bounded(begun, more):
    begun = b"3\r\nabc\r\n" + begun
    cuts = range(0, 3 * MAX_HEAD_BYTES, 1000)
    read_chunked(begun + more * ((MAX_HEAD_BYTES - 1500) // len(more)), cuts)
    with pytest.raises(MalformedRequest, match="between"):
        read_chunked(begun + more * (MAX_HEAD_BYTES * 2 // len(more)), cuts)


def test_a_body_of_tiny_chunks_is_no_matter_of_bounds():
    written, _, body = read_chunked(b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n")
    assert len(written) == 50_000
    assert body.complete


@pytest.mark.parametrize("chunk", [b"1\r\na\r\n", b"2\r\n\r\n\r\n", b"4\r\n\r\n\r\n\r\n"])
@pytest.mark.parametrize("size", [65536, 65535, 65534, 65533, 30_000])
def test_tiny_chunks_are_read_a_few_at_a_time_and_lose_nothing(chunk, size):
    data = chunk * (size // len(chunk)) + b"0\r\n\r\nGET /behind"
    written = bytearray()
    body = ChunkedBody(written.extend)
    rounds, taken = 0, 0
    while not body.complete:
        before = len(written)
        taken += body.receive(data[taken:])
        assert len(written) - before < 8192
        rounds += 1
    assert rounds > 3
    assert data[taken:] == b"GET /behind"
    assert bytes(written) == chunk[3:-2] * (size // len(chunk))


def test_large_chunks_are_read_in_one_go():
    body = ChunkedBody(len)
    assert body.receive(b"10000\r\n" + b"x" * 65536 + b"\r\n") > 65536
    assert not body.has_more


@given(st.binary(max_size=40), st.lists(st.integers(0, 60)), st.integers(0, 40))
def test_a_body_with_a_length_ends_where_it_ends(data, cuts, length):
    written = bytearray()
    body = SizedBody(length, written.extend)
    taken = 0
    for end in [*sorted(cuts), len(data)]:
        taken += body.receive(data[taken:end])
    assert written == data[:length]
    assert taken == min(length, len(data))
    assert body.complete is (len(data) >= length)


@given(st.binary(max_size=200) | st.text("01a;: \r\n").map(str.encode))
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(MalformedRequest):
        assert head(data).path == b"/v1"
    with contextlib.suppress(MalformedRequest):
        written, taken, _ = read_chunked(b"1\r\n" + data)
        assert len(written) <= taken <= len(data) + 3
