"""Translate messages into Gemini's turns.

The turns follow the rules of :mod:`gemproxy.translate.shared.turns`. A message may hold text,
thinking and calls in any order, and results of calls may stand in any order among other blocks: the
results move behind their calls, and what else the user said follows in a turn of its own, because
Gemini reads text beside results as written by the model (pydantic/pydantic-ai#4210).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from gemproxy.api.anthropic.schema.blocks import (
    Message,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from gemproxy.api.anthropic.schema.requests import Prompt
from gemproxy.core.errors import InvalidRequest
from gemproxy.media_bypass import NOTHING, ExtractedMedia
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import Part
from gemproxy.translate.anthropic_messages__gemini.content import (
    block_parts,
    text_parts,
    translated_block,
)
from gemproxy.translate.anthropic_messages__gemini.identity import upstream_call_id
from gemproxy.translate.shared.function_calls import ReplayedCall, replay_calls, replay_results
from gemproxy.translate.shared.signature_carrier import carried
from gemproxy.translate.shared.signatures import SignatureStore
from gemproxy.translate.shared.tool_names import ToolNames
from gemproxy.translate.shared.turns import Turns

#: Claude Code's note on who pays, which is of no use to Gemini and changes with each version.
_BILLING = "x-anthropic-billing-header:"
_REMINDER = "<system-reminder>"

#: ``(index of the message, index of the block)`` of a call.
_Slot = tuple[int, int]


class Replay(msgspec.Struct, frozen=True):
    """What the translation of earlier function calls needs."""

    family: ModelFamily
    model: str
    names: ToolNames
    signatures: SignatureStore
    replace_signatures: bool = False
    #: Media that was extracted from the request.
    aside: ExtractedMedia = NOTHING


class _Answered(NamedTuple):
    """The result of a call, and the path of its content."""

    result: ToolResultBlock
    path: str


def translate_messages(request: Prompt, replay: Replay, hints: Sequence[str | None] = ()) -> Turns:
    """The whole conversation; ``hints`` are additional instructions of the proxy.

    Raises :class:`InvalidRequest` for blocks that cannot be translated, for a result without a
    call, and if no message has content.
    """
    conversation = Turns()
    conversation.instruct(_instructions(request))
    results: Mapping[_Slot, _Answered] | None = None
    for index, message in enumerate(request.messages):
        content = message.content
        if message.role == "assistant":
            if isinstance(content, str):
                conversation.say("model", text_parts(content))
                continue
            if results is None:
                results = _results(request.messages)
            _say_model(conversation, content, index, results, replay)
        elif message.role == "system":
            _remind(conversation, block_parts(content, f"messages[{index}].content"))
        else:
            if results is None and not isinstance(content, str):
                results = _results(request.messages)
            conversation.say("user", block_parts(content, f"messages[{index}].content"))
    conversation.complete(replay.family, hints, "messages", "messages: no message has any content.")
    return conversation


def _instructions(request: Prompt) -> list[Part]:
    parts = text_parts(request.system or "")
    return [part for part in parts if not (part.text or "").startswith(_BILLING)]


def _remind(conversation: Turns, parts: list[Part]) -> None:
    """Add a message of the system: an instruction at the start, later a note to the user's turn.

    Later ones change from turn to turn. In the system instruction they would make the prompt's
    beginning different each time, and Google's cache would never hit.
    """
    if not conversation.contents:
        conversation.instruct(parts)
        return
    for part in parts:
        if part.text is not None and not part.text.startswith(_REMINDER):
            part.text = f"{_REMINDER}\n{part.text}\n</system-reminder>"
    conversation.say("user", parts)


def _say_model(
    conversation: Turns,
    content: Sequence[object],
    index: int,
    results: Mapping[_Slot, _Answered],
    replay: Replay,
) -> None:
    path = f"messages[{index}].content"
    parts: list[Part] = []
    calls: list[ReplayedCall] = []
    places: list[int] = []
    answered: list[_Answered | None] = []
    signature: str | None = None
    for position, block in enumerate(content):
        if isinstance(block, ThinkingBlock | RedactedThinkingBlock):
            found = block.signature if isinstance(block, ThinkingBlock) else block.data
            signature = carried(found, replay.model) or signature
        elif isinstance(block, ToolUseBlock):
            calls.append(_replayed(block, signature, replay))
            answered.append(results.get((index, position)))
            places.append(len(parts))
            parts.append(Part())
            signature = None
        elif isinstance(block, TextBlock):
            for part in text_parts((block,)):
                part.thought_signature = None if replay.replace_signatures else signature
                signature = None
                parts.append(part)
        else:
            parts += translated_block(block, f"{path}[{position}]")
    if not calls:
        conversation.say("model", parts)
        return
    called = replay_calls(
        calls,
        family=replay.family,
        names=replay.names,
        signatures=replay.signatures,
        distrust=replay.replace_signatures,
    )
    for place, part in zip(places, called, strict=True):
        parts[place] = part
    conversation.say("model", parts)
    translated = replay_results(
        called,
        [
            None if each is None else block_parts(each.result.content, each.path)
            for each in answered
        ],
        replay.family,
        [place for place, each in enumerate(answered) if each and each.result.is_error],
    )
    conversation.answer(translated.responses)
    conversation.say("user", translated.following)


def _replayed(block: ToolUseBlock, signature: str | None, replay: Replay) -> ReplayedCall:
    arguments = bytes(block.input)
    if replay.aside.pieces:
        # The arguments are compared with those that were remembered.
        arguments = bytes(replay.aside.restore(arguments))
    return ReplayedCall(
        block.name, arguments.decode(), block.id, signature, upstream_call_id(block.id)
    )


def _results(messages: Sequence[Message]) -> Mapping[_Slot, _Answered]:
    """The result of each call that has one.

    A result belongs to the nearest message before it that has a call with its id. Raises
    :class:`InvalidRequest` with the path of a result that answers no earlier call.
    """
    found: dict[_Slot, _Answered] = {}
    # The calls of the latest message that used the id, the last one first.
    open_calls: dict[str, list[_Slot]] = {}
    for index, message in enumerate(messages):
        if isinstance(message.content, str):
            continue
        own: dict[str, list[_Slot]] = {}
        for position, block in enumerate(message.content):
            if isinstance(block, ToolUseBlock) and message.role == "assistant":
                own.setdefault(block.id, []).append((index, position))
            elif isinstance(block, ToolResultBlock):
                slots = open_calls.get(block.tool_use_id)
                path = f"messages[{index}].content[{position}]"
                if slots is None:
                    raise InvalidRequest(
                        f"{path}.tool_use_id: no preceding assistant message has a tool_use block"
                        f" with the id '{block.tool_use_id[:80]}'.",
                        param=f"{path}.tool_use_id",
                    )
                found[slots[-1]] = _Answered(block, f"{path}.content")
                if len(slots) > 1:
                    slots.pop()
        for slots in own.values():
            slots.reverse()
        open_calls.update(own)
    return found
