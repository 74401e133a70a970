"""What the proxy asks of the world: the line between deciding and doing.

The rooms below (``upstream``, ``web``, ``observability``) implement these; the core knows no more
of them. An ``Awaitable`` may be a coroutine or a Twisted ``Deferred``; cancelling it must stop the
work behind it, at the socket.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from gemproxy.exchange import Exchange
from gemproxy.secret import Secret


@dataclass(frozen=True)
class UpstreamRequest:
    """One call of the Gemini API. ``path`` holds no credential; ``key`` becomes a header."""

    method: bytes
    path: bytes
    key: Secret
    body: bytes | None = None
    #: Epoch time at which the client's whole request is over.
    deadline: float = float("inf")


class UpstreamResponse(Protocol):
    """An answer whose body is still to come. Exactly one of ``read`` and ``stream`` is called."""

    @property
    def status(self) -> int:
        """HTTP's."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case; of repeated headers the last."""

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


class Upstream(Protocol):
    """Gemini over HTTP."""

    def send(self, request: UpstreamRequest) -> Awaitable[UpstreamResponse]:
        """Send, and wait for status and headers. Raises :class:`UpstreamFailed`."""


class Flow(Protocol):
    """A source of bytes that can be held back."""

    def pause(self) -> None:
        """Hold back."""

    def resume(self) -> None:
        """Go on."""


class ReplyWriter(Protocol):
    """The client's side of one exchange."""

    @property
    def started(self) -> bool:
        """Whether status and headers are out: from then on no other key is tried."""

    def answer(self, body: bytes) -> None:
        """Send status 200 and the whole JSON body, and end the exchange."""

    def begin_stream(self) -> None:
        """Send status 200 and the headers of an event stream. The commit point."""

    def write(self, events: bytes) -> None:
        """Send whole events."""

    def attach(self, flow: Flow) -> None:
        """Let ``flow`` be paused while the client reads slower than the upstream sends."""

    def finish(self) -> None:
        """End the stream."""


class Telemetry(Protocol):
    """Where finished requests are told."""

    def request_finished(self, exchange: Exchange, status: int, seconds: float) -> None:
        """``status`` is what the client got, 499 when it left first; ``seconds`` the whole time."""
