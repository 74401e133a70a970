"""How late the reactor is, by a clock that can be made late."""

import pytest
from twisted.internet.task import Clock

from gemproxy.service.reactor_lag import ReactorLag


class Stage:
    def __init__(self):
        self.reactor = Clock()
        self.late = []
        #: What the monotonic clock shows beyond the reactor's.
        self.ahead = 0.0
        self.service = ReactorLag(
            self.reactor, self.late.append, lambda: self.reactor.seconds() + self.ahead, 0.5
        )
        self.service.startService()


@pytest.fixture
def stage():
    return Stage()


def test_a_reactor_in_time_has_no_lag(stage):
    stage.reactor.pump([0.5] * 4)
    assert stage.late == [0.0] * 4


def test_a_block_shows_in_the_tick_after_it_and_not_in_the_next(stage):
    stage.reactor.advance(0.75)
    stage.reactor.advance(0.5)
    assert stage.late == [0.25, 0.0]


def test_a_wall_clock_that_is_set_forward_is_no_lag(stage):
    stage.ahead = -3600.0
    stage.reactor.advance(3600.25)
    assert stage.late == [0.0]


def test_one_that_is_set_back_is_what_it_is(stage):
    """The reactor's timers wait for the wall clock, and so does everybody else."""
    stage.ahead = 60.0
    stage.reactor.advance(0.5)
    assert stage.late == [60.0]


def test_it_stops(stage):
    stage.service.stopService()
    stage.reactor.advance(10)
    assert stage.late == []
    assert stage.reactor.getDelayedCalls() == []
