"""Translate earlier function calls and their results (``translate.shared.function_calls``).

Clients may have kept a call's thought signature in Google's own extension of the call or in the
call's id.
"""

from __future__ import annotations

from collections.abc import Sequence

from gemproxy.api.openai.schema.messages import (
    AssistantMessage,
    CalledFunction,
    ExtraContent,
    Result,
    ToolCall,
)
from gemproxy.api.openai.schema.tool_result_matching import SIGNATURE_MARK
from gemproxy.core.errors import InvalidRequest
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import Part
from gemproxy.translate.openai_chat__gemini.content import content_parts
from gemproxy.translate.shared.function_calls import (
    ReplayedCall,
    ResultParts,
    replay_calls,
    replay_results,
    usable_signature,
)
from gemproxy.translate.shared.signatures import SignatureStore
from gemproxy.translate.shared.tool_names import ToolNames


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
    calls = [
        _replayed(call, f"{path}.tool_calls[{index}]")
        for index, call in enumerate(message.tool_calls or ())
    ]
    if (legacy := message.function_call) is not None:
        calls.append(_call(legacy, "", legacy.extra_content))
    return replay_calls(calls, family=family, names=names, signatures=signatures, distrust=distrust)


def result_parts(
    calls: Sequence[Part], results: Sequence[tuple[int, Result] | None], family: ModelFamily
) -> ResultParts:
    """The results of ``calls``, each with its place among the messages, or ``None``."""
    contents = [
        None
        if answered is None
        else content_parts(answered[1].content, f"messages[{answered[0]}].content", family)
        for answered in results
    ]
    return replay_results(calls, contents, family)


def _replayed(call: ToolCall, path: str) -> ReplayedCall:
    if call.type == "custom":
        raise InvalidRequest(
            f"{path}.type: custom tools are not supported; Gemini knows functions only.",
            param=f"{path}.type",
            reason="unsupported_value",
        )
    if call.function is None:
        raise InvalidRequest(
            f"Missing required parameter: '{path}.function'.",
            param=f"{path}.function",
            reason="missing_required_parameter",
        )
    return _call(call.function, call.id, call.extra_content or call.function.extra_content)


def _call(function: CalledFunction, call_id: str, extra: ExtraContent | None) -> ReplayedCall:
    call_id, _, in_id = call_id.partition(SIGNATURE_MARK)
    google = extra.google if extra is not None else None
    extension = google.thought_signature if google is not None else None
    carried = usable_signature(extension) or usable_signature(in_id)
    return ReplayedCall(function.name, function.arguments, call_id, carried)
