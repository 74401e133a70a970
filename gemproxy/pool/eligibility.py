"""The index of what makes keys ineligible.

Three questions are answered here, from the cheapest to the dearest:

* :meth:`Eligibility.trivially_eligible`: can nothing at all make the key ineligible? Two or three
  look-ups: of the key in ``restricted``, and of its project in the tables of cooldowns that have
  entries. Nearly every choice of a key ends here.
* :class:`Marks`, one for each model's scheduler: which keys are known to be ineligible, why, until
  when, and how many there are for each reason. A key with a mark is not checked again before the
  mark ends or is removed.
* :meth:`Eligibility.check`: the exact answer for one key, model and moment, from the facts: the
  operator's word, the key's breaker, limits and health, and the cooldowns and denials of its
  project.

Whoever changes a fact calls :class:`~gemproxy.pool.scheduler.KeyScheduler`, which keeps
``restricted`` and the marks true.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from enum import Enum
from itertools import count
from typing import Any, Generic, TypeVar

from msgspec import Struct

from gemproxy.pool.breaker import BreakerState
from gemproxy.pool.cooldowns import Calendar, Cooldown, Cooldowns
from gemproxy.pool.limits import Shortage
from gemproxy.pool.quotas import LearnedQuotas
from gemproxy.pool.state import KeyState, PoolSettings

#: Outdated items that may stay in a heap before it is swept.
_SLACK = 64


class Reason(Enum):
    """Why a key is ineligible."""

    DISABLED = "disabled"
    CIRCUIT_OPEN = "circuit_open"
    HALF_OPEN_BUSY = "half_open_busy"
    COOLING_DOWN = "cooling_down"
    OVER_LIMIT = "over_limit"
    QUOTA_REACHED = "quota_reached"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    LOW_HEALTH = "low_health"
    ALREADY_TRIED = "already_tried"


class Ineligible(Struct, frozen=True):
    """Why a key is ineligible, until when; ``None`` is until something changes.

    ``momentary`` concerns only the request at hand: the key stays eligible for others. ``rejected``
    says that Google rejects the key, so that a person has to act.
    """

    reason: Reason
    until: float | None = None
    for_the_day: bool = False
    momentary: bool = False
    rejected: bool = False


class Group(Enum):
    """Kinds of reasons that end in different ways, and are answered differently."""

    QUOTA = "quota"
    HEALTH = "health"
    WEAK = "weak"
    ADMISSION = "admission"


_GROUPS = {
    Reason.COOLING_DOWN: Group.QUOTA,
    Reason.OVER_LIMIT: Group.QUOTA,
    Reason.QUOTA_REACHED: Group.QUOTA,
    Reason.CIRCUIT_OPEN: Group.HEALTH,
    Reason.HALF_OPEN_BUSY: Group.HEALTH,
    Reason.LOW_HEALTH: Group.WEAK,
    Reason.DISABLED: Group.ADMISSION,
    Reason.MODEL_NOT_ALLOWED: Group.ADMISSION,
}

M = TypeVar("M", bound=Hashable)


class Mark:
    """One member's entry. Compared by identity: heaps may hold older ones of the member."""

    __slots__ = ("ineligible", "until")

    def __init__(self, ineligible: Ineligible, until: float) -> None:
        self.ineligible = ineligible
        self.until = until


class Marks(Generic[M]):
    """The members that are known to be ineligible, with totals and the times at which they end.

    A mark may be out of date in one direction: a member may be eligible before it ends.
    """

    __slots__ = ("_ends", "_serial", "counts", "members", "out_for_the_day", "rejected", "wake_at")

    def __init__(self) -> None:
        self.members: dict[M, Mark] = {}
        #: The number of members for each reason.
        self.counts: Counter[Reason] = Counter()
        #: How many of them have no quota until midnight.
        self.out_for_the_day = 0
        #: How many of them Google rejects.
        self.rejected = 0
        #: The earliest end of a mark, or an earlier time.
        self.wake_at = math.inf
        self._ends: dict[Group, list[tuple[float, int, M, Mark]]] = {g: [] for g in Group}
        self._serial = count()

    def copy(self) -> Marks[M]:
        """A copy of the marks, independent of these."""
        twin: Marks[M] = Marks()
        twin.members = self.members.copy()
        twin.counts = self.counts.copy()
        twin.out_for_the_day = self.out_for_the_day
        twin.rejected = self.rejected
        twin.wake_at = self.wake_at
        twin._ends = {group: heap.copy() for group, heap in self._ends.items()}
        twin._serial = self._serial
        return twin

    def add(self, member: M, ineligible: Ineligible, *, earliest: float = -math.inf) -> Mark:
        """Mark a member, and replace its present mark. The mark ends at ``earliest`` or later."""
        self.remove(member)
        self._count(ineligible, 1)
        until = math.inf if ineligible.until is None else max(ineligible.until, earliest)
        mark = self.members[member] = Mark(ineligible, until)
        if ineligible.until is not None:
            heap = self._ends[_GROUPS[ineligible.reason]]
            self.wake_at = min(self.wake_at, until)
            heapq.heappush(heap, (until, next(self._serial), member, mark))
            self.drop_outdated(heap)
        return mark

    def remove(self, member: M) -> None:
        """Remove the mark of a member, if it has one."""
        mark = self.members.pop(member, None)
        if mark is not None:
            self._count(mark.ineligible, -1)

    def holds(self, member: M, mark: Mark) -> bool:
        """Whether ``mark`` is the present one of ``member``."""
        return self.members.get(member) is mark

    def soonest(self, group: Group) -> float | None:
        """The earliest end of a mark with a reason of ``group``."""
        heap = self._ends[group]
        while heap and not self.holds(heap[0][2], heap[0][3]):
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def expired(self, now: float) -> Iterator[M]:
        """The members whose marks have ended. The caller removes or replaces each mark."""
        for heap in self._ends.values():
            while heap and heap[0][0] <= now:
                _, _, member, mark = heapq.heappop(heap)
                if self.holds(member, mark):
                    yield member

    def update_wake_at(self) -> None:
        """Set :attr:`wake_at` after :meth:`expired`."""
        self.wake_at = min((heap[0][0] for heap in self._ends.values() if heap), default=math.inf)

    def drop_outdated(self, heap: list[tuple[Any, int, M, Mark]]) -> None:
        """Sweep a heap of marks once most of them are no longer the present ones."""
        if len(heap) > 2 * len(self.members) + _SLACK:
            heap[:] = [item for item in heap if self.holds(item[2], item[3])]
            heapq.heapify(heap)

    def _count(self, ineligible: Ineligible, step: int) -> None:
        self.counts[ineligible.reason] += step
        if ineligible.for_the_day and _GROUPS[ineligible.reason] is Group.QUOTA:
            self.out_for_the_day += step
        self.rejected += step * ineligible.rejected


