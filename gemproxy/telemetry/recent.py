"""Results of the last minutes as clients saw them, for the health report.

A request has failed if its client would say so and it is not the client's fault: a 5xx, a 429, a
stream that broke off. Not counted at all are client errors (other 4xx), requests whose client left,
and those that a drain or the client's own limits refused. Each failure has a short cause, such as
``upstream 503``.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

from msgspec import Struct

from gemproxy.core.context import Attempt, RequestContext
from gemproxy.core.errors import Draining
from gemproxy.pool.outcome import SERVED
from gemproxy.telemetry.tallies import SLOT_SECONDS, Tally, TallyListener

#: Seconds of the window, and of its latest part.
WINDOW: Final = 300
OF_LATE: Final = 60

_SLOT: Final = SLOT_SECONDS
#: Distinct causes in each slot.
_MOST_CAUSES: Final = 32
_DRAINING: Final = Draining.kind
_OTHER: Final = "other reasons"
_SERVED_WORDS: Final = frozenset({verdict.value for verdict in SERVED})


class RecentRequests(Struct, frozen=True):
    """Requests of the last :data:`WINDOW` seconds, and of :data:`OF_LATE` among them."""

    total: int = 0
    failed: int = 0
    total_of_late: int = 0
    failed_of_late: int = 0
    #: Causes of failures, the most frequent first.
    causes: tuple[tuple[str, int], ...] = ()


class RecentOutcomes(TallyListener):
    """Counts finished requests in slots of ten seconds; a ``TallyListener``."""

    def __init__(self) -> None:
        # As many as a monotonic clock can fill.
        self._slots: deque[_Slot] = deque(maxlen=WINDOW // int(_SLOT) + 2)
        self._present = _Slot(-_SLOT)

    def request_ended(self, context: RequestContext, status: int, seconds: float) -> None:
        """See :meth:`gemproxy.core.events.RequestListener.request_ended`."""
        if status < 400 and context.outcome in _SERVED_WORDS:
            if context.model is not None:
                now, slot = context.started + seconds, self._present
                if not slot.start <= now < slot.start + _SLOT:
                    slot = self._slot_at(now)
                slot.served += 1
        elif context.outcome == _DRAINING or context.over_limit:
            return
        elif status >= 500 or status == 429 or (status < 400 and context.model is not None):
            slot = self._slot_at(context.started + seconds)
            cause = _cause(context, status)
            if cause not in slot.causes and len(slot.causes) >= _MOST_CAUSES:
                cause = _OTHER
            slot.causes[cause] += 1

    def requests_ended(self, tally: Tally) -> None:
        """See :meth:`gemproxy.telemetry.tallies.TallyListener.requests_ended`."""
        if tally.model is not None:
            self._slot_at(tally.moment).served += tally.requests

    def summary(self, now: float) -> RecentRequests:
        """The counts until ``now``, monotonic time."""
        self.settle()
        self._forget(now)
        causes: Counter[str] = Counter()
        total = late_total = late_failed = 0
        for slot in self._slots:
            failed = slot.causes.total()
            causes.update(slot.causes)
            total += slot.served + failed
            if slot.start > now - OF_LATE:
                late_total += slot.served + failed
                late_failed += failed
        return RecentRequests(
            total, causes.total(), late_total, late_failed, tuple(causes.most_common())
        )

    def _slot_at(self, now: float) -> _Slot:
        slot = self._present
        if slot.start <= now < slot.start + _SLOT:
            return slot
        self._forget(now)
        slot = self._present = _Slot(now // _SLOT * _SLOT)
        self._slots.append(slot)
        return slot

    def _forget(self, now: float) -> None:
        slots = self._slots
        while slots and slots[0].start <= now - WINDOW:
            slots.popleft()


class _Slot:
    __slots__ = ("causes", "served", "start")

    def __init__(self, start: float) -> None:
        self.start = start
        self.served = 0
        self.causes: Counter[str] = Counter()


def _cause(context: RequestContext, status: int) -> str:
    if not context.attempts:
        return context.outcome.replace("_", " ") or f"status {status}"
    return _cause_of(context.attempts[-1])


def _cause_of(attempt: Attempt) -> str:
    outcome = attempt.outcome
    if outcome.status is not None and outcome.status >= 300:
        return f"upstream {outcome.status}"
    return (outcome.reason or outcome.verdict.value).replace("_", " ")
