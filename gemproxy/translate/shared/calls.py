"""Function calls of an answer: ids, the client's names, signatures kept for the next turn."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gemproxy.core.errors import MalformedUpstreamResponse, UnusableAnswer
from gemproxy.providers.gemini.wire.answers import FunctionCall, PartialArg
from gemproxy.translate.shared.signatures import (
    RememberedCall,
    SignatureStore,
    call_key,
    call_mark,
)

#: Calls of one choice; a model makes a few dozen at most.
MAX_CALLS = 1000


class AnsweredCall(msgspec.Struct, frozen=True, gc=False):
    """A function call of an answer, by the client's name of the function.

    ``arguments`` is the text of a JSON object, ``index`` counts the calls of a choice.
    """

    index: int
    id: str
    name: str
    arguments: str
    signature: str | None


class CallReader:
    """Reads the calls of one choice, in order.

    Each call gets the id that Gemini gave it or a fresh one from ``new_id``, and is remembered in
    ``signatures`` under that id, its name and its arguments. ``names`` maps Gemini's names to the
    client's where they differ; ``scrub`` shows whether an id or a signature has a secret in it.

    An id in ``taken`` is replaced: Gemini's ids are short numbers, which repeat, and some dialects
    need ids that differ within a conversation.

    With ``single`` all calls after the first are dropped: the client's request or protocol cannot
    take them, and the first has the signature.

    Vertex AI can stream a call in pieces (a name with ``willContinue``, then ``partialArgs``, then
    an empty call as the end marker; recordings ``stream_toolcall_partialargs``). The Gemini API
    does not, but a gateway may. Such a call is collected and returned whole.
    """

    __slots__ = (
        "_limit",
        "_names",
        "_new_id",
        "_open",
        "_scrub",
        "_signatures",
        "_taken",
        "count",
    )

    def __init__(
        self,
        names: Mapping[str, str],
        scrub: Callable[[str], str],
        new_id: Callable[[], str],
        signatures: SignatureStore,
        *,
        single: bool,
        taken: frozenset[str] | None = None,
    ) -> None:
        #: Calls returned so far.
        self.count = 0
        self._names = names
        self._scrub = scrub
        self._new_id = new_id
        self._signatures = signatures
        self._limit = 1 if single else None
        #: ``None``: ids may repeat.
        self._taken = None if taken is None else set(taken)
        self._open: _StreamedCall | None = None

    def read(self, call: FunctionCall, signature: str | None) -> list[AnsweredCall]:
        """The calls that are complete with this part."""
        if call.name and not call.will_continue:
            return [*self.close(), *self._give(call.name, call.id, signature, _arguments(call))]
        if call.name:
            closed = self.close()
            self._open = _StreamedCall(call.name, call.id, signature)
            self._open.add(call.partial_args or [])
            return closed
        if self._open is None:
            return []
        self._open.add(call.partial_args or [])
        return [] if call.will_continue else self.close()

    def drop_incomplete(self) -> None:
        """Drop the call whose rest will not come."""
        self._open = None

    def close(self) -> list[AnsweredCall]:
        """The call without an end marker, if there is one."""
        call, self._open = self._open, None
        if call is None:
            return []
        arguments = msgspec.json.encode(call.arguments).decode()
        return self._give(call.name, call.id, call.signature, arguments)

    def _client_id(self, upstream_id: str | None) -> str:
        """The client's id for a call that has ``upstream_id``; a dialect may have its own form."""
        return upstream_id or self._new_id()

    def _give(
        self, name: str, upstream_id: str | None, signature: str | None, arguments: str
    ) -> list[AnsweredCall]:
        if self.count == self._limit:
            return []
        if self.count == MAX_CALLS:
            raise MalformedUpstreamResponse(f"more than {MAX_CALLS} function calls")
        scrub = self._scrub
        if upstream_id and scrub(upstream_id) != upstream_id:
            # An id that contains a secret must reach neither the client nor the stored state.
            upstream_id = None
        if self._taken is not None and upstream_id in self._taken:
            upstream_id = None
        if signature and scrub(signature) != signature:
            signature = None
        call_id = self._client_id(upstream_id)
        if self._taken is not None:
            self._taken.add(call_id)
        key = call_key(call_id, call_mark(name, arguments))
        self._signatures.remember(key, RememberedCall(signature, bool(upstream_id)))
        index, self.count = self.count, self.count + 1
        return [AnsweredCall(index, call_id, self._names.get(name, name), arguments, signature)]


def _arguments(call: FunctionCall) -> str:
    """The arguments as compact JSON; keys and numbers are unchanged."""
    if not len(call.args):
        return "{}"
    try:
        text = msgspec.json.format(bytes(call.args), indent=-1).decode()
    except (ValueError, RecursionError) as error:
        raise UnusableAnswer(f"the arguments of a function call cannot be read: {error}") from error
    return "{}" if text == "null" else text


@dataclass(slots=True)
class _StreamedCall:
    """A call that comes in pieces."""

    name: str
    id: str | None
    signature: str | None
    arguments: dict[str, Any] = field(default_factory=dict)

    def add(self, pieces: Iterable[PartialArg]) -> None:
        for piece in pieces:
            path = [int(number) if number else name for name, number in _steps(piece.json_path)]
            if 0 < len(path) <= _MAX_DEPTH and isinstance(path[0], str):
                _put(self.arguments, path, _value(piece))


def _value(piece: PartialArg) -> str | float | bool | None:
    if piece.string_value is not None:
        return piece.string_value
    return piece.number_value if piece.number_value is not None else piece.bool_value


def _put(container: Any, path: list[str | int], value: str | float | bool | None) -> None:
    """Set the value at ``path``, or append to the string there; invalid paths are ignored."""
    step, rest = path[0], path[1:]
    if isinstance(container, list):
        if not isinstance(step, int) or step > len(container):
            return
        if step == len(container):
            container.append(None)
        present = container[step]
    elif isinstance(container, dict) and isinstance(step, str):
        present = container.get(step)
    else:
        return
    if rest:
        if present is None:
            present = [] if isinstance(rest[0], int) else {}
        _put(present, rest, value)
        container[step] = present
    elif isinstance(present, str) and isinstance(value, str):
        container[step] = present + value
    else:
        container[step] = value


def _steps(path: str | None) -> list[tuple[str, str]]:
    """``$.a[0]`` as pairs of name and index, one of which is empty."""
    return [(name or quoted, number) for name, number, quoted in _STEP.findall(path or "")]


_MAX_DEPTH = 32
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d{1,4})\]|\[['\"]([^'\"]+)['\"]\]")
