"""Translate a stream of Gemini's into the events of a message.

Text, thoughts and calls are sent at once, each in a block of its own; blocks come strictly one
after another. The stop reason, the sources of a web search and the counts are sent at the end,
since any later chunk may change them.

A thinking block stays open until it is known what follows it, because its last event is the
signature of that. If text follows, the thinking is closed unsigned, and the signature of a call
after the text goes into a second, empty thinking block before the call: text need not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from gemproxy.api.anthropic.schema import answers as schema
from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import (
    ProxyError,
    StreamIncomplete,
    UnusableAnswer,
)
from gemproxy.providers.gemini.wire.answers import (
    with_unknown_kinds,
)
from gemproxy.translate.anthropic_messages__gemini.answer import (
    citation,
    refusal,
    search_blocks,
    usage_block,
)
from gemproxy.translate.anthropic_messages__gemini.context import AnswerContext
from gemproxy.translate.anthropic_messages__gemini.reading import (
    MessageReader,
    Piece,
    Said,
    Thought,
    WebSearch,
)
from gemproxy.translate.shared.calls import AnsweredCall
from gemproxy.translate.shared.candidate import no_content
from gemproxy.translate.shared.continuation import StreamedHops
from gemproxy.translate.shared.plain_answers import sole_text
from gemproxy.translate.shared.signature_carrier import carry
from gemproxy.translate.shared.signatures import SignatureStore

_TEXT, _THINKING = "text", "thinking"


class MessageStreamTranslator(StreamedHops):
    """Converts the payloads of events to encoded events for the client.

    See :class:`gemproxy.api.base.StreamedAnswer`. ``new_id`` gives 24 hexadecimal digits; ``body``
    is the request's, for further hops.
    """

    def __init__(
        self,
        context: AnswerContext,
        *,
        new_id: Callable[[], str],
        signatures: SignatureStore,
        body: bytes | BufferList = b"",
    ) -> None:
        super().__init__(body)
        self._context = context
        self._new_id = new_id
        self._reader = MessageReader(context, new_id, signatures)
        #: The kind of the open block.
        self._open: str | None = None
        #: Index of the open block; if none is open, of the next.
        self._index = 0
        #: The texts of the open block, and the characters of the texts before it; only for the
        #: citations of a web search.
        self._texts: list[str] = []
        self._text_start = 0
        #: Whether anything was returned for the client.
        self.started = False

    def receive(self, payload: bytes) -> bytes:
        """The events for one event of the upstream; empty if there is nothing to send.

        Raises :exc:`ErrorInAnswer` if the event is an error, and :exc:`UnusableAnswer` if it
        is not an answer at all or was cut off.
        """
        if payload == b"[DONE]":  # Not sent by Google, but by gateways with its dialect.
            return self.count_empty()
        answer = self.decode(payload)
        candidates = answer.candidates
        if not candidates:
            return self.receive_feedback(answer)
        # Nearly every event ends here, so no further calls.
        if self._open is _TEXT and (text := sole_text(candidates)) and not candidates[0].index:
            reader = self._reader
            reader.has_content = True
            if self._context.searches:
                reader.read_text(text)
                self._texts.append(text)
            return schema.text_delta(self._index, text)
        pieces: list[Piece] = []
        for candidate in with_unknown_kinds(answer, payload).candidates or ():
            # A message has one candidate; the program asks for no more.
            if not candidate.index:
                pieces += self._reader.read(candidate)
        if not pieces and not self._reader.is_blocked:
            return self.count_empty()
        return self._give(pieces)

    def finish(self) -> bytes:
        """The last events, when the upstream's body has ended.

        Raises :exc:`StreamIncomplete` if there is no finish reason, :exc:`UnusableAnswer` if there
        is no content and nothing was returned before, and :exc:`UpstreamRejected` if Gemini reports
        that the request's history is at fault.
        """
        reader = self._reader
        if reader.ending is None:
            raise StreamIncomplete("The upstream ended its stream without a finish reason")
        held_back = reader.close()
        reader.reject()
        if not reader.is_answer and not self.started:
            raise UnusableAnswer(no_content(reader))
        events = [self._give(held_back)]
        search = reader.search
        if search is not None:
            events.append(self._cite())
        events.append(self._close())
        if search is not None:
            events.append(self._tell_search(search))
        delta = schema.MessageDelta(reader.stop_reason, stop_details=refusal(reader))
        events.append(schema.message_delta(delta, usage_block(self.usage, search)))
        events.append(schema.MESSAGE_STOP)
        return b"".join(events)

    def candidates(self) -> tuple[MessageReader]:
        """See :class:`StreamedHops`."""
        return (self._reader,)

    def resume(self, *, again: bool = False) -> None:
        """The next hop of this answer begins; ``again`` if an earlier attempt at it failed."""
        super().resume(again=again)
        self._reader.restart()

    def failed(self, error: ProxyError) -> None:
        """The stream has no last events of its own for an error."""

    def cut_off(self) -> None:
        """The next hop failed finally: end the answer here."""
        self._reader.cut_off()

    @property
    def blocked(self) -> bool:
        """Whether the prompt or the answer was blocked."""
        return self._reader.is_blocked

    @property
    def empty(self) -> bool:
        """Whether the model stopped without any content."""
        return self._reader.is_empty

    @property
    def malformed(self) -> bool:
        """Whether the finish reason reports an error."""
        ending = self._reader.ending
        return ending is not None and not ending.is_clean

    @property
    def continuation(self) -> str | None:
        """The token that requests the next hop, if there is to be one."""
        return self._reader.continuation

    def block(self, reason: str, message: str | None) -> bytes:
        """See :meth:`StreamedHops.block`."""
        self._reader.block(reason, message)
        return self._give(())

    # -- the blocks ------------------------------------------------------------------------------

    def _give(self, pieces: Sequence[Piece]) -> bytes:
        """The events for ``pieces``, preceded by the begin of the message if needed."""
        events = [self._begin()]
        for piece in pieces:
            if isinstance(piece, Said):
                events.append(self._say(piece))
            elif isinstance(piece, Thought):
                if self._open is not _THINKING:
                    events.append(self._begin_block(_THINKING, schema.Thinking("", "")))
                events.append(schema.thinking_delta(self._index, piece.text))
            else:
                events.append(self._call(piece))
        return b"".join(events)

    def _begin(self) -> bytes:
        if self.started:
            return b""
        self.started = True
        usage = usage_block(replace(self.usage, output=0, reasoning=0))
        return schema.message_start(
            schema.Message(
                id=f"msg_{self._new_id()}",
                model=self._context.model,
                content=[],
                stop_reason=None,
                usage=usage,
            )
        )

    def _say(self, piece: Said) -> bytes:
        events = b""
        if self._open is not _TEXT:
            signed = self._sign(piece.signature)
            events = signed + self._begin_block(_TEXT, schema.Text(""))
        if self._context.searches:
            self._texts.append(piece.text)
        return events + schema.text_delta(self._index, piece.text)

    def _call(self, call: AnsweredCall) -> bytes:
        events = []
        if call.signature and self._context.thinks:
            if self._open is not _THINKING:
                events.append(self._begin_block(_THINKING, schema.Thinking("", "")))
            events.append(self._sign(call.signature))
        block = schema.ToolUse(call.id, call.name, schema.NO_INPUT)
        events.append(self._begin_block("tool_use", block))
        events.append(schema.input_json_delta(self._index, call.arguments))
        events.append(self._close())
        return b"".join(events)

    def _sign(self, signature: str | None) -> bytes:
        """The signature of the open block, if that is thinking."""
        if not signature or self._open is not _THINKING:
            return b""
        carrier = carry(signature, self._context.upstream_model)
        return schema.signature_delta(self._index, carrier)

    def _begin_block(self, kind: str, block: schema.Block) -> bytes:
        closed = self._close()
        self._open = kind
        return closed + schema.block_start(self._index, block)

    def _close(self) -> bytes:
        """End the open block, if there is one."""
        if self._open is None:
            return b""
        if self._texts:
            self._text_start += sum(map(len, self._texts))
            self._texts.clear()
        self._open = None
        self._index += 1
        return schema.block_stop(self._index - 1)

    # -- the web search, of which Gemini tells at the end ---------------------------------------

    def _cite(self) -> bytes:
        """The citations of the open text. Those of earlier texts cannot be sent any more."""
        if self._open is not _TEXT:
            return b""
        text = "".join(self._texts)
        found = [citation(each, text, self._text_start) for each in self._reader.cited_pages()]
        return b"".join(
            schema.citations_delta(self._index, each) for each in found if each is not None
        )

    def _tell_search(self, search: WebSearch) -> bytes:
        blocks = search_blocks(search, self._new_id)
        return b"".join(self._begin_block("search", block) + self._close() for block in blocks)
