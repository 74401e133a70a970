"""The circuit breaker, by calls with literal times."""

import pytest

from gemproxy.pool.breaker import BreakerSettings, BreakerState, CircuitBreaker

SETTINGS = BreakerSettings(failure_threshold=3, cooldown=30.0, recovery_time=100.0)


def fail(breaker, now, times=1):
    for _ in range(times):
        breaker.record_failure(breaker.try_acquire(now), now)


@pytest.fixture
def breaker():
    return CircuitBreaker(SETTINGS)


def test_opens_at_the_threshold_of_consecutive_failures(breaker):
    fail(breaker, 0.0, 2)
    assert breaker.state is BreakerState.CLOSED
    fail(breaker, 0.0)
    assert breaker.state is BreakerState.OPEN
    assert breaker.until == 30.0
    assert breaker.try_acquire(29.9) is None


def test_success_between_failures_starts_the_count_again(breaker):
    fail(breaker, 0.0, 2)
    breaker.record_success(breaker.try_acquire(1.0))
    fail(breaker, 2.0, 2)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.consecutive_failures == 2


def test_half_open_admits_one_trial_at_a_time(breaker):
    fail(breaker, 0.0, 3)
    assert breaker.state_at(30.0) is BreakerState.HALF_OPEN
    trial = breaker.try_acquire(30.0)
    assert trial.trial
    assert breaker.try_acquire(31.0) is None
    breaker.release(trial)
    assert breaker.try_acquire(32.0).trial


def test_trial_that_succeeds_closes_and_forgets(breaker):
    fail(breaker, 0.0, 3)
    breaker.record_success(breaker.try_acquire(30.0))
    assert (breaker.state, breaker.consecutive_failures) == (BreakerState.CLOSED, 0)
    fail(breaker, 40.0, 3)
    assert breaker.until == 70.0


def test_cooldown_doubles_at_each_reopening_up_to_the_recovery_time(breaker):
    fail(breaker, 0.0, 3)
    fail(breaker, 30.0)
    assert breaker.until == 90.0
    fail(breaker, 90.0)
    assert breaker.until == 190.0
    fail(breaker, 190.0)
    assert breaker.until == 290.0


def test_cooldown_is_never_longer_than_the_recovery_time():
    breaker = CircuitBreaker(BreakerSettings(1, cooldown=500.0, recovery_time=100.0))
    fail(breaker, 0.0)
    assert breaker.until == 100.0


def test_fatal_failure_opens_at_once_for_the_recovery_time(breaker):
    breaker.record_fatal(breaker.try_acquire(5.0), 5.0)
    assert breaker.until == 105.0
    fail(breaker, 105.0)
    assert breaker.until == 205.0


def test_late_results_of_an_older_generation_change_nothing(breaker):
    early = [breaker.try_acquire(0.0) for _ in range(3)]
    fail(breaker, 0.0, 3)
    breaker.record_success(early[0])
    breaker.record_failure(early[1], 10.0)
    assert (breaker.state, breaker.until) == (BreakerState.OPEN, 30.0)
    trial = breaker.try_acquire(30.0)
    breaker.release(early[2])
    breaker.record_failure(early[2], 31.0)
    assert breaker.try_acquire(31.0) is None
    breaker.record_success(trial)
    breaker.record_fatal(early[2], 32.0)
    assert breaker.state is BreakerState.CLOSED


def test_late_fatal_failure_lengthens_an_open_time_only(breaker):
    early = breaker.try_acquire(0.0)
    fail(breaker, 0.0, 3)
    breaker.record_fatal(early, 10.0)
    assert breaker.until == 110.0
    breaker.open(20.0, 50.0)
    assert breaker.until == 110.0


def test_close_forgets_everything(breaker):
    fail(breaker, 0.0, 3)
    breaker.close()
    assert (breaker.state, breaker.consecutive_failures, breaker.until) == (
        BreakerState.CLOSED,
        0,
        None,
    )
    assert not breaker.try_acquire(0.0).trial


def test_every_transition_is_reported():
    seen = []
    breaker = CircuitBreaker(SETTINGS, lambda before, after: seen.append((before, after)))
    fail(breaker, 0.0, 3)
    fail(breaker, 30.0)
    breaker.record_success(breaker.try_acquire(90.0))
    breaker.close()
    assert seen == [
        (BreakerState.CLOSED, BreakerState.OPEN),
        (BreakerState.OPEN, BreakerState.HALF_OPEN),
        (BreakerState.HALF_OPEN, BreakerState.OPEN),
        (BreakerState.OPEN, BreakerState.HALF_OPEN),
        (BreakerState.HALF_OPEN, BreakerState.CLOSED),
    ]


def test_restored_breaker_goes_on_where_it_was(breaker):
    fail(breaker, 0.0, 3)
    trial = breaker.try_acquire(30.0)
    restored = CircuitBreaker(SETTINGS)
    restored.restore(breaker.snapshot(), 30.0)
    assert restored.state_at(30.0) is BreakerState.HALF_OPEN
    assert restored.try_acquire(30.0) is not None
    breaker.record_failure(trial, 30.0)
    restored.restore(breaker.snapshot(), 30.0)
    assert (restored.state, restored.until) == (BreakerState.OPEN, 90.0)
    fail(restored, 90.0)
    assert restored.until == 190.0
    restored = CircuitBreaker(SETTINGS)
    restored.restore(CircuitBreaker(SETTINGS).snapshot(), 30.0)
    assert restored.state is BreakerState.CLOSED