#: Constants, because access to a member of an Enum costs more than a call.
_CLOSED, _OPEN = BreakerState.CLOSED, BreakerState.OPEN
_CIRCUIT_OPEN = Reason.CIRCUIT_OPEN
_MODEL_NOT_ALLOWED = Reason.MODEL_NOT_ALLOWED
_COOLING_DOWN = Reason.COOLING_DOWN
_OVER_LIMIT = Reason.OVER_LIMIT
_QUOTA_REACHED = Reason.QUOTA_REACHED
_LOW_HEALTH = Reason.LOW_HEALTH

DISABLED = Ineligible(Reason.DISABLED)
"""Goes before every other reason, and ends only when the operator enables the key."""

_BUSY = Ineligible(Reason.HALF_OPEN_BUSY)
_NOT_ALLOWED = Ineligible(_MODEL_NOT_ALLOWED)


class Eligibility:
    """Which keys are eligible for which models. See the module.

    ``cooldowns`` are projects whose quota for a model is used up, ``denials`` are projects that
    Google refuses a model, ``key_denials`` are single keys, by their ids, to which it does.
    ``quotas`` are those of projects that Google has named, with what is used of them.
    ``calendar`` relates the pool's time to the wall clock's.

    ``restricted`` are the keys that something of their own may make ineligible, whatever the model:
    they are disabled, their breaker is not closed, failures count against their health, or they
    have limits or an allow-list. It holds every such key, and may hold one whose failures have
    left the window since.
    """

    def __init__(
        self, settings: PoolSettings, on_cooldown: Callable[[Cooldown], None] | None = None
    ) -> None:
        self.settings = settings
        self._on_cooldown = on_cooldown
        self.calendar = Calendar()
        self.cooldowns = Cooldowns()
        self.denials = Cooldowns()
        self.key_denials = Cooldowns()
        self.quotas = LearnedQuotas(self.calendar)
        self.restricted: set[KeyState] = set()

    def update(self, key: KeyState) -> None:
        """Update ``restricted`` for a key that has changed."""
        if _is_unrestricted(key):
            self.restricted.discard(key)
        else:
            self.restricted.add(key)

    def cool_down(self, table: Cooldowns, cooldown: Cooldown, now: float) -> None:
        """Put a cooldown into one of the tables. ``on_cooldown`` is called if it is not shorter."""
        kept = table.add(cooldown, now)
        if kept is not None and self._on_cooldown is not None:
            self._on_cooldown(kept)

    def check(
        self,
        key: KeyState,
        model: str,
        now: float,
        *,
        tokens: int = 0,
        last_resort: bool = False,
        probe: bool = False,
        reserve: float = 0.0,
    ) -> Ineligible | None:
        """Why ``key`` may not serve ``model`` at ``now``; ``None`` if it may.

        Of several reasons it is the one that lasts longest. ``last_resort`` admits low health,
        ``probe`` a half-open key that waits for its probe. ``reserve`` is the part of the key's
        limits of a minute that the request may not use.
        """
        if self.trivially_eligible(key, model):
            return None
        ledger = key.ledger
        shortage = None if ledger is None else ledger.shortage(now, tokens, reserve)
        known = (
            self.quotas.shortage(key.key.project, model, now, tokens) if self.quotas.size else None
        )
        found = self._lasting(key, model, now, shortage, probe)
        if known is not None and not known.momentary:
            found.append(Ineligible(_QUOTA_REACHED, known.until, known.for_the_day))
        if found:
            return found[0] if len(found) == 1 else _longest(found)
        if shortage is not None:
            return Ineligible(_OVER_LIMIT, shortage.until, momentary=True)
        if known is not None:
            return Ineligible(_QUOTA_REACHED, known.until, momentary=True)
        if not last_resort and key.window.failures:
            if self._is_weak(key, now):
                return Ineligible(_LOW_HEALTH, key.window.next_change(now))
            if not key.window.failures:  # The failures have left the window by now.
                self.update(key)
        return None

    def trivially_eligible(self, key: KeyState, model: str) -> bool:
        """Whether nothing at all can make ``key`` ineligible for ``model``."""
        return key not in self.restricted and not self.may_cool(key, model)

    def may_cool(self, key: KeyState, model: str) -> bool:
        """Whether ``key`` or its project is kept from ``model``, or was until a moment ago."""
        cooldowns, denials, key_denials = self.cooldowns, self.denials, self.key_denials
        return (
            (cooldowns.size > 0 and cooldowns.may_find(key.key.project, model))
            or (denials.size > 0 and denials.may_find(key.key.project, model))
            or (key_denials.size > 0 and key_denials.may_find(key.id, model))
            or (self.quotas.size > 0 and self.quotas.may_limit(key.key.project, model))
        )

    def concern(self, model: str) -> bool:
        """Whether a cooldown or denial of any key may be for ``model``."""
        return (
            self.cooldowns.concern(model)
            or self.denials.concern(model)
            or self.key_denials.concern(model)
            or self.quotas.concern(model)
        )

    def forget(self, key: KeyState) -> None:
        """End every cooldown and denial of a key and of its project, and forget its quotas."""
        for cooldowns in (self.cooldowns, self.denials):
            cooldowns.forget_project(key.key.project)
        self.key_denials.forget_project(key.id)
        self.quotas.forget_project(key.key.project)

    def denied_models(self, key: KeyState, now: float) -> tuple[str, ...]:
        """The models that Google refuses to a key or to its project, sorted."""
        if not (self.denials.size or self.key_denials.size):
            return ()
        found = self.denials.of_project(key.key.project, now)
        found += self.key_denials.of_project(key.id, now)
        return tuple(sorted({denial.model for denial in found}))

    def candidates(
        self, keys: Iterable[KeyState], model: str, tried: Collection[str]
    ) -> list[KeyState]:
        """Those of ``keys`` that may be ineligible or were ``tried``."""
        return [key for key in keys if key.id in tried or not self.trivially_eligible(key, model)]

    def _lasting(
        self, key: KeyState, model: str, now: float, shortage: Shortage | None, probe: bool
    ) -> list[Ineligible]:
        """The reasons that concern all requests for the model, in order of precedence."""
        found: list[Ineligible] = []
        if not key.enabled:
            found.append(DISABLED)
        if key.breaker.state is not _CLOSED and (opened := self._breaker(key, now, probe)):
            found.append(opened)
        if not key.allows(model):
            found.append(_NOT_ALLOWED)
        if self.denials.size and (denial := self.denials.find(key.key.project, model, now)):
            found.append(Ineligible(_MODEL_NOT_ALLOWED, denial.until))
        if self.key_denials.size and (denial := self.key_denials.find(key.id, model, now)):
            found.append(Ineligible(_MODEL_NOT_ALLOWED, denial.until))
        if self.cooldowns.size and (cooldown := self.cooldowns.find(key.key.project, model, now)):
            found.append(Ineligible(_COOLING_DOWN, cooldown.until, cooldown.reason == "quota_day"))
        if shortage is not None and not shortage.momentary:
            found.append(Ineligible(_OVER_LIMIT, shortage.until, shortage.for_the_day))
        return found

    def _breaker(self, key: KeyState, now: float, probe: bool) -> Ineligible | None:
        if key.breaker.state_at(now) is _OPEN:
            rejected = key.needs_attention is not None
            return Ineligible(_CIRCUIT_OPEN, key.breaker.until, rejected=rejected)
        busy = key.breaker.trial_running or (not probe and key.waits_for_probe(self.settings))
        return _BUSY if busy else None

    def _is_weak(self, key: KeyState, now: float) -> bool:
        score = key.effective_health(now, self.settings.minimum_requests)
        return score < self.settings.health_threshold


def _is_unrestricted(key: KeyState) -> bool:
    """Whether nothing about the key itself can make it ineligible, for any model at any time."""
    return (
        key.enabled
        and key.breaker.state is _CLOSED
        and not key.window.failures
        and key.ledger is None
        and not key.key.models
    )


def _longest(found: list[Ineligible]) -> Ineligible:
    """The reason that ends last, or the first without an end; a trial ends before all others.

    So a key that is reported to be out of quota until a moment is eligible at that moment, and a
    mark stays true until its end.
    """
    found = [ineligible for ineligible in found if ineligible is not _BUSY]
    endless = [ineligible for ineligible in found if ineligible.until is None]
    return endless[0] if endless else max(found, key=lambda ineligible: ineligible.until or 0.0)
