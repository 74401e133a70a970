"""The event stream decoder."""

import itertools
import json
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.core.errors import FailureKind, UpstreamFailed
from gemproxy.providers.gemini.wire.sse import EventStreamDecoder


def decode(*pieces):
    decoder = EventStreamDecoder()
    return [payload for piece in pieces for payload in decoder.receive(piece)] + decoder.close()


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
def test_every_line_end_ends_an_event_at_once(end):
    decoder = EventStreamDecoder()
    body = b"data: {1}" + end + end + b"data: {2}" + end + end
    assert decoder.receive(body) == [b"{1}", b"{2}"]
    assert decoder.close() == []


def test_crlf_cut_between_two_reads_is_one_line_end():
    decoder = EventStreamDecoder()
    assert decoder.receive(b"data: {1}\r") == []
    assert decoder.receive(b"\n\r") == [b"{1}"]
    assert decoder.receive(b"\ndata: {2}\r\n\r\n") == [b"{2}"]


def test_crlf_cut_within_an_event_does_not_end_it():
    assert decode(b"data: [1,\r", b"\ndata: 2]\r\n\r\n") == [b"[1,\n2]"]


def test_data_lines_of_one_event_are_joined():
    assert decode(b"data: [1,\ndata:2]\n\n") == [b"[1,\n2]"]


def test_data_lines_are_joined_when_whole_events_follow_in_the_next_read():
    assert decode(b"data: [1,\n", b"data: 2]\n\n") == [b"[1,\n2]"]


def test_only_one_space_after_the_colon_is_taken_off():
    assert decode(b"data:  x\n\n") == [b" x"]


def test_comments_and_other_fields_are_skipped():
    body = b": ping\r\n\r\nevent: message\r\nid: 7\r\nretry: 10\r\ndata: {}\r\n\r\n: bye\r\n\r\n"
    assert decode(body) == [b"{}"]


@pytest.mark.parametrize("body", [b"data:\n\n", b"data: \r\n\r\n", b"\n\n\r\n", b"data: \n\n"])
def test_event_without_data_is_none(body):
    assert decode(body) == []


@pytest.mark.parametrize("cut", range(5))
def test_byte_order_mark_at_the_start_is_skipped(cut):
    body = b"\xef\xbb\xbfdata: {}\n\n"
    assert decode(body[:cut], body[cut:]) == [b"{}"]


def test_byte_order_mark_elsewhere_is_text():
    assert decode(b"data: \xef\xbb\xbf\n\n", b"data: {}\n\n") == [b"\xef\xbb\xbf", b"{}"]


def test_separators_of_unicode_do_not_end_a_line():
    text = '{"t":"a\u2028b\u2029c\u0085d\x0b\x0c\x1c\x1d\x1ee"}'.encode()
    assert decode(b"data: " + text + b"\r\n\r\n") == [text]
    assert decode(b"data: " + text, b"\r\n\r\n") == [text]


def test_character_cut_between_two_reads_stays_whole():
    body = 'data: {"t":"äß€😀"}\r\n\r\n'.encode()
    for cut in range(len(body)):
        assert decode(body[:cut], body[cut:]) == ['{"t":"äß€😀"}'.encode()]


def test_event_without_its_blank_line_comes_out_at_the_end():
    assert decode(b"data: {1}\r\n\r\ndata: {2}") == [b"{1}", b"{2}"]
    assert decode(b"data: {1}\r\n\r\ndata: {2}\r\n") == [b"{1}", b"{2}"]


def test_bare_json_between_events_is_a_payload():
    error = b'{\n  "error": {\n    "code": 499\n  }\n}'
    body = b"data: {1}\r\n\r\n" + error + b"\r\n\r\ndata: {2}\r\n\r\n"
    assert decode(body) == [b"{1}", error, b"{2}"]


