"""Requests and answers of the Responses API, translated without a server."""

import json
from itertools import count

from gemproxy.api.openai.schema.response_objects import ResponseFrame, encode_echo
from gemproxy.api.openai.schema.responses import decode_responses
from gemproxy.translate.openai_responses__gemini.answer import WholeResponse
from gemproxy.translate.openai_responses__gemini.items import PlacedItem
from gemproxy.translate.openai_responses__gemini.request import to_gemini
from gemproxy.translate.openai_responses__gemini.response import ResponseParts
from gemproxy.translate.openai_responses__gemini.stream import ResponseStream
from gemproxy.translate.shared.signatures import SignatureStore

MODERN, BEFORE_3 = "gemini-3.8-flash", "gemini-2.5-flash"


def decoded(model=MODERN, **fields):
    """A decoded request, and its items."""
    body = json.dumps({"model": model, "input": "hi", **fields}).encode()
    request = decode_responses(body)
    given = request.request.input
    items = [] if isinstance(given, str) else given
    return request, [PlacedItem(each, f"input[{place}]") for place, each in enumerate(items)]


def translated(model=MODERN, signatures=None, replace_signatures=False, **fields):
    """The translated request."""
    request, items = decoded(model, **fields)
    return to_gemini(
        request,
        items,
        model=model,
        signatures=signatures if signatures is not None else SignatureStore(),
        replace_signatures=replace_signatures,
        scrub=lambda text: text.replace("sesame", "[removed]"),
    )


def native(model=MODERN, **fields):
    """The body for Gemini."""
    return json.loads(translated(model, **fields).body)


def parts(model=MODERN, signatures=None, **fields):
    """What the answer to the request is made with."""
    request, _ = decoded(model, **fields)
    numbers = count(1)
    signatures = signatures if signatures is not None else SignatureStore()
    return ResponseParts(
        translated(model, signatures, **fields),
        ResponseFrame("resp_ab", 1700, encode_echo(request.request, request.raw, store=False)),
        "ab",
        lambda: f"new_{next(numbers)}",
        lambda: 1702.0,
        signatures,
    )


def chunk(*answer_parts, finish=None, usage=None, **fields):
    """A chunk, or a whole answer, of Gemini's."""
    candidate = {"content": {"role": "model", "parts": list(answer_parts)}, **fields}
    if finish:
        candidate["finishReason"] = finish
    whole = {"candidates": [candidate], "responseId": "x1"}
    if usage:
        whole["usageMetadata"] = usage
    return json.dumps(whole).encode()


def whole(answer, **request):
    """The response object for a whole answer of Gemini's."""
    reader = WholeResponse(parts(**request))
    assert reader.receive(answer) is None
    return json.loads(reader.encode().body)


def streamed(*chunks, **request):
    """The bytes of a whole stream."""
    stream = ResponseStream(parts(**request))
    return b"".join(map(stream.receive, chunks)) + stream.finish()
