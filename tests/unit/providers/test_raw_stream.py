"""Native streams are cut into events without changing a byte."""

from __future__ import annotations

import pytest

from gemproxy.core.errors import FailureKind, UpstreamFailed
from gemproxy.providers.gemini.wire.raw_stream import (
    RawArrayDecoder,
    RawEventDecoder,
    element,
    payloads,
)

FIRST = b'{"a":"}]\\"\\\\","b":[{"c":1}]}'
SECOND = b'{\r\n  "text": "\xe2\x80\xa8 [{"\n}'
ARRAY = b"[" + FIRST + b"\n,\r\n" + SECOND + b"\n]\n"
STREAMS = {
    "google": b"data: " + FIRST + b"\r\n\r\ndata: {}\r\n\r\n",
    "line feeds": b"data: " + FIRST + b"\n\ndata: {}\n\n",
    "carriage returns": b"data: " + FIRST + b"\r\rdata: {}\r\r",
    "comments": b": on\r\n\r\ndata: " + FIRST + b"\n\r\n: still on\n\ndata: {}\n\n",
    "lines": b'data: {"a":"}]\\"\\\\",\r\ndata: "b":[{"c":1}]}\r\n\r\ndata:{}\r\n\r\n',
    "no last blank line": b"data: " + FIRST + b"\r\n\r\ndata: {}",
}


def fed(decoder, body, size):
    events = []
    for at in range(0, len(body), size):
        events += decoder.receive(body[at : at + size])
    return events + decoder.close()


@pytest.mark.parametrize("body", STREAMS.values(), ids=STREAMS)
def test_events_are_the_same_bytes_however_they_arrive(body):
    for size in range(1, len(body) + 1):
        events = fed(RawEventDecoder(), body, size)
        assert b"".join(events) == body
        texts = [text for event in events for text in payloads(event)]
        assert [text.replace(b"\n", b"") for text in texts] == [FIRST, b"{}"]


def test_elements_of_an_array_are_the_same_bytes_however_they_arrive():
    for size in range(1, len(ARRAY) + 1):
        elements = fed(RawArrayDecoder(), ARRAY, size)
        assert b"".join(elements) == ARRAY
        assert [element(each) for each in elements] == [FIRST, SECOND, b""]


@pytest.mark.parametrize("body", [b'{"error":{"code":4}}\n', b'[{"error":{"code":4}}\n]'])
def test_an_error_in_place_of_an_array_is_an_element(body):
    assert element(fed(RawArrayDecoder(), body, 3)[0]) == b'{"error":{"code":4}}'


def test_an_error_without_a_field_name_is_an_event():
    body = b'data: {}\r\n\r\n{\n  "error": {}\n}\n'
    events = fed(RawEventDecoder(), body, 7)
    assert b"".join(events) == body
    assert payloads(events[-1]) == [b'{\n  "error": {}\n}']


@pytest.mark.parametrize("decoder", [RawEventDecoder, RawArrayDecoder])
def test_one_event_has_a_limit(decoder):
    cutter = decoder(100)
    with pytest.raises(UpstreamFailed) as caught:
        fed(cutter, b'[{"data":"' + b"x" * 200, 10)
    assert caught.value.kind is FailureKind.TOO_LARGE


def test_endless_comments_are_no_stream():
    cutter = RawEventDecoder()
    with pytest.raises(UpstreamFailed) as caught:
        fed(cutter, b": on\n\n" * 300_000, 64 * 1024)
    assert caught.value.kind is FailureKind.GARBAGE
