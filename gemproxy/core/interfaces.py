"""What the proxy asks of the world: the line between deciding and doing.

The rooms below (``upstream``, ``http``, ``telemetry``) implement these; the core knows no more
of them. An ``Awaitable`` may be a coroutine or a Twisted ``Deferred``; cancelling it must stop the
work behind it, at the socket.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from msgspec import Struct

from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import ProxyError
from gemproxy.secret import Secret
from gemproxy.state.model import MetricsRow, State


class UpstreamRequest(Struct, frozen=True):
    """One call of the Gemini API. ``path`` holds no credential; ``key`` becomes a header."""

    method: bytes
    path: bytes
    key: Secret
    body: bytes | BufferList | None = None
    #: Monotonic time at which the client's whole request is over.
    deadline: float = float("inf")


class UpstreamResponse(Protocol):
    """An answer whose body is still to come. It is taken, read or streamed, once."""

    @property
    def status(self) -> int:
        """HTTP's."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case; of repeated headers the last."""

    def take(self, limit: int) -> bytes:
        """The whole body where it is here already; else nothing, and it is still to be read.

        So ``response.take(n) or await response.read(n)`` waits only where it must. Raises as
        :meth:`read`.
        """

    def read(self, limit: int) -> Awaitable[bytes]:
        """The whole body. Raises :class:`UpstreamFailed`, also when it passes ``limit`` bytes."""

    def stream(self, receive: Callable[[bytes], None]) -> Awaitable[None]:
        """Hand each arriving piece to ``receive`` until the body's end.

        All that one read of the socket brought comes in one call. Raises :class:`UpstreamFailed`,
        and whatever ``receive`` raises; in both cases the connection is closed first.
        """

    def pause(self) -> None:
        """Stop reading from the upstream's socket."""

    def resume(self) -> None:
        """Go on reading."""


class WholeResponse(Struct, frozen=True):
    """A response with its body. Names of ``headers`` are in lower case; of repeated the last."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Upstream(Protocol):
    """Gemini over HTTP."""

    def send(self, request: UpstreamRequest) -> Awaitable[UpstreamResponse]:
        """Send, and wait for status and headers. Raises :class:`UpstreamFailed`."""

    def fetch(self, request: UpstreamRequest, limit: int) -> Awaitable[WholeResponse]:
        """Send a request without a body, and wait for the whole response.

        Raises :class:`UpstreamFailed`, also if the body passes ``limit`` bytes.
        """


class Flow(Protocol):
    """A source of bytes that can be held back."""

    def pause(self) -> None:
        """Hold back."""

    def resume(self) -> None:
        """Go on."""


class ReplyWriter(Protocol):
    """The client's side of one request."""

    @property
    def started(self) -> bool:
        """Whether anything of the answer is out: from then on no other key is tried."""

    def answer(self, body: bytes | BufferList) -> None:
        """Send status 200 and the whole JSON body, and end the exchange."""

    def await_stream(self) -> None:
        """A stream will follow, sooner or later. Whoever waits for it too long may get its head.

        That commits to nothing: another key may still be tried.
        """

    def begin_stream(self) -> None:
        """Content follows. The commit point; status 200 and headers go out, unless they are."""

    def write(self, events: bytes) -> None:
        """Send whole events."""

    def write_error(self, error: ProxyError) -> None:
        """Send the event that tells of ``error`` in the client's dialect; nothing follows it."""

    def attach(self, flow: Flow) -> None:
        """Let ``flow`` be paused while the client reads slower than the upstream sends."""

    def finish(self) -> None:
        """End the stream."""


class EncodedError(NamedTuple):
    """An error as an answer: the status, the headers that it asks for, and the JSON body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass(frozen=True, slots=True)
class ErrorEncoder:
    """How one dialect tells its clients of errors.

    ``answer`` makes a whole answer, ``event`` the last event of a stream that had begun.
    """

    answer: Callable[[ProxyError], EncodedError]
    event: Callable[[ProxyError], bytes]


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """How the state is kept at present. Times are epoch seconds."""

    #: ``sqlite``, ``json`` (the fallback) or ``none``.
    backend: str
    #: The time of the latest state that is on the disk.
    last_checkpoint: float | None = None
    #: The latest failure, also after it was overcome.
    last_error: str | None = None
    last_error_at: float | None = None
    #: Since when ``backend`` is not what was configured; ``None`` while it is.
    degraded_since: float | None = None
    #: How often each backend failed since the start, by its name.
    errors: Mapping[str, int] = field(default_factory=dict)


class StateStore(Protocol):
    """A place for the state. Every call blocks; all are made in one thread."""

    def load(self, now: float | None = None) -> State | None:
        """What was saved last; ``None`` where nothing was. Raises :class:`StorageError`.

        With ``now`` only those metrics that a ledger keeps in memory then; without it everything.
        """

    def save(self, state: State) -> None:
        """Keep ``state``. Raises :class:`StorageError`; then what was saved before still stands."""

    def close(self) -> None:
        """Let go of the files; another :meth:`load` or :meth:`save` takes them again."""


class ResilientStateStore(StateStore, Protocol):
    """A store that finds another way when the disk fails, and tells of it.

    Raises nothing but :class:`SchemaTooNew`, and that from ``load`` only.
    """

    def metrics(self, now: float) -> Sequence[MetricsRow]:
        """What is kept of the metrics that a ledger keeps in memory at ``now``, an epoch time."""

    def recovered(self) -> State | None:
        """What could not be loaded at the start and came to light since; told once."""

    def status(self) -> StoreStatus:
        """How it goes. May be called from any thread."""
