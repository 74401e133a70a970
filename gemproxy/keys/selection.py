"""Whose turn it is: weighted, deterministic, and cheap with many thousands of members.

Stride scheduling (Waldspurger and Weihl, MIT/LCS/TM-528): each member has a *pass*; the lowest pass
is next, and each turn adds the member's stride, which is the smaller the greater its weight. With
weights 2 and 1 every three turns are two and one. *Virtual time* is the pass of the last turn; who
comes new or back from a rest starts there, like one who has just had a turn, so that nothing is
caught up in a burst.

Nobody tells a :class:`Rotation` that a member became unfit: it finds out when the member's turn
comes, and parks it with what hinders it. Parked members cost nothing until their time is over or
:meth:`Rotation.free` is called.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Container, Hashable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

STRIDE = 720_720 * 1_000_000
"""Stride of the weight 1; whole for every weight up to 16 and exact enough for the others."""

# One turn may not wake thousands at once: a quota's end comes for all keys at the same midnight.
_WAKE_AT_ONCE = 64


class Reason(Enum):
    """Why a key is passed over."""

    DISABLED = "disabled"
    CIRCUIT_OPEN = "circuit_open"
    HALF_OPEN_BUSY = "half_open_busy"
    COOLING_DOWN = "cooling_down"
    OVER_LIMIT = "over_limit"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    LOW_HEALTH = "low_health"
    ALREADY_TRIED = "already_tried"


@dataclass(frozen=True, slots=True)
class Hindrance:
    """What keeps a member from its turn, until when; ``None`` is until something happens.

    ``momentary`` concerns only the request at hand: the member stays ready for others.
    """

    reason: Reason
    until: float | None = None
    for_the_day: bool = False
    momentary: bool = False


class Member(Hashable, Protocol):
    """What a rotation needs to know of its members.

    ``order`` is unique and settles ties; ``full_stride`` is the stride in full health.
    """

    id: str
    order: int
    removed: bool
    full_stride: int


M = TypeVar("M", bound=Member)

Judge = Callable[[M, bool], Hindrance | None]
"""Tells what hinders a member now; with ``True`` a bad health does not."""


class Group(Enum):
    """Kinds of hindrances that end in different ways, and are answered differently."""

    QUOTA = "quota"
    HEALTH = "health"
    WEAK = "weak"
    ADMISSION = "admission"


_GROUPS = {
    Reason.COOLING_DOWN: Group.QUOTA,
    Reason.OVER_LIMIT: Group.QUOTA,
    Reason.CIRCUIT_OPEN: Group.HEALTH,
    Reason.HALF_OPEN_BUSY: Group.HEALTH,
    Reason.LOW_HEALTH: Group.WEAK,
    Reason.DISABLED: Group.ADMISSION,
    Reason.MODEL_NOT_ALLOWED: Group.ADMISSION,
}


#: So many outdated items are borne before a heap is swept.
_SLACK = 64


class _Parked:
    """A member that is not ready. Compared by identity: heaps may hold older ones of the member."""

    __slots__ = ("hindrance", "passing")

    def __init__(self, hindrance: Hindrance, passing: int) -> None:
        self.hindrance = hindrance
        self.passing = passing


class Rotation(Generic[M]):
    """The turns of some members. See the module."""

    def __init__(self) -> None:
        self._virtual_time = 0
        self._ready: list[tuple[int, int, M]] = []  # heap of (pass, order, member)
        self._weak: list[tuple[int, int, M, _Parked]] = []  # heap; parked for their health only
        self._parked: dict[M, _Parked] = {}
        self._waiting: dict[Group, list[tuple[float, int, M, _Parked]]] = {g: [] for g in Group}
        self._counts: Counter[Reason] = Counter()
        self._out_for_the_day = 0
        #: When the first of those that wait may be woken; no later than that at least.
        self._wake_at = math.inf
        self._serial = count()
        self._discarded = 0  # since the last sweep

    def copy(self) -> Rotation[M]:
        """The same members at the same point of their turns, going its own way from here."""
        twin: Rotation[M] = Rotation()
        twin._virtual_time = self._virtual_time
        twin._ready = self._ready.copy()
        twin._weak = self._weak.copy()
        twin._parked = self._parked.copy()
        twin._waiting = {group: heap.copy() for group, heap in self._waiting.items()}
        twin._counts = self._counts.copy()
        twin._out_for_the_day = self._out_for_the_day
        twin._wake_at = self._wake_at
        # Serials only have to differ within a rotation, so the twin goes on from the same counter.
        twin._serial = self._serial
        return twin

    def add(self, member: M) -> None:
        """A new member, whose turn comes with the next round."""
        passing = self._virtual_time + member.full_stride
        heapq.heappush(self._ready, (passing, member.order, member))

    def discard(self, member: M) -> None:
        """Forget a removed member; where it is still ready, its next turn drops it.

        In a rotation that nobody uses no turn comes, so it is swept when many have gone.
        """
        self._unpark(member)
        self._discarded += 1
        if self._discarded > len(self._ready) // 2 + _SLACK:
            self._discarded = 0
            self._ready = [item for item in self._ready if not item[2].removed]
            heapq.heapify(self._ready)

    def free(self, member: M) -> None:
        """What hindered the member may be over: it is looked at again at its next turn."""
        parked = self._unpark(member)
        if parked is not None:
            passing = max(parked.passing, self._virtual_time + member.full_stride)
            heapq.heappush(self._ready, (passing, member.order, member))

    def next(self, now: float) -> M | None:
        """The member whose turn it is, for :meth:`take`; ``None`` where it takes a closer look."""
        if now >= self._wake_at or not self._ready:
            return None
        member = self._ready[0][2]
        return None if member.removed else member

    def take(self) -> None:
        """Let the member that :meth:`next` gave have its turn, in full health."""
        passing, order, member = self._ready[0]
        heapq.heapreplace(self._ready, (passing + member.full_stride, order, member))
        self._virtual_time = max(self._virtual_time, passing)

    def choose(
        self, now: float, judge: Judge[M], stride: Callable[[M], int], tried: Container[str] = ()
    ) -> M | None:
        """The member whose turn it is, its turn taken; ``None`` where nobody is fit.

        ``tried`` holds ids of members that are passed over this time. A member in low health is
        chosen only where no other is left.
        """
        self._wake(now)
        aside: list[tuple[int, int, M]] = []
        chosen: M | None = None
        while chosen is None and (self._ready or self._wake(now)):
            chosen = self._next_ready(now, judge, stride, tried, aside)
        for passing, order, member in aside:
            heapq.heappush(self._ready, (max(passing, self._virtual_time), order, member))
        return chosen if chosen is not None else self._next_weak(judge, stride, tried)

    def ready(self) -> Iterator[M]:
        """The members that are not parked, in no order; some may have become unfit."""
        return (member for _, _, member in self._ready if not member.removed)

    def parked(self) -> Iterator[M]:
        """The members that were found unfit, the longest first; some may have become fit."""
        return (member for member in self._parked if not member.removed)

    def counts(self) -> Counter[Reason]:
        """How many members are parked for each reason."""
        return self._counts

    @property
    def out_for_the_day(self) -> int:
        """How many members are parked for a quota that returns at midnight."""
        return self._out_for_the_day

    def soonest(self, group: Group) -> float | None:
        """When the first member of those parked for ``group`` will be looked at again."""
        heap = self._waiting[group]
        while heap and self._parked.get(heap[0][2]) is not heap[0][3]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def _next_ready(
        self,
        now: float,
        judge: Judge[M],
        stride: Callable[[M], int],
        tried: Container[str],
        aside: list[tuple[int, int, M]],
    ) -> M | None:
        """Look at the first of the ready: take its turn, or put it where it belongs."""
        item = self._ready[0]
        passing, order, member = item
        if member.removed:
            heapq.heappop(self._ready)
            return None
        if tried and member.id in tried:
            aside.append(heapq.heappop(self._ready))
            return None
        hindrance = judge(member, False)
        if hindrance is None:
            heapq.heapreplace(self._ready, (passing + stride(member), order, member))
            self._virtual_time = max(self._virtual_time, passing)
            return member
        heapq.heappop(self._ready)
        if hindrance.momentary:
            aside.append(item)
        else:
            self._park(member, _Parked(hindrance, passing), now)
        return None

    def _next_weak(
        self, judge: Judge[M], stride: Callable[[M], int], tried: Container[str]
    ) -> M | None:
        aside: list[tuple[int, int, M, _Parked]] = []
        chosen: M | None = None
        while chosen is None and self._weak:
            passing, _, member, parked = item = heapq.heappop(self._weak)
            if self._parked.get(member) is not parked:
                continue
            aside.append(item)
            if member.id not in tried and judge(member, True) is None:
                chosen = member
                self._virtual_time = max(self._virtual_time, passing)
                aside[-1] = (passing + stride(member), next(self._serial), member, parked)
        for item in aside:
            heapq.heappush(self._weak, item)
        return chosen

    def _park(self, member: M, parked: _Parked, now: float) -> None:
        hindrance = parked.hindrance
        self._parked[member] = parked
        self._count(hindrance, 1)
        if hindrance.reason is Reason.LOW_HEALTH:
            heapq.heappush(self._weak, (parked.passing, next(self._serial), member, parked))
            self._drop_outdated(self._weak)
        if hindrance.until is not None:
            heap = self._waiting[_GROUPS[hindrance.reason]]
            # A time that is over already would be woken in this very turn, for ever.
            until = max(hindrance.until, now + 0.001)
            self._wake_at = min(self._wake_at, until)
            heapq.heappush(heap, (until, next(self._serial), member, parked))
            self._drop_outdated(heap)

    def _drop_outdated(self, heap: list[tuple[Any, int, M, _Parked]]) -> None:
        """Items of members that are parked no longer, or anew, once they are the greater part."""
        if len(heap) > 2 * len(self._parked) + _SLACK:
            heap[:] = [item for item in heap if self._parked.get(item[2]) is item[3]]
            heapq.heapify(heap)

    def _unpark(self, member: M) -> _Parked | None:
        parked = self._parked.pop(member, None)
        if parked is not None:
            self._count(parked.hindrance, -1)
        return parked

    def _count(self, hindrance: Hindrance, step: int) -> None:
        self._counts[hindrance.reason] += step
        if hindrance.for_the_day and _GROUPS[hindrance.reason] is Group.QUOTA:
            self._out_for_the_day += step

    def _wake(self, now: float) -> bool:
        """Make some of those ready whose time is over; whether there were any."""
        if now < self._wake_at:
            return False
        woken = 0
        for heap in self._waiting.values():
            while heap and heap[0][0] <= now and woken < _WAKE_AT_ONCE:
                _, _, member, parked = heapq.heappop(heap)
                if self._parked.get(member) is parked:
                    self.free(member)
                    woken += 1
        heads = [heap[0][0] for heap in self._waiting.values() if heap]
        self._wake_at = min(heads, default=math.inf)
        return woken > 0
