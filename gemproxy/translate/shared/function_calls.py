"""Translate earlier function calls and their results, as any dialect replays them.

Gemini 3 and later check the calls of the current turn: the first call of each step must carry the
thought signature that it came with. A dialect finds it where clients may have kept it
(:attr:`ReplayedCall.carried`); else it is searched in the store of signatures (there under id, name
and arguments, else under name and arguments, since some clients make ids of their own). If it is
lost, Google's documented dummy takes its place.
Source: ai.google.dev, thought signatures.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from typing import Any, NamedTuple

import msgspec

from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import (
    Blob,
    FileData,
    FunctionCall,
    FunctionResponse,
    FunctionResponsePart,
    Part,
)
from gemproxy.translate.shared.signatures import SignatureStore, call_key, call_mark
from gemproxy.translate.shared.tool_names import ToolNames

#: Makes Google skip the check of a signature; answers get worse, so it is the last resort.
DUMMY_SIGNATURE = "skip_thought_signature_validator"

#: Base64 of either alphabet; Google refuses a request whose signature is anything else.
_SIGNATURE = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_MISSING_RESULT = msgspec.Raw(b'{"error":"The result of this call is missing."}')
#: Media that a function's result may contain (Gemini 3 and later).
_INLINE_RESULT_TYPES = frozenset(
    {"image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"}
)

_object_decoder = msgspec.json.Decoder(dict[str, Any])
_encode = msgspec.json.Encoder().encode


class ReplayedCall(NamedTuple):
    """A call that a client sends back.

    ``arguments`` is the text of JSON, or what some clients send instead. ``carried`` is the
    signature that came with it, if the client kept it. ``upstream_id`` is the id that Gemini gave
    it, empty if it gave none; ``None`` if the client has Gemini's id as its own.
    """

    name: str
    arguments: object
    id: str
    carried: str | None = None
    upstream_id: str | None = None


def usable_signature(signature: str | None) -> str | None:
    """``signature`` if Google accepts its form, else ``None``."""
    return signature if signature and _SIGNATURE.fullmatch(signature) else None


def replay_calls(
    calls: Sequence[ReplayedCall],
    *,
    family: ModelFamily,
    names: ToolNames,
    signatures: SignatureStore,
    distrust: bool,
) -> list[Part]:
    """One part for each call of one step, in order; ``distrust`` drops every signature."""
    parts = []
    found_by_mark: set[str] = set()
    for call in calls:
        name = names.sent(call.name)
        arguments = _arguments(call.arguments)
        mark = call_mark(name, bytes(arguments))
        remembered = signatures.recall(call_key(call.id, mark))
        signature = None
        if not distrust:
            signature = call.carried
            if remembered is not None:
                signature = signature or remembered.signature
            elif signature is None and mark not in found_by_mark:
                # The client may have its own ids. Of equal calls in a step the first one has the
                # signature.
                like = signatures.recall_like(mark)
                signature = like.signature if like is not None else None
                found_by_mark.add(mark)
        # Only newer models issue ids, and they accept only their own for certain.
        upstream_id = call.upstream_id
        if upstream_id is None and remembered is not None and remembered.issued_upstream:
            upstream_id = call.id
        function_call = FunctionCall(name=name, args=arguments, id=upstream_id or None)
        parts.append(Part(function_call=function_call, thought_signature=signature))
    if family.requires_signatures and all(part.thought_signature is None for part in parts):
        parts[0].thought_signature = DUMMY_SIGNATURE
    return parts


def _arguments(arguments: object) -> msgspec.Raw:
    """The arguments as a JSON object, unchanged if they are the text of one.

    Invalid arguments (a truncated text, no object) stay in the history, so every later request has
    them: they are sent as the only member of an object.
    """
    text = arguments if isinstance(arguments, str) else _encode(arguments).decode()
    if text in {"", "{}", "null"} or text.strip() in {"", "null"}:
        return msgspec.Raw(b"{}")
    try:
        _object_decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return msgspec.Raw(_encode({"arguments": text}))
    return msgspec.Raw(text)


# Results --------------------------------------------------------------------------------------


class ResultParts(NamedTuple):
    """The results of one step: parts of its turn, and those that must follow in another."""

    responses: list[Part]
    following: list[Part]


def replay_results(
    calls: Sequence[Part],
    results: Sequence[Sequence[Part] | None],
    family: ModelFamily,
    failed: Container[int] = (),
) -> ResultParts:
    """One ``functionResponse`` for each call, in the order of the calls.

    ``results`` has the content of each call's result, or ``None`` where the client sent none:
    Gemini needs one for each call, so an error takes its place. ``failed`` are the positions of the
    calls that failed, as the client says.
    """
    collected = ResultParts([], [])
    for position, (call, parts) in enumerate(zip(calls, results, strict=True)):
        called = call.function_call
        if called is None:
            continue
        response = FunctionResponse(name=called.name, id=called.id, response=_MISSING_RESULT)
        if parts is not None:
            _fill(response, parts, family, collected.following, is_error=position in failed)
        collected.responses.append(Part(function_response=response))
    return collected


def media_of(part: Part) -> Blob | FileData | None:
    """The media of the part, if it has any."""
    return part.inline_data or part.file_data


def _fill(
    response: FunctionResponse,
    parts: Sequence[Part],
    family: ModelFamily,
    following: list[Part],
    *,
    is_error: bool,
) -> None:
    texts = [part.text for part in parts if part.text is not None]
    inside, outside = [], []
    for part in parts:
        blob = part.inline_data
        if blob is not None and family.rich_parts and blob.mime_type in _INLINE_RESULT_TYPES:
            inside.append(FunctionResponsePart(inline_data=blob))
        elif media_of(part) is not None:
            outside.append(part)
    if inside:
        response.parts = inside
    if outside:
        following.append(Part(text=f"Media in the result of {response.name}:"))
        following.extend(outside)
    if is_error:
        response.response = msgspec.Raw(_encode({"error": "\n".join(texts) or "The call failed."}))
    else:
        response.response = _response(texts, has_media=bool(inside or outside))


def _response(texts: Sequence[str], *, has_media: bool) -> msgspec.Raw:
    """The result as the JSON object that Gemini requires, unchanged if it is one.

    ``output`` is the key that Gemini reads as a function's result.
    """
    text = "\n".join(texts) if texts or not has_media else "The result is the media with it."
    if len(texts) == 1 and _is_object(text):
        return msgspec.Raw(text)
    return msgspec.Raw(_encode({"output": text}))


def _is_object(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    if "$ref" in text or "\\u0024" in text:
        # Gemini reads a key $ref as a reference to one of the parts.
        return False
    try:
        _object_decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True
