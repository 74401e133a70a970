"""Responses of the native Gemini API: ``GenerateContentResponse`` and what may replace it.

The types follow ai.google.dev ``api/generate-content`` and are as lenient as real responses need:
proto3 JSON omits defaults, so every field may be missing; some gateways write ``null``;
enumerations may be numbers (``$alt=json;enum-encoding=int``, recording ``unary_finish_2``) or names
that are newer than this program; unused fields are skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain
from typing import Annotated, Any

import msgspec

from gemproxy.core.errors import MalformedUpstreamResponse
from gemproxy.media_bypass import MIN_BYTES, ExtractedMedia, extract

#: Candidates of one response or chunk; Google gives eight at most.
MAX_CANDIDATES = 64
#: Items of a list in one response: parts, sources. More are refused, since they take long to
#: translate.
MAX_ITEMS = 10_000

_SHORT = msgspec.Meta(max_length=MAX_ITEMS)
_NOTHING = msgspec.Raw(b"")
#: The value of :attr:`GenerateContentResponse.error` without an error; compare by identity.
NO_ERROR = msgspec.Raw(b"")


class Blob(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """Media that the model made; ``data`` is standard base64."""

    mime_type: str | None = None
    data: str | None = None


class PartialArg(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """A piece of one argument of a streamed call (Vertex AI only): ``$.location`` += ``"Bos"``."""

    json_path: str | None = None
    string_value: str | None = None
    number_value: float | int | None = None
    bool_value: bool | None = None


class FunctionCall(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """``args`` is the text of a JSON object, as received; empty if it is missing."""

    name: str | None = None
    id: str | None = None
    args: msgspec.Raw = _NOTHING
    partial_args: Annotated[list[PartialArg], _SHORT] | None = None
    will_continue: bool | None = None


class ExecutableCode(msgspec.Struct, frozen=True, gc=False):
    """Code that Google runs on its side."""

    language: str | int | None = None
    code: str | None = None


class CodeExecutionResult(msgspec.Struct, frozen=True, gc=False):
    """What that code printed."""

    outcome: str | int | None = None
    output: str | None = None


class AudioTranscription(msgspec.Struct, frozen=True, gc=False):
    """The transcript of audio, or of a part of it."""

    text: str | None = None


class Part(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """One piece of content: exactly one payload, and side fields."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    inline_data: Blob | None = None
    executable_code: ExecutableCode | None = None
    code_execution_result: CodeExecutionResult | None = None
    audio_transcription: AudioTranscription | None = None
    #: Not in the JSON: set if the part's kind is unknown here (:func:`with_unknown_kinds`).
    unknown_kind: bool = False

    @property
    def is_blank(self) -> bool:
        """Whether it has no known field; a thought counts as known."""
        return (
            self.text is None
            and self.function_call is None
            and self.inline_data is None
            and not self.thought
            and self.executable_code is None
            and self.code_execution_result is None
            and self.audio_transcription is None
        )


class Content(msgspec.Struct, frozen=True, gc=False):
    """``{}`` and ``{"role": "model"}`` are usual."""

    parts: Annotated[list[Part], _SHORT] | None = None


class Source(msgspec.Struct, frozen=True, gc=False):
    """A page or a place."""

    uri: str | None = None
    title: str | None = None


class RetrievedContext(Source, frozen=True, gc=False):
    """A document of a File Search store; it often has no address, and ``title`` is its name."""


