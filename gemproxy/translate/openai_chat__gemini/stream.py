"""Translate a Gemini stream into a stream of chat completion chunks.

Text, thoughts and calls are sent at once. Finish reasons, sources and usage are sent at the end,
since any later chunk may change them. Each choice begins with a chunk that has the role, and ids
are sent once: the official SDKs concatenate all strings in the deltas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gemproxy.api.openai.schema.answers import (
    DONE,
    Audio,
    ChunkEncoder,
    Delta,
    Logprobs,
    ToolCall,
    annotated,
)
from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import (
    MalformedUpstreamResponse,
    ProxyError,
    StreamIncomplete,
    UnusableAnswer,
)
from gemproxy.providers.gemini.wire.answers import (
    MAX_CANDIDATES,
    Blob,
    Candidate,
    with_unknown_kinds,
)
from gemproxy.translate.openai_chat__gemini.choice import (
    ChoiceDelta,
    ChoiceReader,
    audio_id,
    completion_id,
    require_answer,
)
from gemproxy.translate.openai_chat__gemini.context import AnswerContext
from gemproxy.translate.shared.continuation import StreamedHops
from gemproxy.translate.shared.plain_answers import sole_text
from gemproxy.translate.shared.signatures import SignatureStore
from gemproxy.translate.shared.usage import service_tier

#: Plain texts that are collected before they are read together.
_MOST_TEXTS = 32


class ChatStreamTranslator(StreamedHops):
    """Converts the payloads of events to encoded events for the client.

    ``created`` is in epoch seconds; ``new_id`` returns new ids for calls; ``body`` is the
    request's, for further hops. Give each payload to :meth:`receive`. When the upstream's body has
    ended call :meth:`next_step` (then :meth:`resume`, and continue with the payloads of the next
    hop), check :attr:`empty`, and call :meth:`finish`. Until :attr:`started` nothing was returned,
    so another key may be tried.
    """

    def __init__(
        self,
        context: AnswerContext,
        *,
        created: int,
        new_id: Callable[[], str],
        signatures: SignatureStore,
        body: bytes | BufferList = b"",
    ) -> None:
        super().__init__(body)
        self._context = context
        self._created = created
        self._new_id = new_id
        self._signatures = signatures
        self._choices: dict[int, _StreamedChoice] = {}
        self._response_id: str | None = None
        self._encoder: ChunkEncoder | None = None
        self._completion_id = ""

    def receive(self, payload: bytes) -> bytes:
        """The chunks for one event of the upstream; empty if there is nothing to send.

        Raises :exc:`ErrorInAnswer` if the event is an error, and :exc:`UnusableAnswer` if it
        is not an answer at all or was cut off.
        """
        if payload == b"[DONE]":  # Not sent by Google, but by gateways with its dialect.
            return self.count_empty()
        answer = self.decode(payload)
        if self._response_id is None:
            self._response_id = answer.response_id
        candidates = answer.candidates
        if not candidates:
            return self.receive_feedback(answer)
        # Nearly every event ends here, so no further calls.
        text = sole_text(candidates)
        if text and self._encoder is not None:
            index = candidates[0].index or 0
            choice = self._choices.get(index)
            if choice is not None and choice.begun:
                texts = choice.texts
                texts.append(text)
                if len(texts) == _MOST_TEXTS:
                    choice.read_texts()
                return self._encoder.text(index, text)
        marked = with_unknown_kinds(answer, payload).candidates or ()
        chunks = b"".join(map(self._receive_candidate, marked))
        if not chunks:
            self.count_empty()
        return chunks

    def finish(self) -> bytes:
        """The last chunks, when the upstream's body has ended.

        Raises :exc:`StreamIncomplete` if a choice has no finish reason or there is no choice,
        :exc:`UnusableAnswer` if there is no content and nothing was returned before, and
        :exc:`UpstreamRejected` if Gemini reports that the request's history is at fault.
        """
        choices = sorted(self._choices.items())
        if not choices or any(choice.reader.ending is None for _, choice in choices):
            raise StreamIncomplete("The upstream ended its stream without a finish reason")
        held_back = [choice.reader.close() for _, choice in choices]
        fault = require_answer([choice.reader for _, choice in choices])
        if fault is not None and not self.started:
            raise UnusableAnswer(fault)
        chunks = []
        for (index, choice), calls in zip(choices, held_back, strict=True):
            chunks.append(self._give(index, choice, ChoiceDelta(calls=calls)))
            chunks.append(self._end(index, choice))
        if self._context.include_usage:
            chunks.append(self._chunks.usage(self.usage.to_openai()))
        return b"".join((*chunks, DONE))

    def resume(self, *, again: bool = False) -> None:
        """The next hop of this answer begins; ``again`` if an earlier attempt at it failed."""
        super().resume(again=again)
        for choice in self._choices.values():
            choice.reader.restart()

    def cut_off(self) -> None:
        """The next hop failed finally: end the answer here."""
        for choice in self._choices.values():
            choice.reader.cut_off()

    def failed(self, error: ProxyError) -> None:
        """The stream has no last events of its own for an error."""

    @property
    def started(self) -> bool:
        """Whether anything was returned for the client."""
        return self._encoder is not None

    def candidates(self) -> Iterator[ChoiceReader]:
        """See :class:`StreamedHops`."""
        return (choice.reader for choice in self._choices.values())

    @property
    def blocked(self) -> bool:
        """Whether the prompt or a candidate was blocked."""
        return any(choice.reader.is_blocked for choice in self._choices.values())

    @property
    def empty(self) -> bool:
        """Whether the model stopped without any text, call or media in any choice."""
        choices = self._choices.values()
        return bool(choices) and all(choice.reader.is_empty for choice in choices)

    @property
    def malformed(self) -> bool:
        """Whether the finish reason of a choice reports an error."""
        endings = (choice.reader.ending for choice in self._choices.values())
        return any(ending is not None and not ending.is_clean for ending in endings)

    @property
    def continuation(self) -> str | None:
        """The token that requests the next hop, if there is to be one."""
        tokens = (choice.reader.continuation for choice in self._choices.values())
        return next(filter(None, tokens), None)

    def block(self, reason: str, message: str | None) -> bytes:
        """See :meth:`StreamedHops.block`."""
        choice = self._choice_at(0)
        choice.reader.block(reason, message)
        return self._begin(0, choice)

    def _receive_candidate(self, candidate: Candidate) -> bytes:
        index = candidate.index or 0
        choice = self._choice_at(index)
        increment = choice.reader.read(candidate)
        if increment or choice.reader.is_blocked:
            return self._give(index, choice, increment)
        return b""

    def _give(self, index: int, choice: _StreamedChoice, increment: ChoiceDelta) -> bytes:
        """The chunks of ``increment``, preceded by the first chunk of the choice if needed."""
        begin = self._begin(index, choice)
        encode = self._chunks.delta
        chunks = [begin]
        if increment.thoughts:
            chunks.append(encode(index, Delta(reasoning_content=increment.thoughts)))
        if increment.logprobs:
            text = Delta(content=increment.text)
            chunks.append(encode(index, text, logprobs=Logprobs(increment.logprobs)))
        elif increment.text:
            chunks.append(self._chunks.text(index, increment.text))
        if increment.images:
            chunks.append(encode(index, Delta(images=increment.images)))
        chunks += (encode(index, self._audio(choice, blob)) for blob in increment.audio)
        chunks += (encode(index, self._call(call)) for call in increment.calls)
        return b"".join(chunks)

    def _end(self, index: int, choice: _StreamedChoice) -> bytes:
        chunks = []
        cited = annotated(choice.reader.citations(), streamed=True)
        if cited:
            chunks.append(self._chunks.delta(index, Delta(annotations=cited)))
        refusal = choice.reader.refusal
        if refusal is not None:
            chunks.append(self._chunks.delta(index, Delta(refusal=refusal)))
        reason = choice.reader.finish_reason
        chunks.append(self._chunks.delta(index, Delta(), finish_reason=reason))
        return b"".join(chunks)

    def _begin(self, index: int, choice: _StreamedChoice) -> bytes:
        """The first chunk of the choice, unless it was already returned.

        Choices begin in order, since the official SDKs use the position in their list as the index.
        """
        if choice.begun:
            return b""
        lower = range(min(index, self._context.choices))
        chunks = [self._begin(other, self._choice_at(other)) for other in lower]
        choice.begun = True
        chunks.append(self._chunks.delta(index, Delta(role="assistant", content="")))
        return b"".join(chunks)

    def _call(self, call: ToolCall) -> Delta:
        if self._context.legacy_functions:
            return Delta(function_call=call.function)
        return Delta(tool_calls=[call])

    def _audio(self, choice: _StreamedChoice, blob: Blob) -> Delta:
        data = blob.data or ""
        if choice.sounded:
            return Delta(audio=Audio(data))
        choice.sounded = True
        identity = audio_id(self._completion_id)
        return Delta(audio=Audio(data, identity, self._created, "", blob.mime_type or ""))

    def _choice_at(self, index: int) -> _StreamedChoice:
        choice = self._choices.get(index)
        if choice is None:
            if len(self._choices) == MAX_CANDIDATES:
                raise MalformedUpstreamResponse(f"more than {MAX_CANDIDATES} candidates")
            reader = ChoiceReader(self._context, self._new_id, self._signatures)
            choice = self._choices[index] = _StreamedChoice(reader)
        return choice

    @property
    def _chunks(self) -> ChunkEncoder:
        """The encoder of this stream, made for the first chunk."""
        if self._encoder is None:
            self._completion_id = completion_id(self._response_id, self._new_id)
            self._encoder = ChunkEncoder(
                self._completion_id,
                self._created,
                self._context.model,
                tier=service_tier(self.latest_usage),
                include_usage=self._context.include_usage,
            )
        return self._encoder


class _StreamedChoice:
    """A choice and what the client has received of it."""

    __slots__ = ("_reader", "begun", "sounded", "texts")

    def __init__(self, reader: ChoiceReader) -> None:
        self._reader = reader
        self.begun = False
        self.sounded = False
        #: Already returned; the reader has to read them before anything else.
        self.texts: list[str] = []

    @property
    def reader(self) -> ChoiceReader:
        """The state of the choice."""
        if self.texts:
            self.read_texts()
        return self._reader

    def read_texts(self) -> None:
        """Pass the collected texts to the reader."""
        self._reader.read_text("".join(self.texts))
        self.texts.clear()
