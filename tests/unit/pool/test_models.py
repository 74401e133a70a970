"""The models' breakers."""

import pytest

from gemproxy.core.errors import ModelUnavailable
from gemproxy.pool.models import ModelBreakers


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


def test_open_times_double_to_ten_seconds(models):
    fail(models, 0.0, 3)
    now, cooldowns = 1.0, []
    for _ in range(6):
        fail(models, now)
        ((_, until),) = models.unavailable(now)
        cooldowns.append(until - now)
        now = until
    assert cooldowns == [2.0, 4.0, 8.0, 10.0, 10.0, 10.0]


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
    fail(models, 5.0, 2)
    models.acquire("m", 5.0)


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


class TestBodies:
    """One odd request must not look like an outage."""

    def fail(self, models, now, *bodies):
        for body in bodies:
            models.record(models.acquire("m", now), success=False, now=now, body=body)

    def test_one_body_counts_once(self, models):
        self.fail(models, 0.0, *[b"a"] * 50)
        assert models.unavailable(0.0) == []
        self.fail(models, 0.0, b"b", b"c")
        assert models.unavailable(0.0) == [("m", 1.0)]

    def test_two_that_alternate_are_two(self, models):
        self.fail(models, 0.0, *[b"a", b"b"] * 50)
        assert models.unavailable(0.0) == []

    @pytest.mark.parametrize("threshold", [1, 2])
    def test_it_takes_two_bodies_whatever_the_threshold(self, threshold):
        models = ModelBreakers(failure_threshold=threshold)
        self.fail(models, 0.0, b"a", b"a")
        assert models.unavailable(0.0) == []
        self.fail(models, 0.0, b"b")
        assert models.unavailable(0.0) == [("m", 1.0)]

    def test_a_trial_of_a_body_that_failed_before_does_not_lengthen_the_cooldown(self, models):
        self.fail(models, 0.0, b"a", b"b", b"c")
        self.fail(models, 1.0, b"d")
        assert models.unavailable(1.0) == [("m", 3.0)]
        self.fail(models, 3.0, b"a")
        assert models.unavailable(3.0) == [("m", 4.0)]
        self.fail(models, 4.0, b"e")
        assert models.unavailable(4.0) == [("m", 6.0)]

    def test_digests_are_bounded(self, models):
        models.configure(10_000)
        for number in range(1000):
            self.fail(models, 0.0, b"%d" % number)
        assert len(models._failing["m"].bodies) <= 64

    def test_success_begins_the_count_anew(self, models):
        self.fail(models, 0.0, b"a", b"b")
        models.record(models.acquire("m", 0.0), success=True, now=0.0)
        self.fail(models, 5.0, b"a", b"b")
        assert models.unavailable(5.0) == []


class TestManyOddRequests:
    """A client whose failing requests all differ, beside others who are served."""

    @pytest.mark.parametrize("honest", [0.05, 0.125, 0.5, 0.9])
    def test_others_are_served_on(self, models, honest):
        now, served, body = 0.0, 0.0, 0
        models.record(models.acquire("m", now), success=True, now=now)
        while now < 60.0:
            now += 0.02
            models.record(models.acquire("m", now), success=False, now=now, body=b"%d" % body)
            body += 1
            if now >= served + honest:
                models.record(models.acquire("m", now), success=True, now=now)
                served = now
            assert models.unavailable(now) == []

    def test_an_outage_is_told_soon_after_the_successes_stop(self, models):
        for tick in range(100):
            models.record(models.acquire("m", tick / 10), success=True, now=tick / 10)
        ended = now = 9.9
        body = 0
        while not models.unavailable(now):
            now += 0.1
            models.record(models.acquire("m", now), success=False, now=now, body=b"%d" % body)
            body += 1
        assert now - ended < 1.2

    def test_no_more_than_two_seconds_after(self, models):
        for hour in range(3):
            models.record(models.acquire("m", hour * 3600.0), success=True, now=hour * 3600.0)
        for body in (b"a", b"b", b"c"):
            models.record(models.acquire("m", 7201.0), success=False, now=7201.0, body=body)
        assert models.unavailable(7201.0) == []
        # One that failed already is enough, now that nobody is served any more.
        models.record(models.acquire("m", 7202.0), success=False, now=7202.0, body=b"a")
        assert models.unavailable(7202.0) == [("m", 7203.0)]

    def test_a_second_after_the_only_success(self, models):
        models.record(models.acquire("m", 0.0), success=True, now=0.0)
        fail(models, 0.1, 3)
        assert models.unavailable(0.1) == []
        fail(models, 1.0)
        assert models.unavailable(1.0) == [("m", 2.0)]
