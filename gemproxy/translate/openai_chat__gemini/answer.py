"""Translate a unary Gemini answer into a chat completion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from gemproxy.api.openai.schema.answers import (
    Audio,
    ChatCompletion,
    Choice,
    Logprobs,
    Message,
    annotated,
    encode_completion,
)
from gemproxy.core.errors import MalformedUpstreamResponse, UnusableAnswer
from gemproxy.media_bypass import NOTHING
from gemproxy.providers.gemini.wire.answers import (
    Candidate,
    GenerateContentResponse,
    LargeGenerateContentResponse,
    with_media,
)
from gemproxy.translate.openai_chat__gemini.choice import (
    ChoiceDelta,
    ChoiceReader,
    audio_id,
    completion_id,
    require_answer,
)
from gemproxy.translate.openai_chat__gemini.context import AnswerContext
from gemproxy.translate.openai_chat__gemini.rendering import joined_audio
from gemproxy.translate.shared.continuation import HopReader, usage_of, with_content
from gemproxy.translate.shared.plain_answers import PlainAnswer, plain_answer
from gemproxy.translate.shared.signatures import SignatureStore
from gemproxy.translate.shared.translated import TranslatedRequest
from gemproxy.translate.shared.usage import TokenUsage, service_tier

_BLOCKED, _EMPTY = attrgetter("is_blocked"), attrgetter("is_empty")
_RESPONSE_ID = attrgetter("response_id")


class CompletedAnswer(msgspec.Struct, frozen=True, gc=False):
    """An encoded chat completion, with what the rest of the program needs to know of it."""

    #: The JSON of a ``chat.completion``.
    body: bytes
    usage: TokenUsage
    #: The prompt or a candidate was blocked.
    blocked: bool
    #: No choice has text, a call or media although the model stopped normally: worth a retry.
    empty: bool
    #: Of the first choice.
    finish_reason: str
    #: Gemini's own id of the answer.
    response_id: str | None


class WholeChat(HopReader):
    """Reads the hops of one answer and makes a chat completion from them.

    See :class:`gemproxy.api.base.WholeAnswer`. ``created`` is in epoch seconds, ``new_id`` returns
    new ids for calls.
    """

    def __init__(
        self,
        translated: TranslatedRequest[AnswerContext],
        created: int,
        new_id: Callable[[], str],
        signatures: SignatureStore,
    ) -> None:
        # By name: super() costs as much as two further calls.
        HopReader.__init__(self, translated.body)
        self._context = translated.context
        self._created = created
        self._new_id = new_id
        self._signatures = signatures

    def encode(self) -> CompletedAnswer:
        """Encode the chat completion and drop the hops. Thread-safe."""
        completed = to_openai(
            self.hops,
            self._context,
            created=self._created,
            new_id=self._new_id,
            signatures=self._signatures,
        )
        self.hops.clear()
        return completed


def to_openai(
    answers: Sequence[GenerateContentResponse],
    context: AnswerContext,
    *,
    created: int,
    new_id: Callable[[], str],
    signatures: SignatureStore,
) -> CompletedAnswer:
    """Translate the hops of one answer: usually one, several if it was continued.

    ``created`` is in epoch seconds. Raises :exc:`UnusableAnswer` if there is no answer, and
    :exc:`UpstreamRejected` if Gemini reports in a 200 that the request's history is at fault.
    """
    if len(answers) == 1:
        answer = answers[0]
        if not context.logprobs and (plain := plain_answer(answer)) is not None:
            return _completed_text(answer, plain, context, created, new_id)
        if isinstance(answer, LargeGenerateContentResponse):
            completed = _translated(answers, context, created, new_id, signatures)
            # Other text of the answer may contain a placeholder, so check the encoded body.
            if answer.aside.all_in_data_urls(completed.body):
                return replace(completed, body=bytes(answer.aside.restore(completed.body)))
    return _translated(list(map(with_media, answers)), context, created, new_id, signatures)


def _completed_text(
    answer: GenerateContentResponse,
    plain: PlainAnswer,
    context: AnswerContext,
    created: int,
    new_id: Callable[[], str],
) -> CompletedAnswer:
    """The result of :func:`_translated` for a plain answer, made in one step."""
    text, finish_reason = plain
    usage = TokenUsage.from_gemini(answer.usage_metadata)
    completion = ChatCompletion(
        id=completion_id(answer.response_id, new_id),
        created=created,
        model=context.model,
        choices=[Choice(0, Message(content=text, refusal=None), None, finish_reason)],
        usage=usage.to_openai(),
        service_tier=service_tier(answer.usage_metadata) or UNSET,
    )
    return CompletedAnswer(
        body=encode_completion(completion),
        usage=usage,
        blocked=False,
        empty=False,
        finish_reason=finish_reason,
        response_id=answer.response_id or None,
    )


def _translated(
    answers: Sequence[GenerateContentResponse],
    context: AnswerContext,
    created: int,
    new_id: Callable[[], str],
    signatures: SignatureStore,
) -> CompletedAnswer:
    choices: dict[int, _Choice] = {}
    first = answers[0] if answers else None
    aside = first.aside if isinstance(first, LargeGenerateContentResponse) else NOTHING

    def choice_at(index: int) -> _Choice:
        choice = choices.get(index)
        if choice is None:
            choice = choices[index] = _Choice(ChoiceReader(context, new_id, signatures, aside))
        return choice

    for answer in answers:
        if answer.is_error:
            raise UnusableAnswer("an error object in place of an answer")
        for choice in choices.values():
            choice.reader.restart()
        for candidate in answer.candidates or []:
            choice_at(candidate.index or 0).add(candidate)
        if not answer.candidates and answer.block and answer.prompt_feedback:
            message = answer.prompt_feedback.block_reason_message
            choice_at(0).reader.block(answer.block, message)
    ordered = sorted(choices.items())
    return _completed(answers, context, created, new_id, ordered)


class _Choice:
    """Collects one choice."""

    __slots__ = ("_gathered", "reader")

    def __init__(self, reader: ChoiceReader) -> None:
        self.reader = reader
        self._gathered = ChoiceDelta()

    def add(self, candidate: Candidate) -> None:
        increment = self.reader.read(candidate)
        if self._gathered:
            self._gathered.add(increment)
        else:
            self._gathered = increment

    def close(self) -> None:
        self._gathered.calls += self.reader.close()

    def build(self, index: int, completion: str, created: int, *, legacy: bool) -> Choice:
        reader, gathered = self.reader, self._gathered
        refusal = reader.refusal
        calls = gathered.calls
        message = Message(
            content=None if not gathered.text and (calls or refusal) else gathered.text,
            refusal=refusal,
            reasoning_content=gathered.thoughts or UNSET,
            tool_calls=[replace(call, index=UNSET) for call in calls]
            if calls and not legacy
            else UNSET,
            function_call=calls[0].function if calls and legacy else UNSET,
            images=gathered.images or UNSET,
            audio=self._build_audio(completion, created),
            annotations=annotated(reader.citations(), streamed=False) or UNSET,
        )
        logprobs = Logprobs(gathered.logprobs) if gathered.logprobs else None
        return Choice(index, message, logprobs, reader.finish_reason)

    def _build_audio(self, completion: str, created: int) -> Audio | UnsetType:
        audio = self._gathered.audio
        if not audio:
            return UNSET
        return Audio(
            data=joined_audio(audio),
            id=audio_id(completion),
            expires_at=created,
            transcript="",
            mime_type=audio[0].mime_type or "",
        )


def _completed(
    answers: Sequence[GenerateContentResponse],
    context: AnswerContext,
    created: int,
    new_id: Callable[[], str],
    choices: list[tuple[int, _Choice]],
) -> CompletedAnswer:
    for _, choice in choices:
        choice.close()
    readers = [choice.reader for _, choice in choices]
    if (fault := require_answer(readers)) is not None:
        raise (UnusableAnswer if choices else MalformedUpstreamResponse)(fault, usage_of(answers))
    response_id = next(filter(None, map(_RESPONSE_ID, answers)), None)
    identity = completion_id(response_id, new_id)
    usage = with_content(usage_of(answers), readers)
    legacy = context.legacy_functions
    completion = ChatCompletion(
        id=identity,
        created=created,
        model=context.model,
        choices=[
            choice.build(index, identity, created, legacy=legacy) for index, choice in choices
        ],
        usage=usage.to_openai(),
        service_tier=service_tier(answers[-1].usage_metadata) or UNSET,
    )
    return CompletedAnswer(
        body=encode_completion(completion),
        usage=usage,
        blocked=any(map(_BLOCKED, readers)),
        empty=all(map(_EMPTY, readers)),
        finish_reason=completion.choices[0].finish_reason,
        response_id=response_id,
    )
