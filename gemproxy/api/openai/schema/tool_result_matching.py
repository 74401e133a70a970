"""Match tool results with their calls.

A tool message names a call by its id. Ids may repeat in a conversation (some clients count from
zero in each turn), so a result belongs to the nearest assistant message before it that used the
id; calls of one message that share an id are answered in their order.
"""

from __future__ import annotations

from collections.abc import Sequence

from gemproxy.api.openai.schema.messages import (
    AssistantMessage,
    FunctionMessage,
    Message,
    Result,
    ToolCall,
    ToolMessage,
)
from gemproxy.core.errors import InvalidRequest

#: ``(index of the assistant message, index of its call)``; a legacy ``function_call`` comes last.
Slot = tuple[int, int]
#: The place of a result among the messages, and the result.
Answered = tuple[int, Result]

_RESULTS = frozenset((ToolMessage, FunctionMessage))

#: litellm carries a thought signature in the id itself: ``call_x__thought__<base64>``.
SIGNATURE_MARK = "__thought__"


def bare_id(call_id: str) -> str:
    """The id without the signature that litellm may have appended."""
    return call_id.partition(SIGNATURE_MARK)[0]


def pair_results(messages: Sequence[Message]) -> dict[Slot, Answered]:
    """The result of each call that has one.

    Raises :class:`InvalidRequest` with ``param`` ``messages[i].tool_call_id`` (or ``.name`` for a
    legacy function message) if a result answers no earlier call.
    """
    for message in messages:
        if type(message) in _RESULTS:
            return _paired(messages)
    return {}


def _paired(messages: Sequence[Message]) -> dict[Slot, Answered]:
    board = _OpenCalls()
    for index, message in enumerate(messages):
        kind = type(message)
        if kind is AssistantMessage:
            board.opened(index, message)  # type: ignore[arg-type]
        elif kind is ToolMessage:
            board.answered(index, message)  # type: ignore[arg-type]
        elif kind is FunctionMessage:
            board.answered_by_name(index, message)  # type: ignore[arg-type]
    return board.results


class _OpenCalls:
    """The calls so far, by id and by name; the nearest message wins."""

    def __init__(self) -> None:
        self.results: dict[Slot, Answered] = {}
        # The slots of one message under each, the last one first.
        self._by_id: dict[str, list[Slot]] = {}
        self._by_name: dict[str, list[Slot]] = {}

    def opened(self, index: int, message: AssistantMessage) -> None:
        calls: Sequence[ToolCall] = message.tool_calls or ()
        ids: dict[str, list[Slot]] = {}
        names: dict[str, list[Slot]] = {}
        if message.function_call is not None:
            names[message.function_call.name] = [(index, len(calls))]
        for position in range(len(calls) - 1, -1, -1):
            call, slot = calls[position], (index, position)
            ids.setdefault(bare_id(call.id), []).append(slot)
            if call.function is not None:
                names.setdefault(call.function.name, []).append(slot)
        self._by_id.update(ids)
        self._by_name.update(names)

    def answered(self, index: int, message: ToolMessage) -> None:
        slots = self._by_id.get(bare_id(message.tool_call_id))
        if slots is None and message.name:
            slots = self._by_name.get(message.name)
        if slots is None:
            raise InvalidRequest(
                f"messages[{index}].tool_call_id: no preceding assistant message has a tool call "
                f"with the id '{message.tool_call_id[:80]}'.",
                param=f"messages[{index}].tool_call_id",
            )
        self._settle(slots, (index, message))

    def answered_by_name(self, index: int, message: FunctionMessage) -> None:
        slots = self._by_name.get(message.name)
        if slots is None:
            raise InvalidRequest(
                f"messages[{index}].name: no preceding assistant message calls a function "
                f"'{message.name[:80]}'.",
                param=f"messages[{index}].name",
            )
        self._settle(slots, (index, message))

    def _settle(self, slots: list[Slot], result: Answered) -> None:
        # A second result for the same call replaces the first one.
        self.results[slots[-1]] = result
        if len(slots) > 1:
            slots.pop()
