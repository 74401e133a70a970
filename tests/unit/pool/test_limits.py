"""A key's own limits."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from gemproxy.pool.key import Limits
from gemproxy.pool.limits import Ledger, Shortage

# 2026-11-22 12:00 in Los Angeles.
NOON = datetime(2026, 11, 22, 20, tzinfo=UTC).timestamp()
MIDNIGHT = NOON + 12 * 3600


def test_requests_in_any_sixty_seconds():
    ledger = Ledger(Limits(rpm=2))
    ledger.reserve(NOON, 0)
    ledger.reserve(NOON + 10, 0)
    assert ledger.shortage(NOON + 20) == Shortage(NOON + 60)
    assert ledger.shortage(NOON + 59.9) == Shortage(NOON + 60)
    assert ledger.shortage(NOON + 60) is None
    ledger.reserve(NOON + 60, 0)
    assert ledger.shortage(NOON + 61) == Shortage(NOON + 70)


def test_tokens_are_reserved_by_estimate_and_corrected():
    ledger = Ledger(Limits(tpm=1000))
    use = ledger.reserve(NOON, 900)
    assert ledger.shortage(NOON + 1, 200) == Shortage(NOON + 60, momentary=True)
    assert ledger.shortage(NOON + 1, 100) is None
    ledger.correct(use, 300, NOON + 2)
    assert ledger.shortage(NOON + 3, 200) is None
    ledger.correct(use, 1000, NOON + 4)
    assert ledger.shortage(NOON + 5) == Shortage(NOON + 60)


def test_late_correction_of_a_use_that_has_aged_out_counts_nothing():
    ledger = Ledger(Limits(tpm=1000))
    use = ledger.reserve(NOON, 10)
    ledger.correct(use, 1000, NOON + 61)
    assert ledger.shortage(NOON + 61, 1000) is None


def test_use_that_aged_out_before_the_clock_was_set_back_is_not_corrected():
    ledger = Ledger(Limits(tpm=1000))
    use = ledger.reserve(NOON, 10)
    assert ledger.shortage(NOON + 600) is None
    ledger.correct(use, 5000, NOON + 1)
    assert ledger.shortage(NOON + 2) is None
    ledger.reserve(NOON + 3, 1000)
    assert ledger.shortage(NOON + 4) == Shortage(NOON + 63)


def test_request_larger_than_the_limit_goes_alone():
    ledger = Ledger(Limits(tpm=1000))
    assert ledger.shortage(NOON, 5000) is None
    ledger.reserve(NOON, 1)
    assert ledger.shortage(NOON + 1, 5000) == Shortage(NOON + 60, momentary=True)


def test_requests_of_a_day_return_at_midnight_in_los_angeles():
    ledger = Ledger(Limits(rpd=2))
    ledger.reserve(NOON, 0)
    ledger.reserve(NOON + 3600, 0)
    assert ledger.shortage(NOON + 7200) == Shortage(MIDNIGHT, for_the_day=True)
    assert ledger.shortage(MIDNIGHT) is None


def test_no_limits_no_shortage():
    ledger = Ledger(Limits())
    for _ in range(1000):
        ledger.reserve(NOON, 10_000)
    assert ledger.shortage(NOON, 10_000) is None


def test_usage_outlives_a_restart():
    ledger = Ledger(Limits(rpm=1, tpm=10, rpd=5))
    ledger.reserve(NOON, 10)
    restored = Ledger(Limits(rpm=1, tpm=10, rpd=5))
    restored.restore(ledger.snapshot(), NOON + 30)
    assert restored.shortage(NOON + 30) == Shortage(NOON + 60)
    assert restored.snapshot().today == 1
    restored.restore(ledger.snapshot(), MIDNIGHT)
    assert restored.snapshot().today == 0


@given(st.lists(st.tuples(st.floats(0, 200), st.integers(0, 60)), max_size=60))
def test_admitted_requests_never_pass_the_limits(requests):
    ledger = Ledger(Limits(rpm=5, tpm=100))
    admitted = []
    for offset, tokens in sorted(requests):
        now = NOON + offset
        shortage = ledger.shortage(now, tokens)
        if shortage is None:
            ledger.reserve(now, tokens)
            admitted.append((now, tokens))
        else:
            assert shortage.until > now
        window = [(time, size) for time, size in admitted if time > now - 60]
        assert len(window) <= 5
        assert sum(size for _, size in window) <= 100
