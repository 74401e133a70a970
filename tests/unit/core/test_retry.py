"""Whether a request is sent once more: the whole decision, without a pool or an upstream."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gemproxy.core.retry import (
    KEYS_FAULT,
    MAX_LOST_ON_THE_WAY,
    MAX_UNUSABLE,
    SAME_KEY_MAY_SERVE,
    OtherKey,
    RetrySettings,
    Revision,
    SameKey,
    Stop,
    decide,
)
from gemproxy.pool.outcome import Outcome, Verdict

SETTINGS = RetrySettings(max_attempts=4, backoff=0.5)
NOW, DEADLINE = 100.0, 200.0
SERVICE, UNUSABLE = Outcome(Verdict.SERVICE, 503), Outcome(Verdict.UNUSABLE, 200)
LOST = Outcome(Verdict.NETWORK, timed_out=True, spares_key=True)
ATTEMPT = Revision("refused", is_attempt=True, needs_same_key=True)
REQUEST = Revision("refused", is_attempt=False, needs_same_key=False)


@dataclass
class Tried:
    outcome: Outcome


def decision(*outcomes, now=NOW, settings=SETTINGS, **more):
    attempts = [Tried(outcome) for outcome in outcomes]
    return decide(outcomes[-1], attempts, now, settings, deadline=DEADLINE, **more)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_what_each_outcome_allows(verdict):
    made = decision(Outcome(verdict))
    if verdict in KEYS_FAULT:
        assert made == OtherKey(or_same_after=None)
    elif verdict in SAME_KEY_MAY_SERVE:
        assert made == OtherKey(or_same_after=0.5)
    else:
        assert made == Stop()


def test_no_outcome_is_both_the_keys_fault_and_nobodys():
    assert not KEYS_FAULT & SAME_KEY_MAY_SERVE


@pytest.mark.parametrize(("tries", "pause"), [(1, 0.5), (2, 1.0), (3, 2.0)])
def test_the_pause_before_the_same_key_doubles(tries, pause):
    assert decision(*[SERVICE] * tries) == OtherKey(or_same_after=pause)


@pytest.mark.parametrize(
    ("outcomes", "more"),
    [
        ([SERVICE] * 4, {}),
        ([UNUSABLE] * MAX_UNUSABLE, {}),
        ([UNUSABLE, SERVICE, UNUSABLE], {}),
        ([LOST] * MAX_LOST_ON_THE_WAY, {}),
        ([SERVICE], {"now": DEADLINE}),
        ([SERVICE], {"answered": True, "settings": RetrySettings(first_chunk_retry=False)}),
        ([SERVICE], {"settings": RetrySettings(max_attempts=1)}),
    ],
    ids=["attempts", "unusable", "unusable between", "lost", "time", "answered", "single"],
)
def test_where_it_ends(outcomes, more):
    assert decision(*outcomes, **more) == Stop()


@pytest.mark.parametrize(
    ("outcomes", "more"),
    [
        ([SERVICE] * 3, {}),
        ([UNUSABLE], {}),
        ([LOST], {}),
        ([Outcome(Verdict.NETWORK, timed_out=True)] * 3, {}),
        ([SERVICE], {"now": DEADLINE - 0.01}),
        ([SERVICE], {"answered": True}),
    ],
    ids=["attempts", "unusable", "lost", "timed out at the key's", "time", "answered"],
)
def test_where_it_goes_on(outcomes, more):
    assert isinstance(decision(*outcomes, **more), OtherKey)


REFUSED = Outcome(Verdict.REQUEST, 400, reason="refused")


def test_a_refused_option_is_left_out_with_the_same_key():
    assert decision(REFUSED, revision=ATTEMPT) == SameKey(ATTEMPT, or_other=False)
    assert decision(REFUSED, revision=REQUEST) == SameKey(REQUEST, or_other=True)
    assert decision(REFUSED) == Stop()


def test_only_a_revision_that_is_an_attempt_counts_as_one():
    tried = [SERVICE, SERVICE, SERVICE, REFUSED]
    assert decision(*tried, revision=ATTEMPT) == Stop()
    assert decision(*tried, revision=REQUEST) == SameKey(REQUEST, or_other=True)
