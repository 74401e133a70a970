"""One place makes the reactor monotonic, with everything of Twisted's that counts on it."""

import time

import pytest
from fakes.clocks import HOUR, TwoClocks
from twisted.internet import reactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock, LoopingCall, deferLater

from gemproxy.clock import epoch_offset, use_monotonic_time, wall_clock


class StandStill(SelectReactor):
    """A reactor that is never run; its timers are due when it is asked."""

    def installWaker(self):
        pass


@pytest.fixture
def standing(monkeypatch):
    """A reactor of Twisted's own on two clocks that stand still, and a way to move each."""
    clocks = {"monotonic": 100.0, "wall": 1_800_000_000.0}
    monkeypatch.setattr(time, "monotonic", lambda: clocks["monotonic"])
    monkeypatch.setattr(time, "time", lambda: clocks["wall"])
    still = StandStill()
    still.seconds = time.time

    def move(seconds=0.0, step=0.0):
        clocks["monotonic"] += seconds
        clocks["wall"] += seconds + step

    return still, move


def test_this_process_counts_as_ours_do():
    assert reactor.seconds is time.monotonic
    assert wall_clock(reactor) is time.time


@pytest.mark.parametrize("step", [-HOUR, 700.0, -3 * 24 * HOUR])
def test_timers_of_every_kind_come_in_time_whatever_sets_the_wall_clock(standing, step):
    still, move = standing
    use_monotonic_time(still)
    came = []
    still.callLater(5, came.append, "call")
    loop = LoopingCall(came.append, "loop")
    loop.clock = still
    loop.start(5, now=False)
    deferLater(still, 5).addCallback(lambda _: came.append("later"))
    delayed = still.callLater(1, came.append, "delayed")
    delayed.reset(5)
    move(seconds=4.9, step=step)
    still.runUntilCurrent()
    assert came == []
    assert still.timeout() == pytest.approx(0.1)
    move(seconds=0.2)
    still.runUntilCurrent()
    assert sorted(came) == ["call", "delayed", "later", "loop"]
    loop.stop()


def test_what_was_scheduled_before_stays_due(standing):
    still, move = standing
    came = []
    still.callLater(5, came.append, "early")
    use_monotonic_time(still)
    use_monotonic_time(still)
    move(seconds=4.9, step=HOUR)
    still.runUntilCurrent()
    assert came == []
    move(seconds=0.2, step=-HOUR)
    still.runUntilCurrent()
    assert came == ["early"]


def test_a_reactor_with_one_clock_has_it_for_both():
    clock = Clock()
    assert wall_clock(clock) == clock.seconds


def test_the_difference_is_not_measured_across_an_interruption():
    clock = TwoClocks(1_800_000_000.0)
    readings = iter([0.0, 5.0, 5.0, 5.0])

    def seconds():
        clock.advance(next(readings, 0.0))
        return clock.seconds()

    assert epoch_offset(seconds, clock.wall) == clock.wall() - clock.seconds()
