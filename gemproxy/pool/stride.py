"""Whose turn it is: weighted, deterministic, and cheap with many thousands of members.

Stride scheduling (Waldspurger and Weihl, MIT/LCS/TM-528): each member has a *pass*; the lowest pass
is next, and each turn adds the member's stride, which is the smaller the greater its weight. With
weights 2 and 1 every three turns are two and one. *Virtual time* is the pass of the last turn; who
comes new or back from a rest starts there, like one who has just had a turn, so that nothing is
caught up in a burst.

A member that is found unfit when its turn comes is parked: it costs nothing until its time is over
or :meth:`Rotation.free` is called. But thousands may be unfit one behind the other, and to judge
them all in one choice takes long. So who knows that a member became unfit says so at once with
:meth:`Rotation.stand_aside`: it keeps its place, and when its turn comes it is parked without being
judged. Who is chosen is the same either way.
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

from gemproxy.pool.sorted_queue import Item, Line

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


class Hindrance(Struct, frozen=True):
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


class _Hindered:
    """What keeps a member. Compared by identity: heaps may hold older ones of the member."""

    __slots__ = ("hindrance", "until")

    def __init__(self, hindrance: Hindrance, until: float) -> None:
        self.hindrance = hindrance
        self.until = until


class Rotation(Generic[M]):
    """The turns of some members. See the module."""

    def __init__(self, members: Iterable[M] = ()) -> None:
        self._virtual_time = 0
        #: The ready ones, and of the unfit those whose turn has not come since.
        self._line = Line((member.full_stride, member.order, member) for member in members)
        self._standing: dict[M, _Hindered] = {}  # unfit and in the line
        self._parked: dict[M, _Hindered] = {}  # unfit and not in the line
        self._passes: dict[M, int] = {}  # of the parked, when they left the line
        self._weak: list[tuple[int, int, M, _Hindered]] = []  # heap; parked for their health only
        self._waiting: dict[Group, list[tuple[float, int, M, _Hindered]]] = {g: [] for g in Group}
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
        twin._line = self._line.copy()
        twin._standing = self._standing.copy()
        twin._parked = self._parked.copy()
        twin._passes = self._passes.copy()
        twin._weak = self._weak.copy()
        twin._waiting = {group: heap.copy() for group, heap in self._waiting.items()}
        twin._counts = self._counts.copy()
        twin._out_for_the_day = self._out_for_the_day
        twin._wake_at = self._wake_at
        # Serials only have to differ within a rotation, so the twin goes on from the same counter.
        twin._serial = self._serial
        return twin

    def add(self, member: M) -> None:
        """A new member, whose turn comes with the next round."""
        self._line.add((self._virtual_time + member.full_stride, member.order, member))

    def discard(self, member: M) -> None:
        """Forget a removed member; where it is still in line, its next turn drops it.

        In a rotation that nobody uses no turn comes, so it is swept when many have gone.
        """
        self._rise(member)
        self._unpark(member)
        self._discarded += 1
        if self._discarded > len(self._line) // 2 + _SLACK:
            self._discarded = 0
            self._line = Line(item for item in self._line if not item[2].removed)

    def stand_aside(self, member: M, hindrance: Hindrance) -> None:
        """A member became unfit, and neither for its health nor for the request at hand only.

        What is said later takes the place of what was known before.
        """
        parked = self._parked.get(member)
        if parked is None:
            self._rise(member)
            self._hinder(member, hindrance, self._standing)
        else:
            self._count(parked.hindrance, -1)
            self._hinder(member, hindrance, self._parked)

    def free(self, member: M) -> None:
        """What hindered the member may be over: it is looked at again at its next turn."""
        self._rise(member)
        passing = self._unpark(member)
        if passing is not None:
            passing = max(passing, self._virtual_time + member.full_stride)
            self._line.add((passing, member.order, member))

    def next(self, now: float) -> M | None:
        """The member whose turn it is, for :meth:`take`; ``None`` where it takes a closer look."""
        item = self._line.first()
        if item is None or now >= self._wake_at:
            return None
        member = item[2]
        return None if member.removed or member in self._standing else member

    def take(self, member: M) -> None:
        """Let ``member``, which :meth:`next` gave, have its turn, in full health."""
        passing = self._line.turn(member.full_stride)
        if passing > self._virtual_time:  # noqa: PLR1730 - max() would cost more than the rest
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
        while chosen is None and (self._line or self._wake(now, judge)):
            self._overtake(now, tried)
            item = self._line.first()
            if item is not None:
                chosen = self._look_at(item, now, judge, stride, tried, aside)
        for passing, order, member in aside:
            self._line.add((max(passing, self._virtual_time), order, member))
        return chosen if chosen is not None else self._next_weak(now, judge, stride, tried)

    def ready(self) -> Iterator[M]:
        """The members that nothing is known to hinder, in order; some may have become unfit."""
        standing = self._standing
        return (member for _, _, member in self._line if not (member.removed or member in standing))

    def parked(self) -> Iterator[M]:
        """The members that were passed over, the longest first; some may have become fit."""
        return (member for member in self._parked if not member.removed)

    def hindered(self) -> Iterator[M]:
        """The members that are known to be hindered, whether their turn has come since or not."""
        return chain(self._parked, self._standing)

    def counts(self) -> Counter[Reason]:
        """How many members are known to be hindered for each reason."""
        return self._counts

    @property
    def out_for_the_day(self) -> int:
        """How many of them are without a quota that returns at midnight."""
        return self._out_for_the_day

    def soonest(self, group: Group) -> float | None:
        """When the first member of those hindered by ``group`` will be looked at again."""
        heap = self._waiting[group]
        while heap and not self._holds(heap[0][2], heap[0][3]):
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def _overtake(self, now: float, tried: Container[str]) -> None:
        """Park all those at the line's head that stand aside; of thousands a look each at most."""
        standing, parked, passes = self._standing, self._parked, self._passes
        if not standing:
            return
        before = len(parked)
        for passing, _, member in self._line:
            hindered = standing.get(member)
            if hindered is None or hindered.until <= now or member.id in tried:
                break
            parked[member] = hindered
            passes[member] = passing
            del standing[member]
        self._line.leave(len(parked) - before)

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
            self._line.leave()
            return None
        if member.id in tried:
            self._line.leave()
            aside.append(item)
            return None
        hindrance = judge(member, False)
        if hindrance is None:
            self._virtual_time = max(self._virtual_time, self._line.turn(stride(member)))
            return member
        self._line.leave()
        if hindrance.momentary:
            aside.append(item)
        else:
            self._park(item, hindrance, now)
        return None

    def _next_weak(
        self, now: float, judge: Judge[M], stride: Callable[[M], int], tried: Container[str]
    ) -> M | None:
        aside: list[tuple[int, int, M, _Hindered]] = []
        chosen: M | None = None
        while chosen is None and self._weak:
            passing, _, member, hindered = item = heapq.heappop(self._weak)
            if not self._holds(member, hindered):
                continue
            hindrance = None if member.id in tried else judge(member, True)
            if hindrance is not None and not hindrance.momentary:
                # Its health is the least of what is wrong with it.
                self._unpark(member)
                self._park((passing, member.order, member), hindrance, now)
                continue
            aside.append(item)
            if hindrance is None and member.id not in tried:
                chosen = member
                self._virtual_time = max(self._virtual_time, passing)
                aside[-1] = (passing + stride(member), next(self._serial), member, hindered)
        for item in aside:
            heapq.heappush(self._weak, item)
        return chosen

    def _park(self, item: Item[M], hindrance: Hindrance, now: float) -> None:
        passing, _, member = item
        # A time that is over already would be woken in this very turn, for ever.
        hindered = self._hinder(member, hindrance, self._parked, earliest=now + 0.001)
        self._passes[member] = passing
        if hindrance.reason is Reason.LOW_HEALTH:
            heapq.heappush(self._weak, (passing, next(self._serial), member, hindered))
            self._drop_outdated(self._weak)

    def _hinder(
        self,
        member: M,
        hindrance: Hindrance,
        among: dict[M, _Hindered],
        *,
        earliest: float = -math.inf,
    ) -> _Hindered:
        """Put a hindered member ``among`` its like, and let it be woken when its time is over."""
        self._count(hindrance, 1)
        until = math.inf if hindrance.until is None else max(hindrance.until, earliest)
        hindered = among[member] = _Hindered(hindrance, until)
        if hindrance.until is not None:
            heap = self._waiting[_GROUPS[hindrance.reason]]
            self._wake_at = min(self._wake_at, until)
            heapq.heappush(heap, (until, next(self._serial), member, hindered))
            self._drop_outdated(heap)
        return hindered

    def _holds(self, member: M, hindered: _Hindered) -> bool:
        """Whether this, and nothing that came later, is what hinders ``member``."""
        return (self._parked.get(member) or self._standing.get(member)) is hindered

    def _drop_outdated(self, heap: list[tuple[Any, int, M, _Hindered]]) -> None:
        """Items of members that are hindered no longer, or anew, once they are the greater part."""
        if len(heap) > 2 * (len(self._parked) + len(self._standing)) + _SLACK:
            heap[:] = [item for item in heap if self._holds(item[2], item[3])]
            heapq.heapify(heap)

    def _rise(self, member: M) -> None:
        """If it stood aside, it is an ordinary member of the line again."""
        hindered = self._standing.pop(member, None)
        if hindered is not None:
            self._count(hindered.hindrance, -1)

    def _unpark(self, member: M) -> int | None:
        """The pass with which it left the line, if it was parked."""
        hindered = self._parked.pop(member, None)
        if hindered is None:
            return None
        self._count(hindered.hindrance, -1)
        return self._passes.pop(member)

    def _count(self, hindrance: Hindrance, step: int) -> None:
        self._counts[hindrance.reason] += step
        if hindrance.for_the_day and _GROUPS[hindrance.reason] is Group.QUOTA:
            self._out_for_the_day += step

    def _wake(self, now: float, judge: Judge[M]) -> bool:
        """Make some of those ready whose time is over; whether any came back into the line.

        Whoever is found unfit all the same stands aside.
        """
        if now < self._wake_at:
            return False
        woken = risen = 0
        for heap in self._waiting.values():
            while heap and heap[0][0] <= now and woken < _WAKE_AT_ONCE and risen < _RISE_AT_ONCE:
                _, _, member, hindered = heapq.heappop(heap)
                if not self._holds(member, hindered):
                    continue
                if member in self._parked:
                    woken += 1
                else:
                    risen += 1
                self.free(member)
                hindrance = judge(member, True)
                if hindrance is not None and not hindrance.momentary:
                    self.stand_aside(member, hindrance)
        heads = [heap[0][0] for heap in self._waiting.values() if heap]
        self._wake_at = min(heads, default=math.inf)
        return woken > 0
