"""Long answers: fetched in hops, each of which is an exchange with the upstream of its own.

Gemini 4 cuts a long answer and gives a token with which the same request gets the rest. The token
holds what was written so far, so that any key may serve the next hop, and a hop that failed is
asked for again by itself.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from gemproxy.providers.gemini.wire.answers import GenerateContentResponse


class Relayed(Protocol):
    """What of a stream goes to the client."""

    @property
    def flowing(self) -> bool:
        """Whether something of this hop is out."""

    def cut_off(self) -> None:
        """End with what there is."""


class Hops(Struct):
    """What there is of a long answer, and the token that asks for the next hop."""

    token: str
    #: Of a whole answer the hops so far; nothing where the client gets a stream.
    answers: list[GenerateContentResponse]
    #: What relays the stream.
    relay: Relayed | None = None
    #: How many hops have come to their end.
    count: int = 1

    @property
    def next_is_shown(self) -> bool:
        """Whether the client has something of the next hop: it cannot be asked for again."""
        return self.relay is not None and self.relay.flowing
