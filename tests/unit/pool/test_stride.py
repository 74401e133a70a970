"""StrideScheduler against a plain one, which checks every member when it is next."""

import math
from collections import Counter
from dataclasses import dataclass, field
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from gemproxy.pool.eligibility import Group, Ineligible, Reason
from gemproxy.pool.state import STRIDE
from gemproxy.pool.stride import StrideScheduler

START = 1_790_000_000.0


@dataclass(eq=False)
class Member:
    order: int
    weight: int
    removed: bool = False
    blocked_until: float = -math.inf
    #: Serves where nobody else is left.
    weak: bool = False
    #: Cannot serve the requests of this moment; no mark says so.
    too_small: bool = False

    @property
    def id(self):
        return f"member {self.order}"

    @property
    def full_stride(self):
        return STRIDE // self.weight

    def ineligible(self, now, last_resort=False):
        if self.blocked_until == math.inf:
            return Ineligible(Reason.DISABLED)
        if self.blocked_until > now:
            return Ineligible(Reason.COOLING_DOWN, self.blocked_until, for_the_day=True)
        if self.too_small:
            return Ineligible(Reason.OVER_LIMIT, now + 1, momentary=True)
        if self.weak and not last_resort:
            return Ineligible(Reason.LOW_HEALTH)
        return None


@dataclass
class PlainScheduler:
    """What a scheduler does, with lists that are sorted anew each time and nothing known ahead."""

    virtual_time: int = 0
    ready: dict = field(default_factory=dict)  # member -> pass
    suspended: dict = field(default_factory=dict)  # member -> ineligible, pass
    weak: list = field(default_factory=list)  # members suspended for their health, by pass

    def copy(self):
        return PlainScheduler(
            self.virtual_time, self.ready.copy(), self.suspended.copy(), self.weak.copy()
        )

    def add(self, member):
        self.ready[member] = self.virtual_time + member.full_stride

    def discard(self, member):
        self.ready.pop(member, None)
        self.suspended.pop(member, None)

    def mark_eligible(self, member):
        if member in self.suspended:
            _, passing = self.suspended.pop(member)
            self.ready[member] = max(passing, self.virtual_time + member.full_stride)

    def choose(self, now, tried):
        for member, (ineligible, _) in list(self.suspended.items()):
            if ineligible.until is not None and ineligible.until <= now:
                self.mark_eligible(member)
        aside, chosen = {}, None
        for member in sorted(self.ready, key=lambda member: (self.ready[member], member.order)):
            passing = self.ready.pop(member)
            ineligible = None if member.id in tried else member.ineligible(now)
            if member.id in tried or (ineligible and ineligible.momentary):
                aside[member] = passing
            elif ineligible:
                self.suspend(member, ineligible, passing)
            else:
                chosen = member
                self.virtual_time = max(self.virtual_time, passing)
                self.ready[member] = passing + member.full_stride
                break
        for member, passing in aside.items():
            self.ready[member] = max(passing, self.virtual_time)
        return chosen or self.choose_weak(now, tried)

    def suspend(self, member, ineligible, passing):
        self.suspended[member] = ineligible, passing
        if ineligible.reason is Reason.LOW_HEALTH:
            self.weak = [item for item in self.weak if item[1] is not member]
            self.weak.append((passing, member))

    def choose_weak(self, now, tried):
        self.weak.sort(key=lambda item: item[0])
        for item in self.weak.copy():
            passing, member = item
            ineligible = self.suspended.get(member, (None,))[0]
            if (
                ineligible is None
                or ineligible.reason is not Reason.LOW_HEALTH
                or member.id in tried
            ):
                continue
            ineligible = member.ineligible(now, last_resort=True)
            if ineligible is None:
                self.virtual_time = max(self.virtual_time, passing)
                self.weak.remove(item)
                self.weak.append((passing + member.full_stride, member))
                return member
            if not ineligible.momentary:
                del self.suspended[member]
                self.suspend(member, ineligible, passing)
        return None

    def hear(self, member, ineligible):
        if member in self.suspended:
            self.suspended[member] = ineligible, self.suspended[member][1]

    def counts(self):
        return Counter(ineligible.reason for ineligible, _ in self.suspended.values())


NUMBERS = st.integers(0, 9)


