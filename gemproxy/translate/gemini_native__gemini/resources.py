"""Look at the answers about resources: files, caches, batches, stores, interactions.

They pass as they came; what is read is the name of the resource, and the tokens of an interaction.
The operator may let the addresses of downloads lead to this proxy: clients follow them with the
token that they have, which Google would get and refuse.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from gemproxy.core.errors import (
    ErrorInAnswer,
    MalformedUpstreamResponse,
    ProxyError,
    StreamIncomplete,
)
from gemproxy.providers.gemini.wire.raw_stream import payloads
from gemproxy.translate.gemini_native__gemini.answers import PassedAnswer
from gemproxy.translate.shared.usage import TokenUsage

_NOTHING = msgspec.Raw(b"")
_NULL = b"null"


class _InteractionUsage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of an interaction; ai.google.dev, Interactions API."""

    total_input_tokens: int | None = None
    total_cached_tokens: int | None = None
    total_output_tokens: int | None = None
    total_thought_tokens: int | None = None
    total_reasoning_tokens: int | None = None
    total_tool_use_tokens: int | None = None


class _Described(msgspec.Struct, frozen=True, gc=False):
    """Any resource. Only an interaction has an ``id``."""

    name: str = ""
    id: str = ""
    usage: _InteractionUsage | None = None
    error: msgspec.Raw = _NOTHING
    #: The answer to an upload.
    file: _Described | None = None


class _Event(msgspec.Struct, frozen=True, gc=False):
    """An event of the stream of an interaction."""

    event_type: str = ""
    #: Of an update of the interaction's status.
    status: str = ""
    interaction: _Described | None = None
    error: msgspec.Raw = _NOTHING


class Page(msgspec.Struct, frozen=True, gc=False):
    """A page of a list; each item is as it came."""

    items: list[msgspec.Raw]
    next_page_token: str = ""


_DESCRIBED = msgspec.json.Decoder(_Described).decode
_EVENT = msgspec.json.Decoder(_Event).decode
_PAGE = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw]).decode
_ENDS = ("interaction.complete", "interaction.completed", "done")
#: The address of a file's bytes at Google, as a whole string of JSON begins.
_DOWNLOAD = re.compile(
    rb'(?<!\\)"https://generativelanguage\.googleapis\.com'
    rb"(?=/(?:download/)?v1(?:beta|alpha)?/files/[A-Za-z0-9._-]+:download)"
)
#: After one of these nothing more happens to an interaction by itself.
_FINAL = frozenset({"completed", "failed", "cancelled", "incomplete", "requires_action"})


class WholeResource:
    """Looks at an answer about a resource; see :class:`gemproxy.api.base.WholeAnswer`.

    ``learn`` is called with the name of the resource that the answer describes, and the answer.
    ``origin`` is that for downloads, empty if they stay at Google. A ``free`` call costs nothing:
    tokens in its answer were counted before.
    """

    is_large = False

    def __init__(
        self, learn: Callable[[str, bytes], None], origin: str = "", *, free: bool = False
    ) -> None:
        self._learn = learn
        self._origin = origin
        self._free = free
        self._body = b""
        self._described = _Described()

    def receive(self, body: bytes) -> None:
        """Read the name. There is only one step."""
        described = _described(body) if body.strip() else _Described()
        # An operation that failed has an error too, and a name.
        if not described.name and not described.id and bytes(described.error or _NULL) != _NULL:
            raise ErrorInAnswer(body)
        self._body, self._described = body, described

    def encode(self) -> PassedAnswer:
        """Return the answer as it came, but for downloads."""
        name = name_of(self._described)
        if name:
            self._learn(name, self._body)
        usage = None if self._free else _usage(self._described.usage)
        return PassedAnswer(with_downloads_from(self._origin, self._body), usage)


