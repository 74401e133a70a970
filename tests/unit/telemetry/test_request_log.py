"""The line of each request, and what the request log remembers of a region that Google refuses."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogLevel, globalLogPublisher

from gemproxy.config.settings import LoggingSettings
from gemproxy.core.context import Attempt, RequestContext
from gemproxy.pool.key import Key
from gemproxy.pool.outcome import Charge, Outcome, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings
from gemproxy.secret import Secret
from gemproxy.telemetry.logs import LogSink
from gemproxy.telemetry.request_log import RequestLog
from gemproxy.telemetry.scrubbing import Scrubber
from gemproxy.translate.shared.usage import TokenUsage

NOON = 1_790_000_000.0
SECRET = "test-key-one-0123456789abcdef"


def request(**fields):
    attempts = [
        Attempt("1", "one", NOON, Outcome(Verdict.QUOTA_MINUTE)),
        Attempt("2", "two", NOON, Outcome(Verdict.SUCCESS)),
    ]
    told = {
        "id": "req_1",
        "route": "/v1/chat/completions",
        "model": "gemini-2.5-flash",
        "attempts": attempts,
        "outcome": "success",
        "first_byte": NOON + 0.0404,
        "usage": TokenUsage(input=3, output=4),
    }
    return RequestContext(**{**told, **fields}, started=NOON)


class Log:
    """A request log over a sink; ``observing``: twistd has made the sink its observer."""

    def __init__(self, *, observing=True, **settings):
        self.stream = io.StringIO()
        self.sink = LogSink(LoggingSettings(**settings), Scrubber([Secret(SECRET)]), self.stream)
        self.log = RequestLog(self.sink)
        if observing:
            self.sink({"log_level": LogLevel.info, "log_format": "starting up"})
        self.forget()

    def forget(self):
        self.stream.seek(0)
        self.stream.truncate()

    def finish(self, context=None, status=200, seconds=0.05):
        self.log.request_ended(context or request(), status, seconds)
        return self.stream.getvalue()


def published(do):
    """What ``do`` tells Twisted's observers."""
    events = []
    globalLogPublisher.addObserver(events.append)
    try:
        do()
    finally:
        globalLogPublisher.removeObserver(events.append)
    return events


def by_way_of_an_event(context, **settings):
    """The line of a request that was told to all observers, one of which is a sink."""
    (event,) = published(lambda: RequestLog().request_ended(context, 200, 0.05))
    log = Log(**settings)
    log.sink(event)
    return log.stream.getvalue()


