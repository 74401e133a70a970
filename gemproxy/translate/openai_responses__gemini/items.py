"""Translate a list of items into Gemini's turns (``translate.shared.turns``).

Items are flat: a call, its result and the thoughts before it are neighbours of messages. What the
model said up to the next item of the user becomes one turn, then the results of its calls, in their
order, another. A reasoning item has no text for Gemini; its signature goes to the call or the
message that follows it.

A client may put each result directly behind its call. Calls that one response made at once belong
to one turn all the same: only the first of them has a signature. Their ids tell it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from gemproxy.api.openai.schema.responses import Item, ToolItem
from gemproxy.core.errors import InvalidRequest
from gemproxy.media_bypass import NOTHING, ExtractedMedia
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import Blob, Part
from gemproxy.translate.openai_responses__gemini.content import content_parts, text_parts
from gemproxy.translate.openai_responses__gemini.tools import joined_name
from gemproxy.translate.shared.function_calls import ReplayedCall, replay_calls, replay_results
from gemproxy.translate.shared.media import checked_base64
from gemproxy.translate.shared.model_images import sign_images
from gemproxy.translate.shared.signature_carrier import carried
from gemproxy.translate.shared.signatures import SignatureStore
from gemproxy.translate.shared.tool_names import ToolNames
from gemproxy.translate.shared.turns import Turns

CALLS: Final = frozenset({"function_call", "custom_tool_call"})
RESULTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
#: Items that agents send back and that have nothing for Gemini.
SKIPPED: Final = frozenset(
    {
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "mcp_list_tools",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_call",
        "tool_search_call",
        "tool_search_output",
        "program",
        "program_output",
        "configuration_update",
        "compaction_trigger",
    }
)
#: The id of an item of ours: its kind, the response, and its place there.
_ITEM_ID: Final = re.compile(r"[a-z]+_([0-9a-f]{32})[0-9a-f]{4}")
#: How the base64 of an image begins.
_IMAGE_TYPES: Final = {"iVBOR": "image/png", "/9j/": "image/jpeg", "UklGR": "image/webp"}


class PlacedItem(NamedTuple):
    """An item, and the client's name for its place."""

    item: Item
    path: str


class Replay(msgspec.Struct, frozen=True):
    """What the translation of earlier answers needs."""

    model: str
    family: ModelFamily
    names: ToolNames
    signatures: SignatureStore
    replace_signatures: bool = False
    #: Media that was extracted from the request.
    aside: ExtractedMedia = NOTHING


def added_tools(items: Sequence[PlacedItem]) -> list[tuple[str, ToolItem]]:
    """The tools that items add, with their paths."""
    return [
        (f"{path}.tools[{index}]", tool)
        for item, path in items
        if item.type == "additional_tools"
        for index, tool in enumerate(item.tools or ())
    ]


def call_ids(items: Sequence[PlacedItem]) -> frozenset[str]:
    """The ids of all calls."""
    return frozenset(item.call_id for item, _ in items if item.call_id and item.type in CALLS)


def translate_items(
    instructions: str | None,
    items: Sequence[PlacedItem],
    replay: Replay,
    hints: Sequence[str | None] = (),
) -> Turns:
    """The whole conversation; ``hints`` are additional instructions of the proxy.

    Raises :class:`InvalidRequest` for items that cannot be translated, and if none has content.
    """
    walk = _Walk(replay, _pair_results(items))
    walk.conversation.instruct(text_parts(instructions))
    for item, path in items:
        walk.add(item, path)
    walk.end_turn()
    conversation = walk.conversation
    conversation.complete(replay.family, hints, "input", "input: no item has any content.")
    return conversation


def _pair_results(items: Sequence[PlacedItem]) -> dict[int, PlacedItem]:
    """The result of each call, by the identity of the call's item.

    A result belongs to the nearest call before it that has its id. A second one replaces the first.
    """
    calls: dict[str, list[int]] = {}
    results: dict[int, PlacedItem] = {}
    for placed in items:
        item, path = placed
        if item.type in CALLS:
            calls.setdefault(_required(item.call_id, f"{path}.call_id"), []).append(id(item))
        elif item.type in RESULTS:
            call_id = _required(item.call_id, f"{path}.call_id")
            found = calls.get(call_id)
            if found is None:
                raise InvalidRequest(
                    f"{path}.call_id: no preceding item is a call with the id '{call_id[:80]}'.",
                    param=f"{path}.call_id",
                )
            results[found[-1]] = placed
    return results


