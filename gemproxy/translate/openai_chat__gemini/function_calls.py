"""Translate earlier function calls and their results.

Gemini 3 and later check the calls of the current turn: the first call of each step must carry the
thought signature that it came with. It is searched where clients may have kept it: in Google's own
extension of the call, in the call's id, in the store of signatures (there under id, name and
arguments, else under name and arguments, since some clients make ids of their own); where it is
lost, Google's
documented dummy takes its place.
Source: ai.google.dev, thought signatures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from gemproxy.api.openai.schema.messages import (
    AssistantMessage,
    CalledFunction,
    ExtraContent,
    Result,
)
from gemproxy.api.openai.schema.tool_result_matching import SIGNATURE_MARK
from gemproxy.core.errors import InvalidRequest
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import (
    FunctionCall,
    FunctionResponse,
    FunctionResponsePart,
    Part,
)
from gemproxy.translate.openai_chat__gemini.content import content_parts, media_of
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


class _ReplayedCall(NamedTuple):
    function: CalledFunction
    id: str
    extra_content: ExtraContent | None
    path: str


def has_calls(message: AssistantMessage) -> bool:
    """Whether the message calls functions."""
    return bool(message.tool_calls) or message.function_call is not None


def call_parts(
    message: AssistantMessage,
    path: str,
    *,
    family: ModelFamily,
    names: ToolNames,
    signatures: SignatureStore,
    distrust: bool,
) -> list[Part]:
    """One part for each call, in order; a legacy ``function_call`` comes last.

    Raises :class:`InvalidRequest` for custom tools.
    """
    parts = []
    found_by_mark: set[str] = set()
    for call in _calls(message, path):
        name = names.sent(call.function.name)
        arguments = _arguments(call.function.arguments)
        call_id, _, carried = call.id.partition(SIGNATURE_MARK)
        mark = call_mark(name, bytes(arguments))
        remembered = signatures.recall(call_key(call_id, mark))
        signature = None
        if not distrust:
            signature = _extension(call.extra_content) or _usable(carried)
            if remembered is not None:
                signature = signature or remembered.signature
            elif signature is None and mark not in found_by_mark:
                # The client may have its own ids. Of equal calls in a step the first one has the
                # signature.
                like = signatures.recall_like(mark)
                signature = like.signature if like is not None else None
                found_by_mark.add(mark)
        function_call = FunctionCall(
            name=name,
            args=arguments,
            # Only newer models issue ids, and they accept only their own for certain.
            id=call_id if remembered is not None and remembered.issued_upstream else None,
        )
        parts.append(Part(function_call=function_call, thought_signature=signature))
    if family.requires_signatures and all(part.thought_signature is None for part in parts):
        parts[0].thought_signature = DUMMY_SIGNATURE
    return parts


def _calls(message: AssistantMessage, path: str) -> Iterator[_ReplayedCall]:
    for index, call in enumerate(message.tool_calls or ()):
        place = f"{path}.tool_calls[{index}]"
        if call.type == "custom":
            raise InvalidRequest(
                f"{place}.type: custom tools are not supported; Gemini knows functions only.",
                param=f"{place}.type",
                reason="unsupported_value",
            )
        if call.function is None:
            raise InvalidRequest(
                f"Missing required parameter: '{place}.function'.",
                param=f"{place}.function",
                reason="missing_required_parameter",
            )
        extra = call.extra_content or call.function.extra_content
        yield _ReplayedCall(call.function, call.id, extra, f"{place}.function")
    if (legacy := message.function_call) is not None:
        yield _ReplayedCall(legacy, "", legacy.extra_content, f"{path}.function_call")


def _extension(extra: ExtraContent | None) -> str | None:
    if extra is None or extra.google is None:
        return None
    return _usable(extra.google.thought_signature)


def _usable(signature: str | None) -> str | None:
    return signature if signature and _SIGNATURE.fullmatch(signature) else None


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


def result_parts(
    calls: Sequence[Part], results: Sequence[tuple[int, Result] | None], family: ModelFamily
) -> ResultParts:
    """One ``functionResponse`` for each call, in the order of the calls.

    ``results`` has the result of each call with its place among the messages, or ``None`` where the
    client sent none: Gemini needs one for each call, so an error takes its place.
    """
    collected = ResultParts([], [])
    for call, answered in zip(calls, results, strict=True):
        called = call.function_call
        if called is None:
            continue
        response = FunctionResponse(name=called.name, id=called.id, response=_MISSING_RESULT)
        if answered is not None:
            index, result = answered
            parts = content_parts(result.content, f"messages[{index}].content", family)
            _fill(response, parts, family, collected.following)
        collected.responses.append(Part(function_response=response))
    return collected


def _fill(
    response: FunctionResponse, parts: Sequence[Part], family: ModelFamily, following: list[Part]
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
