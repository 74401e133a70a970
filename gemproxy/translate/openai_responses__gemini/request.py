"""Translate a request of the Responses API into Gemini's ``GenerateContentRequest``.

It is done once for a client's request; the result is sent with every key that is tried.
``docs/responses.md`` lists the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from gemproxy.api.openai.schema.responses import (
    INCLUDE_SOURCES,
    DecodedRequest,
    Item,
    ResponsesRequest,
)
from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import InvalidRequest
from gemproxy.providers.gemini.capabilities import ModelFamily, family_of
from gemproxy.providers.gemini.wire.requests import (
    Blob,
    Content,
    FileData,
    GenerateContentRequest,
    GenerationConfig,
    Part,
    encode_generate_content,
)
from gemproxy.translate.openai_responses__gemini.items import (
    PlacedItem,
    Replay,
    added_tools,
    call_ids,
    translate_items,
)
from gemproxy.translate.openai_responses__gemini.tools import (
    ClientTool,
    ResponsesTools,
    translate_tools,
)
from gemproxy.translate.shared.conversations import conversation_in, named_conversation
from gemproxy.translate.shared.counting import counting_body
from gemproxy.translate.shared.prompt_size import (
    CHARACTERS_PER_TOKEN,
    estimated_tokens,
    files_in,
    media_in,
)
from gemproxy.translate.shared.schema_budget import SchemaBudget
from gemproxy.translate.shared.signatures import SignatureStore
from gemproxy.translate.shared.structured import JSONOutput, json_instruction, set_json_mode
from gemproxy.translate.shared.thinking import ReasoningRequest, thinking_config
from gemproxy.translate.shared.translated import SIGNATURE_FIELD, TranslatedRequest
from gemproxy.translate.shared.usage import upstream_tier

_NO_CALLS: frozenset[str] = frozenset()
_NOTHING = GenerationConfig()


class AnswerContext(msgspec.Struct, frozen=True, gc=False):
    """What the translation of the answer needs to know of the request."""

    #: The upstream's name of the model.
    model: str
    #: The client's tools by their joined names.
    tools: Mapping[str, ClientTool]
    #: Names that had to be changed for Gemini: Gemini's name -> the joined name.
    tool_names: Mapping[str, str]
    #: The ids of calls that the request has already.
    call_ids: frozenset[str]
    #: ``parallel_tool_calls`` was not false.
    parallel_tool_calls: bool
    logprobs: bool
    #: Whether the sources of a search are listed with it.
    sources: bool
    #: Takes secrets out of what Google says.
    scrub: Callable[[str], str]


def to_gemini(
    decoded: DecodedRequest,
    items: Sequence[PlacedItem],
    *,
    model: str,
    signatures: SignatureStore,
    replace_signatures: bool = False,
    logprobs: bool = True,
    scrub: Callable[[str], str] = str,
    budget: SchemaBudget | None = None,
) -> TranslatedRequest[AnswerContext]:
    """The request for ``model``, the upstream's name without ``models/``.

    ``items`` are those of the input, with earlier ones before them; empty if the input is a text.
    ``replace_signatures`` replaces every thought signature by the documented dummy, for one more
    attempt after Google refused one; without ``logprobs`` none are asked for. ``scrub`` removes
    secrets from text that the answer may echo. ``budget`` bounds the work on schemas, and keeps
    their results for another translation. Raises :class:`InvalidRequest`, with ``param``, for what
    Gemini or this model cannot do.
    """
    if budget is None:
        budget = SchemaBudget()
    wants_logprobs = logprobs and decoded.request.logprobs
    prompt = _translate(
        decoded,
        items,
        model,
        signatures,
        budget,
        replace_signatures=replace_signatures,
        logprobs=wants_logprobs,
    )
    request, aside, native = decoded.request, decoded.aside, prompt.native
    media = prompt.media
    text = encode_generate_content(native)
    body = aside.restore(text) if aside.pieces else text
    context = AnswerContext(
        model=model,
        tools=prompt.tools.by_name,
        tool_names=prompt.tools.translated.names.changed,
        call_ids=call_ids(items) if items else _NO_CALLS,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        logprobs=wants_logprobs,
        sources=request.includes(INCLUDE_SOURCES),
        scrub=scrub,
    )
    tokens = estimated_tokens(body, media, aside) if media else len(body) // CHARACTERS_PER_TOKEN
    named = request.prompt_cache_key
    return TranslatedRequest(
        body=body,
        context=context,
        estimated_tokens=tokens,
        resources=files_in(media) if media else (),
        conversation=named_conversation(named)
        if named
        else conversation_in(native.contents, native.system_instruction, tokens),
        signed=bool(items) and SIGNATURE_FIELD in text,
        stream=request.stream is True,
    )


def to_count(
    decoded: DecodedRequest,
    items: Sequence[PlacedItem],
    *,
    model: str,
    signatures: SignatureStore,
    budget: SchemaBudget,
) -> tuple[bytes | BufferList, Sequence[str]]:
    """The body that counts the prompt's tokens, and the uploaded files that it names.

    Raises :class:`InvalidRequest` as :func:`to_gemini` does.
    """
    prompt = _translate(decoded, items, model, signatures, budget)
    body = counting_body(prompt.native, model, decoded.aside)
    return body, files_in(prompt.media) if prompt.media else ()


class _Prompt(msgspec.Struct, frozen=True, gc=False):
    native: GenerateContentRequest
    tools: ResponsesTools
    media: Sequence[Blob | FileData]


def _translate(
    decoded: DecodedRequest,
    items: Sequence[PlacedItem],
    model: str,
    signatures: SignatureStore,
    budget: SchemaBudget,
    replace_signatures: bool = False,
    *,
    logprobs: bool = False,
) -> _Prompt:
    request, aside = decoded.request, decoded.aside
    family = family_of(model)
    if family.speech_output:
        raise InvalidRequest(
            f"model: '{request.model[:80]}' speaks; use POST /v1/chat/completions.", param="model"
        )
    tools = translate_tools(request, added_tools(items), family, budget)
    has_tools = tools.translated.tools is not None
    wanted = _json_output(request)
    native = GenerateContentRequest(
        contents=[],
        tools=tools.translated.tools,
        tool_config=tools.translated.config,
        generation_config=_generation_config(
            request, family, wanted, budget, has_tools=has_tools, logprobs=logprobs
        ),
        service_tier=upstream_tier(request.service_tier),
    )
    names = tools.translated.names
    hints = (
        json_instruction(wanted, family, budget, has_tools=has_tools),
        tools.location if has_tools else None,
    )
    if items or not isinstance(request.input, str) or not family.system_instruction:
        if isinstance(request.input, str) and request.input:
            items = (*items, PlacedItem(_user(request.input), "input"))
        replay = Replay(model, family, names, signatures, replace_signatures, aside)
        conversation = translate_items(request.instructions, items, replay, hints)
        native.contents = conversation.contents
        native.system_instruction = conversation.system_instruction
        media = media_in(native.contents)
    else:
        _set_text(native, request.input, request.instructions, hints)
        media = []
    return _Prompt(native, tools, media)


def _user(text: str) -> Item:
    return Item(role="user", content=text)


def _set_text(
    native: GenerateContentRequest,
    text: str,
    instructions: str | None,
    hints: Sequence[str | None],
) -> None:
    """Set the turn and the instructions of an input that is a text, as many are."""
    system = [Part(text=instructions)] if instructions else []
    if text:
        native.contents = [Content(parts=[Part(text=text)], role="user")]
    elif system:
        # Gemini needs a turn: use the instruction as the question.
        native.contents = [Content(parts=system, role="user")]
        system = []
    else:
        raise InvalidRequest("input: no item has any content.", param="input")
    system += [Part(text=hint) for hint in hints if hint]
    if system:
        native.system_instruction = Content(parts=system)


def _json_output(request: ResponsesRequest) -> JSONOutput | None:
    wanted = request.text.format if request.text is not None else None
    if wanted is None or wanted.type == "text":
        return None
    schema = wanted.schema if wanted.type == "json_schema" else None
    return JSONOutput("text.format", "text.format.schema", schema)


def _generation_config(
    request: ResponsesRequest,
    family: ModelFamily,
    wanted: JSONOutput | None,
    budget: SchemaBudget,
    *,
    has_tools: bool,
    logprobs: bool,
) -> GenerationConfig | None:
    samples = not family.ignores_sampling
    config = GenerationConfig(
        temperature=request.temperature if samples else None,
        top_p=request.top_p if samples else None,
        max_output_tokens=request.max_output_tokens,
    )
    if request.reasoning is not None:
        config.thinking_config = thinking_config(_reasoning(request), family)
    if logprobs:
        config.response_logprobs = True
        config.logprobs = request.top_logprobs or None
    if wanted is not None:
        set_json_mode(config, wanted, family, budget, has_tools=has_tools)
    if family.image_output:
        config.response_modalities = ["TEXT", "IMAGE"]
    return None if config == _NOTHING else config


def _reasoning(request: ResponsesRequest) -> ReasoningRequest | None:
    wanted = request.reasoning
    if wanted is None:
        return None
    shows = (wanted.summary or wanted.generate_summary) is not None and wanted.effort != "none"
    if wanted.effort is None and not shows:
        return None
    return ReasoningRequest(effort=wanted.effort, include_thoughts=True if shows else None)
