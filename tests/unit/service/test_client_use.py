"""What clients have used before they had limits, and without any."""

from __future__ import annotations

from datetime import UTC, datetime

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gemproxy.core.clients import Budget, Client, Limits
from gemproxy.core.context import Attempt, RequestContext
from gemproxy.core.limits import ClientLimits, LimitCount, Used
from gemproxy.pricing.prices import Price, PriceList
from gemproxy.service.client_use import SAMPLE_SECONDS, ClientUse
from gemproxy.state.usage_query import selected, summed
from gemproxy.telemetry.usage import UsageLedger
from gemproxy.telemetry.usage_reports import UsageReports
from gemproxy.translate.shared.usage import TokenUsage

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()


class Stage:
    """The usage of some clients; the store, which has the days before, may be slow."""

    def __init__(self):
        self.clock = Clock()
        self.clock.advance(NOON)
        seconds = self.clock.seconds
        self.ledger = UsageLedger(PriceList([Price(("m",), 1.0, 1.0)]), {})
        self.limits = ClientLimits()
        self.asked = []
        reports = UsageReports(self.ledger, self.read, seconds, self.pause)
        self.use = ClientUse(self.limits, self.ledger, reports, seconds, seconds, self.pause)
        self.pauses = 0
        self.is_slow = False

    async def read(self, query, rows):
        if self.is_slow:
            self.asked.append(Deferred())
            await self.asked[-1]
        return summed(query, selected(query, rows))

    async def pause(self):
        self.pauses += 1

    def finish(self, client="ci", tokens=100_000, status=200, route="/v1/chat/completions"):
        usage = TokenUsage(input=tokens)
        now = self.clock.seconds()
        context = RequestContext("r", route, now, "m", client=client, outcome="success")
        if status == 200:
            context.attempts.append(Attempt("a", "a", now, usage=usage))
            context.usage = usage
        else:
            context.outcome = "invalid_request_error"
        self.ledger.request_ended(context, status, 0.0)

    def used(self, *clients):
        found = []
        Deferred.fromCoroutine(self.use.used(clients)).addCallback(found.append)
        return found[0]

    def pass_time(self, seconds):
        for _ in range(int(seconds / SAMPLE_SECONDS)):
            self.clock.advance(SAMPLE_SECONDS)
            Deferred.fromCoroutine(self.use.sample())


CI = Client("ci")
LIMITED = Client("ci", limits=Limits(rpd=5, tpd=10**6), budget=Budget(1.0, 2.0))


def test_a_client_without_limits():
    stage = Stage()
    stage.clock.advance(-86400)
    stage.finish()
    stage.clock.advance(86400)
    stage.finish()
    stage.finish(status=400)
    stage.finish("other-one")
    stage.finish(route="/v1/models", tokens=0)
    expected = Used(2, 200_000, 1, 100_000, 0.1, 0.2)
    assert stage.used(CI, Client("new")) == {"ci": expected, "new": Used()}


def test_the_last_minute_of_a_client_without_limits():
    stage = Stage()
    stage.pass_time(120)
    stage.finish()
    stage.pass_time(55)
    assert stage.used(CI)["ci"].requests_minute == 1
    stage.pass_time(10)
    assert stage.used(CI)["ci"].requests_minute == 0
    assert stage.used(CI)["ci"].tokens_minute == 0


def test_a_first_limit_holds_for_what_was_used_before():
    stage = Stage()
    stage.finish()
    stage.finish()
    stage.finish(status=400)
    now = stage.clock.seconds()
    assert stage.used(LIMITED)["ci"].requests_day == 2
    first = stage.limits.reservation(LIMITED, now, now)
    assert stage.used(LIMITED)["ci"] == Used(0, 0, 2, 200_000, 0.2, 0.2)
    first.admit(now, now)
    first.settle(50_000, 0, 0.05, now, now)
    assert stage.used(LIMITED)["ci"] == Used(1, 50_000, 3, 250_000, 0.25, 0.25)


def test_what_is_counted_meanwhile_is_counted_once():
    stage = Stage()
    stage.finish()
    stage.is_slow = True
    now = stage.clock.seconds()
    ended, flying = (stage.limits.reservation(LIMITED, now, now) for _ in range(2))
    ended.admit(now, now)
    flying.admit(now, now)
    stage.finish(tokens=50_000)
    ended.settle(50_000, 0, 0.05, now, now)
    while stage.asked:
        stage.asked.pop(0).callback(None)
    assert stage.used(LIMITED)["ci"] == Used(2, 50_000, 3, 150_000, 0.15, 0.15, 1)


def test_an_account_that_was_restored_is_left_as_it_is():
    stage = Stage()
    stage.finish()
    day = int(NOON // 86400)
    stage.limits.restore([LimitCount("ci", "day", day, 7, 7, 0.5)])
    stage.limits.reservation(LIMITED, 0, stage.clock.seconds())
    assert stage.used(LIMITED)["ci"] == Used(0, 0, 7, 7, 0.5)


def test_many_clients_are_looked_at_in_turns():
    stage = Stage()
    clients = [Client(f"c{number}") for number in range(1000)]
    for client in clients:
        stage.finish(client.name)
    Deferred.fromCoroutine(stage.use.sample())
    assert stage.pauses >= 9
    stage.pauses = 0
    used = stage.used(*clients)
    assert [used[client.name].requests_day for client in clients] == [1] * 1000
    # The clients, their rows of the day, their sums and what is answered.
    assert stage.pauses >= 4 * 9