class GroundingChunk(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """One source; exactly one of the fields is set."""

    web: Source | None = None
    maps: Source | None = None
    retrieved_context: RetrievedContext | None = None


class Segment(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """A range of a part's text, in UTF-8 bytes."""

    part_index: int | None = None
    start_index: int | None = None
    end_index: int | None = None


class GroundingSupport(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """The sources of a segment: indices into the chunks received so far."""

    segment: Segment | None = None
    grounding_chunk_indices: Annotated[list[int], msgspec.Meta(max_length=1000)] | None = None


class GroundingMetadata(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """In a stream each chunk brings new items."""

    grounding_chunks: Annotated[list[GroundingChunk], _SHORT] | None = None
    grounding_supports: Annotated[list[GroundingSupport], _SHORT] | None = None
    web_search_queries: Annotated[list[str], _SHORT] | None = None


class CitationSource(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """A range of the answer, in UTF-8 bytes, that repeats a published text."""

    start_index: int | None = None
    end_index: int | None = None
    uri: str | None = None
    title: str | None = None


class CitationMetadata(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """``citationSources`` on the Gemini API, ``citations`` on Vertex AI."""

    citation_sources: Annotated[list[CitationSource], _SHORT] | None = None
    citations: Annotated[list[CitationSource], _SHORT] | None = None


class TokenCandidate(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """One token and its log probability."""

    token: str | None = None
    log_probability: float | None = None


class TopCandidates(msgspec.Struct, frozen=True, gc=False):
    """The most likely tokens at one position."""

    candidates: list[TokenCandidate] | None = None


class LogprobsResult(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """Both lists have one item for each decoding step."""

    chosen_candidates: list[TokenCandidate] | None = None
    top_candidates: list[TopCandidates] | None = None


class Candidate(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """One of the answers; a missing ``index`` means 0."""

    content: Content | None = None
    finish_reason: str | int | None = None
    finish_message: str | None = None
    index: int | None = None
    grounding_metadata: GroundingMetadata | None = None
    citation_metadata: CitationMetadata | None = None
    logprobs_result: LogprobsResult | None = None
    continuation_token: str | None = None

    @property
    def finish(self) -> str | None:
        """The finish reason by its name."""
        reason = self.finish_reason
        return _FINISH_REASONS.get(reason, str(reason)) if isinstance(reason, int) else reason

    @property
    def parts(self) -> list[Part]:
        """The parts; empty without content."""
        return (self.content.parts or []) if self.content else []


class ModalityTokenCount(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """Tokens of one kind of content."""

    modality: str | int | None = None
    token_count: int | None = None


class UsageMetadata(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """Token counts; in a stream they are running totals, so the last ones are valid.

    ``promptTokenDetails`` and ``rawPromptTokenCount`` are newer names in some responses.
    """

    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    total_token_count: int | None = None
    prompt_tokens_details: list[ModalityTokenCount] | None = None
    candidates_tokens_details: list[ModalityTokenCount] | None = None
    service_tier: str | None = None
    raw_prompt_token_count: int | None = None
    prompt_token_details: list[ModalityTokenCount] | None = None

    @property
    def counts(self) -> bool:
        """Whether it has counts: Vertex AI sends only ``trafficType`` until the last chunk."""
        return (
            self.prompt_token_count is not None
            or self.total_token_count is not None
            or self.raw_prompt_token_count is not None
        )


class PromptFeedback(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """With a ``blockReason`` the prompt was refused; without one it has no meaning."""

    block_reason: str | int | None = None
    block_reason_message: str | None = None

    @property
    def block(self) -> str | None:
        """The name of the block reason; a message alone means a reason without a name."""
        reason = self.block_reason
        name = _BLOCK_REASONS.get(reason, str(reason)) if isinstance(reason, int) else reason
        return name or ("BLOCK_REASON_UNSPECIFIED" if self.block_reason_message else None)


class GenerateContentResponse(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """A unary response, one chunk of a stream, or an error in the place of one."""

    candidates: Annotated[list[Candidate], msgspec.Meta(max_length=MAX_CANDIDATES)] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: UsageMetadata | None = None
    response_id: str | None = None
    error: msgspec.Raw = NO_ERROR

    @property
    def block(self) -> str | None:
        """Why the prompt was blocked, by its name; ``None`` if it was not."""
        feedback = self.prompt_feedback
        return feedback.block if feedback is not None else None

    @property
    def is_error(self) -> bool:
        """Whether this is an error object."""
        return self.error is not NO_ERROR and bytes(self.error) != b"null"


class LargeGenerateContentResponse(GenerateContentResponse, frozen=True, kw_only=True):
    """A response whose images were taken out before decoding; it has placeholders for them."""

    #: As it came.
    body: bytes
    aside: ExtractedMedia


class CountTokensResponse(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """The response of ``countTokens``; a count of 0 is left out."""

    total_tokens: int = 0
    error: msgspec.Raw = NO_ERROR


def decode_count(body: bytes) -> CountTokensResponse:
    """Decode a count. Raises :exc:`MalformedUpstreamResponse` if ``body`` is none."""
    try:
        return _COUNT.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedUpstreamResponse(f"not a count of tokens: {error}") from error


def decode_answer(body: bytes) -> GenerateContentResponse:
    """Decode a unary body.

    An array of responses (``streamGenerateContent`` without ``alt=sse``) is merged into one. Raises
    :exc:`UnusableAnswer` if ``body`` is neither. Large images are not copied: the result refers to
    their bytes in ``body``, and :func:`with_media` puts them in.
    """
    if len(body) >= MIN_BYTES:
        rest, aside = extract(body)
        # Pieces of audio may have to be joined, which is impossible with placeholders.
        if aside.pieces and _SOUND not in rest:
            # If the rest is malformed, decoding the whole body gives the true place of the mistake.
            with suppress(MalformedUpstreamResponse):
                fields = msgspec.structs.asdict(decode_chunk(rest))
                fields["candidates"] = _candidates(fields["candidates"], rest)
                return LargeGenerateContentResponse(**fields, body=body, aside=aside)
    try:
        answer = decode_usual(body)
    except DECODE_ERRORS:
        answer = decode_chunk(body)
    return with_unknown_kinds(answer, body)


def with_media(answer: GenerateContentResponse) -> GenerateContentResponse:
    """Return the response with its media in place."""
    if not isinstance(answer, LargeGenerateContentResponse):
        return answer
    return with_unknown_kinds(decode_chunk(answer.body), answer.body)


def with_unknown_kinds(answer: GenerateContentResponse, body: bytes) -> GenerateContentResponse:
    """Return ``answer``, decoded from ``body``, with parts of unknown kinds marked.

    Google adds kinds now and then. Such a part decodes to nothing, as ``{}`` does, but a response
    with it is not empty. ``body`` is decoded again only if a part seems to be blank.
    """
    # On the hot path: the usual response is checked without a call.
    for candidate in answer.candidates or ():
        content = candidate.content
        for part in (content.parts or ()) if content is not None else ():
            if part.text is None and part.is_blank:
                candidates = _candidates(answer.candidates, body)
                return msgspec.structs.replace(answer, candidates=candidates)
    return answer


def _candidates(candidates: list[Candidate] | None, body: bytes) -> list[Candidate] | None:
    if candidates is None or not _has_blank_part(candidates):
        return candidates
    try:
        named = _NAMES.decode(body).candidates or []
    except (msgspec.DecodeError, RecursionError):
        return candidates  # an array of responses: each was checked on its own
    return [_marked(*pair) for pair in zip(candidates, named, strict=True)]


def _has_blank_part(candidates: list[Candidate]) -> bool:
    return any(part.is_blank for candidate in candidates for part in candidate.parts)


def _marked(candidate: Candidate, named: _NamedCandidate) -> Candidate:
    names = (named.content.parts or []) if named.content else []
    parts = [
        msgspec.structs.replace(part, unknown_kind=True)
        if part.is_blank and not _FIELDS_OF_PARTS.issuperset(fields)
        else part
        for part, fields in zip(candidate.parts, names, strict=True)
    ]
    return msgspec.structs.replace(candidate, content=Content(parts))


def decode_chunk(body: bytes) -> GenerateContentResponse:
    """Decode the payload of one event in the same way, with its media in place."""
    try:
        return _ANSWER.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        if not body.lstrip().startswith(b"["):
            raise MalformedUpstreamResponse(f"not an answer: {error}") from error
    try:
        answers = _ANSWERS.decode(body)
        return merge_answers(map(with_unknown_kinds, answers, map(bytes, _RAWS.decode(body))))
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedUpstreamResponse(f"not a list of answers: {error}") from error


def merge_answers(answers: Iterable[GenerateContentResponse]) -> GenerateContentResponse:
    """Merge chunks into one response."""
    merged = GenerateContentResponse()
    candidates: dict[int, list[Candidate]] = {}
    for answer in answers:
        for candidate in answer.candidates or []:
            candidates.setdefault(candidate.index or 0, []).append(candidate)
        usage = answer.usage_metadata
        merged = GenerateContentResponse(
            prompt_feedback=answer.prompt_feedback if answer.block else merged.prompt_feedback,
            usage_metadata=usage if usage and usage.counts else merged.usage_metadata,
            response_id=merged.response_id or answer.response_id,
            error=merged.error if merged.is_error else answer.error,
        )
    if len(candidates) > MAX_CANDIDATES:
        raise MalformedUpstreamResponse(f"more than {MAX_CANDIDATES} candidates")
    return msgspec.structs.replace(
        merged, candidates=[_merge_candidates(each) for each in candidates.values()]
    )


def _merge_candidates(pieces: list[Candidate]) -> Candidate:
    """Merge the pieces of one candidate, in order."""
    if len(pieces) == 1:
        return pieces[0]
    reasons = [each.finish_reason for each in pieces if each.finish_reason is not None]
    return Candidate(
        content=Content(list(chain.from_iterable(each.parts for each in pieces))),
        finish_reason=reasons[-1] if reasons else None,
        finish_message=_last(each.finish_message for each in pieces),
        index=pieces[0].index,
        grounding_metadata=_merge(GroundingMetadata, [each.grounding_metadata for each in pieces]),
        citation_metadata=_merge(CitationMetadata, [each.citation_metadata for each in pieces]),
        logprobs_result=_merge(LogprobsResult, [each.logprobs_result for each in pieces]),
        continuation_token=_last(each.continuation_token for each in pieces),
    )


def _last(words: Iterable[str | None]) -> str | None:
    """The last value that is not empty."""
    known = [word for word in words if word]
    return known[-1] if known else None


def _merge(kind: Callable[..., Any], pieces: list[Any]) -> Any:
    """Merge pieces into one object of ``kind``; its lists are concatenated."""
    present = [each for each in pieces if each is not None]
    if len(present) <= 1:
        return present[0] if present else None
    lists = zip(*map(msgspec.structs.astuple, present), strict=True)
    return kind(*(list(chain.from_iterable(each or [] for each in fields)) for fields in lists))


# Numbers of the enumerations in google/ai/generativelanguage/v1beta/generative_service.proto, as
# far as published. Any other number stays as digits and is treated as a new reason.
_FINISH_REASONS = dict(
    enumerate(
        (
            "FINISH_REASON_UNSPECIFIED",
            "STOP",
            "MAX_TOKENS",
            "SAFETY",
            "RECITATION",
            "OTHER",
            "LANGUAGE",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "MALFORMED_FUNCTION_CALL",
            "IMAGE_SAFETY",
            "UNEXPECTED_TOOL_CALL",
            "TOO_MANY_TOOL_CALLS",
        )
    )
)

_BLOCK_REASONS: dict[int, str | None] = {
    0: None,
    1: "SAFETY",
    2: "OTHER",
    3: "BLOCKLIST",
    4: "PROHIBITED_CONTENT",
    5: "IMAGE_SAFETY",
}


def finish_reason_of(reason: str | int) -> str:
    """The finish reason by its name."""
    return _FINISH_REASONS.get(reason, str(reason)) if isinstance(reason, int) else reason


class _NamedContent(msgspec.Struct, frozen=True, gc=False):
    #: The names of the fields of each part.
    parts: list[dict[str, msgspec.Raw]] | None = None


class _NamedCandidate(msgspec.Struct, frozen=True, gc=False):
    content: _NamedContent | None = None


class _NamedAnswer(msgspec.Struct, frozen=True, gc=False):
    candidates: list[_NamedCandidate] | None = None


#: Fields that a blank part may have without being of an unknown kind: side fields, and the steps of
#: Google's own tools. ai.google.dev api/generate-content, Part.
_FIELDS_OF_PARTS = frozenset(
    {
        "text",
        "thought",
        "thoughtSignature",
        "functionCall",
        "functionResponse",
        "inlineData",
        "executableCode",
        "codeExecutionResult",
        "audioTranscription",
        "toolCall",
        "toolResponse",
        "videoMetadata",
        "partMetadata",
        "mediaResolution",
    }
)
_SOUND = b'"audio/'
_NAMES = msgspec.json.Decoder(_NamedAnswer)
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_ANSWER = msgspec.json.Decoder(GenerateContentResponse)
_COUNT = msgspec.json.Decoder(CountTokensResponse)
_ANSWERS = msgspec.json.Decoder(Annotated[list[GenerateContentResponse], _SHORT])

#: The errors of :func:`decode_usual`.
DECODE_ERRORS = (msgspec.DecodeError, RecursionError)
#: The fast path of :func:`decode_chunk`, which the caller has to try if this fails. A call in
#: between would take a tenth of an event's time.
decode_usual = _ANSWER.decode
