"""One timer for many: each expires at its own time, and nobody else does."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from gemproxy.deadlines import Deadlines


class Timed:
    def __init__(self, clock, deadlines, due):
        self.clock, self.deadlines, self.due = clock, deadlines, due
        self.expired_at = None

    def expire(self, now):
        assert now == self.clock.seconds()
        self.expired_at = now
        self.deadlines.release(self)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.booleans()), max_size=20))
def test_each_expires_exactly_when_it_is_due(plans):
    """``plans``: when it is watched, for how long, and whether it is released before."""
    clock = Clock()
    deadlines = Deadlines(clock)
    watched = []
    for second in range(120):
        for begins, lasts, leaves in plans:
            if begins == second:
                timed = Timed(clock, deadlines, float(second + lasts))
                watched.append((timed, leaves and lasts > 1))
                deadlines.watch(timed)
                if watched[-1][1]:
                    clock.callLater(lasts - 1, deadlines.release, timed)
        clock.advance(1)
    for timed, left in watched:
        assert timed.expired_at == (None if left else max(timed.due, timed.expired_at or 0))
        assert left or timed.expired_at - timed.due <= 1
    assert clock.getDelayedCalls() == []


def test_one_timer_serves_all_and_is_set_anew_only_for_an_earlier_due():
    clock = Clock()
    deadlines = Deadlines(clock)
    watched = [Timed(clock, deadlines, 100.0 + i) for i in range(50)]
    for timed in watched:
        deadlines.watch(timed)
    (call,) = clock.getDelayedCalls()
    deadlines.watch(Timed(clock, deadlines, 99.0))
    (earlier,) = clock.getDelayedCalls()
    assert (call.active(), earlier.getTime()) == (False, 99.0)


def test_a_due_that_moved_away_is_met_at_its_new_time():
    clock = Clock()
    deadlines = Deadlines(clock)
    timed = Timed(clock, deadlines, 10.0)
    deadlines.watch(timed)
    timed.due = 25.0
    clock.pump([10, 14.5])
    assert timed.expired_at is None
    clock.advance(0.5)
    assert timed.expired_at == 25.0


def test_with_slack_deadlines_that_are_close_together_cost_one_look():
    clock = Clock()
    deadlines = Deadlines(clock, slack=0.25)
    watched = [Timed(clock, deadlines, due) for due in (10.0, 10.1, 10.2, 10.3)]
    for timed in watched:
        deadlines.watch(timed)
    clock.pump([0.05] * 300)
    assert [round(each.expired_at, 2) for each in watched] == [10.0, 10.25, 10.25, 10.5]


def test_what_has_no_due_time_sets_no_timer():
    clock = Clock()
    Deadlines(clock).watch(Timed(clock, None, float("inf")))
    assert clock.getDelayedCalls() == []


def test_no_timer_stays_behind_when_nobody_is_watched():
    clock = Clock()
    deadlines = Deadlines(clock)
    timed = Timed(clock, deadlines, 10.0)
    deadlines.watch(timed)
    deadlines.stop()
    assert len(clock.getDelayedCalls()) == 1
    deadlines.release(timed)
    deadlines.stop()
    assert clock.getDelayedCalls() == []
