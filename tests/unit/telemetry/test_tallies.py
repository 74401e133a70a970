"""Usual requests are counted in tallies: nobody who reads may notice."""

from __future__ import annotations

from random import Random

import pytest
from fakes.stores import NOON
from prometheus_client import CollectorRegistry

from gemproxy.core.context import Attempt, RequestContext
from gemproxy.core.events import RequestEvents
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pricing.prices import Price, PriceList
from gemproxy.telemetry.ledger import MetricsLedger
from gemproxy.telemetry.metrics import Metrics
from gemproxy.telemetry.recent import RecentOutcomes
from gemproxy.telemetry.tallies import MOST_TALLIES, Tallies
from gemproxy.telemetry.usage import UsageLedger
from gemproxy.translate.shared.usage import TokenUsage

FLASH = "gemini-3.8-flash"
# Powers of two, as all times here: their sums are exact in any order.
PRICES = PriceList([Price((FLASH,), 2.0**-10 * 1_000_000, 2.0**-7 * 1_000_000)])
SUCCESS = Outcome(Verdict.SUCCESS, 200)
FAILED = Outcome(Verdict.SERVICE, 503)


class Counting:
    """All who count, told of each request or given tallies."""

    def __init__(self, *, tallies):
        self.usage = UsageLedger(PRICES, {"a-id": "team-a", "b-id": "team-b"})
        self.metrics = Metrics(CollectorRegistry())
        self.ledger, self.recent = MetricsLedger(), RecentOutcomes()
        self.failures = []
        parts = (self.usage, self.metrics, self.ledger, self.recent)
        self.events = (
            Tallies(parts, lambda: self.usage.prices, self.failures.append)
            if tallies
            else RequestEvents(parts, self.failures.append)
        )

    def finish(self, context, status=200, seconds=0.5):
        self.events.request_ended(context, status, seconds)
        assert not self.failures
        return context.cost

    def counted(self, moment):
        """Everything that can be read."""
        return {
            "usage": sorted(map(repr, self.usage.rows())),
            "totals": sorted((key, repr(counts)) for key, counts in self.usage.totals().items()),
            "seen": {client: self.usage.last_seen.at(client) for client in (None, "ci")},
            "unpriced": self.usage.unpriced_models,
            "ledger": sorted(map(repr, self.ledger.rows())),
            "recent": self.recent.summary(moment),
            "metrics": self.exposed(),
        }

    def exposed(self):
        """The counters and histograms of requests."""
        _, text = self.metrics.render("")
        lines = text.decode().splitlines()
        return sorted(
            line
            for line in lines
            if line.startswith("gemproxy_")
            and "_seconds_total" not in line
            and "_created" not in line
        )


def request(random, ended, offset):
    """A context, its status and its time; most are usual, as in production."""
    seconds = random.choice((0.125, 0.25, 1.0, 8.0))
    moment = ended - seconds
    key = random.choice("ab")
    attempt = Attempt(
        f"{key}-id", key, moment, SUCCESS, seconds=0.25, waited=random.choice((0.125, 0.5, 1.0)),
        sticky=random.random() < 0.2,
    )  # fmt: skip
    usage = TokenUsage(input=64, output=16, total=80, input_text=64)
    if random.random() < 0.3:
        usage = random.choice(
            [
                TokenUsage(input=64, cached=32, output=16, reasoning=8, total=80, input_text=60),
                TokenUsage(input=64, output=16, total=80, input_audio=64),
                TokenUsage(input=64, output=16, total=80, tier="flex"),
                TokenUsage(input=64, output=16, total=80, searches=1),
                TokenUsage(input=10**13, output=16, total=10**13 + 16),
                TokenUsage(),
                None,
            ]
        )
    attempt.usage = usage
    context = RequestContext(
        "req_1",
        random.choice(("/v1/chat/completions", "/v1/messages")),
        moment,
        model=random.choice((FLASH, FLASH, FLASH, "gemini-0-unpriced")),
        client=random.choice((None, "ci")),
        attempts=[attempt],
        outcome="success",
        epoch_offset=offset,
        usage=usage,
    )
    kind, status = random.random(), 200
    if kind < 0.1:
        context.stream, context.first_byte = True, moment + 0.25
    elif kind < 0.2:
        context.attempts.insert(0, Attempt("c-id", "c", moment, FAILED, seconds=0.125))
    elif kind < 0.3:
        attempt.outcome, context.outcome, context.usage, status = FAILED, "service", None, 503
    elif kind < 0.35:
        context.attempts, context.usage, context.outcome, status = [], None, "invalid", 400
    return context, status, seconds


@pytest.mark.parametrize("seed", range(8))
def test_all_read_what_they_would_if_each_request_was_told(seed):
    random = Random(seed)
    told, given = Counting(tallies=False), Counting(tallies=True)
    moment, offset = 1000.0, NOON - 1000.0 + 3590.0
    for _ in range(400):
        # Minutes, hours and slots end in between, and the clock is set.
        moment += random.choice((0.0, 0.0, 0.125, 0.5, 4.0))
        if random.random() < 0.01:
            offset += random.choice((-3600.0, -60.0, 7200.0))
        state = random.getstate()
        cost = told.finish(*request(random, moment, offset))
        random.setstate(state)
        assert given.finish(*request(random, moment, offset)) == cost
        if random.random() < 0.02:
            assert given.counted(moment) == told.counted(moment)
        if random.random() < 0.01:
            projects = {"a-id": "team-a", "b-id": random.choice(("team-b", ""))}
            told.usage.projects = given.usage.projects = projects
    assert given.counted(moment) == told.counted(moment)


def usual(key="a"):
    attempt = Attempt(f"{key}-id", key, 0.0, SUCCESS, seconds=0.25, waited=0.25)
    usage = TokenUsage(input=64, output=16, total=80, input_text=64)
    return RequestContext(
        "req_1", "/v1/chat/completions", 0.0, model=FLASH, attempts=[attempt], outcome="success",
        epoch_offset=NOON, usage=usage,
    )  # fmt: skip


def test_a_batch_has_no_more_tallies_than_its_end_can_take():
    told, given = Counting(tallies=False), Counting(tallies=True)
    for number in range(2 * MOST_TALLIES):
        told.finish(usual(f"key-{number}"))
        given.finish(usual(f"key-{number}"))
    # What is beyond them is told at once.
    assert given.recent._present.served == MOST_TALLIES
    assert given.counted(1.0) == told.counted(1.0)


def test_who_fails_to_count_a_tally_keeps_nobody_else_from_it():
    counting = Counting(tallies=True)

    def fail(tally):
        raise RuntimeError("a defect")

    counting.usage.requests_ended = fail
    for _ in range(2):
        counting.finish(usual())
    assert counting.recent.summary(1.0).total == 2
    assert counting.failures == [fail]


def test_new_prices_are_for_the_requests_after_them():
    counting = Counting(tallies=True)
    counting.finish(usual())
    first = counting.finish(usual())
    counting.usage.prices = PriceList([Price((FLASH,), 2.0 * 1_000_000, 2.0 * 1_000_000)])
    assert first == 64 * 2.0**-10 + 16 * 2.0**-7
    assert counting.finish(usual()) == 160.0
    assert sum(counts.cost for counts in counting.usage.totals().values()) == 2 * first + 160.0
