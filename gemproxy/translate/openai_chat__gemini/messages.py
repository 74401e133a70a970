"""Translate OpenAI's messages into Gemini's turns (``translate.shared.turns``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from gemproxy.api.openai.schema.messages import (
    AssistantMessage,
    DeveloperMessage,
    FunctionMessage,
    Message,
    SystemMessage,
    ToolMessage,
    UserMessage,
)
from gemproxy.api.openai.schema.tool_result_matching import Answered, Slot, pair_results
from gemproxy.media_bypass import NOTHING, ExtractedMedia
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import Part
from gemproxy.translate.openai_chat__gemini.content import content_parts, text_parts
from gemproxy.translate.openai_chat__gemini.function_calls import (
    call_parts,
    has_calls,
    result_parts,
)
from gemproxy.translate.openai_chat__gemini.model_images import model_parts
from gemproxy.translate.shared.signatures import SignatureStore
from gemproxy.translate.shared.tool_names import ToolNames
from gemproxy.translate.shared.turns import Turns


class Replay(msgspec.Struct, frozen=True):
    """What the translation of earlier function calls needs."""

    family: ModelFamily
    names: ToolNames
    signatures: SignatureStore
    replace_signatures: bool = False
    #: Media that was extracted from the request.
    aside: ExtractedMedia = NOTHING


def translate_messages(
    messages: Sequence[Message], replay: Replay, hints: Sequence[str | None] = ()
) -> Turns:
    """The whole conversation; ``hints`` are additional instructions of the proxy.

    Raises :class:`InvalidRequest` for parts that cannot be translated, and if no message has
    content.
    """
    conversation = Turns()
    results: Mapping[Slot, Answered] | None = None
    for index, message in enumerate(messages):
        if isinstance(message, UserMessage):
            path = f"messages[{index}].content"
            conversation.say("user", content_parts(message.content, path, replay.family))
        elif isinstance(message, AssistantMessage):
            conversation.say("model", _model_parts(message, index, replay))
            conversation.say("model", text_parts(message.refusal))
            if has_calls(message):
                results = pair_results(messages) if results is None else results
                _replay_calls(conversation, message, index, results, replay)
        elif isinstance(message, SystemMessage | DeveloperMessage):
            conversation.instruct(text_parts(message.content))
        else:
            _placed_with_its_call(message)
    conversation.complete(replay.family, hints, "messages", "messages: no message has any content.")
    return conversation


def _placed_with_its_call(_message: ToolMessage | FunctionMessage) -> None:
    """Results are written after their calls, wherever the client put them."""


def _model_parts(message: AssistantMessage, index: int, replay: Replay) -> list[Part]:
    content = message.content
    if message.images is None and (content is None or isinstance(content, str)):
        return text_parts(content)
    return model_parts(
        message,
        f"messages[{index}]",
        family=replay.family,
        signatures=replay.signatures,
        distrust=replay.replace_signatures,
        aside=replay.aside,
    )


def _replay_calls(
    conversation: Turns,
    message: AssistantMessage,
    index: int,
    results: Mapping[Slot, Answered],
    replay: Replay,
) -> None:
    calls = call_parts(
        message,
        f"messages[{index}]",
        family=replay.family,
        names=replay.names,
        signatures=replay.signatures,
        distrust=replay.replace_signatures,
    )
    answered = [results.get((index, position)) for position in range(len(calls))]
    translated = result_parts(calls, answered, replay.family)
    conversation.say("model", calls)
    conversation.answer(translated.responses)
    conversation.say("user", translated.following)