class StrideMachine(RuleBasedStateMachine):
    """The same members are chosen whether or not the ineligible ones are marked."""

    def __init__(self):
        super().__init__()
        self.now = START
        self.orders = count()
        self.members = [Member(next(self.orders), weight) for weight in (1, 2, 3, 1, 2, 3)]
        self.pairs = [(StrideScheduler(self.members), PlainScheduler())]
        for member in self.members:
            self.pairs[0][1].add(member)

    def member(self, number):
        return self.members[number % len(self.members)]

    def mark_eligible(self, member):
        for scheduler, plain in self.pairs:
            scheduler.mark_eligible(member)
            plain.mark_eligible(member)

    @rule(
        which=NUMBERS,
        times=st.integers(1, 12),
        tried=st.sets(NUMBERS, max_size=2),
        quick=st.booleans(),
    )
    def choose(self, which, times, tried, quick):
        scheduler, plain = self.pairs[which % len(self.pairs)]
        tried_ids = {self.member(number).id for number in tried}
        for _ in range(times):
            first = scheduler.next(self.now) if quick and not tried else None
            if first is not None and first.ineligible(self.now) is None:
                scheduler.take(first)
                chosen = first
            else:
                chosen = scheduler.choose(
                    self.now,
                    lambda member, last_resort: member.ineligible(self.now, last_resort),
                    lambda member: member.full_stride,
                    tried_ids,
                )
            assert chosen is plain.choose(self.now, tried_ids)
            if chosen is None:
                assert +scheduler.marks.counts == plain.counts()
                assert scheduler.marks.out_for_the_day == plain.counts()[Reason.COOLING_DOWN]
                assert set(scheduler.ready()) == set(plain.ready)
            assert list(scheduler.suspended()) == list(plain.suspended)

    @rule(seconds=st.sampled_from([0.5, 5.0, 30.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(number=NUMBERS, seconds=st.sampled_from([1.0, 5.0, 29.0, math.inf]), marked=st.booleans())
    def becomes_ineligible(self, number, seconds, marked):
        member = self.member(number)
        if member.blocked_until > self.now:
            self.mark_eligible(member)
        member.blocked_until = self.now + seconds
        for scheduler, plain in self.pairs if marked else ():
            scheduler.mark_ineligible(member, member.ineligible(self.now))
            plain.hear(member, member.ineligible(self.now))

    @rule(number=NUMBERS)
    def becomes_fit(self, number):
        member = self.member(number)
        member.blocked_until, member.weak = -math.inf, False
        self.mark_eligible(member)

    @rule(number=NUMBERS, weak=st.booleans(), too_small=st.booleans())
    def becomes_doubtful(self, number, weak, too_small):
        member = self.member(number)
        member.too_small = too_small
        if weak != member.weak:
            member.weak = weak
            self.mark_eligible(member)

    @precondition(lambda self: len(self.pairs) < 3)
    @rule(which=NUMBERS)
    def goes_two_ways(self, which):
        scheduler, plain = self.pairs[which % len(self.pairs)]
        self.pairs.append((scheduler.copy(), plain.copy()))

    @rule()
    def comes(self):
        member = Member(next(self.orders), 2)
        self.members.append(member)
        for scheduler, plain in self.pairs:
            scheduler.add(member)
            plain.add(member)

    @precondition(lambda self: len(self.members) > 1)
    @rule(number=NUMBERS)
    def goes(self, number):
        member = self.member(number)
        self.members.remove(member)
        member.removed = True
        for scheduler, plain in self.pairs:
            scheduler.discard(member)
            plain.discard(member)


StrideMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestStride = StrideMachine.TestCase


def test_those_who_are_fit_again_in_time_keep_their_turns():
    """However many they are: only those that had lost theirs are woken a few at a time."""
    members = [Member(order, 1) for order in range(1000)]
    scheduler = StrideScheduler(members)
    for member in reversed(members):
        scheduler.mark_ineligible(member, Ineligible(Reason.COOLING_DOWN, START + 1))
    chosen = [
        scheduler.choose(START + 1, lambda *_: None, lambda member: member.full_stride)
        for _ in members
    ]
    assert chosen == members


def test_a_member_comes_back_however_often_it_was_said_to_stand_aside():
    for times in range(1, 150):
        member = Member(order=0, weight=1)
        scheduler = StrideScheduler([member])
        for _ in range(times):
            member.blocked_until = START + 60
            scheduler.mark_ineligible(member, Ineligible(Reason.OVER_LIMIT, member.blocked_until))

        def choose(now, member=member, scheduler=scheduler):
            return scheduler.choose(
                now, lambda each, last_resort: each.ineligible(now, last_resort), lambda _: STRIDE
            )

        assert choose(START) is None
        assert scheduler.marks.soonest(Group.QUOTA) == START + 60
        assert choose(START + 60) is member
