"""Read the parts of a candidate in their order, and decide what becomes which output item.

Theory of operation. Thoughts become a reasoning item, text a message, a call an item of its own;
one item is open at a time. A thought signature belongs to the reasoning item *before* the call or
the text that it came with, because clients send items back in their order. It is known only with
that part, so a reasoning item stays open until the next part that is no thought. A call with a
signature and no thoughts before it gets a reasoning item without a summary; a text does not, since
Gemini can do without its signature. An ``ItemWriter`` makes the items and their events.

A whole answer is read in the same way, without events. Then a signature that came late in a text is
still added to the reasoning item before it, and a search stands before the message; in a stream it
follows the message, because Gemini tells of it only at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from gemproxy.api.openai.schema.answers import TokenLogprob
from gemproxy.api.openai.schema.response_objects import (
    Annotation,
    FileAnnotation,
    MessageItem,
    OutputItem,
    OutputText,
    ReasoningItem,
    SearchAction,
    SearchSource,
    URLAnnotation,
    WebSearchItem,
)
from gemproxy.media_bypass import NOTHING, ExtractedMedia
from gemproxy.providers.gemini.wire.answers import (
    Blob,
    Candidate,
    CodeExecutionResult,
    ExecutableCode,
    GroundingMetadata,
    Part,
)
from gemproxy.translate.openai_responses__gemini.events import EventWriter
from gemproxy.translate.openai_responses__gemini.item_writer import (
    COMPLETED,
    ItemWriter,
    OpenCode,
    OpenMessage,
    OpenReasoning,
)
from gemproxy.translate.openai_responses__gemini.request import AnswerContext
from gemproxy.translate.shared.calls import AnsweredCall, CallReader
from gemproxy.translate.shared.candidate import CandidateState
from gemproxy.translate.shared.citations import Citations, CitedFile, CitedPage
from gemproxy.translate.shared.logprobs import token_logprobs
from gemproxy.translate.shared.model_images import remember_image
from gemproxy.translate.shared.signature_carrier import carry_encoded
from gemproxy.translate.shared.signatures import SignatureStore

_INCOMPLETE: Final = "incomplete"
#: Reasons of ``incomplete_details``, by chat's finish reasons.
_REASONS: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
_MOST_SOURCES: Final = 1000


class OutputReader(CandidateState):
    """Reads the one candidate of an answer.

    ``base`` is the response's id without its prefix; the ids of items consist of it and of their
    place. ``events`` gets the events of a stream; without it a whole answer is read. ``new_id``
    returns new ids for calls.
    """

    __slots__ = (
        "_aside",
        "_calls",
        "_carrier",
        "_characters",
        "_citations",
        "_code",
        "_context",
        "_message",
        "_messages",
        "_queries",
        "_reasoning",
        "_signatures",
        "_sources",
        "_writer",
    )

    def __init__(
        self,
        context: AnswerContext,
        base: str,
        new_id: Callable[[], str],
        signatures: SignatureStore,
        events: EventWriter | None = None,
        aside: ExtractedMedia = NOTHING,
    ) -> None:
        super().__init__()
        self._context = context
        self._writer = ItemWriter(base, events)
        self._signatures = signatures
        self._aside = aside
        self._calls = CallReader(
            context.tool_names,
            context.scrub,
            new_id,
            signatures,
            single=not context.parallel_tool_calls,
            taken=context.call_ids,
        )
        self._citations = Citations()
        self._message: OpenMessage | None = None
        self._reasoning: OpenReasoning | None = None
        self._code: OpenCode | None = None
        #: The place of the reasoning item before the open message, while it has no signature.
        self._carrier: int | None = None
        #: The start of each message in the content, and its place.
        self._messages: list[tuple[int, int]] = []
        self._characters = 0
        self._queries: list[str] = []
        self._sources: list[str] = []

    # -- reading ---------------------------------------------------------------------------------

    def read(self, candidate: Candidate) -> None:
        """Read a whole candidate, or that of a chunk."""
        logprobs = token_logprobs(candidate.logprobs_result) if self._context.logprobs else []
        for place, part in enumerate(candidate.parts):
            self._read_part(part, logprobs, continues=place == 0)
            if part.text and not part.thought:
                logprobs = []
        if logprobs and self._message is not None:
            self._message.logprobs += logprobs
        self._citations.read(candidate)
        if candidate.grounding_metadata is not None:
            self._note_search(candidate.grounding_metadata)
        self.note_finish(candidate)

    def read_text(self, text: str) -> None:
        """Read chunks whose events were sent already; ``text`` is their joined text."""
        if self._message is not None:
            self._message.texts.append(text)
        self._characters += len(text)
        self._citations.text(text, continues=True)

    @property
    def in_text(self) -> bool:
        """Whether the next text continues the open message."""
        return self._message is not None

    def restart(self) -> None:
        """See :meth:`CandidateState.restart`."""
        super().restart()
        self._calls.drop_incomplete()
        self._citations.restart()

    def cut_off(self) -> None:
        """See :meth:`CandidateState.cut_off`."""
        super().cut_off()
        self._calls.drop_incomplete()

    def close_calls(self) -> None:
        """Add the call that was held back, if there is one. Nothing is read after this."""
        for call in self._calls.close():
            self._add_call(call)

    def finish(self) -> None:
        """Complete the last item, and add what is known only at the end."""
        self._end_code(None)
        status = COMPLETED if self.incomplete_reason is None else _INCOMPLETE
        refusal = self._refusal
        if not self.has_content and refusal is not None:
            self._end_reasoning(None)
            self._writer.refuse(refusal, status)
            return
        self._annotate(status)
        self._end_reasoning(None)

    @property
    def incomplete_reason(self) -> str | None:
        """The reason of ``incomplete_details``; ``None`` for a complete response."""
        ending = self.ending
        return None if ending is None else _REASONS.get(ending.finish_reason(calls=False))

    def encode(self) -> bytes:
        """The text of the list of all items."""
        return self._writer.encode()

    @property
    def _refusal(self) -> str | None:
        refusal = self.ending.refusal() if self.ending else None
        return self._context.scrub(refusal) if refusal else refusal

    def _read_part(self, part: Part, logprobs: list[TokenLogprob], *, continues: bool) -> None:
        signature = part.thought_signature
        if self._code is not None and part.code_execution_result is None:
            self._end_code(None)
        if part.function_call is not None:
            for call in self._calls.read(part.function_call, signature):
                self._add_call(call)
            self._citations.other_part()
        elif part.thought:
            self._add_thought(part.text or "", signature)
            self._citations.other_part(continues=continues)
        elif part.text is not None:
            self._add_text(part.text, signature, logprobs)
            self._citations.text(part.text, continues=continues)
        else:
            self._read_rare_part(part)

    def _read_rare_part(self, part: Part) -> None:
        shown = ""
        blob = part.inline_data
        if part.executable_code is not None:
            self._begin_code(part.executable_code)
        elif part.code_execution_result is not None:
            self._end_code(part.code_execution_result)
        elif part.audio_transcription is not None:
            shown = part.audio_transcription.text or ""
            self._add_text(shown, None, [])
        elif blob is not None and (blob.mime_type or "").startswith("image/"):
            self._add_image(blob, part.thought_signature)
        elif part.unknown_kind or (blob is not None and blob.data):
            # Nothing for the client, but the model has answered.
            self.has_content = True
        self._citations.other_part(shown)

    def _note_search(self, grounding: GroundingMetadata) -> None:
        self._queries += grounding.web_search_queries or []
        if self._context.sources and len(self._sources) < _MOST_SOURCES:
            pages = [chunk.web or chunk.maps for chunk in grounding.grounding_chunks or []]
            self._sources += [page.uri for page in pages if page is not None and page.uri]

    # -- thoughts --------------------------------------------------------------------------------

    def _add_thought(self, text: str, signature: str | None) -> None:
        reasoning = self._reasoning
        if reasoning is None:
            if not text:
                return
            self._end_message(COMPLETED)
            reasoning = self._begin_reasoning()
        if signature:
            reasoning.signature = signature
        if text:
            self._writer.add_thought(reasoning, text)

    def _begin_reasoning(self) -> OpenReasoning:
        reasoning = self._reasoning = self._writer.begin_reasoning()
        return reasoning

    def _end_reasoning(self, signature: str | None) -> None:
        """Complete the open reasoning item; what follows it came with ``signature``."""
        reasoning, self._reasoning = self._reasoning, None
        if reasoning is None:
            return
        carried = self._carried(signature or reasoning.signature)
        if carried is UNSET:
            self._carrier = reasoning.index
        self._writer.end_reasoning(reasoning, carried)

    def _carried(self, signature: str | None) -> str | msgspec.UnsetType:
        if not signature or self._context.scrub(signature) != signature:
            return UNSET
        return carry_encoded(signature, self._context.model)

    # -- text ------------------------------------------------------------------------------------

    def _add_text(self, text: str, signature: str | None, logprobs: list[TokenLogprob]) -> None:
        if not text:
            self._add_late_signature(signature)
            return
        self.has_content = True
        self._end_reasoning(signature)
        message = self._message
        if message is None:
            message = self._begin_message()
        if signature and message.texts:
            self._add_late_signature(signature)
        self._writer.add_text(message, text, logprobs)
        self._characters += len(text)

    def _add_late_signature(self, signature: str | None) -> None:
        """Add the signature of a text to the reasoning item before it, if there is one.

        In a stream that item was sent already, and the signature of a text may be lost.
        """
        if not signature:
            return
        if self._reasoning is not None:
            self._reasoning.signature = signature
        elif self._carrier is not None and not self._writer.is_streamed:
            item = self._writer.items[self._carrier]
            if isinstance(item, ReasoningItem):
                carried = self._carried(signature)
                self._writer.items[self._carrier] = replace(item, encrypted_content=carried)

    def _begin_message(self) -> OpenMessage:
        index = len(self._writer.items)
        if self._carrier is not None and self._carrier != index - 1:
            self._carrier = None
        message = self._message = self._writer.begin_message(self._characters)
        self._messages.append((self._characters, index))
        return message

    def _end_message(self, status: str, annotations: list[Annotation] | None = None) -> None:
        message, self._message = self._message, None
        if message is not None:
            self._writer.end_message(message, status, annotations)
            self._carrier = None

    # -- sources ---------------------------------------------------------------------------------

    def _annotate(self, status: str) -> None:
        """End the last message with its sources, and add the search.

        Offsets count from the start of the message that they belong to. In a stream the messages
        before the last one were sent without theirs.
        """
        search = self._search()
        cited = self._citations.resolve()
        message = self._message
        last = [] if message is None else _annotations(cited, message.start, self._characters)
        self._end_message(status, last)
        if self._writer.is_streamed:
            if search is not None:
                self._writer.search(search)
            return
        items = self._writer.items
        if cited:
            self._annotate_earlier(items, cited)
        if search is not None:
            items.insert(self._messages[0][1] if self._messages else len(items), search)

    def _annotate_earlier(
        self, items: list[OutputItem], cited: list[CitedPage | CitedFile]
    ) -> None:
        """Give the messages before the last one their sources."""
        for (start, place), (end, _) in zip(self._messages, self._messages[1:], strict=False):
            item = items[place]
            found = _annotations(cited, start, end)
            if found and isinstance(item, MessageItem) and isinstance(item.content[0], OutputText):
                part = replace(item.content[0], annotations=found)
                items[place] = replace(item, content=(part,))

    def _search(self) -> WebSearchItem | None:
        queries = list(dict.fromkeys(self._queries))
        if not queries:
            return None
        sources = [SearchSource(url=url) for url in dict.fromkeys(self._sources)]
        action = SearchAction(
            query=queries[0],
            queries=queries,
            sources=sources if self._context.sources else UNSET,
        )
        return WebSearchItem(id=self._writer.new_id("ws"), status=COMPLETED, action=action)

    # -- calls -----------------------------------------------------------------------------------

    def _add_call(self, call: AnsweredCall) -> None:
        self.has_content = True
        self._end_message(COMPLETED)
        if self._reasoning is None and call.signature:
            self._begin_reasoning()
        self._end_reasoning(call.signature)
        tool = self._context.tools.get(call.name)
        name = call.name if tool is None else tool.name
        namespace = UNSET if tool is None or tool.namespace is None else tool.namespace
        if tool is not None and tool.custom:
            text = _custom_input(call.arguments)
            self._writer.custom_call(call.id, name, namespace, text)
        else:
            self._writer.call(call.id, name, namespace, call.arguments)

    # -- code and images -------------------------------------------------------------------------

    def _begin_code(self, code: ExecutableCode) -> None:
        self.has_content = True
        self._end_message(COMPLETED)
        self._end_reasoning(None)
        self._code = self._writer.begin_code(code.code or "")

    def _end_code(self, result: CodeExecutionResult | None) -> None:
        opened, self._code = self._code, None
        if opened is not None:
            self._writer.end_code(opened, None if result is None else result.output or "")

    def _add_image(self, blob: Blob, signature: str | None) -> None:
        self.has_content = True
        self._end_message(COMPLETED)
        self._end_reasoning(None)
        data = blob.data or ""
        if signature and data and self._context.scrub(signature) == signature:
            remember_image(data, signature, self._signatures, self._aside)
        self._writer.image(blob)


def _annotations(cited: list[CitedPage | CitedFile], start: int, end: int) -> list[Annotation]:
    """The sources of the content from ``start`` to ``end``; files have no place."""
    found: list[Annotation] = []
    for each in cited:
        if isinstance(each, CitedFile):
            found.append(FileAnnotation(filename=each.name))
        elif start <= each.start and each.end <= end:
            found.append(
                URLAnnotation(
                    start_index=each.start - start,
                    end_index=each.end - start,
                    title=each.title,
                    url=each.url,
                )
            )
    return found


def _custom_input(arguments: str) -> str:
    """The text for a custom tool; whatever the model wrote instead if it is not as declared."""
    try:
        return _input_decoder.decode(arguments).input
    except msgspec.MsgspecError:
        return arguments


class _CustomInput(msgspec.Struct):
    input: str


_input_decoder = msgspec.json.Decoder(_CustomInput)
