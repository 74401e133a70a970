"""The fast path for plain conversations: only text in both directions.

Nearly every request is plain: instructions, turns of text and a few options, answered by one text
candidate. The general path also handles tools, media, thoughts, sources and blocks; one check on
each side finds whether there are any, and then the general path is taken. For a plain conversation
both paths give the same result, which property tests check.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from gemproxy.api.openai.schema.messages import (
    AssistantMessage,
    DeveloperMessage,
    Message,
    SystemMessage,
    UserMessage,
)
from gemproxy.api.openai.schema.requests import ChatCompletionRequest
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import Content, GenerateContentRequest, Part
from gemproxy.translate.openai_chat__gemini.generation import generation_config
from gemproxy.translate.shared.schema_budget import SchemaBudget
from gemproxy.translate.shared.turns import end_on_user

_ROLES: dict[type[Message], Literal["user", "model", "system"]] = {
    UserMessage: "user",
    AssistantMessage: "model",
    SystemMessage: "system",
    DeveloperMessage: "system",
}


def plain_request(
    request: ChatCompletionRequest, family: ModelFamily, budget: SchemaBudget
) -> GenerateContentRequest | None:
    """The native request; ``None`` if ``request`` is not plain.

    ``budget`` bounds the work on the answer's schema.

    Raises :class:`~gemproxy.core.errors.InvalidRequest` for options that the model cannot take.
    """
    if (
        request.tools
        or request.functions
        or request.tool_choice is not None
        or request.function_call is not None
        or request.web_search_options is not None
        or request.reasoning_effort is not None
        or request.thinking is not None
        or request.reasoning is not None
        or request.google is not None
        or request.extra_body is not None
        or request.image_config is not None
        or request.service_tier is not None
    ):
        return None
    turns = _turns(request.messages)
    if turns is None:
        return None
    contents, instructions, before = turns
    if not contents or (instructions and not family.system_instruction):
        return None
    if family.ends_on_user:
        end_on_user(contents, instructions, before)
    return GenerateContentRequest(
        contents=contents,
        system_instruction=Content(parts=instructions) if instructions else None,
        generation_config=generation_config(request, family, None, budget, has_tools=False),
    )


def _turns(messages: Sequence[Message]) -> tuple[list[Content], list[Part], int] | None:
    """The turns and the instructions, if all is text. Empty texts are omitted.

    The number is that of the instructions before the last turn.
    """
    contents: list[Content] = []
    instructions: list[Part] = []
    speaker = None
    before = 0
    for message in messages:
        text, role = message.content, _ROLES.get(type(message))
        if type(text) is not str or role is None:
            return None
        if type(message) is AssistantMessage and (
            message.refusal
            or message.tool_calls
            or message.function_call is not None
            or message.images is not None
        ):
            return None
        if not text:
            continue
        if role == "system":
            instructions.append(Part(text=text))
            continue
        before = len(instructions)
        if role == speaker:
            contents[-1].parts.append(Part(text=text))
        else:
            contents.append(Content(parts=[Part(text=text)], role=role))
            speaker = role
    return contents, instructions, before
