"""Whether a request is admitted: a place among the requests in flight, and room for its body.

This is decided from the head, before any byte of the body is read; a body in chunks is counted as
it grows. Place and room are released when the request has ended and the client has received the
answer. The token is checked before; the limit of one body depends on the route.
"""

from __future__ import annotations

from dataclasses import dataclass

from gemproxy.core.errors import Overloaded, TooManyInFlight


@dataclass(frozen=True)
class AdmissionLimits:
    """The operator's limits.

    ``max_body`` is in bytes of one body, ``max_upload`` of one that is passed on as it comes, and
    ``max_buffered`` of all bodies in memory that are incomplete or not yet answered.
    """

    max_in_flight: int = 1000
    max_body: int = 10 * 1024 * 1024
    max_buffered: int = 256 * 1024 * 1024
    max_upload: int = 2 * 1024 * 1024 * 1024


class Admission:
    """Counts the requests in flight and the bytes of their bodies."""

    def __init__(self) -> None:
        #: Requests that were admitted and have not ended.
        self.in_flight = 0
        #: Bytes of their bodies.
        self.buffered_bytes = 0

    def admit(self, limits: AdmissionLimits, length: int) -> None:
        """Take a place, and room for a body of ``length`` bytes, 0 if that is not known.

        Raises :class:`TooManyInFlight` and :class:`Overloaded`; then nothing was taken.
        """
        if self.in_flight >= limits.max_in_flight:
            raise TooManyInFlight(
                f"The proxy serves {limits.max_in_flight} requests at a time and has no place"
                " left.",
                retry_after=1,
            )
        # As grow, without its call.
        buffered = self.buffered_bytes + length
        if length and buffered > limits.max_buffered:
            raise _overloaded()
        self.buffered_bytes = buffered
        self.in_flight += 1

    def grow(self, limits: AdmissionLimits, size: int) -> None:
        """Take room for ``size`` bytes more. Raises :class:`Overloaded`."""
        buffered = self.buffered_bytes + size
        if buffered > limits.max_buffered:
            raise _overloaded()
        self.buffered_bytes = buffered

    def release(self, size: int, *, place: bool) -> None:
        """Give back the room for ``size`` bytes, and the ``place``."""
        self.buffered_bytes -= size
        self.in_flight -= place


def _overloaded() -> Overloaded:
    return Overloaded(
        "The proxy holds as many bytes of request bodies as it may. Try again.", retry_after=1
    )
