"""What the operator is told of the latest requests."""

from fakes.pools import date

from gemproxy.core.context import Attempt, Refusal, RequestContext
from gemproxy.pool.eligibility import Reason
from gemproxy.pool.outcome import Charge, Outcome, Verdict
from gemproxy.pool.status import SkippedKey
from gemproxy.telemetry.history import (
    AttemptExplanation,
    RequestExplanation,
    RequestHistory,
    RequestRecord,
)
from gemproxy.translate.shared.usage import TokenUsage

NOW = 1_790_000_000.0
COOLING = SkippedKey("alpha", Reason.COOLING_DOWN, date(NOW + 30))
TRIED = SkippedKey("beta", Reason.ALREADY_TRIED)


def context(request_id="r", **more):
    return RequestContext(request_id, "/v1/chat/completions", NOW, **more)


def attempt(name, verdict, status=200, charge=Charge.KEY, seconds=0.5, skipped_keys=()):
    outcome = Outcome(verdict, status)
    return Attempt(name, name, NOW, outcome, seconds, charge, skipped_keys=list(skipped_keys))


def ids(history, *limit):
    return [finished.context.id for finished in history.latest(*limit)]


def turned_away(request_id, outcome="invalid_api_key"):
    return context(request_id, outcome=outcome, turned_away=True)


def test_who_is_turned_away_pushes_nobody_else_out():
    history = RequestHistory(capacity=5, turned_away=3)
    for number in range(5):
        history.request_ended(context(f"real-{number}"), 200, 1.0)
    for number in range(600):
        history.request_ended(turned_away(f"anonymous-{number}"), 401, 0.0)
    assert [history.find(f"real-{number}").record().status for number in range(5)] == [200] * 5
    assert history.find("anonymous-599").record().outcome == "invalid_api_key"
    assert history.find("anonymous-0") is None


def test_nor_does_it_take_anothers_id():
    history = RequestHistory()
    history.request_ended(turned_away("same"), 401, 0.0)
    history.request_ended(context("same", outcome="success"), 200, 1.0)
    history.request_ended(turned_away("same"), 401, 0.0)
    assert history.find("same").record().status == 200


def test_the_list_has_them_in_their_order_but_few():
    history = RequestHistory()
    for number in range(20):
        history.request_ended(context(f"real-{number}"), 200, float(number))
        history.request_ended(turned_away(f"not-{number}"), 401, number + 0.5)
    told = ids(history, 10)
    assert told[:4] == ["not-19", "real-19", "not-18", "real-18"]
    assert [name for name in told if name.startswith("not")] == ["not-19", "not-18"]
    assert len(told) == 10
    assert ids(history, 1) == ["real-19"]
    only = RequestHistory()
    for number in range(20):
        only.request_ended(turned_away(f"not-{number}"), 421, 0.0)
    assert len(only.latest()) == 20


def test_a_request_is_told_in_plain_values():
    history = RequestHistory()
    served = context(
        model="gemini-2.5-flash",
        stream=True,
        attempts=[attempt("alpha", Verdict.SERVICE, 503), attempt("beta", Verdict.SUCCESS)],
        outcome="success",
        first_byte=NOW + 0.75,
        usage=TokenUsage(input=7, output=3, total=10),
    )
    history.request_ended(served, 200, 1.23456)
    assert [finished.record() for finished in history.latest()] == [
        RequestRecord(
            id="r",
            time=date(NOW),
            route="/v1/chat/completions",
            model="gemini-2.5-flash",
            stream=True,
            status=200,
            outcome="success",
            key="beta",
            attempts=2,
            duration_ms=1234.6,
            first_byte_ms=750.0,
            prompt_tokens=7,
            completion_tokens=3,
            retries=1,
            endpoint="chat",
            cached_tokens=0,
            reasoning_tokens=0,
        )
    ]


def test_the_jobs_of_one_request_are_no_retries():
    history = RequestHistory()
    attempts = [attempt("alpha", Verdict.SUCCESS), attempt("beta", Verdict.SUCCESS)]
    history.request_ended(context(attempts=attempts, outcome="success"), 200, 1.0)
    (finished,) = history.latest()
    record = finished.record()
    assert (record.attempts, record.retries) == (2, 0)


def test_what_is_not_known_is_none():
    history = RequestHistory()
    history.request_ended(context(outcome="invalid_api_key"), 401, 0.001)
    (finished,) = history.latest()
    record = finished.record()
    assert (record.model, record.key, record.attempts) == (None, None, 0)
    assert (record.first_byte_ms, record.prompt_tokens, record.completion_tokens) == (None,) * 3


def test_the_newest_come_first():
    history = RequestHistory()
    for n in range(150):
        history.request_ended(context(f"r{n}"), 200, 1.0)
    assert ids(history, 3) == ["r149", "r148", "r147"]
    assert len(ids(history)) == 100
    assert len(ids(history, 500)) == 150


def test_the_oldest_make_room():
    history = RequestHistory(capacity=3)
    for n in range(5):
        history.request_ended(context(f"r{n}"), 200, 1.0)
    assert ids(history, 500) == ["r4", "r3", "r2"]
    assert history.find("r1") is None


def test_every_decision_is_explained():
    history = RequestHistory()
    failed = context(
        attempts=[
            attempt("beta", Verdict.QUOTA_DAY, 429, skipped_keys=[COOLING]),
            attempt("gamma", Verdict.NETWORK, None, Charge.MODEL, skipped_keys=[COOLING, TRIED]),
        ],
        outcome="network",
        refused=Refusal("rate_limit_exceeded", [COOLING, TRIED]),
    )
    history.request_ended(failed, 502, 1.0)
    one, two = {"cooling_down": 1}, {"cooling_down": 1, "already_tried": 1}
    passed = (COOLING, TRIED)
    assert history.find("r").explanation() == RequestExplanation(
        request=history.latest()[0].record(),
        attempts=tuple(
            AttemptExplanation(*told, passed_over_counts=counts)
            for told, counts in (
                (("beta", "quota_day", 429, Charge.KEY, 500.0, (COOLING,)), one),
                (("gamma", "network", None, Charge.MODEL, 500.0, passed), two),
                ((None, "rate_limit_exceeded", None, Charge.NOBODY, 0.0, passed), two),
            )
        ),
    )


def test_of_two_requests_with_one_id_the_newer_is_found():
    history = RequestHistory()
    history.request_ended(context("same"), 500, 1.0)
    history.request_ended(context("same"), 200, 2.0)
    assert history.find("same").record().status == 200
    assert history.find("another") is None