def test_bare_json_ends_with_the_body_or_the_next_event():
    error = b'[{\n  "error": {}\n}\n]'
    assert decode(error) == [error]
    assert decode(error + b"\ndata: {1}\n\n") == [error, b"{1}"]
    assert decode(b"data: {1}\n" + error) == [b"{1}", error]


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: " + b"x" * 101 + b"\n\n"],
        [b"data: " + b"x" * 60] + [b"y" * 10] * 5,
        [b"data: " + b"x" * 60 + b"\n", b"data: " + b"y" * 60 + b"\n"],
        [b"{" + b"x" * 60 + b"\n", b"y" * 60 + b"\n"],
    ],
)
def test_event_beyond_the_bound_is_refused(pieces):
    decoder = EventStreamDecoder(max_event_bytes=100)
    with pytest.raises(UpstreamFailed) as caught:
        list(map(decoder.receive, pieces))
    assert caught.value.kind is FailureKind.TOO_LARGE


def test_bound_is_for_each_event_and_not_for_the_stream():
    decoder = EventStreamDecoder(max_event_bytes=150)
    event = b"data: " + b"x" * 80 + b"\n\n"
    for _ in range(50):
        assert decoder.receive(event) == [b"x" * 80]
        assert decoder.receive(event[:30]) == []
        assert decoder.receive(event[30:]) == [b"x" * 80]
    assert decoder.receive(event * 10) == [b"x" * 80] * 10


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    events=st.lists(
        st.tuples(
            st.dictionaries(st.text(), values, max_size=3),
            st.sampled_from(["\r\n", "\n", "\r"]),
            st.sampled_from(["", ": comment", "event: x", "id"]),
            st.booleans(),
        ),
        max_size=6,
    ),
    cuts=st.lists(st.integers(min_value=0, max_value=2000), max_size=8),
)
def test_any_events_come_out_whole_wherever_they_are_cut(events, cuts):
    """Random JSON, line ends, comments and indentation, cut at random places."""
    body, expected = b"", []
    for value, end, extra, indented in events:
        text = json.dumps(value, ensure_ascii=False, indent=1 if indented else None)
        lines = [extra] * bool(extra) + [f"data: {line}" for line in text.split("\n")]
        body += (end.join(lines) + end * 2).encode()
        expected.append(text.encode())
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[a:b] for a, b in pairwise(places)]
    assert decode(*pieces) == expected


@given(
    texts=st.lists(
        st.lists(st.sampled_from([b"x", b"{", b"\r", b"\n", b"\r\n", b"data: "]), max_size=3),
        max_size=3,
    ),
    end=st.sampled_from([b"\r\n\r\n", b"\n\n", b"\r\r", b"\r\n", b""]),
)
def test_reads_of_whole_events_are_read_like_single_bytes(texts, end):
    """What comes in one read has a short way; single bytes never take it."""
    reads = [b"data: " + b"".join(text) + end for text in texts]
    body = b"".join(reads)
    single_bytes = [body[place : place + 1] for place in range(len(body))]
    assert decode(*reads) == decode(body) == decode(*single_bytes)


@pytest.mark.parametrize(
    "piece",
    [b"\n", b"\r\n", b":\n", b": ping\n\n", b"data:\n\n", b"data: \r\n\r\n", b"id: 1\n", b"x\n"],
)  # fmt: skip
def test_a_stream_without_events_ends(piece):
    """Lines of no event are counted, else they would keep a stream, and the reactor, for ever."""
    decoder = EventStreamDecoder()
    decoder.receive(b"data: 1\n\n")
    with pytest.raises(UpstreamFailed) as caught:
        assert not any(decoder.receive(piece * 10_000) for _ in range(200))
    assert caught.value.kind is FailureKind.GARBAGE


def test_heartbeats_between_events_are_no_matter():
    """What is between two events is counted, and not what is in the whole stream."""
    decoder = EventStreamDecoder()
    for _ in range(30):
        assert decoder.receive(b": keep-alive\n\n" * 5000 + b"data: 1\n\n") == [b"1"]


@pytest.mark.parametrize(
    "pieces", [[b"data:\n"], [b"data: x\n"], [b"x"], [b"data: "] + [b"x"] * 9, [b"{\n", b"{\n"]]
)
def test_an_event_without_end_takes_no_more_memory_than_its_bound(pieces):
    """However short its lines are, and the pieces in which it comes."""
    decoder = EventStreamDecoder(max_event_bytes=100_000)
    tracemalloc.start()
    with pytest.raises(UpstreamFailed) as caught:
        any(map(decoder.receive, itertools.cycle(pieces)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.kind is FailureKind.TOO_LARGE
    assert peak < 400_000