class _Walk:
    """Collects the items of one turn of the model, and adds turns to the conversation."""

    def __init__(self, replay: Replay, results: dict[int, PlacedItem]) -> None:
        self.conversation = Turns()
        self._replay = replay
        self._results = results
        #: What the model said since the last turn: parts, and calls with their items.
        self._said: list[Part | tuple[ReplayedCall, Item]] = []
        #: The signature of the last reasoning item.
        self._signature: str | None = None
        #: The response that made the last call, by its id; set when a result has come.
        self._answered = ""
        self._response = ""

    def add(self, item: Item, path: str) -> None:
        kind = item.kind
        if self._answered and kind not in RESULTS and _response_of(item) != self._answered:
            self.end_turn()
        if kind == "message":
            self._message(item, path)
        elif kind in CALLS:
            self._call(item, path)
        elif kind in RESULTS:
            # It follows its call, wherever it stands. What the model says next is another turn,
            # unless the same response said it.
            if self._response:
                self._answered = self._response
            else:
                self.end_turn()
        elif kind == "reasoning":
            content = None if self._replay.replace_signatures else item.encrypted_content
            self._signature = carried(content, self._replay.model) or self._signature
        elif kind == "image_generation_call":
            self._image(item, path)
        elif kind == "additional_tools":
            pass  # See added_tools.
        elif kind not in SKIPPED:
            raise InvalidRequest(
                f"{path}.type: items of the type '{kind[:60]}' are not supported.",
                param=f"{path}.type",
                reason="unsupported_value",
            )

    def end_turn(self) -> None:
        """Add what the model said as a turn, and the results of its calls as another."""
        said, self._said, self._signature = self._said, [], None
        self._answered = self._response = ""
        if not said:
            return
        replay = self._replay
        calls = [each for each in said if isinstance(each, tuple)]
        if not calls:
            self.conversation.say("model", [each for each in said if isinstance(each, Part)])
            return
        parts = replay_calls(
            [call for call, _ in calls],
            family=replay.family,
            names=replay.names,
            signatures=replay.signatures,
            distrust=replay.replace_signatures,
        )
        pending = iter(parts)
        self.conversation.say(
            "model", [next(pending) if isinstance(each, tuple) else each for each in said]
        )
        contents = [self._result(item) for _, item in calls]
        translated = replay_results(parts, contents, replay.family)
        self.conversation.answer(translated.responses)
        self.conversation.say("user", translated.following)

    def _result(self, call: Item) -> list[Part] | None:
        answered = self._results.get(id(call))
        if answered is None:
            return None
        item, path = answered
        return content_parts(item.output, f"{path}.output", self._replay.family)

    def _message(self, item: Item, path: str) -> None:
        role = item.role
        if role == "assistant":
            parts = content_parts(item.content, f"{path}.content", self._replay.family)
            if parts and self._signature is not None and parts[-1].text is not None:
                parts[-1].thought_signature = self._signature
            self._signature = None
            self._said += parts
        elif role == "user":
            self.end_turn()
            parts = content_parts(item.content, f"{path}.content", self._replay.family)
            self.conversation.say("user", parts)
        elif role in {"system", "developer"}:
            # No end of the model's turn: Codex adds instructions between a call and its result.
            self.conversation.instruct(text_parts(item.content))
        else:
            place = f"{path}.role" if role or item.type else path
            raise InvalidRequest(
                f"{place}: expected an item with a type, or a message of the role user, assistant,"
                " system or developer.",
                param=place,
            )

    def _call(self, item: Item, path: str) -> None:
        name = joined_name(_required(item.name, f"{path}.name"), item.namespace)
        arguments = item.arguments if item.type == "function_call" else {"input": item.input or ""}
        call = ReplayedCall(
            name, "" if arguments is None else arguments, item.call_id or "", self._signature
        )
        self._signature = None
        self._response = _response_of(item)
        self._said.append((call, item))

    def _image(self, item: Item, path: str) -> None:
        if not item.result:
            return
        data = checked_base64(item.result, f"{path}.result")
        kind = next((kind for start, kind in _IMAGE_TYPES.items() if data.startswith(start)), "")
        part = Part(inline_data=Blob(mime_type=kind or "image/png", data=data))
        sign_images(
            [part],
            family=self._replay.family,
            signatures=self._replay.signatures,
            distrust=self._replay.replace_signatures,
            aside=self._replay.aside,
        )
        self._said.append(part)


def _response_of(item: Item) -> str:
    """The part of an item's id that identifies its response; empty if the id is not one of ours."""
    found = _ITEM_ID.fullmatch(item.id or "")
    return found[1] if found is not None else ""


def _required(value: str | None, path: str) -> str:
    if not value:
        raise InvalidRequest(
            f"Missing required parameter: '{path}'.",
            param=path,
            reason="missing_required_parameter",
        )
    return value