class StreamedInteraction:
    """Looks at the events of an interaction; see :class:`gemproxy.api.base.StreamedAnswer`.

    ``learn``, ``origin`` and ``free`` are as in :class:`WholeResource`.
    """

    malformed = False
    blocked = False
    empty = False

    def __init__(
        self, learn: Callable[[str, bytes], None], origin: str = "", *, free: bool = False
    ) -> None:
        self._learn = learn
        self._origin = origin
        self._finished = False
        self.usage = None if free else TokenUsage()
        self.started = False

    def receive(self, event: bytes) -> bytes:
        """Return ``event``, as it came but for downloads.

        Raises :exc:`ErrorInAnswer`, :exc:`MalformedUpstreamResponse`.
        """
        for payload in payloads(event):
            self._look(payload)
        return with_downloads_from(self._origin, event)

    def finish(self) -> bytes:
        """Return nothing: everything was returned. Raises :exc:`StreamIncomplete`."""
        if not self._finished:
            raise StreamIncomplete("The upstream ended its stream before the interaction's end")
        return b""

    def next_step(self) -> None:
        """There is only one step."""

    def resume(self, *, again: bool = False) -> None:
        """Not used: there is only one step."""

    def cut_off(self) -> None:
        """Not used: there is only one step."""

    def failed(self, error: ProxyError) -> None:
        """The stream has no last events of its own for an error."""

    def _look(self, payload: bytes) -> None:
        if payload == b"[DONE]":
            self._finished = True
            return
        try:
            event = _EVENT(payload)
        except (msgspec.DecodeError, RecursionError) as error:
            raise MalformedUpstreamResponse(f"not an event: {error}") from error
        if bytes(event.error or _NULL) != _NULL:
            if not self.started:
                raise ErrorInAnswer(payload)
            # Google's own event says it as the clients of interactions expect it.
            self._finished = True
        self.started = True
        interaction = event.interaction
        if interaction is not None:
            name = name_of(interaction)
            if name:
                self._learn(name, b"")
            if interaction.usage is not None and self.usage is not None:
                self.usage = _usage(interaction.usage)
        if event.event_type in _ENDS or event.status in _FINAL:
            self._finished = True


def with_downloads_from(origin: str, body: bytes) -> bytes:
    """``body``, JSON, with the addresses of downloads at ``origin`` in place of Google's.

    With an empty ``origin`` they stay.
    """
    if not origin or b":download" not in body:
        return body
    begin = msgspec.json.encode(origin)[:-1]
    return _DOWNLOAD.sub(lambda _: begin, body)


def name_of(described: _Described) -> str:
    """The name of a resource; empty if the answer has none."""
    if described.file is not None:
        return described.file.name
    return described.name or (f"interactions/{described.id}" if described.id else "")


def name_in(body: bytes) -> str:
    """The name of the resource that ``body`` describes; empty if it has none."""
    try:
        return name_of(_DESCRIBED(body))
    except (msgspec.DecodeError, RecursionError):
        return ""


def read_page(body: bytes, field: str) -> Page:
    """The items of a list, which are in ``field``. Raises :class:`MalformedUpstreamResponse`."""
    try:
        page = _PAGE(body)
        items = _ITEMS(page[field]) if field in page else []
        token = msgspec.json.decode(page.get("nextPageToken", b'""'), type=str | None)
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedUpstreamResponse(f"not a list: {error}") from error
    return Page(items, token or "")


def write_page(field: str, items: Iterable[msgspec.Raw], next_page_token: str) -> bytes:
    """A list of ``items``, each as it came."""
    parts = [b'"%b":[%b]' % (field.encode("ascii"), b",".join(map(bytes, items)))]
    if next_page_token:
        parts.append(b'"nextPageToken":%b' % msgspec.json.encode(next_page_token))
    return b"{%b}" % b",".join(parts)


def _described(body: bytes) -> _Described:
    try:
        return _DESCRIBED(body)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedUpstreamResponse(f"not an answer: {error}") from error
    # A field of another type than expected: it passes, and its name stays unknown.
    return _Described()


def _usage(usage: _InteractionUsage | None) -> TokenUsage:
    if usage is None:
        return TokenUsage()
    prompt = (usage.total_input_tokens or 0) + (usage.total_tool_use_tokens or 0)
    reasoning = usage.total_thought_tokens or usage.total_reasoning_tokens or 0
    output = (usage.total_output_tokens or 0) + reasoning
    return TokenUsage(
        input=prompt,
        cached=usage.total_cached_tokens or 0,
        output=output,
        reasoning=reasoning,
        total=prompt + output,
    )
