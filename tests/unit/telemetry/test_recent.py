"""What clients got in the last minutes."""

import pytest

from gemproxy.core.context import Attempt, RequestContext
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.telemetry.recent import RecentOutcomes, RecentRequests

NOON = 1_790_000_000.0
SUCCESS = Outcome(Verdict.SUCCESS, 200)
OVERLOADED = Outcome(Verdict.SERVICE, 503)


def finish(recent, status=200, outcome=SUCCESS, now=NOON, word=None, model="m"):
    attempts = [] if outcome is None else [Attempt("1", "one", now, outcome)]
    told = RequestContext("r", "/v1/chat/completions", now - 1.0, model=model, attempts=attempts)
    told.outcome = word or ("" if outcome is None else outcome.verdict.value)
    recent.request_ended(told, status, 1.0)


@pytest.fixture
def recent():
    return RecentOutcomes()


def test_nothing_happened(recent):
    assert recent.summary(NOON) == RecentRequests()


def test_successes_and_failures_with_their_causes(recent):
    for _ in range(2):
        finish(recent)
    for _ in range(3):
        finish(recent, 503, OVERLOADED)
    finish(recent, 502, Outcome(Verdict.NETWORK, reason="connect_timeout"))
    finish(recent, 503, None, word="model_unavailable")
    finish(recent, 200, Outcome(Verdict.BROKEN_OFF, reason="truncated"))
    assert recent.summary(NOON) == RecentRequests(
        8,
        6,
        8,
        6,
        (
            ("upstream 503", 3),
            ("connect timeout", 1),
            ("model unavailable", 1),
            ("truncated", 1),
        ),
    )


@pytest.mark.parametrize(
    ("status", "outcome", "word"),
    [
        (400, Outcome(Verdict.REQUEST, 400), None),
        (401, None, "invalid_api_key"),
        (404, None, "unknown_url"),
        (413, None, "request_too_large"),
        (499, Outcome(Verdict.CLIENT_GONE), None),
        (503, None, "draining"),
    ],
)
def test_clients_own_faults_count_neither_way(recent, status, outcome, word):
    finish(recent, status, outcome, word=word)
    assert recent.summary(NOON) == RecentRequests()


def test_whoever_only_looks_counts_neither_way(recent):
    """A balancer that asks for the list of models must not make up for failing completions."""
    finish(recent, 200, None, word="success", model=None)
    finish(recent, 200, None, model=None)
    assert recent.summary(NOON).total == 0
    finish(recent, 429, None, word="rate_limit_exceeded", model=None)
    assert recent.summary(NOON).failed == 1


def test_it_is_forgotten_after_five_minutes(recent):
    finish(recent, 503, OVERLOADED, NOON)
    finish(recent, now=NOON + 250)
    assert recent.summary(NOON + 250) == RecentRequests(2, 1, 1, 0, (("upstream 503", 1),))
    assert recent.summary(NOON + 311) == RecentRequests(1, 0)
    assert recent.summary(NOON + 600) == RecentRequests()


def test_causes_and_slots_are_bounded(recent):
    for number in range(1000):
        finish(recent, 503, None, word=f"word_{number}")
    summary = recent.summary(NOON)
    assert len(summary.causes) == 33
    assert summary.failed == 1000
    assert summary.causes[0] == ("other reasons", 968)
    # A clock that jumps about fills no memory.
    for number in range(1000):
        finish(recent, now=NOON + (number % 2) * 40)
    assert len(recent._slots) <= 32
