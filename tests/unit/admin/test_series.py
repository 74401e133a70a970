"""The last hour by minutes, added up from the rows of the state."""

import pytest
from fakes.admin import NOON, AdminStage
from twisted.internet.task import Clock

from gemproxy.admin.series import MINUTES, LastHour
from gemproxy.core.context import RequestContext
from gemproxy.state.model import MINUTE, MetricsRow
from gemproxy.telemetry.ledger import MetricsLedger

#: NOON is at the beginning of a minute.
NOW = NOON + 20


def row(start, **numbers):
    series = {"route": "/v1/chat/completions", "model": "m", "status_class": "2xx", "key": "alpha"}
    return MetricsRow(**{"period": 60, "start": int(start), **series, **numbers})


def hour_of(*rows, now=NOW):
    hour = LastHour(now)
    hour.add(rows)
    return hour.minutes


def ask(*rows):
    clock = Clock()
    clock.advance(NOW)
    stage = AdminStage(clock)
    stage.rows = rows
    return stage, stage.ask("GET", "/admin/metrics/series")


def test_every_minute_is_there_oldest_first():
    minutes = hour_of()
    assert len(minutes) == MINUTES == 61
    assert [minute.start for minute in minutes] == [int(NOON) - 60 * n for n in range(60, -1, -1)]
    assert {minute.requests for minute in minutes} == {0}


def test_the_last_minute_says_how_much_of_it_has_passed():
    minutes = hour_of()
    assert minutes[-1].passed == 20
    assert {minute.passed for minute in minutes[:-1]} == {60}


def test_the_series_of_a_minute_are_added_up():
    minutes = hour_of(
        row(NOON, requests=3, failures=1, retries=2, seconds=1.5, prompt_tokens=10),
        row(NOON, requests=1, key="beta", seconds=0.5, completion_tokens=4, cached_tokens=5),
        row(NOON - 60, requests=7, reasoning_tokens=6),
    )
    last = minutes[-1]
    assert (last.requests, last.failures, last.retries) == (4, 1, 2)
    assert (last.prompt_tokens, last.cached_tokens, last.completion_tokens) == (10, 5, 4)
    assert last.avg_duration_ms == 500.0
    assert (minutes[-2].requests, minutes[-2].reasoning_tokens) == (7, 6)
    assert minutes[-3].requests == 0


def test_the_first_chunk_is_a_mean_over_streams_only():
    minutes = hour_of(
        row(NOON, requests=9, first_chunks=3, first_chunk_seconds=0.6),
        row(NOON, requests=1, first_chunks=1, first_chunk_seconds=0.4, key="beta"),
    )
    assert minutes[-1].avg_first_chunk_ms == 250.0


def test_where_nothing_happened_there_is_no_mean():
    minutes = hour_of(row(NOON, requests=2, seconds=1.0))
    assert minutes[-1].avg_first_chunk_ms is None
    assert minutes[-2].avg_duration_ms is None


@pytest.mark.parametrize("start", [NOON - 61 * 60, NOON + 60, NOON - 59])
def test_rows_of_another_time_are_left_out(start):
    assert sum(minute.requests for minute in hour_of(row(start, requests=1))) == 0


def test_the_route_gives_the_minutes_with_their_times():
    _, answer = ask(row(NOON, requests=2, failures=1, seconds=0.5, prompt_tokens=7))
    assert answer.status == 200
    assert answer.json["timestamp"] == "2026-11-22T20:00:20Z"
    assert len(answer.json["minutes"]) == 61
    assert answer.json["minutes"][0]["start"] == "2026-11-22T19:00:00Z"
    assert answer.json["minutes"][-1] == {
        "start": "2026-11-22T20:00:00Z",
        "seconds": 20.0,
        "requests": 2,
        "failures": 1,
        "retries": 0,
        "prompt_tokens": 7,
        "cached_tokens": 0,
        "completion_tokens": 0,
        "reasoning_tokens": 0,
        "avg_duration_ms": 250.0,
        "first_chunks": 0,
        "avg_first_chunk_ms": None,
    }


def test_many_rows_are_added_up_in_turns_and_none_is_lost():
    rows = [row(NOON, requests=1, key=f"key-{n}") for n in range(4321)]
    stage, answer = ask(*rows)
    assert answer.json["minutes"][-1]["requests"] == 4321
    assert stage.pauses >= 4


def test_what_the_ledger_counts_is_what_the_curves_show():
    """Also after a restart, for which the state keeps the rows."""
    ledger, restarted = MetricsLedger(), MetricsLedger()
    ledger.request_ended(RequestContext("a", "/v1/chat/completions", NOON - 50), 200, 0.5)
    ledger.request_ended(RequestContext("b", "/v1/chat/completions", NOON + 1), 503, 0.5)
    restarted.restore(ledger.rows(), NOW)
    for each in (ledger, restarted):
        minutes = hour_of(*each.rows_of(MINUTE))
        assert [minutes[-3].requests, minutes[-2].requests, minutes[-1].requests] == [0, 1, 1]
        assert minutes[-1].failures == 1