class TestLine:
    def test_has_what_an_operator_greps_for(self):
        assert json.loads(Log().finish()) == {
            "time": "2026-09-21T14:13:20.050Z",
            "level": "info",
            "logger": "gemproxy.requests",
            "event": "request finished",
            "request_id": "req_1",
            "route": "/v1/chat/completions",
            "client": None,
            "key": "two",
            "model": "gemini-2.5-flash",
            "stream": False,
            "status": 200,
            "outcome": "success",
            "attempts": 2,
            "tried": ["one:quota_minute"],
            "queue_ms": 0.0,
            "ms": 50.0,
            "first_byte_ms": 40.4,
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "cost_usd": 0.0,
            "failures": [{"key": "one", "outcome": "quota_minute", "charged_to": "nobody"}],
        }

    @pytest.mark.parametrize("settings", [{}, {"format": "text"}])
    def test_tells_what_google_said_to_each_attempt_that_failed(self, settings):
        expired = Outcome(
            Verdict.KEY,
            400,
            "expired",
            'API key expired. The prompt was "Dear diary".',
            google_status="INVALID_ARGUMENT",
            google_reason="API_KEY_INVALID",
        )
        refused = Outcome(Verdict.NETWORK, reason="refused", message="Connection refused.")
        attempts = [
            Attempt("1", "one", NOON, expired, 0.1, Charge.KEY),
            Attempt("2", "two", NOON, refused, 0.1, Charge.MODEL),
        ]
        told = request(attempts=attempts, outcome="network", usage=None, first_byte=None)
        line = Log(**settings).finish(told)
        assert line == by_way_of_an_event(told, **settings)
        for words in ("expired", "INVALID_ARGUMENT", "API_KEY_INVALID", "API key expired."):
            assert words in line
        assert "Connection refused." in line
        assert "diary" not in line

    def test_tells_it_of_the_only_attempt_as_well(self):
        """As of a stream that broke off, of which tokens and first byte are known."""
        log = Log()
        log.finish(request(attempts=[Attempt("1", "one", NOON, Outcome(Verdict.SUCCESS))]))
        for reason in ("reset", "truncated"):
            log.forget()
            broken = Outcome(Verdict.BROKEN_OFF, reason=reason)
            attempts = [Attempt("1", "one", NOON, broken)]
            line = json.loads(log.finish(request(attempts=attempts, outcome="broken_off")))
            assert [each["reason"] for each in line["failures"]] == [reason]

    def test_tells_of_few_of_many_attempts(self):
        failed = Outcome(Verdict.SERVICE, 503, message="x " * 900)
        attempts = [Attempt(str(n), f"k{n}", NOON, failed) for n in range(50)]
        line = Log().finish(request(attempts=attempts, outcome="service"))
        assert [each["key"] for each in json.loads(line)["failures"]] == [
            f"k{n}" for n in range(45, 50)
        ]
        assert len(line) < 5000

    @pytest.mark.parametrize("settings", [{}, {"format": "text"}, {"level": "debug"}])
    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"attempts": [], "usage": None, "first_byte": None, "model": None},
            {"id": SECRET},
            {"id": SECRET[:14]},
            {"model": f"models/{SECRET}", "outcome": 'two words "quoted"'},
            {"model": "\ud800 half a character"},
            {"model": "two\nlines"},
            {"model": "x" * 40_000},
            {"usage": TokenUsage(input=10**30)},
        ],
    )
    def test_is_the_same_as_by_way_of_an_event(self, settings, fields):
        line = Log(**settings).finish(request(**fields))
        assert line == by_way_of_an_event(request(**fields), **settings)
        assert line.count("\n") == 1
        assert SECRET[:12] not in line

    @given(st.text(max_size=20), st.text(max_size=20))
    def test_is_the_same_whatever_a_client_calls_things(self, name, model):
        fields = {"id": name, "model": model}
        assert Log().finish(request(**fields)) == by_way_of_an_event(request(**fields))

    def test_follows_the_level_and_the_format_of_a_reload(self):
        log = Log(level="warn")
        assert log.finish() == ""
        log.sink.apply(LoggingSettings(format="text"))
        assert " info     [gemproxy.requests] request finished request_id=req_1 " in log.finish()
        log.forget()
        log.sink.apply(LoggingSettings())
        assert json.loads(log.finish())["request_id"] == "req_1"

    def test_comes_between_the_lines_that_came_before_and_after_it(self):
        log = Log()
        for name in ("before", "after"):
            log.sink({"log_level": LogLevel.info, "log_format": name})
            log.finish(request(id=name))
        lines = [json.loads(line) for line in log.stream.getvalue().splitlines()]
        assert [line.get("request_id", line["event"]) for line in lines] == [
            "before",
            "before",
            "after",
            "after",
        ]

    def test_tells_first_what_was_suppressed_in_an_interval_that_is_over(self):
        log = Log()
        warning = {"log_level": LogLevel.warn, "log_format": "disk full", "log_time": NOON - 100}
        for _ in range(25):
            log.sink(warning)
        log.forget()
        log.finish()
        note, line = map(json.loads, log.stream.getvalue().splitlines())
        assert (note["repeated"], note["count"]) == ("disk full", 5)
        assert line["event"] == "request finished"

    def test_goes_to_the_observer_that_was_chosen_instead_of_the_sink(self):
        log = Log(observing=False)
        (event,) = published(log.finish)
        assert log.stream.getvalue() == ""
        assert event["log_namespace"] == "gemproxy.requests"
        assert event["log_time"] == NOON + 0.05
        assert (event["request_id"], event["tried"]) == ("req_1", ["one:quota_minute"])

    def test_costs_nothing_but_itself_where_the_stream_is_closed(self):
        log = Log()
        log.stream.close()
        log.log.request_ended(request(), 200, 0.05)
        assert log.sink.lost == 1


