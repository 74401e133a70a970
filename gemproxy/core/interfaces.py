"""The interfaces between the core, which decides, and I/O.

``upstream``, ``http``, ``telemetry`` and ``state`` implement them. An ``Awaitable`` may be a
coroutine or a Twisted ``Deferred``; cancelling it has to stop the work behind it, at the socket.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import Struct

from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import ProxyError
from gemproxy.secret import Secret
from gemproxy.state.model import CountedRows, RecordRow, State, UsageRow
from gemproxy.state.record_query import FoundRecords, RecordQuery
from gemproxy.state.usage_query import UsageQuery


class BodySource(Protocol):
    """A body that is still arriving from the client, and that can be sent once."""

    @property
    def length(self) -> int | None:
        """Its length in bytes; ``None`` if it is not known."""

    @property
    def received(self) -> int:
        """The bytes that the client has sent."""

    @property
    def begun(self) -> bool:
        """Whether some of it was taken."""

    def begin(
        self, write: Callable[[bytes], None], end: Callable[[ProxyError | None], None]
    ) -> None:
        """Pass its bytes to ``write`` as they arrive, and call ``end`` once after the last one.

        ``end`` gets the error if the client may not send the rest.
        """

    def pause(self) -> None:
        """Bring no bytes for now."""

    def resume(self) -> None:
        """Bring bytes again."""

    def stop(self) -> None:
        """Bring nothing more."""


class UpstreamRequest(Struct, frozen=True):
    """One call of the provider's API. ``path`` holds no credential; ``key`` becomes a header."""

    method: bytes
    path: bytes
    key: Secret
    body: bytes | BufferList | None = None
    #: Monotonic time at which the client's request times out.
    deadline: float = float("inf")
    #: Further lines of the head, each with its line end.
    headers: bytes = b""
    #: Whether it is a frequent call of a model: a POST of JSON, whose path is often the same.
    is_prepared: bool = True
    #: Brings the body in place of ``body``; only if the request is not prepared.
    source: BodySource | None = None


class UpstreamResponse(Protocol):
    """A response whose body may still be arriving. Take, read or stream the body once."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case; of repeated headers the last value."""

    def header(self, name: str) -> str | None:
        """The last value of a header, whose name is in lower case. Cheaper than :attr:`headers`."""

    def take(self, limit: int) -> bytes:
        """The whole body if it has already arrived; else empty bytes, and :meth:`read` is needed.

        So ``response.take(n) or await response.read(n)`` waits only if it has to. Raises as
        :meth:`read`.
        """

    def read(self, limit: int) -> Awaitable[bytes]:
        """The whole body. Raises :class:`UpstreamFailed`, also if it exceeds ``limit`` bytes."""

    def stream(self, receive: Callable[[bytes], None]) -> Awaitable[None]:
        """Call ``receive`` with each piece that arrives, until the end of the body.

        Everything that one read of the socket brought is one piece. Raises :class:`UpstreamFailed`,
        and whatever ``receive`` raises; in both cases the connection is closed first.
        """

    def pause(self) -> None:
        """Stop reading from the upstream's socket."""

    def resume(self) -> None:
        """Continue reading."""


class WholeResponse(Struct, frozen=True):
    """A response with its body. Names of ``headers`` are in lower case; the last one counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Upstream(Protocol):
    """Sends requests to the provider."""

    def send(self, request: UpstreamRequest) -> Awaitable[UpstreamResponse]:
        """Send, and wait for status and headers. Raises :class:`UpstreamFailed`."""

    def fetch(self, request: UpstreamRequest, limit: int) -> Awaitable[WholeResponse]:
        """Send a request without a body, and wait for the whole response.

        Raises :class:`UpstreamFailed`, also if the body passes ``limit`` bytes.
        """


class Flow(Protocol):
    """A source of bytes that can be paused."""

    def pause(self) -> None:
        """Stop sending."""

    def resume(self) -> None:
        """Continue."""


class ReplyWriter(Protocol):
    """The client's side of one request."""

    #: Lines for the head of the answer, from the upstream's; set before it begins.
    upstream_headers: bytes

    @property
    def started(self) -> bool:
        """Whether anything of the answer was sent; after that no other key is tried."""

    def answer(self, body: bytes | BufferList) -> None:
        """Send status 200 and the whole JSON body, and end the answer."""

    def begin_body(self, headers: bytes, length: int | None) -> None:
        """Commit: send status 200 for a body of any type, whose bytes follow through ``write``.

        ``headers`` are the lines that describe it; ``length`` is in bytes, if it is known.
        """

    def await_stream(self) -> None:
        """Announce a stream. If the client waits long, its headers are sent before the first event.

        That does not commit: another key may still be tried.
        """

    def begin_stream(self, failed: Callable[[ProxyError], bytes | None] | None = None) -> None:
        """Commit: send status 200 and the headers, unless they were sent. Events follow.

        ``failed`` gives the last events after an error, ``None`` for the dialect's own.
        """

    def write(self, events: bytes) -> None:
        """Send whole events."""

    def write_error(self, error: ProxyError) -> None:
        """Send the error event for ``error`` in the client's dialect; nothing follows it."""

    def attach(self, flow: Flow) -> None:
        """Pause ``flow`` while the client reads slower than the upstream sends."""

    def finish(self) -> None:
        """End the stream."""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The present condition of the store. Times are epoch seconds."""

    #: ``sqlite``, ``json`` (the fallback) or ``none``.
    backend: str
    #: The time of the latest state that is on the disk.
    last_checkpoint: float | None = None
    #: The latest failure; kept after it has passed.
    last_error: str | None = None
    last_error_at: float | None = None
    #: Since when ``backend`` is not the configured one; ``None`` while it is.
    degraded_since: float | None = None
    #: The number of failures since the start, by backend.
    errors: Mapping[str, int] = field(default_factory=dict)


class StateStore(Protocol):
    """A store for the state. Every call blocks; all calls are made in one thread."""

    def load(self, now: float | None = None) -> State | None:
        """The state that was saved last; ``None`` if there is none. Raises :class:`StorageError`.

        With ``now``, only those counts that a ledger keeps in memory at that time; else all.
        """

    def save(self, state: State) -> None:
        """Save ``state``. Raises :class:`StorageError`; then the state saved before is intact."""

    def close(self) -> None:
        """Close the files; a later :meth:`load` or :meth:`save` opens them again."""


class ResilientStateStore(StateStore, Protocol):
    """A store that handles failures of the disk itself, and reports them in :meth:`status`.

    Raises nothing but :class:`SchemaTooNew`, and that only in ``load``.
    """

    def counted(self, now: float) -> CountedRows:
        """The stored counts that ledgers keep in memory at ``now``, an epoch time."""

    def usage(self, query: UsageQuery, present: Sequence[UsageRow]) -> list[UsageRow]:
        """The sums for ``query`` of the ``present`` rows, and of the stored ones before them.

        ``present`` are all rows of some hours and days; nothing stored of these is added.
        """

    def search(self, query: RecordQuery) -> FoundRecords:
        """The stored records that ``query`` asks for, newest first."""

    def find(self, digest: int) -> list[RecordRow]:
        """The stored records whose id has ``digest``, newest first."""

    def recovered(self) -> State | None:
        """A state that could not be loaded at the start and was readable later; returned once."""

    def status(self) -> StoreStatus:
        """The present condition. May be called from any thread."""
