"""Native calls pass byte by byte; what is read from them on the way."""

import json

import pytest

from gemproxy.core.errors import (
    ErrorInAnswer,
    FailureKind,
    MalformedUpstreamResponse,
    StreamIncomplete,
    UpstreamFailed,
)
from gemproxy.translate.gemini_native__gemini.answers import (
    StreamedGeneration,
    WholeCount,
    WholeGeneration,
)
from gemproxy.translate.gemini_native__gemini.requests import (
    NativeBody,
    PlainBody,
    conversation_of,
    estimated_tokens,
    named_resources,
    read_body,
    read_prompt,
    with_models,
)

USAGE = {"promptTokenCount": 7, "candidatesTokenCount": 2, "totalTokenCount": 9}
TEXT = {"content": {"parts": [{"text": "hi"}], "role": "model"}, "finishReason": "STOP"}


def spaced(value):
    """JSON as Google writes it, with a field that is not known here."""
    return json.dumps({**value, "new": {"int64": "9007199254740993"}}, indent=2).encode()


def passed(value, **options):
    body = spaced(value)
    answer = WholeGeneration(**options)
    assert answer.receive(body) is None
    encoded = answer.encode()
    assert encoded.body == body
    return encoded


def test_a_whole_answer_is_counted_and_passes():
    answer = passed({"candidates": [TEXT], "usageMetadata": USAGE})
    assert (answer.usage.input, answer.usage.output, answer.usage.total) == (7, 2, 9)
    assert not answer.blocked
    assert not answer.empty


@pytest.mark.parametrize(
    ("answer", "blocked", "empty"),
    [
        ({}, False, True),
        ({"candidates": [{"finishReason": "STOP"}]}, False, True),
        ({"candidates": [{"finishReason": 1}]}, False, True),
        ({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}, False, True),
        ({"candidates": [{"content": {"parts": [{"text": ""}]}}]}, False, True),
        ({"candidates": [{"finishReason": "MAX_TOKENS"}]}, False, False),
        ({"candidates": [{"finishReason": "SAFETY"}]}, True, False),
        ({"candidates": [{"finishReason": 3}]}, True, False),
        ({"promptFeedback": {"blockReason": "OTHER"}}, True, False),
        ({"candidates": [{"content": {"parts": [{"futurePart": {}}]}}]}, False, False),
        ({"candidates": "something else"}, False, True),
    ],
)
def test_what_the_pool_has_to_know_of_a_whole_answer(answer, blocked, empty):
    encoded = passed(answer)
    assert (encoded.blocked, encoded.empty) == (blocked, empty)


def test_nothing_is_missing_from_an_answer_of_some_fields():
    assert not passed({}, partial=True).empty


@pytest.mark.parametrize("answer", [WholeGeneration, WholeCount])
def test_an_error_in_a_success_is_no_answer(answer):
    body = b'{"error": {"code": 503, "status": "UNAVAILABLE"}}'
    with pytest.raises(ErrorInAnswer) as caught:
        answer().receive(body)
    assert caught.value.payload == body
    with pytest.raises(MalformedUpstreamResponse):
        answer().receive(b"<html>")


def test_vectors_are_counted_by_google_or_by_their_texts():
    told = WholeCount(5)
    told.receive(spaced({"embedding": {"values": [0.5]}, "usageMetadata": USAGE}))
    assert told.encode().usage.input == 7
    untold = WholeCount(5)
    untold.receive(spaced({"embedding": {"values": [0.5]}}))
    assert untold.encode().usage.total == 5


def event(value):
    return b"data: " + json.dumps(value).encode() + b"\r\n\r\n"


def test_a_stream_passes_and_its_last_totals_count():
    stream = StreamedGeneration()
    empty = event({"candidates": [{"content": {"parts": [{"text": ""}]}}]})
    assert stream.receive(empty) == empty
    assert not stream.started
    first = event({"candidates": [{"content": {"parts": [{"text": "h"}]}}], "usageMetadata": {}})
    assert stream.receive(first) == first
    assert stream.started
    assert stream.receive(b": comment\r\n\r\n") == b": comment\r\n\r\n"
    last = event({"candidates": [{"finishReason": "STOP"}], "usageMetadata": USAGE})
    assert stream.receive(last) == last
    assert stream.finish() == b""
    assert (stream.usage.total, stream.blocked, stream.empty) == (9, False, False)


@pytest.mark.parametrize("array", [False, True])
def test_a_stream_without_its_end_is_incomplete(array):
    stream = StreamedGeneration(array=array)
    if array:
        stream.receive(b"[" + json.dumps({"candidates": [TEXT]}).encode())
    else:
        stream.receive(event({"candidates": [{"content": TEXT["content"]}]}))
    with pytest.raises(StreamIncomplete):
        stream.finish()


def test_an_array_ends_with_its_bracket():
    stream = StreamedGeneration(array=True)
    for piece in (b"[" + json.dumps({"candidates": [TEXT]}).encode(), b"\n]"):
        assert stream.receive(piece) == piece
    assert stream.started
    stream.finish()


