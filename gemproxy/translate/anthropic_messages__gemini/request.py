"""Translate a Messages request into Gemini's ``GenerateContentRequest``.

It is done once for a client's request; the result is sent with every key that is tried.
``docs/messages.md`` lists the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from gemproxy.api.anthropic.schema.requests import CountTokensRequest, MessagesRequest, Prompt
from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import InvalidRequest
from gemproxy.media_bypass import NOTHING, ExtractedMedia
from gemproxy.providers.gemini.capabilities import ModelFamily, family_of
from gemproxy.providers.gemini.wire import requests as wire
from gemproxy.providers.gemini.wire.requests import (
    CountedRequest,
    GenerateContentRequest,
    encode_count_tokens,
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

_SIGNATURE = b'"thoughtSignature"'


class TranslatedRequest(msgspec.Struct, frozen=True, gc=False):
    """The translated request, and what the translation of its answer needs."""

    #: Compact JSON of the ``GenerateContentRequest``.
    body: bytes | BufferList
    context: AnswerContext
    #: A rough estimate of the prompt's tokens, for budgets.
    estimated_tokens: int
    #: The uploaded files that it names; only keys of one project can read them.
    resources: Sequence[str]
    #: See :attr:`gemproxy.api.base.Job.conversation`.
    conversation: int | None
    #: Whether it contains thought signatures or dummies.
    signed: bool
    stream: bool


class Options(NamedTuple):
    """What the translation needs beside the request.

    ``model`` is the upstream's name without ``models/``, ``output_limit`` the most tokens that it
    gives. ``replace_signatures`` replaces every thought signature by the documented dummy, for one
    more attempt after Google refused one. ``scrub`` removes secrets from text that the answer may
    echo. ``budget`` bounds the work on schemas, and keeps their results for another translation.
    """

    model: str
    signatures: SignatureStore
    budget: SchemaBudget
    output_limit: int | None = None
    replace_signatures: bool = False
    scrub: Callable[[str], str] = str
    #: Media that was extracted from the request.
    aside: ExtractedMedia = NOTHING


def to_gemini(request: MessagesRequest, options: Options) -> TranslatedRequest:
    """The translated request.

    Raises :class:`InvalidRequest`, with ``param``, for what Gemini or this model cannot do.
    """
    family = _family(options.model)
    native, tools = _prompt(request, family, options)
    native.generation_config = generation_config(
        request,
        family,
        options.budget,
        has_tools=tools.translated.tools is not None,
        output_limit=options.output_limit,
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
        signed=_SIGNATURE in text,
        stream=request.stream is True,
    )


def to_count_tokens(request: CountTokensRequest, options: Options) -> bytes | BufferList:
    """The body of ``countTokens``, which takes the whole request.

    Raises as :func:`to_gemini`.
    """
    native, _ = _prompt(request, _family(options.model), options)
    counted = CountedRequest(
        model=f"models/{options.model}",
        contents=native.contents,
        system_instruction=native.system_instruction,
        tools=native.tools,
        tool_config=native.tool_config,
    )
    return options.aside.restore(
        encode_count_tokens(wire.CountTokensRequest(generate_content_request=counted))
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


def _prompt(
    request: Prompt, family: ModelFamily, options: Options
) -> tuple[GenerateContentRequest, MessagesTools]:
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
