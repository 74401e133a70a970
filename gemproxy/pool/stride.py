"""Whose turn it is: weighted, deterministic, and cheap with many thousands of members.

Stride scheduling (Waldspurger and Weihl, MIT/LCS/TM-528): each member has a *pass*; the lowest pass
is next, and each turn adds the member's stride, which is the smaller the greater its weight. With
weights 2 and 1 every three turns are two and one. *Virtual time* is the pass of the last turn; who
comes new or back from a cooldown starts there, like one who has just had a turn, so that nothing is
caught up in a burst.

A member that is found ineligible when its turn comes is suspended: it costs nothing until its time
is over or :meth:`StrideScheduler.mark_eligible` is called. But thousands may be ineligible one
behind the other, and to check them all in one choice takes long. So who knows that a member became
ineligible says so at once with :meth:`StrideScheduler.mark_ineligible`: the member keeps its place,
and when its turn comes it is suspended without a check. The choice is the same either way.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Container, Hashable, Iterable, Iterator
from enum import Enum
from itertools import chain, count
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct

from gemproxy.pool.sorted_queue import Item, SortedQueue

STRIDE = 720_720 * 1_000_000
"""Stride of the weight 1; whole for every weight up to 16 and exact enough for the others."""

# One turn may not wake thousands at once: a quota's end comes for all keys at the same midnight.
_WAKE_AT_ONCE = 64
# Those that still stand in line wake for little.
_RISE_AT_ONCE = 128


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


class Ineligible(Struct, frozen=True):
    """What keeps a member from its turn, until when; ``None`` is until something happens.

    ``momentary`` concerns only the request at hand: the member stays ready for others. ``rejected``
    says that the upstream rejects the member, so that a person has to act.
    """

    reason: Reason
    until: float | None = None
    for_the_day: bool = False
    momentary: bool = False
    rejected: bool = False


class Member(Hashable, Protocol):
    """What a scheduler needs to know of its members.

    ``order`` is unique and settles ties; ``full_stride`` is the stride in full health.
    """

    id: str
    order: int
    removed: bool
    full_stride: int


M = TypeVar("M", bound=Member)

Judge = Callable[[M, bool], Ineligible | None]
"""Tells what makes ineligible a member now; with ``True`` a bad health does not."""


class Group(Enum):
    """Kinds of reasons that end in different ways, and are answered differently."""

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


class _Mark:
    """What keeps a member. Compared by identity: heaps may hold older ones of the member."""

    __slots__ = ("ineligible", "until")

    def __init__(self, ineligible: Ineligible, until: float) -> None:
        self.ineligible = ineligible
        self.until = until


class StrideScheduler(Generic[M]):
    """The turns of some members. See the module."""

    def __init__(self, members: Iterable[M] = ()) -> None:
        self._virtual_time = 0
        #: The ready ones, and of the unfit those whose turn has not come since.
        self._queue = SortedQueue((member.full_stride, member.order, member) for member in members)
        self._standing: dict[M, _Mark] = {}  # unfit and in the line
        self._suspended: dict[M, _Mark] = {}  # unfit and not in the line
        self._passes: dict[M, int] = {}  # of the suspended, when they left the line
        self._weak: list[tuple[int, int, M, _Mark]] = []  # heap; suspended for their health only
        self._waiting: dict[Group, list[tuple[float, int, M, _Mark]]] = {g: [] for g in Group}
        self._counts: Counter[Reason] = Counter()
        self._out_for_the_day = 0
        self._rejected = 0
        #: When the first of those that wait may be woken; no later than that at least.
        self._wake_at = math.inf
        self._serial = count()
        self._discarded = 0  # since the last sweep

    def copy(self) -> StrideScheduler[M]:
        """The same members at the same point of their turns, going its own way from here."""
        twin: StrideScheduler[M] = StrideScheduler()
        twin._virtual_time = self._virtual_time
        twin._queue = self._queue.copy()
        twin._standing = self._standing.copy()
        twin._suspended = self._suspended.copy()
        twin._passes = self._passes.copy()
        twin._weak = self._weak.copy()
        twin._waiting = {group: heap.copy() for group, heap in self._waiting.items()}
        twin._counts = self._counts.copy()
        twin._out_for_the_day = self._out_for_the_day
        twin._rejected = self._rejected
        twin._wake_at = self._wake_at
        # Serials only have to differ within a scheduler, so the twin goes on from the same counter.
        twin._serial = self._serial
        return twin

    def add(self, member: M) -> None:
        """A new member, whose turn comes with the next round."""
        self._queue.add((self._virtual_time + member.full_stride, member.order, member))

    def discard(self, member: M) -> None:
        """Forget a removed member; where it is still in line, its next turn drops it.

        In a scheduler that nobody uses no turn comes, so it is swept when many have gone.
        """
        self._rise(member)
        self._resume(member)
        self._discarded += 1
        if self._discarded > len(self._queue) // 2 + _SLACK:
            self._discarded = 0
            self._queue = SortedQueue(item for item in self._queue if not item[2].removed)

    def mark_ineligible(self, member: M, ineligible: Ineligible) -> None:
        """A member became unfit, and neither for its health nor for the request at hand only.

        What is said later takes the place of what was known before.
        """
        suspended = self._suspended.get(member)
        if suspended is None:
            self._rise(member)
            self._mark(member, ineligible, self._standing)
        else:
            self._count(suspended.ineligible, -1)
            self._mark(member, ineligible, self._suspended)

    def mark_eligible(self, member: M) -> None:
        """What mark the member may be over: it is looked at again at its next turn."""
        self._rise(member)
        passing = self._resume(member)
        if passing is not None:
            passing = max(passing, self._virtual_time + member.full_stride)
            self._queue.add((passing, member.order, member))

    def next(self, now: float) -> M | None:
        """The member whose turn it is, for :meth:`take`; ``None`` where it takes a closer look."""
        item = self._queue.first()
        if item is None or now >= self._wake_at:
            return None
        member = item[2]
        return None if member.removed or member in self._standing else member

    def take(self, member: M) -> None:
        """Let ``member``, which :meth:`next` gave, have its turn, in full health."""
        passing = self._queue.turn(member.full_stride)
        if passing > self._virtual_time:  # noqa: PLR1730 - max() would cost more than the cooldown
            self._virtual_time = passing

    def choose(
        self, now: float, judge: Judge[M], stride: Callable[[M], int], tried: Container[str] = ()
    ) -> M | None:
        """The member whose turn it is, its turn taken; ``None`` where nobody is fit.

        ``tried`` holds ids of members that are passed over this time. A member in low health is
        chosen only where no other is left.
        """
        self._wake(now, judge)
        aside: list[Item[M]] = []
        chosen: M | None = None
        while chosen is None and (self._queue or self._wake(now, judge)):
            self._overtake(now, tried)
            item = self._queue.first()
            if item is not None:
                chosen = self._look_at(item, now, judge, stride, tried, aside)
        for passing, order, member in aside:
            self._queue.add((max(passing, self._virtual_time), order, member))
        return chosen if chosen is not None else self._next_weak(now, judge, stride, tried)

    def ready(self) -> Iterator[M]:
        """The members that nothing is known to hinder, in order; some may have become unfit."""
        standing = self._standing
        return (
            member for _, _, member in self._queue if not (member.removed or member in standing)
        )

    def suspended(self) -> Iterator[M]:
        """The members that were passed over, the longest first; some may have become fit."""
        return (member for member in self._suspended if not member.removed)

    def ineligible(self) -> Iterator[M]:
        """The members that are known to be mark, whether their turn has come since or not."""
        return chain(self._suspended, self._standing)

    def counts(self) -> Counter[Reason]:
        """How many members are known to be mark for each reason."""
        return self._counts

    @property
    def out_for_the_day(self) -> int:
        """How many of them are without a quota that returns at midnight."""
        return self._out_for_the_day

    @property
    def rejected(self) -> int:
        """How many of them the upstream rejects."""
        return self._rejected

    def soonest(self, group: Group) -> float | None:
        """When the first member of those mark by ``group`` will be looked at again."""
        heap = self._waiting[group]
        while heap and not self._holds(heap[0][2], heap[0][3]):
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def _overtake(self, now: float, tried: Container[str]) -> None:
        """Park all those at the line's head that stand aside; of thousands a look each at most."""
        standing, suspended, passes = self._standing, self._suspended, self._passes
        if not standing:
            return
        before = len(suspended)
        for passing, _, member in self._queue:
            mark = standing.get(member)
            if mark is None or mark.until <= now or member.id in tried:
                break
            suspended[member] = mark
            passes[member] = passing
            del standing[member]
        self._queue.leave(len(suspended) - before)

    def _look_at(
        self,
        item: Item[M],
        now: float,
        judge: Judge[M],
        stride: Callable[[M], int],
        tried: Container[str],
        aside: list[Item[M]],
    ) -> M | None:
        """Take the turn of the first in line, or put it where it belongs."""
        member = item[2]
        self._rise(member)
        if member.removed:
            self._queue.leave()
            return None
        if member.id in tried:
            self._queue.leave()
            aside.append(item)
            return None
        ineligible = judge(member, False)
        if ineligible is None:
            self._virtual_time = max(self._virtual_time, self._queue.turn(stride(member)))
            return member
        self._queue.leave()
        if ineligible.momentary:
            aside.append(item)
        else:
            self._suspend(item, ineligible, now)
        return None

    def _next_weak(
        self, now: float, judge: Judge[M], stride: Callable[[M], int], tried: Container[str]
    ) -> M | None:
        aside: list[tuple[int, int, M, _Mark]] = []
        chosen: M | None = None
        while chosen is None and self._weak:
            passing, _, member, mark = item = heapq.heappop(self._weak)
            if not self._holds(member, mark):
                continue
            ineligible = None if member.id in tried else judge(member, True)
            if ineligible is not None and not ineligible.momentary:
                # Its health is the least of what is wrong with it.
                self._resume(member)
                self._suspend((passing, member.order, member), ineligible, now)
                continue
            aside.append(item)
            if ineligible is None and member.id not in tried:
                chosen = member
                self._virtual_time = max(self._virtual_time, passing)
                aside[-1] = (passing + stride(member), next(self._serial), member, mark)
        for item in aside:
            heapq.heappush(self._weak, item)
        return chosen

    def _suspend(self, item: Item[M], ineligible: Ineligible, now: float) -> None:
        passing, _, member = item
        # A time that is over already would be woken in this very turn, for ever.
        mark = self._mark(member, ineligible, self._suspended, earliest=now + 0.001)
        self._passes[member] = passing
        if ineligible.reason is Reason.LOW_HEALTH:
            heapq.heappush(self._weak, (passing, next(self._serial), member, mark))
            self._drop_outdated(self._weak)

    def _mark(
        self,
        member: M,
        ineligible: Ineligible,
        among: dict[M, _Mark],
        *,
        earliest: float = -math.inf,
    ) -> _Mark:
        """Put a mark member ``among`` its like, and let it be woken when its time is over."""
        self._count(ineligible, 1)
        until = math.inf if ineligible.until is None else max(ineligible.until, earliest)
        mark = among[member] = _Mark(ineligible, until)
        if ineligible.until is not None:
            heap = self._waiting[_GROUPS[ineligible.reason]]
            self._wake_at = min(self._wake_at, until)
            heapq.heappush(heap, (until, next(self._serial), member, mark))
            self._drop_outdated(heap)
        return mark

    def _holds(self, member: M, mark: _Mark) -> bool:
        """Whether this, and nothing that came later, is what makes ineligible ``member``."""
        return (self._suspended.get(member) or self._standing.get(member)) is mark

    def _drop_outdated(self, heap: list[tuple[Any, int, M, _Mark]]) -> None:
        """Items of members that are mark no longer, or anew, once they are the greater part."""
        if len(heap) > 2 * (len(self._suspended) + len(self._standing)) + _SLACK:
            heap[:] = [item for item in heap if self._holds(item[2], item[3])]
            heapq.heapify(heap)

    def _rise(self, member: M) -> None:
        """If it stood aside, it is an ordinary member of the line again."""
        mark = self._standing.pop(member, None)
        if mark is not None:
            self._count(mark.ineligible, -1)

    def _resume(self, member: M) -> int | None:
        """The pass with which it left the line, if it was suspended."""
        mark = self._suspended.pop(member, None)
        if mark is None:
            return None
        self._count(mark.ineligible, -1)
        return self._passes.pop(member)

    def _count(self, ineligible: Ineligible, step: int) -> None:
        self._counts[ineligible.reason] += step
        if ineligible.for_the_day and _GROUPS[ineligible.reason] is Group.QUOTA:
            self._out_for_the_day += step
        self._rejected += step * ineligible.rejected

    def _wake(self, now: float, judge: Judge[M]) -> bool:
        """Make some of those ready whose time is over; whether any came back into the line.

        Whoever is found unfit all the same stands aside.
        """
        if now < self._wake_at:
            return False
        woken = risen = 0
        for heap in self._waiting.values():
            while heap and heap[0][0] <= now and woken < _WAKE_AT_ONCE and risen < _RISE_AT_ONCE:
                _, _, member, mark = heapq.heappop(heap)
                if not self._holds(member, mark):
                    continue
                if member in self._suspended:
                    woken += 1
                else:
                    risen += 1
                self.mark_eligible(member)
                ineligible = judge(member, True)
                if ineligible is not None and not ineligible.momentary:
                    self.mark_ineligible(member, ineligible)
        heads = [heap[0][0] for heap in self._waiting.values() if heap]
        self._wake_at = min(heads, default=math.inf)
        return woken > 0
