"""Whoever depends on the calendar hears within a second that the wall clock was set."""

import pytest
from fakes.clocks import DAY, HOUR, TwoClocks
from twisted.logger import capturedLogs

from gemproxy.service.clock_watch import ClockWatch

NOON = 1_785_585_600.0


class Stage:
    def __init__(self):
        self.clock = TwoClocks(NOON)
        self.told = []
        self.watch = ClockWatch(self.clock, lambda now, wall: self.told.append((now, wall)))


@pytest.fixture
def stage():
    return Stage()


def test_it_tells_at_once_what_the_clocks_say(stage):
    assert stage.told == [(5000.0, NOON)]


@pytest.mark.parametrize("step", [-HOUR, 700.0, -3 * DAY, 1.0, 10 * 365 * DAY])
def test_a_step_is_told_within_a_second_and_logged_once(stage, step):
    stage.watch.startService()
    stage.clock.pump([0.5] * 20)
    stage.clock.set_wall_clock(step)
    with capturedLogs() as logged:
        stage.clock.pump([0.5] * 20)
    assert stage.told[1:] == [(5011.0, NOON + 11 + step)]
    assert logged[0]["log_namespace"].startswith("gemproxy.service")
    assert [event["seconds"] for event in logged] == [step]
    stage.watch.stopService()


def test_small_corrections_are_told_once_they_add_up(stage):
    stage.watch.startService()
    with capturedLogs() as logged:
        for _ in range(20):
            stage.clock.set_wall_clock(0.1)
            stage.clock.advance(1.0)
    assert 3 <= len(stage.told) - 1 <= 5
    assert len(logged) == len(stage.told) - 1
    stage.watch.stopService()


def test_time_that_passes_is_no_step(stage):
    stage.watch.startService()
    stage.clock.pump([1.0] * 1000)
    assert len(stage.told) == 1
    stage.watch.stopService()


def test_it_goes_on_when_whoever_is_told_fails(stage):
    told = []

    def fail(*clocks):
        told.append(clocks)
        raise RuntimeError

    stage.watch.startService()
    stage.watch._changed = fail
    for _ in range(3):
        stage.clock.set_wall_clock(60)
        stage.clock.advance(1)
    assert len(told) == 3
    stage.watch.stopService()


def test_it_leaves_no_timer(stage):
    stage.watch.startService()
    stage.watch.stopService()
    assert stage.clock.getDelayedCalls() == []
