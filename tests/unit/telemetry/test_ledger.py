"""The ledger that counts requests into rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from fakes.stores import NOON, minute
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.core.context import Attempt, RequestContext
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.state.model import (
    HOUR,
    MINUTE,
    MetricsRow,
)
from gemproxy.telemetry.ledger import MAX_MODELS, MetricsLedger
from gemproxy.translate.shared.usage import TokenUsage

CHAT = "/v1/chat/completions"
FLASH = "gemini-3.8-flash"


def context(started=NOON, *, model=FLASH, keys=("a",), outcome="success", **options):
    attempts = [Attempt(f"{name}-id", name, started) for name in keys]
    return RequestContext(
        "req_1", CHAT, started, model=model, attempts=attempts, outcome=outcome, **options
    )


def finish(ledger, status=200, seconds=1.0, **options):
    ledger.request_ended(context(**options), status, seconds)


def minutes(ledger):
    return ledger.rows_of(MINUTE)


class TestCounting:
    def test_every_column(self):
        ledger = MetricsLedger()
        usage = TokenUsage(input=100, cached=40, output=30, reasoning=20, total=130)
        finish(
            ledger, keys=("a", "b"), stream=True, first_byte=NOON + 0.25, usage=usage, seconds=2.5
        )
        finish(ledger, keys=("b",), seconds=0.5)
        expected = MetricsRow(
            period=60,
            start=int(NOON),
            route=CHAT,
            model=FLASH,
            status_class="2xx",
            key="b",
            requests=2,
            failures=0,
            retries=1,
            prompt_tokens=100,
            cached_tokens=40,
            completion_tokens=30,
            reasoning_tokens=20,
            seconds=3.0,
            first_chunks=1,
            first_chunk_seconds=0.25,
        )
        assert ledger.rows() == (expected, replace(expected, period=3600))

    def test_the_jobs_of_one_request_are_no_retries(self):
        ledger = MetricsLedger()
        of_jobs = context(keys=("a", "b", "a"))
        for attempt, verdict in zip(
            of_jobs.attempts, ("SUCCESS", "SERVICE", "SUCCESS"), strict=True
        ):
            attempt.outcome = Outcome(Verdict[verdict])
        ledger.request_ended(of_jobs, 200, 1.0)
        assert minutes(ledger)[0].retries == 1

    def test_series_are_told_apart(self):
        ledger = MetricsLedger()
        finish(ledger)
        finish(ledger, keys=("b",))
        finish(ledger, model="gemini-3.8-pro")
        finish(ledger, status=503, outcome="service")
        finish(ledger, status=401, model=None, keys=(), outcome="invalid_api_key")
        assert {row.series for row in minutes(ledger)} == {
            (CHAT, FLASH, "2xx", "a"),
            (CHAT, FLASH, "2xx", "b"),
            (CHAT, "gemini-3.8-pro", "2xx", "a"),
            (CHAT, FLASH, "5xx", "a"),
            (CHAT, "", "4xx", ""),
        }

    @pytest.mark.parametrize(
        ("status", "outcome", "failures"),
        [
            (200, "success", 0),
            (200, "blocked", 0),
            (200, "broken_off", 1),
            (200, "stream_incomplete", 1),
            (400, "invalid_request_error", 0),
            (404, "model_not_found", 0),
            (429, "quota_minute", 1),
            (499, "client_gone", 0),
            (500, "internal_error", 1),
            (503, "no_healthy_keys", 1),
        ],
    )
    def test_failures_are_what_a_client_would_call_not_its_own(self, status, outcome, failures):
        ledger = MetricsLedger()
        finish(ledger, status=status, outcome=outcome)
        assert [row.failures for row in minutes(ledger)] == [failures]

    def test_first_chunk_is_of_streams_only(self):
        ledger = MetricsLedger()
        finish(ledger, stream=False, first_byte=NOON + 9)
        finish(ledger, stream=True, first_byte=None)
        assert [(row.first_chunks, row.first_chunk_seconds) for row in minutes(ledger)] == [(0, 0)]

    def test_request_counts_where_it_ends(self):
        ledger = MetricsLedger()
        finish(ledger, started=NOON - 10, seconds=70)
        (row,) = minutes(ledger)
        assert row.start == NOON + 60

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([0, 1, 59, 60, 61, 3599, 3600]),
                st.sampled_from(["a", "b"]),
                st.sampled_from([200, 201, 503]),
                st.booleans(),
            ),
            max_size=30,
        )
    )
    def test_in_whatever_order_minutes_keys_and_statuses_come(self, requests):
        ledger = MetricsLedger()
        expected = Counter()
        for at, key, status, asked in sorted(requests):
            finish(ledger, status, 0.0, started=NOON + at, keys=(key,))
            expected[int(NOON + at) // 60 * 60, key, f"{status // 100}xx"] += 1
            if asked:
                ledger.rows()
        counted = Counter()
        # A model has rows of its own from its first success on.
        for row in minutes(ledger):
            counted[row.start, row.key, row.status_class] += row.requests
        assert counted == expected

    def test_thousands_of_keys_in_one_minute_are_each_counted(self):
        ledger = MetricsLedger(max_series=5000)
        for _ in range(2):
            for number in range(3000):
                finish(ledger, keys=(f"key-{number}",))
        assert [row.requests for row in minutes(ledger)] == [2] * 3000

    def test_whoever_asks_in_between_gets_what_was_counted_so_far(self):
        ledger = MetricsLedger()
        for number in range(1, 4):
            finish(ledger)
            finish(ledger, started=NOON + 60)
            assert [row.requests for row in ledger.rows_of(MINUTE)] == [number] * 2
            assert [row.requests for row in ledger.rows_of(HOUR)] == [2 * number]

    def test_token_counts_that_no_column_holds_are_cut(self):
        ledger = MetricsLedger()
        for _ in range(3):
            finish(ledger, usage=TokenUsage(input=10**30))
        (row,) = minutes(ledger)
        assert 0 < row.prompt_tokens < 2**63


class TestMemory:
    def test_unchanged_rows_are_the_same_objects(self):
        ledger = MetricsLedger()
        finish(ledger)
        finish(ledger, keys=("b",))
        before = ledger.rows()
        finish(ledger, keys=("b",))
        after = ledger.rows()
        assert [new is old for new, old in zip(after, before, strict=True)] == [
            True,
            False,
            True,
            False,
        ]
        assert all(a is b for a, b in zip(ledger.rows(), after, strict=True))

    def test_an_hour_of_minutes_and_a_day_of_hours_are_remembered(self):
        ledger = MetricsLedger()
        for n in range(2 * 24 * 60):
            finish(ledger, started=NOON + 60 * n, seconds=0.0)
        ledger.forget(NOON + 2 * 86400 - 1)
        starts = [row.start for row in ledger.rows_of(MINUTE)]
        assert starts == sorted(starts)
        assert 60 <= len(starts) <= 62
        assert len(ledger.rows_of(HOUR)) == 25
        assert sum(row.requests for row in ledger.rows_of(HOUR)[-24:]) == 24 * 60

    def test_silence_empties_it(self):
        ledger = MetricsLedger()
        finish(ledger)
        ledger.forget(NOON + 86400 * 2)
        assert ledger.rows() == ()

    def test_clock_that_was_set_back_leaves_no_rows_for_ever(self):
        ledger = MetricsLedger()
        for day in range(100):
            finish(ledger, started=NOON - 86400 * day)
        ledger.forget(NOON - 86400 * 99 + 2)
        # The minute, its hour, and the hour of the day before, which is to come again.
        assert len(ledger.rows()) == 3

    @pytest.mark.parametrize("step", [-3600.0, 700.0, -86400.0 * 3, 86400.0 * 3])
    def test_what_was_counted_before_the_clock_was_set_can_still_be_stored(self, step):
        ledger = MetricsLedger()
        finish(ledger)
        finish(ledger, started=NOON + step)
        finish(ledger, started=NOON + step)
        assert sum(row.requests for row in ledger.rows_of(MINUTE)) == 3
        assert sum(row.requests for row in ledger.rows_of(HOUR)) == 3

    def test_the_minutes_of_a_clock_that_was_ahead_are_counted_on_when_it_comes_by_again(self):
        ledger = MetricsLedger()
        finish(ledger, started=NOON + 600)
        finish(ledger, started=NOON)
        ledger.forget(NOON + 1)
        finish(ledger, started=NOON + 600)
        assert [row.requests for row in ledger.rows_of(MINUTE)] == [1, 2]

    def test_a_clock_that_is_set_again_and_again_fills_no_memory(self):
        ledger = MetricsLedger()
        for day in range(1000):
            finish(ledger, started=NOON + 86400 * (day % 2 * 500 - day))
        assert len(ledger.rows()) <= 400

    def test_keys_beyond_the_bound_are_counted_together(self):
        ledger = MetricsLedger(max_series=4)
        for n in range(20):
            finish(ledger, keys=(f"k{n}",))
        rows = minutes(ledger)
        assert {row.key: row.requests for row in rows} == {
            "k0": 1,
            "k1": 1,
            "k2": 1,
            "k3": 1,
            "other": 16,
        }

    def test_models_nobody_was_served_with_are_counted_together(self):
        ledger = MetricsLedger()
        finish(ledger)
        for n in range(100):
            finish(ledger, model=f"invented-{n}", status=404, outcome="request")
        finish(ledger, status=503, outcome="service")
        rows = {(row.model, row.status_class): row.requests for row in minutes(ledger)}
        assert rows == {(FLASH, "2xx"): 1, ("other", "4xx"): 100, (FLASH, "5xx"): 1}

    def test_models_with_a_name_of_their_own_are_bounded(self):
        ledger = MetricsLedger()
        for n in range(MAX_MODELS + 50):
            finish(ledger, model=f"m{n}")
        assert len({row.model for row in minutes(ledger)}) == MAX_MODELS + 1

    def test_whatever_clients_do_the_rows_are_bounded(self):
        ledger = MetricsLedger(max_series=50)
        for n in range(3000):
            finish(ledger, model=f"m{n}", keys=(f"k{n}",), status=200 + 100 * (n % 4))
        assert len(minutes(ledger)) <= 50 + 2 * 4


class TestRestoring:
    def test_counting_goes_on_where_it_was(self):
        ledger = MetricsLedger()
        finish(ledger)
        rows = ledger.rows()
        again = MetricsLedger()
        again.restore(rows, NOON + 2)
        assert again.rows() == rows
        finish(again)
        finish(ledger)
        assert again.rows() == ledger.rows()

    def test_rows_that_come_late_are_added(self):
        ledger = MetricsLedger()
        finish(ledger)
        ledger.restore(ledger.rows(), NOON + 1)
        assert [row.requests for row in ledger.rows()] == [2, 2]

    def test_rows_that_come_late_are_added_where_counting_goes_on(self):
        ledger = MetricsLedger()
        finish(ledger)
        ledger.restore(ledger.rows(), NOON + 1)
        finish(ledger)
        assert [row.requests for row in ledger.rows()] == [3, 3]

    def test_rows_that_are_too_old_or_of_unknown_length_are_left_out(self):
        ledger = MetricsLedger()
        rows = (minute(NOON - 2 * 3600), minute(NOON, period=86400), minute(NOON + 7200))
        ledger.restore(rows, NOON)
        assert ledger.rows() == ()

    def test_models_of_stored_rows_keep_their_names(self):
        ledger = MetricsLedger()
        ledger.restore((minute(NOON - 60),), NOON)
        finish(ledger, status=503, outcome="service")
        assert {row.model for row in minutes(ledger)} == {FLASH}