@pytest.mark.parametrize("late", [False, True])
def test_an_error_within_a_stream_is_raised(late):
    stream = StreamedGeneration()
    if late:
        stream.receive(event({"candidates": [TEXT]}))
    with pytest.raises(ErrorInAnswer):
        stream.receive(event({"error": {"code": 500}}))
    with pytest.raises(MalformedUpstreamResponse):
        stream.receive(b"data: nothing\r\n\r\n")


def test_a_blocked_prompt_is_a_whole_stream():
    stream = StreamedGeneration()
    stream.receive(event({"promptFeedback": {"blockReason": "SAFETY"}}))
    stream.finish()
    assert stream.blocked
    assert not stream.empty


def test_what_is_held_back_before_any_content_is_bounded():
    stream = StreamedGeneration()
    quiet = event({"candidates": [{"content": {"parts": []}}], "padding": "x" * 1024 * 1024})
    with pytest.raises(UpstreamFailed) as caught:
        list(map(stream.receive, [quiet] * 40))
    assert caught.value.kind is FailureKind.TOO_LARGE


def renamed_in(body, rename):
    return with_models(body, read_body(body), rename)


BATCH = b"""{ "requests" : [ {"model":"models/small","taskType":"X"},
  {"content":{"parts":[{"text":"a \\"model\\": \\"models/small\\""}]}, "model" : "models/small" } ],
  "model": "small", "n": 1.0, "id": "9007199254740993", "other": {"model": "models/small"} }"""


def test_only_names_of_models_are_replaced():
    renamed = renamed_in(BATCH, lambda name: {"small": "gemini-embedding-001"}[name])
    expected = BATCH.replace(
        b'"models/small","taskType"', b'"models/gemini-embedding-001","taskType"'
    )
    expected = expected.replace(
        b'"model" : "models/small"', b'"model" : "models/gemini-embedding-001"'
    )
    assert renamed == expected.replace(b'"model": "small"', b'"model": "gemini-embedding-001"')
    assert renamed_in(BATCH, str) is BATCH


@pytest.mark.parametrize("field", ["model", "generateContentRequest", "generate_content_request"])
def test_names_of_models_are_found_where_calls_have_them(field):
    request = {"model": "models/a"} if field == "model" else {field: {"model": "models/a"}}
    body = json.dumps(
        {"contents": [{"parts": [{"functionCall": {"args": {"model": "a"}}}]}]} | request
    )
    renamed = json.loads(renamed_in(body.encode(), lambda _: "b"))
    assert renamed.pop("contents") == json.loads(body)["contents"]
    assert "models/b" in json.dumps(renamed)


@pytest.mark.parametrize(
    "more",
    [
        b'"model": "a"',
        b'"model": null',
        b'"model": "a", "model": null',
        rb'"\u006dodel": "a"',
        b'"agent": "a"',
        b'"requests": [{"model": "a"}]',
        b'"generateContentRequest": {"model": "a"}',
        b'"other": 1',
    ],
)
def test_a_prompt_that_may_name_models_is_not_plain(more):
    contents = b'{"contents": [{"parts": [{"functionCall": {"args": {"model": "a"}}}]}]'
    assert type(read_prompt(contents + b"}")) is PlainBody
    assert type(read_prompt(contents + b", " + more + b"}")) is NativeBody


def test_resources_that_a_body_names():
    google = "https://generativelanguage.googleapis.com/v1beta/files/abc-1"
    parts = [{"fileData": {"fileUri": google}}, {"file_data": {"file_uri": "https://youtu.be/x"}}]
    body = {
        "contents": [{"parts": parts}],
        "cachedContent": "cachedContents/c1",
        "tools": [{"fileSearch": {"fileSearchStoreNames": ["fileSearchStores/s1"]}}],
    }
    names = ["files/abc-1", "cachedContents/c1", "fileSearchStores/s1"]
    assert named_resources(json.dumps(body).encode()) == names
    assert named_resources(b'{"contents": [{"parts": [{"text": "hi"}]}]}') == []


def test_a_conversation_is_known_by_its_beginning():
    def number(*texts, tokens=10, **more):
        contents = [
            {"role": ("user", "model")[place % 2], "parts": [{"text": text}]}
            for place, text in enumerate(texts)
        ]
        body = json.dumps({"contents": contents, **more}).encode()
        return conversation_of(read_body(body), tokens)

    rules = {"systemInstruction": {"parts": [{"text": "Be brief."}]}}
    assert number("hi") is None
    assert number("hi", "ho", "he") == number("hi", "ho", "he", "ha") == number("hi", tokens=800)
    assert len({number("hi", "ho", **rules), number("hi", "ho"), number("he", "ho")}) == 3
    assert conversation_of(read_body(b'{"contents": 1}'), 800) is None


def test_media_counts_as_media():
    text = json.dumps({"contents": [{"parts": [{"text": "x" * 4000}]}]}).encode()
    assert 1000 <= estimated_tokens(text) < 1100
    image = json.dumps({"inlineData": {"mimeType": "image/png", "data": "A" * 400_000}}).encode()
    assert 1100 <= estimated_tokens(image) < 1200
