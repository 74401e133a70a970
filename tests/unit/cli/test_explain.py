"""``gemproxy explain`` against the real admin API."""

from __future__ import annotations

import json

import pytest
from fakes.admin import NOON, context
from fakes.pools import date

from gemproxy.core.context import Attempt, Refusal
from gemproxy.pool.key import Affinity
from gemproxy.pool.outcome import Charge, Outcome, Verdict
from gemproxy.pool.pool import Reason, SkippedKey


def test_the_story_of_a_request_that_failed_over(daemon, gemproxy):
    status, out, err = gemproxy("explain", "req_1")
    assert (status, err) == (0, "")
    story, _, grid = out.partition("\n\n")
    assert story.splitlines() == [
        (
            "Request req_1 came at 2026-11-22 19:59:50Z to /v1/chat/completions "
            "for an answer of gemini-3.8-flash."
        ),
        (
            "1. The key alpha had used up its quota per minute (quota_minute, status 429 "
            "RESOURCE_EXHAUSTED, quota GenerateRequestsPerMinutePerProjectPerModel-FreeTier) "
            "after 102 ms; charged to the key alpha. Google said: You exceeded your current quota."
        ),
        (
            "2. The key beta served the request (success, status 200) after 600 ms; "
            "charged to the key beta. "
            "Passed over: alpha (cooling down until 2026-11-22 20:00:30Z), gamma (disabled)."
        ),
        (
            "The client got status 200 (success) after 2 attempts and 812 ms, the first byte "
            "after 700 ms; 12 tokens in, 34 out."
        ),
    ]
    head, _, first, second, more = grid.splitlines()
    assert head.split() == [
        "#",
        "KEY",
        "OUTCOME",
        "STATUS",
        "CHARGED",
        "TO",
        "MS",
        "PASSED",
        "OVER",
    ]
    assert first.split() == ["1", "alpha", "quota_minute", "429", "the", "key", "alpha", "102"]
    assert second.split()[:8] == ["2", "beta", "success", "200", "the", "key", "beta", "600"]
    assert more.strip() == "gamma (disabled)"


def finish(daemon, request_id, status, seconds, **changes):
    told = context(request_id)
    for name, value in changes.items():
        setattr(told, name, value)
    daemon.stage.history.request_ended(told, status, seconds)


def test_why_a_key_was_chosen_out_of_turn(daemon, gemproxy):
    attempt = Attempt("1", "alpha", NOON, Outcome(Verdict.SUCCESS, 200), sticky=True)
    finish(daemon, "req_3", 200, 0.1, attempts=[attempt])
    assert "chosen because its conversation prefers it" in gemproxy("explain", "req_3")[1]
    bound = Affinity("team-a", "files/x")
    finish(daemon, "req_4", 200, 0.1, attempts=[attempt], affinity=bound)
    assert "Only keys of the project of files/x could serve" in gemproxy("explain", "req_4")[1]
    told = json.loads(gemproxy("--json", "explain", "req_4")[1])
    assert told["attempts"][0]["chosen_for"] == "files/x"


def test_how_long_it_waited_for_a_key(daemon, gemproxy):
    attempt = Attempt("1", "alpha", NOON, Outcome(Verdict.SUCCESS, 200))
    finish(daemon, "req_5", 200, 1.5, attempts=[attempt], queued=1.2345)
    story = gemproxy("explain", "req_5")[1].splitlines()
    assert story[1] == "It waited 1234 ms for a key."
    assert "waited" not in gemproxy("explain", "req_1")[1]


def test_no_key_was_left(daemon, gemproxy):
    over = [SkippedKey("alpha", Reason.CIRCUIT_OPEN, date(NOON + 60))]
    finish(
        daemon,
        "req_2",
        503,
        0.001,
        attempts=[],
        refused=Refusal("no_healthy_keys", over),
        outcome="no_healthy_keys",
        usage=None,
        first_byte=None,
    )
    _, out, _ = gemproxy("explain", "req_2")
    assert (
        "1. No key was left (no_healthy_keys). "
        "Passed over: alpha (breaker open until 2026-11-22 20:01:00Z).\n" in out
    )
    assert "The client got status 503 (no_healthy_keys) after 0 attempts and 1 ms.\n" in out


def test_an_outage_is_charged_to_the_model(daemon, gemproxy):
    told = context("req_3")
    for attempt in told.attempts:
        attempt.outcome = Outcome(Verdict.NETWORK, message="Connection refused.\n\x1b[31mX")
        attempt.charge = Charge.MODEL
    daemon.stage.history.request_ended(told, 502, 1.0)
    _, out, _ = gemproxy("explain", "req_3")
    assert (
        "The key alpha got no answer from Google (network) after 102 ms; "
        "charged to the model gemini-3.8-flash. Why: Connection refused.\n" in out
    )


def test_a_request_that_no_key_was_asked_for(daemon, gemproxy):
    finish(daemon, "r", 400, 0.001, attempts=[], outcome="invalid_request_error", model=None)
    _, out, _ = gemproxy("explain", "r")
    assert out.splitlines()[1] == "No key was asked."
    assert "PASSED OVER" not in out


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        ("insufficient_quota", "the budget of the client is spent"),
        (
            "rate_limit_exceeded",
            "a limit of the client, or the proxy's limit of requests in flight, was reached",
        ),
    ],
)
def test_a_request_over_a_limit_of_this_proxy(daemon, gemproxy, outcome, why):
    finish(daemon, "r", 429, 0.001, attempts=[], outcome=outcome, model=None)
    assert gemproxy("explain", "r")[1].splitlines()[1] == f"No key was asked: {why}."


@pytest.mark.parametrize("verdict", Verdict)
def test_every_outcome_has_words(daemon, gemproxy, verdict):
    told = context("req_4")
    told.attempts[0].outcome = Outcome(verdict)
    told.attempts[0].charge = Charge.NOBODY
    daemon.stage.history.request_ended(told, 200, 1.0)
    _, out, _ = gemproxy("explain", "req_4")
    assert f"({verdict.value}) after 102 ms; charged to nobody." in out
    assert "came to an end" not in out


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_words(daemon, gemproxy, reason):
    told = context("req_5")
    told.attempts[0].skipped_keys = [SkippedKey("gamma", reason)]
    daemon.stage.history.request_ended(told, 200, 1.0)
    status, out, _ = gemproxy("explain", "req_5")
    assert status == 0
    assert " Passed over: gamma (" in out


def test_scripts_get_what_the_daemon_says(daemon, gemproxy):
    status, out, _ = gemproxy("explain", "req_1", "--json")
    assert status == 0
    told = json.loads(out)
    assert told == json.loads(daemon.stage.ask("GET", "/admin/requests/req_1").body)
    assert [a["charged_to"] for a in told["attempts"]] == ["key", "key"]


@pytest.mark.parametrize(("given", "advice"), [("req_", "; did you mean req_1?"), ("zzz", "")])
def test_a_request_that_is_not_remembered(daemon, gemproxy, given, advice):
    status, out, err = gemproxy("explain", given)
    assert (status, out) == (1, "")
    assert err == (f"gemproxy: the daemon has no record of a request '{given}'{advice}\n")
