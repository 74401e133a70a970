"""Write the output items of a response, and the events of each in a stream.

:mod:`gemproxy.translate.openai_responses__gemini.output` decides what becomes an item; here it gets
its id and its place, is encoded, and in a stream each step of it is an event. Without
:class:`EventWriter` a whole answer is written, whose items may still change.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from gemproxy.api.openai.schema.answers import TokenLogprob
from gemproxy.api.openai.schema.response_objects import (
    Annotation,
    CodeItem,
    CodeLogs,
    CustomToolCallItem,
    FunctionCallItem,
    ImageItem,
    MessageItem,
    OutputItem,
    OutputText,
    ReasoningItem,
    Refusal,
    SearchAction,
    SummaryText,
    WebSearchItem,
    encode_object,
)
from gemproxy.providers.gemini.wire.answers import Blob
from gemproxy.translate.openai_responses__gemini.events import EventWriter

COMPLETED: Final = "completed"
_IN_PROGRESS: Final = "in_progress"


class OpenMessage(msgspec.Struct):
    """A message that is being read."""

    id: str
    index: int
    #: The characters of the content before it.
    start: int
    texts: list[str] = []
    logprobs: list[TokenLogprob] = []


class OpenReasoning(msgspec.Struct):
    """A reasoning item that is being read."""

    id: str
    index: int
    texts: list[str] = []
    signature: str | None = None


class OpenCode(msgspec.Struct):
    """Code whose result is awaited."""

    id: str
    index: int
    code: str


class ItemWriter:
    """The items of one response; see the module.

    ``base`` is the response's id without its prefix; the ids of items consist of it and of their
    place. ``events`` gets the events of a stream.
    """

    __slots__ = ("_base", "_encoded", "_events", "_ids", "items")

    def __init__(self, base: str, events: EventWriter | None = None) -> None:
        self._base = base
        self._events = events
        self._ids = 0
        self._encoded: list[bytes] = []
        #: The complete items. In a stream they have been sent, so a later change has no effect.
        self.items: list[OutputItem] = []

    @property
    def is_streamed(self) -> bool:
        """Whether there are events."""
        return self._events is not None

    def encode(self) -> bytes:
        """The text of the list of all items."""
        if self._events is None:
            return encode_object(self.items)
        return b"[%b]" % b",".join(self._encoded)

    def new_id(self, prefix: str) -> str:
        """A new id of an item."""
        number, self._ids = self._ids, self._ids + 1
        return f"{prefix}_{self._base}{number:04x}"

    def begin_reasoning(self) -> OpenReasoning:
        """Begin an item of thoughts."""
        reasoning = OpenReasoning(self.new_id("rs"), len(self.items))
        self._added(ReasoningItem(id=reasoning.id, summary=()), reasoning.index)
        return reasoning

    def add_thought(self, reasoning: OpenReasoning, text: str) -> None:
        """Add ``text`` to the summary."""
        if self._events is not None:
            place = {"item_id": reasoning.id, "output_index": reasoning.index, "summary_index": 0}
            if not reasoning.texts:
                self._events.write(
                    b"response.reasoning_summary_part.added",
                    {**place, "part": SummaryText(text="")},
                )
            self._events.write(b"response.reasoning_summary_text.delta", {**place, "delta": text})
        reasoning.texts.append(text)

    def end_reasoning(
        self, reasoning: OpenReasoning, encrypted_content: str | msgspec.UnsetType
    ) -> None:
        """Complete an item of thoughts."""
        text = "".join(reasoning.texts)
        section = SummaryText(text=text)
        if self._events is not None and text:
            place = {"item_id": reasoning.id, "output_index": reasoning.index, "summary_index": 0}
            self._events.write(b"response.reasoning_summary_text.done", {**place, "text": text})
            self._events.write(b"response.reasoning_summary_part.done", {**place, "part": section})
        self._done(
            ReasoningItem(
                id=reasoning.id,
                summary=(section,) if text else (),
                encrypted_content=encrypted_content,
            )
        )

    def begin_message(self, start: int) -> OpenMessage:
        """Begin a message; ``start`` are the characters of the content before it."""
        index = len(self.items)
        message = OpenMessage(self.new_id("msg"), index, start)
        if self._events is not None:
            self._added(MessageItem(id=message.id, status=_IN_PROGRESS, content=()), index)
            self._events.write(
                b"response.content_part.added",
                {
                    "item_id": message.id,
                    "output_index": index,
                    "content_index": 0,
                    "part": OutputText(text=""),
                },
            )
            self._events.begin_text(message.id, index)
        return message

    def add_text(self, message: OpenMessage, text: str, logprobs: list[TokenLogprob]) -> None:
        """Add ``text`` to the open message."""
        message.texts.append(text)
        message.logprobs += logprobs
        if self._events is not None:
            self._events.text(text, logprobs)

    def end_message(
        self, message: OpenMessage, status: str, annotations: list[Annotation] | None = None
    ) -> None:
        """Complete a message."""
        text = "".join(message.texts)
        part = OutputText(text=text, annotations=annotations or (), logprobs=message.logprobs)
        if self._events is not None:
            place = {"item_id": message.id, "output_index": message.index, "content_index": 0}
            for number, annotation in enumerate(annotations or ()):
                self._events.write(
                    b"response.output_text.annotation.added",
                    {**place, "annotation_index": number, "annotation": annotation},
                )
            self._events.write(
                b"response.output_text.done",
                {**place, "text": text, "logprobs": message.logprobs},
            )
            self._events.write(b"response.content_part.done", {**place, "part": part})
        self._done(MessageItem(id=message.id, status=status, content=(part,)))

    def refuse(self, refusal: str, status: str) -> None:
        """Write a message that is a refusal."""
        identity, index = self.new_id("msg"), len(self.items)
        if self._events is not None:
            place = {"item_id": identity, "output_index": index, "content_index": 0}
            self._added(MessageItem(id=identity, status=_IN_PROGRESS, content=()), index)
            self._events.write(
                b"response.content_part.added", {**place, "part": Refusal(refusal="")}
            )
            self._events.write(b"response.refusal.delta", {**place, "delta": refusal})
            self._events.write(b"response.refusal.done", {**place, "refusal": refusal})
            self._events.write(
                b"response.content_part.done", {**place, "part": Refusal(refusal=refusal)}
            )
        self._done(MessageItem(id=identity, status=status, content=(Refusal(refusal=refusal),)))

    def search(self, search: WebSearchItem) -> None:
        """Write a search behind the other items."""
        index = len(self.items)
        action = SearchAction(query=search.action.query)
        self._added(WebSearchItem(id=search.id, status=_IN_PROGRESS, action=action), index)
        self._phases("web_search_call", search.id, index, "in_progress", "searching", "completed")
        self._done(search)

    def call(
        self, call_id: str, name: str, namespace: str | msgspec.UnsetType, arguments: str
    ) -> None:
        """Write the call of a function."""
        item = FunctionCallItem(
            id=self.new_id("fc"),
            call_id=call_id,
            name=name,
            namespace=namespace,
            arguments=arguments,
            status=COMPLETED,
        )
        if self._events is not None:
            index = len(self.items)
            self._added(replace(item, arguments="", status=_IN_PROGRESS), index)
            place = {"item_id": item.id, "output_index": index}
            self._events.write(
                b"response.function_call_arguments.delta", {**place, "delta": arguments}
            )
            self._events.write(
                b"response.function_call_arguments.done",
                {**place, "name": name, "arguments": arguments},
            )
        self._done(item)

    def custom_call(
        self, call_id: str, name: str, namespace: str | msgspec.UnsetType, text: str
    ) -> None:
        """Write the call of a custom tool."""
        item = CustomToolCallItem(
            id=self.new_id("ctc"), call_id=call_id, name=name, namespace=namespace, input=text
        )
        if self._events is not None:
            index = len(self.items)
            self._added(replace(item, input=""), index)
            place = {"item_id": item.id, "output_index": index}
            self._events.write(b"response.custom_tool_call_input.delta", {**place, "delta": text})
            self._events.write(b"response.custom_tool_call_input.done", {**place, "input": text})
        self._done(item)

    def begin_code(self, code: str) -> OpenCode:
        """Begin an item of code that Google runs."""
        index = len(self.items)
        opened = OpenCode(self.new_id("ci"), index, code)
        if self._events is not None:
            self._added(self._code_item(opened, _IN_PROGRESS, "", None), index)
            self._phases("code_interpreter_call", opened.id, index, "in_progress")
            place = {"item_id": opened.id, "output_index": index}
            event = b"response.code_interpreter_call_code"
            self._events.write(b"%b.delta" % event, {**place, "delta": code})
            self._events.write(b"%b.done" % event, {**place, "code": code})
            self._phases("code_interpreter_call", opened.id, index, "interpreting")
        return opened

    def end_code(self, opened: OpenCode, logs: str | None) -> None:
        """Complete an item of code; ``logs`` is its output, if there is any."""
        self._phases("code_interpreter_call", opened.id, opened.index, "completed")
        outputs = None if logs is None else (CodeLogs(logs=logs),)
        self._done(self._code_item(opened, COMPLETED, opened.code, outputs))

    def image(self, blob: Blob) -> None:
        """Write an image."""
        index = len(self.items)
        item = ImageItem(
            id=self.new_id("ig"),
            status=COMPLETED,
            result=blob.data or "",
            output_format=(blob.mime_type or "").removeprefix("image/") or UNSET,
        )
        if self._events is not None:
            self._added(replace(item, status=_IN_PROGRESS, result=None), index)
            phases = ("in_progress", "generating", "completed")
            self._phases("image_generation_call", item.id, index, *phases)
        self._done(item)

    def _code_item(
        self, opened: OpenCode, status: str, code: str, outputs: tuple[CodeLogs, ...] | None
    ) -> CodeItem:
        container = f"cntr_{self._base}"
        return CodeItem(
            id=opened.id, status=status, code=code, container_id=container, outputs=outputs
        )

    def _added(self, item: OutputItem, index: int) -> None:
        if self._events is not None:
            fields = {"output_index": index, "item": item}
            self._events.write(b"response.output_item.added", fields)

    def _phases(self, kind: str, identity: str, index: int, *phases: str) -> None:
        if self._events is not None:
            for phase in phases:
                event = f"response.{kind}.{phase}".encode("ascii")
                self._events.write(event, {"item_id": identity, "output_index": index})

    def _done(self, item: OutputItem) -> None:
        if self._events is not None:
            encoded = encode_object(item)
            self._encoded.append(encoded)
            fields = b'"output_index":%d,"item":%b' % (len(self.items), encoded)
            self._events.write_encoded(b"response.output_item.done", fields)
        self.items.append(item)