def finish(log, verdict, at):
    attempt = Attempt("1", "a", at, Outcome(verdict, 400, message="not supported"))
    context = RequestContext("r", "/", at, attempts=[attempt], outcome=verdict.value)
    log.request_ended(context, 400, 0.1)


class TestRegion:
    def test_refused_one_is_remembered_for_minutes(self):
        log = RequestLog()
        assert not log.region_refused(NOON)
        finish(log, Verdict.REGION, NOON)
        assert log.region_refused(NOON + 299)
        assert not log.region_refused(NOON + 301)

    def test_answer_from_google_ends_it(self):
        log = RequestLog()
        finish(log, Verdict.REGION, NOON)
        finish(log, Verdict.SUCCESS, NOON + 1)
        assert not log.region_refused(NOON + 2)


class TestBreaker:
    def pool(self, *settings):
        keys = [Key("one", Secret(SECRET), project="one")]
        return KeyPool(keys, PoolSettings(*settings), RequestLog())

    def fail(self, pool, outcome):
        pool.record(pool.acquire("m", NOON), outcome, NOON)

    def test_tells_why_google_rejects_a_key(self):
        pool = self.pool()
        expired = Outcome(Verdict.KEY, 400, "expired", "API key expired. Please renew the API key.")
        changed, attention = published(lambda: self.fail(pool, expired))
        assert changed["log_format"] == "breaker of a key changed"
        assert (changed["key"], changed["after"]) == ("one", "open")
        assert attention["log_format"] == "a key needs attention: Google rejects it"
        assert attention["log_level"] is LogLevel.error
        for event in (changed, attention):
            assert (event["outcome"], event["status"]) == ("key", 400)
            assert event["message"] == "API key expired."
        assert (attention["key"], attention["reason"]) == ("one", "expired")

    def test_tells_what_opened_a_breaker(self):
        pool = self.pool(1)
        overloaded = Outcome(Verdict.SERVICE, 503, message="The model is overloaded.")
        (changed,) = published(lambda: self.fail(pool, overloaded))
        assert (changed["outcome"], changed["status"]) == ("service", 503)
        assert changed["message"] == "The model is overloaded."

    def test_has_no_cause_for_what_is_no_failure(self):
        pool = self.pool(1)
        self.fail(pool, Outcome(Verdict.SERVICE, 503))
        (closed,) = published(lambda: pool.reset("one"))
        assert (closed["before"], closed["after"]) == ("open", "closed")
        assert "outcome" not in closed


def test_requests_that_were_turned_away_are_a_few_lines_a_minute_for_each_reason():
    log = Log()
    for number in range(100):
        for reason, status in (("invalid_api_key", 401), ("unknown_url", 404)):
            refused = request(
                id=f"req_{number}", attempts=[], outcome=reason, first_byte=None, usage=None
            )
            refused.turned_away = True
            log.finish(refused, status)
        log.finish(request(id=f"served_{number}"))
    lines = log.stream.getvalue().splitlines()
    assert sum('"invalid_api_key"' in line for line in lines) == 20
    assert sum('"unknown_url"' in line for line in lines) == 20
    assert sum('"served_' in line for line in lines) == 100
    log.forget()
    log.sink.tell_suppressed(NOON + 61)
    notes = [json.loads(line) for line in log.stream.getvalue().splitlines()]
    assert {(note["repeated"], note["count"]) for note in notes} == {
        ("invalid_api_key", 80),
        ("unknown_url", 80),
    }


def test_a_machine_out_of_descriptors_is_told_once_a_minute():
    log = RequestLog()
    words = "The upstream could not be used: out of file descriptors."
    attempts = [Attempt("1", "one", NOON, Outcome(Verdict.HOST, message=words))]

    def fail_for_two_minutes():
        for second in range(120):
            context = request(attempts=attempts, outcome="host")
            context.started = NOON + second
            log.request_ended(context, 503, 0.1)

    told = [
        event
        for event in published(fail_for_two_minutes)
        if event.get("log_format", "").startswith("this machine has no resources left")
    ]
    assert [event["message"] for event in told] == [words] * 2
