"""Choose the next member: weighted, deterministic, and fast with many thousands of members.

Stride scheduling (Waldspurger and Weihl, MIT/LCS/TM-528): each member has a *pass*; the member with
the lowest pass is next, and each choice adds the member's stride, which is inverse to its weight.
With weights 2 and 1 the first gets two of every three choices. *Virtual time* is the pass of the
last choice. A new member, or one that was suspended, starts one stride after it, so that it does
not get a burst of choices.

A member that is found ineligible when it is next is *suspended*: it leaves the queue and costs
nothing until its time is over or :meth:`StrideScheduler.mark_eligible` is called. But thousands of
members in a row may be ineligible, and checking them all in one choice takes long. So a caller that
knows that a member became ineligible calls :meth:`StrideScheduler.mark_ineligible`: the member
keeps its place in the queue, and is suspended without a check when it is next. The choice is the
same in both cases.

A member may also be chosen *early*, whatever its place (:meth:`StrideScheduler.take_early`),
because the request prefers it or can be served by no other. Its stride is then owed: when the
member is next, it misses that turn. So the shares stay those of the weights, but for what is owed
at the moment. What is still owed after :data:`WINDOW` seconds is forgiven, since Google counts most
quotas by the minute.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections.abc import Callable, Container, Hashable, Iterable, Iterator
from itertools import count, islice
from typing import Generic, Protocol, TypeVar

from gemproxy.pool.eligibility import Ineligible, Mark, Marks, Reason

# Members that one choice may return to the queue: daily quotas of all keys end at one midnight.
_WAKE_AT_ONCE = 64
# The same for members that are still in the queue, which is cheaper.
_UNMARK_AT_ONCE = 128
#: Removed members that may stay in the queue before it is swept.
_SLACK = 64
#: Seconds after which a member owes nothing more.
WINDOW = 60.0
#: Choices by which a member may always be ahead of its share: a pool may have little traffic.
FREE = 10
#: Turns that are missed in one choice, and after a choice that was early.
_MISSED_AT_ONCE = 64
_MISSED_WHEN_EARLY = 2
# The list is shortened once this many items at its beginning are used up, since that moves all
# others.
_MAX_GONE = 64


class Member(Hashable, Protocol):
    """What a scheduler needs to know of its members.

    ``order`` is unique and settles ties; ``full_stride`` is the stride in full health.
    """

    id: str
    order: int
    removed: bool
    full_stride: int


M = TypeVar("M", bound=Member)
T = TypeVar("T")

Check = Callable[[M, bool], Ineligible | None]
"""Tells why a member is ineligible now; with ``True`` low health is no reason."""

Item = tuple[int, int, T]
"""A member behind its place: its pass, and its order, which is unique and settles ties."""


class SortedQueue(Generic[T]):
    """Items in the order of their passes.

    A sorted list, since it can be walked in order and an item inserted by bisection; with ten
    thousand items a choice costs as much as on a heap. (With a hundred thousand and different
    weights it costs ten times as much, since the end of the list is moved.)
    """

    __slots__ = ("_gone", "_items")

    def __init__(self, items: Iterable[Item[T]] = ()) -> None:
        self._items = sorted(items)
        self._gone = 0  # of the list's first items

    def copy(self) -> SortedQueue[T]:
        """The same items at the same places."""
        twin: SortedQueue[T] = SortedQueue()
        twin._items = self._items[self._gone :]
        return twin

    def first(self) -> Item[T] | None:
        """The item with the lowest pass; ``None`` if the queue is empty."""
        items = self._items
        return items[self._gone] if len(items) > self._gone else None

    def add(self, item: Item[T]) -> None:
        """Insert an item at its place."""
        insort(self._items, item, self._gone)

    def pop(self, number: int = 1) -> None:
        """Remove the first ``number`` items."""
        self._gone += number
        if self._gone > _MAX_GONE:
            del self._items[: self._gone]
            self._gone = 0

    def requeue_first(self, stride: int) -> int:
        """Move the first item ``stride`` further back. Returns the pass that it had."""
        passing, order, member = self._items[self._gone]
        self._gone += 1
        insort(self._items, (passing + stride, order, member), self._gone)
        if self._gone > _MAX_GONE:
            self.pop(0)
        return passing

    def __iter__(self) -> Iterator[Item[T]]:
        return islice(self._items, self._gone, None)

    def __len__(self) -> int:
        return len(self._items) - self._gone


class StrideScheduler(Generic[M]):
    """The order of some members. See the module.

    ``marks`` are the members that are known to be ineligible. Each of them is either in the queue,
    because it has not been next since, or suspended.
    """

    def __init__(self, members: Iterable[M] = ()) -> None:
        self.marks: Marks[M] = Marks()
        self._virtual_time = 0
        self._queue = SortedQueue((member.full_stride, member.order, member) for member in members)
        #: The suspended members, the longest first, with their passes.
        self._suspended: dict[M, int] = {}
        self._weak: list[tuple[int, int, M, Mark]] = []  # heap; suspended for low health only
        self._serial = count()
        self._discarded = 0  # since the last sweep
        #: What members owe that were chosen early, as a sum of strides.
        self._owed: dict[M, int] = {}
        self._window_ends = -math.inf
        self._window_began = 0  # in virtual time
        self._last_window = 0  # how far virtual time came in it

    def copy(self) -> StrideScheduler[M]:
        """The same members in the same order; the two are independent afterwards."""
        twin: StrideScheduler[M] = StrideScheduler()
        twin.marks = self.marks.copy()
        twin._virtual_time = self._virtual_time
        twin._queue = self._queue.copy()
        twin._suspended = self._suspended.copy()
        twin._weak = self._weak.copy()
        # Serials only have to differ within a scheduler, so the twin uses the same counter.
        twin._serial = self._serial
        twin._owed = self._owed.copy()
        twin._window_ends, twin._window_began = self._window_ends, self._window_began
        twin._last_window = self._last_window
        return twin

    def add(self, member: M) -> None:
        """Add a member, which is next after one stride."""
        self._queue.add((self._virtual_time + member.full_stride, member.order, member))

    def discard(self, member: M) -> None:
        """Remove a member; if it is in the queue, it is dropped when it is next.

        In a scheduler that nobody uses no member is ever next, so the queue is swept at times.
        """
        self.marks.remove(member)
        self._suspended.pop(member, None)
        self._owed.pop(member, None)
        self._discarded += 1
        if self._discarded > len(self._queue) // 2 + _SLACK:
            self._discarded = 0
            self._queue = SortedQueue(item for item in self._queue if not item[2].removed)

    def mark_ineligible(self, member: M, ineligible: Ineligible) -> None:
        """Note that a member became ineligible, but not for low health or one request only.

        Replaces an earlier mark.
        """
        self.marks.add(member, ineligible)

    def mark_eligible(self, member: M) -> None:
        """Note that a member may be eligible again: it is checked when it is next."""
        self.marks.remove(member)
        passing = self._suspended.pop(member, None)
        if passing is not None:
            passing = max(passing, self._virtual_time + member.full_stride)
            self._queue.add((passing, member.order, member))

    def next(self, now: float) -> M | None:
        """The next member, for :meth:`take`; ``None`` if only :meth:`choose` can find it."""
        item = self._queue.first()
        marks = self.marks
        if item is None or now >= marks.wake_at:
            return None
        member = item[2]
        if member.removed or member in marks.members or member in self._owed:
            return None
        return member

    def take(self, member: M) -> None:
        """Choose ``member``, which :meth:`next` gave and which is in full health."""
        passing = self._queue.requeue_first(member.full_stride)
        if passing > self._virtual_time:  # noqa: PLR1730 - max() would cost more than the rest
            self._virtual_time = passing

    def choose(
        self,
        now: float,
        check: Check[M],
        stride: Callable[[M], int],
        tried: Container[str] = (),
        most: int | None = None,
    ) -> M | None:
        """Choose the next eligible member; ``None`` if there is none.

        ``tried`` holds ids of members that are excluded. A member in low health is chosen only if
        there is no other. After ``most`` members that are ineligible for this request only, no
        further one is checked.
        """
        self.wake(now, check)
        skipped: list[Item[M]] = []
        chosen: M | None = None
        misses = _MISSED_AT_ONCE
        while chosen is None and len(skipped) != most and (self._queue or self.wake(now, check)):
            self._suspend_marked(now, tried)
            item = self._queue.first()
            if item is None:
                continue
            if misses and item[2] in self._owed and item[2].id not in tried:
                misses -= 1
                self._miss_turn(item[2])
            else:
                chosen = self._try_first(item, now, check, stride, tried, skipped)
        for passing, order, member in skipped:
            self._queue.add((max(passing, self._virtual_time), order, member))
        return chosen if chosen is not None else self._choose_weak(now, check, stride, tried)

    def may_be_early(self, member: M, stride: int, now: float, share: float) -> bool:
        """Whether ``member`` may be chosen early and keep the balance.

        In :data:`WINDOW` seconds a member gets at most ``share`` of its own share more than that,
        or :data:`FREE` choices if they are more. A member with a mark may not.
        """
        if member in self.marks.members:
            return False
        if now >= self._window_ends:
            advance = self._virtual_time - self._window_began
            self._last_window = advance if now < self._window_ends + WINDOW else 0
            self._window_began, self._window_ends = self._virtual_time, now + WINDOW
            self._owed.clear()
        advance = max(self._last_window, self._virtual_time - self._window_began)
        return self._owed.get(member, 0) + stride <= max(FREE * stride, share * advance)

    def owed_by(self, member: M) -> int:
        """What ``member`` owes for early choices, as a sum of strides."""
        return self._owed.get(member, 0)

    def take_early(self, member: M, stride: int) -> None:
        """Choose ``member``, which is eligible, before its turn."""
        self._owed[member] = self._owed.get(member, 0) + stride
        # Else nobody would miss a turn as long as all choices are early.
        for _ in range(_MISSED_WHEN_EARLY):
            item = self._queue.first()
            if item is None or item[2] not in self._owed or item[2] in self.marks.members:
                break
            self._miss_turn(item[2])

    def ready(self) -> Iterator[M]:
        """The members without a mark, in order; some may have become ineligible."""
        marked = self.marks.members
        return (member for _, _, member in self._queue if not (member.removed or member in marked))

    def suspended(self) -> Iterator[M]:
        """The suspended members, the longest first; some may have become eligible."""
        return (member for member in self._suspended if not member.removed)

    def _miss_turn(self, member: M) -> None:
        """Let the first member of the queue, which owes a turn, miss it."""
        owed = self._owed.pop(member)
        paid = min(owed, member.full_stride)
        if owed > paid:
            self._owed[member] = owed - paid
        self._virtual_time = max(self._virtual_time, self._queue.requeue_first(paid))

    def _suspend_marked(self, now: float, tried: Container[str]) -> None:
        """Suspend all marked members at the head of the queue, at a dictionary look-up each."""
        marked, suspended = self.marks.members, self._suspended
        before = len(suspended)
        if len(marked) == before:
            return
        for passing, _, member in self._queue:
            mark = marked.get(member)
            if mark is None or mark.until <= now or member.id in tried:
                break
            suspended[member] = passing
            self._owed.pop(member, None)
        self._queue.pop(len(suspended) - before)

    def _try_first(
        self,
        item: Item[M],
        now: float,
        check: Check[M],
        stride: Callable[[M], int],
        tried: Container[str],
        skipped: list[Item[M]],
    ) -> M | None:
        """Choose the first member of the queue, or suspend it."""
        member = item[2]
        self.marks.remove(member)
        if member.removed:
            self._queue.pop()
            return None
        if member.id in tried:
            self._queue.pop()
            skipped.append(item)
            return None
        ineligible = check(member, False)
        if ineligible is None:
            passing = self._queue.requeue_first(stride(member))
            self._virtual_time = max(self._virtual_time, passing)
            return member
        self._queue.pop()
        if ineligible.momentary:
            skipped.append(item)
        else:
            self._suspend(member, item[0], ineligible, now)
        return None

    def _choose_weak(
        self, now: float, check: Check[M], stride: Callable[[M], int], tried: Container[str]
    ) -> M | None:
        skipped: list[tuple[int, int, M, Mark]] = []
        chosen: M | None = None
        while chosen is None and self._weak:
            passing, _, member, mark = item = heapq.heappop(self._weak)
            if not self.marks.holds(member, mark):
                continue
            ineligible = None if member.id in tried else check(member, True)
            if ineligible is not None and not ineligible.momentary:
                # There is a stronger reason than low health.
                del self._suspended[member]
                self._suspend(member, passing, ineligible, now)
                continue
            skipped.append(item)
            if ineligible is None and member.id not in tried:
                chosen = member
                self._virtual_time = max(self._virtual_time, passing)
                skipped[-1] = (passing + stride(member), next(self._serial), member, mark)
        for item in skipped:
            heapq.heappush(self._weak, item)
        return chosen

    def _suspend(self, member: M, passing: int, ineligible: Ineligible, now: float) -> None:
        # A time that is over would be woken in this same choice, without end.
        mark = self.marks.add(member, ineligible, earliest=now + 0.001)
        self._suspended[member] = passing
        self._owed.pop(member, None)
        if ineligible.reason is Reason.LOW_HEALTH:
            heapq.heappush(self._weak, (passing, next(self._serial), member, mark))
            self.marks.drop_outdated(self._weak)

    def wake(self, now: float, check: Check[M]) -> bool:
        """Mark some members eligible whose time is over; whether any returned to the queue.

        Those that are ineligible for another reason by now are marked with it.
        """
        if now < self.marks.wake_at:
            return False
        woken = unmarked = 0
        for member in self.marks.expired(now):
            if member in self._suspended:
                woken += 1
            else:
                unmarked += 1
            self.mark_eligible(member)
            ineligible = check(member, True)
            if ineligible is not None and not ineligible.momentary:
                self.mark_ineligible(member, ineligible)
            if woken == _WAKE_AT_ONCE or unmarked == _UNMARK_AT_ONCE:
                break
        self.marks.update_wake_at()
        return woken > 0
