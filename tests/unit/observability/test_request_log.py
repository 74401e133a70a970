"""What the request log remembers of a region that Google refuses."""

from gemproxy.exchange import AttemptRecord, Exchange
from gemproxy.keys.outcome import Outcome, Verdict
from gemproxy.observability.requests import RequestLog

NOON = 1_790_000_000.0


def finish(log, verdict, at):
    attempt = AttemptRecord("1", "a", at, Outcome(verdict, 400, message="not supported"))
    exchange = Exchange("r", "/", at, attempts=[attempt], outcome=verdict.value)
    log.request_finished(exchange, 400, 0.1)


def test_a_refused_region_is_remembered_for_minutes():
    log = RequestLog()
    assert not log.region_refused(NOON)
    finish(log, Verdict.REGION, NOON)
    assert log.region_refused(NOON + 299)
    assert not log.region_refused(NOON + 301)


def test_an_answer_from_google_ends_it():
    log = RequestLog()
    finish(log, Verdict.REGION, NOON)
    finish(log, Verdict.SUCCESS, NOON + 1)
    assert not log.region_refused(NOON + 2)
