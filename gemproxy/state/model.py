"""The state that survives a restart, as values.

A :class:`State` is whole as far as the pool and the signatures go. Of metrics and audit events it
holds the latest, which are added to what a store has already; a row is absolute and not a
difference, so writing it twice does no harm.

Whatever has not changed since the last :class:`State` is the very same object in the next one, so
that a store can tell by identity what it has to write. Times are epoch seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from gemproxy.core.audit import AuditEvent
from gemproxy.pool.snapshot import PoolSnapshot
from gemproxy.translate.shared.signatures import RememberedCall

#: Audit events that are kept in memory, the latest.
MAX_EVENTS = 1_000


class Period(NamedTuple):
    """How long a row of metrics counts, and how long it stays in memory, both in seconds."""

    seconds: int
    remembered: int


MINUTE = Period(60, 62 * 60)
HOUR = Period(3600, 25 * 3600)
#: The memory holds the curves of the last hour by minutes and of the last day by hours.
PERIODS = (MINUTE, HOUR)


class Series(NamedTuple):
    """What the requests of one row have in common; ``""`` where there was no model or no key."""

    route: str
    model: str
    #: ``2xx`` … ``5xx``.
    status_class: str
    #: The name of the key that was tried last.
    key: str


@dataclass(frozen=True, slots=True)
class MetricsRow:
    """What the requests of one series came to that ended in one minute or hour.

    Requests per second are ``requests / period``, the error share is ``failures / requests``, the
    mean time to the first chunk of a stream is ``first_chunk_seconds / first_chunks``.
    """

    #: Seconds that the row covers, from its ``start``: 60 or 3600.
    period: int
    start: int
    route: str
    model: str
    status_class: str
    key: str
    requests: int = 0
    #: What a client would call a failure that is not its own: 429, 5xx, a stream that broke off.
    failures: int = 0
    #: Attempts beyond the first.
    retries: int = 0
    prompt_tokens: int = 0
    #: The part of the prompt's that came from a cache.
    cached_tokens: int = 0
    completion_tokens: int = 0
    #: The part of the completion's that was thinking.
    reasoning_tokens: int = 0
    #: The requests' whole durations, added up.
    seconds: float = 0.0
    #: Streams whose first chunk came, and how long that took from the request's start, added up.
    first_chunks: int = 0
    first_chunk_seconds: float = 0.0

    @property
    def series(self) -> Series:
        """Whose row it is."""
        return Series(self.route, self.model, self.status_class, self.key)

    @property
    def identity(self) -> tuple[int, int, Series]:
        """What no two rows of a store have in common."""
        return self.period, self.start, self.series


@dataclass(frozen=True, slots=True)
class State:
    """Everything that survives, as it was at ``pool.taken_at``."""

    pool: PoolSnapshot
    #: By the key of the call, which holds its id and a digest of the rest, oldest first.
    signatures: Mapping[str, RememberedCall] = field(default_factory=dict)
    metrics: tuple[MetricsRow, ...] = ()
    events: tuple[AuditEvent, ...] = ()

    @property
    def taken_at(self) -> float:
        """When it was so."""
        return self.pool.taken_at


def event_identity(event: AuditEvent) -> tuple[float, str, str, str, str]:
    """What no two events of a store have in common."""
    return event.at, event.action, event.target, event.actor.address, event.actor.token


class AuditTrail:
    """The latest audit events, at most ``capacity``."""

    def __init__(self, capacity: int = MAX_EVENTS) -> None:
        self._events: deque[AuditEvent] = deque(maxlen=capacity)

    def keep(self, event: AuditEvent) -> None:
        """Take the latest event."""
        self._events.append(event)

    def restore(self, events: Iterable[AuditEvent]) -> None:
        """Take back what :meth:`events` gave, before whatever has come since."""
        merged = {event_identity(event): event for event in (*events, *self._events)}
        ordered = sorted(merged.values(), key=attrgetter("at"))
        self._events = deque(ordered, maxlen=self._events.maxlen)

    def events(self) -> tuple[AuditEvent, ...]:
        """Oldest first."""
        return tuple(self._events)
