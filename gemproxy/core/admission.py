"""Whether a request gets a place, and room for its body, among all that are in flight.

Decided from the head, before any byte of the body is read; a body that comes in chunks is counted
as it grows. What a request has taken is given back when it is over and the client has the answer.
Who the client is was decided before; how large one body may be is the limit of a route.
"""

from __future__ import annotations

from dataclasses import dataclass

from gemproxy.core.errors import Overloaded, TooManyInFlight


@dataclass(frozen=True)
class AdmissionLimits:
    """What the operator allows.

    ``max_body`` bytes may come with one request, ``max_buffered`` with all that are incomplete or
    not yet answered.
    """

    max_in_flight: int = 1000
    max_body: int = 10 * 1024 * 1024
    max_buffered: int = 256 * 1024 * 1024


class Admission:
    """Counts what the requests in flight have taken."""

    def __init__(self) -> None:
        #: Requests that were admitted and are not over.
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
        if length:
            self.grow(limits, length)
        self.in_flight += 1

    def grow(self, limits: AdmissionLimits, size: int) -> None:
        """Take room for ``size`` bytes more. Raises :class:`Overloaded`."""
        buffered = self.buffered_bytes + size
        if buffered > limits.max_buffered:
            raise Overloaded(
                "The proxy holds as many bytes of request bodies as it may. Try again.",
                retry_after=1,
            )
        self.buffered_bytes = buffered
