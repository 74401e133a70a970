"""Translate a Messages request into Gemini's ``GenerateContentRequest``.

It is done once for a client's request; the result is sent with every key that is tried.
``docs/messages.md`` lists the parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gemproxy.api.anthropic.schema.requests import MessagesRequest, Prompt
from gemproxy.core.errors import InvalidRequest
from gemproxy.media_bypass import NOTHING, ExtractedMedia
from gemproxy.providers.gemini.capabilities import ModelFamily, family_of
from gemproxy.providers.gemini.wire.requests import (
    GenerateContentRequest,
    encode_generate_content,
)
from gemproxy.translate.anthropic_messages__gemini.context import AnswerContext
from gemproxy.translate.anthropic_messages__gemini.generation import (
    generation_config,
    json_output,
    thinks,
)
from gemproxy.translate.anthropic_messages__gemini.messages import Replay, translate_messages
from gemproxy.translate.anthropic_messages__gemini.tools import MessagesTools, translate_tools
from gemproxy.translate.shared.conversations import conversation_in, named_conversation
from gemproxy.translate.shared.prompt_size import estimated_tokens, files_in, media_in
from gemproxy.translate.shared.schema_budget import SchemaBudget
from gemproxy.translate.shared.signatures import SignatureStore
from gemproxy.translate.shared.structured import json_instruction
from gemproxy.translate.shared.translated import SIGNATURE_FIELD, TranslatedRequest


class Options(NamedTuple):
    """What the translation needs beside the request.

    ``model`` is the upstream's name without ``models/``, ``output_limit`` the most tokens that it
    gives, if Google's list told it. ``replace_signatures`` replaces every thought signature by the
    documented dummy, for one more attempt after Google refused one. ``scrub`` removes secrets from
    text that the answer may echo. ``budget`` bounds the work on schemas, and keeps their results
    for another translation.
    """

    model: str
    signatures: SignatureStore
    budget: SchemaBudget
    output_limit: int | None = None
    replace_signatures: bool = False
    scrub: Callable[[str], str] = str
    #: Media that was extracted from the request.
    aside: ExtractedMedia = NOTHING


def to_gemini(request: MessagesRequest, options: Options) -> TranslatedRequest[AnswerContext]:
    """The translated request.

    Raises :class:`InvalidRequest`, with ``param``, for what Gemini or this model cannot do.
    """
    native, tools = translate_prompt(request, options)
    family = family_of(options.model)
    native.generation_config = generation_config(
        request,
        family,
        options.budget,
        has_tools=tools.translated.tools is not None,
        output_limit=options.output_limit or family.output_limit,
    )
    text = encode_generate_content(native)
    body = options.aside.restore(text)
    media = media_in(native.contents)
    tokens = estimated_tokens(body, media, options.aside)
    name = request.metadata.user_id if request.metadata is not None else None
    choice = request.tool_choice
    return TranslatedRequest(
        body=body,
        context=AnswerContext(
            model=request.model,
            upstream_model=options.model,
            tool_names=tools.translated.names.changed,
            thinks=thinks(request),
            single_call=choice is not None and choice.disable_parallel_tool_use is True,
            searches=tools.searches,
            scrub=options.scrub,
        ),
        estimated_tokens=tokens,
        resources=files_in(media) if media else (),
        conversation=named_conversation(name)
        if name
        else conversation_in(native.contents, native.system_instruction, tokens),
        signed=SIGNATURE_FIELD in text,
        stream=request.stream is True,
    )


def _family(model: str) -> ModelFamily:
    family = family_of(model)
    if family.image_output or family.speech_output:
        made = "images" if family.image_output else "speech"
        raise InvalidRequest(
            f"model: '{model[:80]}' makes {made}, which a message cannot hold;"
            " use POST /v1/chat/completions.",
            param="model",
        )
    return family


def translate_prompt(
    request: Prompt, options: Options
) -> tuple[GenerateContentRequest, MessagesTools]:
    """The turns, the instructions and the tools. Raises as :func:`to_gemini`."""
    family = _family(options.model)
    tools = translate_tools(request, family, options.budget)
    translated = tools.translated
    instruction = json_instruction(
        json_output(request), family, options.budget, has_tools=translated.tools is not None
    )
    replay = Replay(
        family,
        options.model,
        translated.names,
        options.signatures,
        options.replace_signatures,
        options.aside,
    )
    conversation = translate_messages(request, replay, (instruction, tools.location))
    native = GenerateContentRequest(
        contents=conversation.contents,
        system_instruction=conversation.system_instruction,
        tools=translated.tools,
        tool_config=translated.config,
    )
    return native, tools
