"""Translate a Gemini stream into the events of a streamed response.

``response.created`` and ``response.in_progress`` are sent with the first event that has content,
because another key may be tried until then. The last event is ``response.completed``,
``response.incomplete`` or, if the stream breaks, ``response.failed``.

Theory of operation. An :class:`OutputReader` turns Gemini's parts into output items and writes
their events to an :class:`EventWriter`, which numbers and encodes them. Most events of a stream are
one plain text within an open message. These are sent at once. The reader gets such texts later,
several together and before any other part, because the last events repeat the whole items. A
reasoning item stays open until the next part is known, because it carries that part's signature.
The reader outlives a hop of a long answer: the next hop continues the same response.
"""

from __future__ import annotations

from gemproxy.api.openai.schema.response_objects import ResponseFrame, encode_echo
from gemproxy.api.openai.schema.responses import RawRequest, ResponsesRequest
from gemproxy.core.errors import (
    ProxyError,
    StreamIncomplete,
    UnusableAnswer,
)
from gemproxy.providers.gemini.wire.answers import (
    Candidate,
    GenerateContentResponse,
    with_unknown_kinds,
)
from gemproxy.translate.openai_responses__gemini.events import EventWriter
from gemproxy.translate.openai_responses__gemini.output import OutputReader
from gemproxy.translate.openai_responses__gemini.response import (
    ResponseParts,
    require_answer,
    response_error,
)
from gemproxy.translate.shared.continuation import StreamedHops
from gemproxy.translate.shared.plain_answers import sole_text
from gemproxy.translate.shared.usage import service_tier

#: Plain texts that are collected before they are read together.
_MOST_TEXTS = 32


class ResponseStream(StreamedHops):
    """Converts payloads to events; see :class:`gemproxy.api.base.StreamedAnswer`."""

    def __init__(self, parts: ResponseParts) -> None:
        super().__init__(parts.translated.body)
        self._parts = parts
        self._events = EventWriter()
        self._texts: list[str] = []  # sent, but not yet read by the reader
        self._output: OutputReader | None = None
        #: Whether anything was returned for the client.
        self.started = False

    def receive(self, payload: bytes) -> bytes:
        """See :meth:`gemproxy.api.base.StreamedAnswer.receive`."""
        if payload == b"[DONE]":  # Not sent by Google, but by gateways with its dialect.
            return self.count_empty()
        answer = self.decode(payload)
        candidates = answer.candidates
        if not candidates:
            return self.receive_feedback(answer)
        # Nearly every event ends here, so no further calls.
        output = self._output
        if output is not None and output.in_text:
            text = sole_text(candidates)
            if text:
                texts = self._texts
                texts.append(text)
                if len(texts) == _MOST_TEXTS:
                    self._read_texts()
                return self._events.text_event(text)
        return self._receive_candidate(answer, payload)

    def finish(self) -> bytes:
        """See :meth:`gemproxy.api.base.StreamedAnswer.finish`."""
        reader = self._reader
        if reader is None or reader.ending is None:
            raise StreamIncomplete("The upstream ended its stream without a finish reason")
        reader.close_calls()
        fault = require_answer(reader)
        if fault is not None and not self.started:
            raise UnusableAnswer(fault)
        begin = self._begin()
        reader.finish()
        tier = service_tier(self.latest_usage)
        reason = reader.incomplete_reason
        body = self._parts.complete(reader.encode(), reason, self.usage, tier)
        kind = b"response.completed" if reason is None else b"response.incomplete"
        self._events.write_encoded(kind, b'"response":%b' % body)
        return begin + self._events.take()

    def failed(self, error: ProxyError) -> bytes:
        """See :meth:`gemproxy.api.base.StreamedAnswer.failed`."""
        begin = self._begin()
        output = b"[]" if self._output is None else self._output.encode()
        body = self._parts.frame.encode("failed", output, error=response_error(error))
        self._events.write_encoded(b"response.failed", b'"response":%b' % body)
        return begin + self._events.take()

    def resume(self, *, again: bool = False) -> None:
        """See :meth:`gemproxy.api.base.StreamedAnswer.resume`."""
        super().resume(again=again)
        if (reader := self._reader) is not None:
            reader.restart()

    def cut_off(self) -> None:
        """See :meth:`gemproxy.api.base.StreamedAnswer.cut_off`."""
        if (reader := self._reader) is not None:
            reader.cut_off()

    @property
    def blocked(self) -> bool:
        """Whether the prompt or the answer was blocked."""
        reader = self._reader
        return reader is not None and reader.is_blocked

    @property
    def empty(self) -> bool:
        """Whether the model stopped without any text, call or media."""
        reader = self._reader
        return reader is not None and reader.is_empty

    @property
    def malformed(self) -> bool:
        """Whether the finish reason reports an error."""
        ending = self._output.ending if self._output is not None else None
        return ending is not None and not ending.is_clean

    def candidates(self) -> tuple[OutputReader, ...]:
        """See :class:`StreamedHops`."""
        return () if self._output is None else (self._output,)

    @property
    def continuation(self) -> str | None:
        """The token that requests the next hop, if there is to be one."""
        return self._output.continuation if self._output is not None else None

    @property
    def _reader(self) -> OutputReader | None:
        """The reader, which has read all texts."""
        if self._texts:
            self._read_texts()
        return self._output

    def _read_texts(self) -> None:
        if self._output is not None:
            self._output.read_text("".join(self._texts))
        self._texts.clear()

    def _receive_candidate(self, answer: GenerateContentResponse, payload: bytes) -> bytes:
        reader = self._reader or self._begin_output()
        marked = with_unknown_kinds(answer, payload).candidates or ()
        first = next((each for each in marked if not each.index), None)
        if first is None:
            return self.count_empty()
        # The first two events are held back until there is another one.
        begin = b"" if _shows_nothing(first) else self._begin()
        reader.read(first)
        if reader.is_blocked:
            begin += self._begin()
        return begin + self._events.take() or self.count_empty()

    def block(self, reason: str, message: str | None) -> bytes:
        """See :meth:`StreamedHops.block`."""
        reader = self._reader or self._begin_output()
        reader.block(reason, message)
        return self._begin()

    def _begin_output(self) -> OutputReader:
        parts = self._parts
        self._output = OutputReader(
            parts.translated.context, parts.base, parts.new_id, parts.signatures, self._events
        )
        return self._output

    def _begin(self) -> bytes:
        """The first two events, unless they were returned before."""
        if self.started:
            return b""
        self.started = True
        fields = b'"response":%b' % self._parts.frame.encode("in_progress")
        self._events.write_encoded(b"response.created", fields)
        self._events.write_encoded(b"response.in_progress", fields)
        return self._events.take()


def failed_stream(error: ProxyError, request_id: str) -> bytes:
    """All events of a stream that failed before its response was begun.

    Clients expect ``response.created`` first, though nothing is known of the response.
    """
    echo = encode_echo(ResponsesRequest(model=""), RawRequest(), store=False)
    frame = ResponseFrame(f"resp_{request_id}", 0, echo)
    events = EventWriter()
    begun = b'"response":%b' % frame.encode("in_progress")
    events.write_encoded(b"response.created", begun)
    events.write_encoded(b"response.in_progress", begun)
    failed = frame.encode("failed", error=response_error(error))
    events.write_encoded(b"response.failed", b'"response":%b' % failed)
    return events.take()


def _shows_nothing(candidate: Candidate) -> bool:
    """Whether no event can follow from the candidate alone."""
    return all(
        not part.text
        and part.function_call is None
        and part.inline_data is None
        and part.executable_code is None
        and part.audio_transcription is None
        for part in candidate.parts
    )
