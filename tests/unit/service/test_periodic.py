"""Work that comes round again and again, by a clock of the test's own."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs

from gemproxy.service.periodic import PeriodicService


class Ticks:
    """Counts ticks; ``work`` is what the next ones wait for or raise."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.times = []
        self.work = None
        self.service = PeriodicService(self.clock, 10.0, self.tick, "the test's work")

    async def tick(self) -> None:
        self.times.append(self.clock.seconds())
        if isinstance(self.work, Exception):
            raise self.work
        if self.work is not None:
            await self.work

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.5] * int(seconds * 2))


@pytest.fixture
def ticks():
    made = Ticks()
    made.service.startService()
    return made


def test_first_tick_comes_after_one_interval(ticks):
    ticks.pass_time(9.5)
    assert ticks.times == []
    ticks.pass_time(20.5)
    assert ticks.times == [10.0, 20.0, 30.0]


def test_tick_that_fails_is_logged_and_the_next_one_comes(ticks):
    ticks.work = OSError("no such luck")
    with capturedLogs() as events:
        ticks.pass_time(20)
    assert ticks.times == [10.0, 20.0]
    failures = [event for event in events if event["log_level"] is LogLevel.critical]
    assert [event["name"] for event in failures] == ["the test's work"] * 2
    assert failures[0]["log_failure"].check(OSError)


def test_there_are_never_two_at_a_time(ticks):
    ticks.work = Deferred()
    ticks.pass_time(45)
    assert ticks.times == [10.0]
    work, ticks.work = ticks.work, None
    work.callback(None)
    ticks.pass_time(10)
    assert ticks.times == [10.0, 50.0]


def test_stop_ends_it_at_once_while_nothing_runs(ticks):
    stopped = []
    ticks.service.stopService().addCallback(stopped.append)
    assert stopped
    ticks.pass_time(30)
    assert ticks.times == []
    assert ticks.clock.getDelayedCalls() == []


def test_stop_waits_for_the_tick_that_runs(ticks):
    ticks.work = Deferred()
    ticks.pass_time(10)
    stopped = []
    ticks.service.stopService().addCallback(stopped.append)
    assert stopped == []
    ticks.work.callback(None)
    assert stopped
    ticks.pass_time(30)
    assert ticks.times == [10.0]


def test_it_can_be_started_again(ticks):
    ticks.pass_time(15)
    ticks.service.stopService()
    ticks.service.startService()
    ticks.pass_time(10)
    assert ticks.times == [10.0, 25.0]


def test_stop_before_any_start_is_done_at_once():
    stopped = []
    Ticks().service.stopService().addCallback(stopped.append)
    assert stopped


def test_new_interval_counts_from_now_on(ticks):
    ticks.pass_time(7)
    ticks.service.interval = 3.0
    ticks.pass_time(7)
    assert ticks.times == [10.0, 13.0]
    ticks.service.interval = 20.0
    ticks.pass_time(20)
    assert ticks.times == [10.0, 13.0, 34.0]


def test_same_interval_again_changes_nothing(ticks):
    for _ in range(5):
        ticks.pass_time(5)
        ticks.service.interval = 10.0
    assert ticks.times == [10.0, 20.0]


def test_new_interval_while_a_tick_runs_holds_after_it(ticks):
    ticks.work = Deferred()
    ticks.pass_time(10)
    ticks.service.interval = 2.0
    work, ticks.work = ticks.work, None
    work.callback(None)
    ticks.pass_time(4)
    assert ticks.times == [10.0, 12.0, 14.0]


def test_new_interval_before_the_start():
    ticks = Ticks()
    ticks.service.interval = 1.0
    ticks.service.startService()
    ticks.pass_time(2)
    assert ticks.times == [1.0, 2.0]


def test_all_work_shares_one_timer_of_the_reactor(ticks):
    others = [
        PeriodicService(ticks.clock, interval, ticks.tick, "more work") for interval in (3.0, 4.0)
    ]
    for service in others:
        service.startService()
    assert len(ticks.clock.getDelayedCalls()) == 1
    ticks.pass_time(12)
    assert ticks.times == [3.0, 4.0, 6.0, 8.0, 9.0, 10.0, 12.0, 12.0]
    for service in (*others, ticks.service):
        service.stopService()
    assert ticks.clock.getDelayedCalls() == []
    ticks.pass_time(20)
    assert ticks.times[-1] == 12.0


def test_tick_comes_at_times_that_a_sum_of_floats_misses():
    clock, times = Clock(), []

    async def tick():
        times.append(clock.seconds())

    clock.advance(1234567.8901)
    service = PeriodicService(clock, 0.7, tick, "work")
    service.startService()
    for _ in range(100):
        clock.advance(clock.getDelayedCalls()[0].getTime() - clock.seconds())
    assert 95 <= len(times) <= 100
