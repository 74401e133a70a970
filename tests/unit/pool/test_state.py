"""The sliding window of health."""

from hypothesis import given
from hypothesis import strategies as st

from gemproxy.pool.state import SlidingWindow


def test_empty_window_is_healthy():
    window = SlidingWindow(300.0)
    assert (window.score(0.0), window.tally(0.0), window.next_change(5.0)) == (1.0, (0, 0), 5.0)


def test_score_is_successes_over_all():
    window = SlidingWindow(300.0)
    for success in (True, True, True, False):
        window.record(success=success, now=1000.0)
    assert window.score(1000.0) == 0.75


def test_old_failures_age_out_a_slice_at_a_time():
    window = SlidingWindow(300.0)
    window.record(success=False, now=0.0)
    window.record(success=False, now=45.0)
    window.record(success=True, now=100.0)
    assert window.next_change(100.0) == 300.0
    assert window.tally(299.9) == (1, 2)
    assert window.tally(300.0) == (1, 1)
    assert window.tally(330.0) == (1, 0)
    assert window.tally(390.0) == (0, 0)


def test_clock_that_is_set_back_loses_nothing():
    window = SlidingWindow(300.0)
    window.record(success=True, now=1000.0)
    window.record(success=False, now=10.0)
    assert window.tally(10.0) == (1, 1)
    assert window.tally(1000.0) == (1, 1)


TIMES = st.lists(st.tuples(st.floats(0, 2000), st.booleans()), max_size=60).map(sorted)


@given(st.sampled_from([1.0, 0.7, 300.0, 3333.3]), TIMES)
def test_buckets_restore_the_window(seconds, outcomes):
    window = SlidingWindow(seconds)
    for now, success in outcomes:
        window.record(success=success, now=now)
    restored = SlidingWindow(seconds, window.buckets())
    for now in (2000.0, 2000.0 + seconds / 2, 2000.0 + 2 * seconds):
        assert restored.tally(now) == window.tally(now)


@given(TIMES)
def test_window_holds_what_is_recent_and_not_what_is_old(outcomes):
    window = SlidingWindow(100.0)
    for number, (now, success) in enumerate(outcomes, 1):
        window.record(success=success, now=now)
        past = [time for time, _ in outcomes[:number]]
        certainly = sum(time > now - 90.0 for time in past)
        possibly = sum(time > now - 100.0 for time in past)
        assert certainly <= sum(window.tally(now)) <= possibly
