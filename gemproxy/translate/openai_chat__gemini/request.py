"""Translate a chat completion request into Gemini's ``GenerateContentRequest``.

It is done once for a client's request; the result is sent with every key that is tried.
``docs/compatibility.md`` lists the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from gemproxy.api.openai.schema.messages import DeveloperMessage, SystemMessage
from gemproxy.api.openai.schema.requests import ChatCompletionRequest, LargeChatCompletionRequest
from gemproxy.core.errors import InvalidRequest
from gemproxy.media_bypass import NOTHING
from gemproxy.providers.gemini.capabilities import family_of
from gemproxy.providers.gemini.wire.requests import (
    GenerateContentRequest,
    encode_generate_content,
)
from gemproxy.translate.openai_chat__gemini.context import AnswerContext
from gemproxy.translate.openai_chat__gemini.fast_path import plain_request
from gemproxy.translate.openai_chat__gemini.generation import generation_config, json_output
from gemproxy.translate.openai_chat__gemini.google_options import (
    cached_content,
    google_options,
    image_config,
    safety_settings,
)
from gemproxy.translate.openai_chat__gemini.messages import Replay, translate_messages
from gemproxy.translate.openai_chat__gemini.thinking import thinking_config
from gemproxy.translate.openai_chat__gemini.tools import location_hint, translate_tools
from gemproxy.translate.shared.conversations import conversation_in
from gemproxy.translate.shared.prompt_size import (
    CHARACTERS_PER_TOKEN,
    estimated_tokens,
    files_in,
    media_in,
)
from gemproxy.translate.shared.schema_budget import SchemaBudget
from gemproxy.translate.shared.signatures import SignatureStore
from gemproxy.translate.shared.structured import json_instruction
from gemproxy.translate.shared.translated import SIGNATURE_FIELD, TranslatedRequest
from gemproxy.translate.shared.usage import upstream_tier

_NO_NAMES: Mapping[str, str] = MappingProxyType({})


def to_gemini(
    request: ChatCompletionRequest,
    *,
    model: str,
    signatures: SignatureStore,
    replace_signatures: bool = False,
    scrub: Callable[[str], str] = str,
    budget: SchemaBudget | None = None,
) -> TranslatedRequest[AnswerContext]:
    """The request for ``model``, the upstream's name without ``models/``.

    ``replace_signatures`` replaces every thought signature by the documented dummy, for one more
    attempt after Google refused one. ``scrub`` removes secrets from text that the answer may echo.
    ``budget`` bounds the work on schemas, and keeps their results for another translation. Raises
    :class:`InvalidRequest`, with ``param``, for what Gemini or this model cannot do.
    """
    if budget is None:
        budget = SchemaBudget()
    family = family_of(model)
    aside = request.aside if type(request) is LargeChatCompletionRequest else NOTHING
    if (native := plain_request(request, family, budget)) is not None:
        text = encode_generate_content(native)
        body = aside.restore(text) if aside.pieces else text
        tokens = len(body) // CHARACTERS_PER_TOKEN
        return TranslatedRequest(
            body=body,
            context=_answer_context(request, _NO_NAMES, scrub),
            estimated_tokens=tokens,
            resources=(),
            conversation=conversation_in(native.contents, native.system_instruction, tokens),
            signed=False,
            stream=request.stream is True,
        )
    google = google_options(request)
    tools = translate_tools(request, family, budget)
    replay = Replay(family, tools.names, signatures, replace_signatures, aside)
    has_tools = tools.tools is not None
    conversation = translate_messages(
        request.messages,
        replay,
        (
            json_instruction(json_output(request), family, budget, has_tools=has_tools),
            location_hint(request.web_search_options) if has_tools else None,
        ),
    )
    cached = cached_content(google, request)
    if cached is not None and google.cached_content is not None:
        _refuse_instructions(request, google.cached_content.path)
    thinking = thinking_config(request, google, family)
    native = GenerateContentRequest(
        contents=conversation.contents,
        system_instruction=conversation.system_instruction,
        tools=tools.tools,
        tool_config=tools.config,
        safety_settings=safety_settings(google),
        generation_config=generation_config(
            request, family, thinking, budget, has_tools=has_tools, image=image_config(google)
        ),
        cached_content=cached,
        service_tier=upstream_tier(request.service_tier),
    )
    text = encode_generate_content(native)
    body = aside.restore(text)
    media = media_in(conversation.contents)
    resources = files_in(media) if media else []
    if cached is not None:
        resources.append(cached)
    tokens = estimated_tokens(body, media, aside)
    return TranslatedRequest(
        body=body,
        context=_answer_context(request, tools.names.changed, scrub),
        estimated_tokens=tokens,
        resources=tuple(resources),
        conversation=conversation_in(native.contents, native.system_instruction, tokens),
        signed=SIGNATURE_FIELD in text,
        stream=request.stream is True,
    )


def _refuse_instructions(request: ChatCompletionRequest, path: str) -> None:
    for index, message in enumerate(request.messages):
        if isinstance(message, SystemMessage | DeveloperMessage):
            raise InvalidRequest(
                f"messages[{index}]: instructions cannot be combined with {path};"
                " cache them with it.",
                param=f"messages[{index}]",
            )


def _answer_context(
    request: ChatCompletionRequest, tool_names: Mapping[str, str], scrub: Callable[[str], str]
) -> AnswerContext:
    options = request.stream_options
    return AnswerContext(
        model=request.model,
        choices=request.n or 1,
        tool_names=tool_names,
        legacy_functions=bool(request.functions),
        parallel_tool_calls=request.parallel_tool_calls is not False,
        include_usage=options is not None and options.include_usage is True,
        logprobs=request.logprobs is True,
        scrub=scrub,
    )
