"""The models' breakers."""

import pytest

from gemproxy.errors import ModelUnavailable
from gemproxy.keys.models import ModelBreakers


def fail(models, now, times=1, model="m"):
    for _ in range(times):
        models.record(models.acquire(model, now), success=False, now=now)


@pytest.fixture
def models():
    return ModelBreakers(failure_threshold=3)


def test_opens_after_consecutive_failed_requests_for_a_second(models):
    fail(models, 0.0, 3)
    with pytest.raises(ModelUnavailable) as refused:
        models.acquire("m", 0.25)
    assert refused.value.retry_after == 1.0
    assert models.unavailable(0.25) == [("m", 1.0)]
    models.acquire("other", 0.25)


def test_rests_double_to_ten_seconds(models):
    fail(models, 0.0, 3)
    now, rests = 1.0, []
    for _ in range(6):
        fail(models, now)
        ((_, until),) = models.unavailable(now)
        rests.append(until - now)
        now = until
    assert rests == [2.0, 4.0, 8.0, 10.0, 10.0, 10.0]


def test_one_trial_at_a_time_and_its_success_closes(models):
    fail(models, 0.0, 3)
    trial = models.acquire("m", 1.0)
    with pytest.raises(ModelUnavailable):
        models.acquire("m", 1.0)
    models.record(trial, success=True, now=2.0)
    models.acquire("m", 2.0)
    assert (models.unavailable(2.0), len(models)) == ([], 0)


def test_released_trial_is_made_by_the_next(models):
    fail(models, 0.0, 3)
    models.release(models.acquire("m", 1.0), 1.5)
    models.acquire("m", 1.5)


def test_success_clears_the_count(models):
    fail(models, 0.0, 2)
    models.record(models.acquire("m", 1.0), success=True, now=1.0)
    fail(models, 2.0, 2)
    models.acquire("m", 3.0)


def test_requests_that_began_together_count_together(models):
    permits = [models.acquire("m", 0.0) for _ in range(5)]
    for permit in permits:
        models.record(permit, success=False, now=1.0)
    assert models.unavailable(1.0) == [("m", 2.0)]


def test_late_results_neither_close_nor_open(models):
    early = [models.acquire("m", 0.0) for _ in range(2)]
    fail(models, 0.0, 1)
    known = models.acquire("m", 0.0)
    fail(models, 0.0, 2)
    models.record(early[0], success=True, now=0.5)
    models.record(known, success=True, now=0.5)
    assert models.unavailable(0.5) == [("m", 1.0)]
    models.record(models.acquire("m", 1.0), success=True, now=1.0)
    models.record(known, success=False, now=1.5)
    models.acquire("m", 1.5)


def test_model_that_was_left_alone_is_not_reported_for_ever(models):
    fail(models, 0.0, 3)
    assert models.unavailable(100.0) == []


def test_invented_models_cost_nothing_and_failing_ones_are_bounded():
    models = ModelBreakers(failure_threshold=3, capacity=10)
    for n in range(100):
        models.record(models.acquire(f"good-{n}", 0.0), success=True, now=0.0)
        models.release(models.acquire(f"none-{n}", 0.0), 0.0)
    assert len(models) == 0
    for n in range(100):
        fail(models, 0.0, model=f"bad-{n}")
    assert len(models) == 10


def test_new_threshold_holds_for_failures_that_were_counted(models):
    fail(models, 0.0, 1)
    models.configure(2)
    fail(models, 0.0, 1)
    assert models.unavailable(0.0)
