"""The ledger of what clients use."""

from __future__ import annotations

from collections import Counter
from datetime import date
from zoneinfo import ZoneInfo

import pytest
from fakes.stores import NOON
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from prometheus_client import CollectorRegistry

from gemproxy.core.context import Attempt, Refusal, RequestContext
from gemproxy.core.limits import LimitShare
from gemproxy.pricing.prices import Price, PriceList
from gemproxy.state.kinds import USAGE
from gemproxy.state.model import USAGE_COUNTS, USAGE_DAY, USAGE_HOUR, UsageRow
from gemproxy.telemetry.client_metrics import MAX_CLIENTS, ClientMetrics
from gemproxy.telemetry.usage import MAX_MODELS, UsageLedger, date_of_label
from gemproxy.translate.shared.usage import TokenUsage

CHAT = "/v1/chat/completions"
FLASH = "gemini-3.8-flash"
PRICES = PriceList([Price((FLASH,), 1.0, 10.0)])
PROJECTS = {"a-id": "team-a", "b-id": "team-b"}
USED = TokenUsage(input=100, cached=40, output=30, reasoning=20, total=130, input_text=100)


def a_ledger(**options):
    return UsageLedger(PRICES, PROJECTS, **options)


def finish(ledger, status=200, *, started=NOON, seconds=1.0, keys=("a",), used=(), **options):
    """Let a request end; ``used`` are the tokens of its attempts, the last of which it gets."""
    attempts = [Attempt(f"{name}-id", name, started) for name in keys]
    for attempt, usage in zip(attempts, used, strict=False):
        attempt.usage = usage
    values = {"route": CHAT, "model": FLASH, "outcome": "success", "client": "ci"} | options
    route = values.pop("route")
    if used:
        values.setdefault("usage", used[-1])
    context = RequestContext("req_1", route, started, attempts=attempts, **values)
    ledger.request_ended(context, status, seconds)
    return context


def hours(ledger):
    return [row for row in ledger.rows() if row.period == USAGE_HOUR]


def total(rows, name):
    return sum(getattr(row, name) for row in rows)


class TestCounting:
    def test_every_column(self):
        ledger = a_ledger()
        heard = TokenUsage(
            input=9, output=5, input_audio=1, input_image=2, input_video=3, input_document=3,
            output_audio=4, output_image=1, searches=0, images=1,
        )  # fmt: skip
        finish(ledger, used=[USED])
        finish(ledger, used=[heard])
        finish(ledger, 400, keys=(), outcome="invalid_request_error")
        expected = UsageRow(
            USAGE_HOUR, int(NOON), "ci", "chat", FLASH, "team-a",
            requests=2, input=109, cached=40, output=35, reasoning=20, input_text=100,
            input_audio=1, input_image=2, input_video=3, input_document=3, output_audio=4,
            output_image=1, images=1, cost=pytest.approx(0.000459),
        )  # fmt: skip
        by_project = {row.project: row for row in hours(ledger)}
        assert by_project["team-a"] == expected
        assert by_project[""].theirs == 1
        midnight = int(NOON) // USAGE_DAY * USAGE_DAY
        days = {row.project: row for row in ledger.rows() if row.period == USAGE_DAY}
        assert days["team-a"] == structs.replace(expected, period=USAGE_DAY, start=midnight)

    def test_the_request_gets_its_cost(self):
        ledger = a_ledger()
        assert finish(ledger, used=[USED]).cost == pytest.approx(0.0004)
        assert finish(ledger, used=[USED], model="unheard-of").cost is None
        assert finish(ledger, 401, keys=(), outcome="invalid_api_key").cost == 0.0

    def test_what_has_no_price_is_counted_apart_and_named(self):
        ledger = a_ledger()
        for _ in range(2):
            finish(ledger, used=[USED], model="unheard-of")
        finish(ledger, used=[TokenUsage()])
        assert {row.model: (row.cost, row.unpriced) for row in hours(ledger)} == {
            "unheard-of": (0.0, 2),
            FLASH: (0.0, 1),
        }
        assert ledger.unpriced_models == ("unheard-of",)
        ledger.prices = PriceList([Price(("*",), 1.0, 1.0)])
        assert ledger.unpriced_models == ()

    def test_tokens_of_an_attempt_that_failed_count_for_its_project(self):
        ledger = a_ledger()
        request = finish(ledger, keys=("a", "b"), used=[TokenUsage(input=7), USED])
        found = {row.project: (row.requests, row.input) for row in hours(ledger)}
        assert found == {"team-a": (0, 7), "team-b": (1, 100)}
        assert request.cost == pytest.approx(0.000407)

    def test_a_request_of_several_calls_counts_once(self):
        ledger = a_ledger()
        finish(ledger, keys=("a", "b"), used=[USED, USED], usage=USED + USED)
        assert (total(hours(ledger), "requests"), total(hours(ledger), "input")) == (1, 200)

    @pytest.mark.parametrize(
        ("status", "outcome", "whose"),
        [
            (200, "success", ""),
            (200, "blocked", ""),
            (499, "client_gone", ""),
            (200, "broken_off", "upstream"),
            (429, "quota_minute", "upstream"),
            (503, "service", "upstream"),
            (503, "model_unavailable", "upstream"),
            (400, "request", "theirs"),
            (404, "model_not_found", "theirs"),
            (413, "request_too_large", "theirs"),
            (429, "rate_limit_exceeded", "ours"),
            (503, "no_healthy_keys", "ours"),
            (503, "draining", "ours"),
            (500, "internal_error", "ours"),
        ],
    )
    def test_whose_a_failure_is(self, status, outcome, whose):
        ledger = a_ledger()
        finish(ledger, status, outcome=outcome)
        (row,) = hours(ledger)
        failures = {name: getattr(row, name) for name in ("theirs", "ours", "upstream")}
        assert failures == {name: int(name == whose) for name in failures}

    def test_keys_that_are_out_of_quota_are_the_upstreams(self):
        ledger = a_ledger()
        word = "rate_limit_exceeded"
        finish(ledger, 429, keys=(), outcome=word, refused=Refusal(word, []))
        assert total(hours(ledger), "upstream") == 1

    def test_clients_without_a_token_are_one(self):
        ledger = a_ledger()
        finish(ledger, client=None)
        assert [row.client for row in hours(ledger)] == ["anonymous"]

    def test_who_was_refused_unknown_is_nobodys_usage(self):
        ledger = a_ledger()
        finish(ledger, 401, keys=(), client=None, turned_away=True, outcome="invalid_api_key")
        finish(ledger, keys=(), route="/v1/usage/me")
        assert ledger.rows() == ()

    @pytest.mark.parametrize(
        ("route", "endpoint"),
        [
            (CHAT, "chat"),
            ("/v1/responses/{id}/input_items", "responses"),
            ("/v1/messages/count_tokens", "messages"),
            ("/v1/embeddings", "embeddings"),
            ("/v1/models", "models"),
            ("/{version}/models/{model}:{verb}", "native"),
            ("/{version}/files", "native"),
            ("/upload/{version}/files", "native"),
            ("/v1/{collection}", "other"),
            ("unknown", "other"),
        ],
    )
    def test_endpoints_have_short_names(self, route, endpoint):
        ledger = a_ledger()
        finish(ledger, route=route)
        assert [row.endpoint for row in hours(ledger)] == [endpoint]


class TestTime:
    def test_days_are_those_of_the_time_zone(self):
        ledger = a_ledger(zone=ZoneInfo("Pacific/Auckland"))  # 12 hours ahead of UTC in August
        finish(ledger, started=NOON - 2)
        finish(ledger, started=NOON)
        days = [row for row in ledger.rows() if row.period == USAGE_DAY]
        assert [date_of_label(row.start) for row in days] == [date(2026, 8, 1), date(2026, 8, 2)]

    def test_the_zone_can_change(self):
        ledger = a_ledger()
        finish(ledger, started=NOON)
        ledger.zone = ZoneInfo("Pacific/Auckland")
        finish(ledger, started=NOON)
        days = [row for row in ledger.rows() if row.period == USAGE_DAY]
        assert [date_of_label(row.start).day for row in days] == [1, 2]

    def test_old_rows_are_forgotten_after_they_were_read(self):
        ledger = a_ledger()
        for hour in range(100):
            finish(ledger, started=NOON + 3600 * hour)
        assert len(hours(ledger)) == 100
        ledger.forget(NOON + 3600 * 100)
        assert len(ledger.rows()) < 10

    def test_unchanged_rows_are_the_same_objects(self):
        ledger = a_ledger()
        finish(ledger)
        finish(ledger, client="other-one")
        before = {row.identity: row for row in ledger.rows()}
        finish(ledger)
        after = {row.identity: row for row in ledger.rows()}
        same = {key[2].client for key in after if after[key] is before[key]}
        assert same == {"other-one"}


class TestBounds:
    def test_too_many_series_are_counted_under_wider_ones(self):
        projects = {f"{n}-id": f"p{n}" for n in range(50)}
        ledger = UsageLedger(PRICES, projects, max_series=20)
        for n in range(50):
            finish(ledger, keys=(str(n),))
        rows = hours(ledger)
        assert len(rows) <= 22
        assert total(rows, "requests") == 50
        assert total([row for row in rows if row.project == "other"], "requests") >= 28

    def test_invented_models_get_no_rows(self):
        ledger = a_ledger()
        for n in range(MAX_MODELS * 2):
            finish(ledger, 404, keys=(), model=f"invented-{n}", outcome="model_not_found")
        assert {row.model for row in ledger.rows()} == {"other"}

    def test_counts_that_no_column_holds_are_cut(self):
        ledger = a_ledger()
        finish(ledger, used=[TokenUsage(input=10**30, input_text=10**30)])
        assert 0 < total(hours(ledger), "input_text") < 2**62


_requests = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 3599, 3600, 43_199, 43_200, 90_000]),
        st.sampled_from(["ci", "web", None]),
        st.sampled_from([FLASH, "unheard-of"]),
        st.lists(st.sampled_from(["a", "b"]), max_size=3),
        st.integers(0, 1000),
        st.sampled_from(["count", "read", "forget", "restart"]),
    ),
    max_size=40,
)


@given(_requests)
def test_nothing_is_lost_or_counted_twice_over_readings_and_restarts(requests):
    """The store holds what each request used, whatever happens between two requests."""
    ledger, stored = a_ledger(), ()
    expected: Counter[str] = Counter()
    now = NOON
    for at, client, model, keys, tokens, then in sorted(requests, key=lambda each: each[0]):
        now = NOON + at
        used = [TokenUsage(input=tokens, output=1) for _ in keys]
        finish(ledger, started=now, seconds=0.0, client=client, model=model, keys=keys, used=used)
        expected["requests"] += 1
        expected["input"] += tokens * len(keys)
        expected["output"] += len(keys)
        if then == "count":
            continue
        stored = USAGE.merge(stored, ledger.rows())
        if then == "forget":
            ledger.forget(now)
        elif then == "restart":
            ledger = a_ledger()
            ledger.restore(stored, now)
    stored = USAGE.merge(stored, ledger.rows())
    for period in (USAGE_HOUR, USAGE_DAY):
        rows = [row for row in stored if row.period == period]
        assert Counter({name: total(rows, name) for name in expected}) == expected
        for name in (each for each in USAGE_COUNTS if each.startswith("input_")):
            assert total(rows, name) == 0


class TestMetrics:
    @pytest.fixture
    def counted(self):
        registry = CollectorRegistry()
        metrics, ledger = ClientMetrics(registry), a_ledger()
        metrics.totals = ledger.totals
        return ledger, registry.get_sample_value

    def test_requests_tokens_and_cost_by_client(self, counted):
        ledger, value = counted
        finish(ledger, used=[USED])
        finish(ledger, used=[USED], started=NOON + 7200)
        finish(ledger, 503, outcome="service")
        of_requests = {"client": "ci", "endpoint": "chat"}
        name = "gemproxy_client_requests_total"
        assert value(name, of_requests | {"outcome": "success"}) == 2
        assert value(name, of_requests | {"outcome": "upstream"}) == 1
        tokens = {"client": "ci", "direction": "cached"}
        assert value("gemproxy_client_tokens_total", tokens) == 80
        cost = value("gemproxy_client_cost_usd_total", {"client": "ci"})
        assert cost == pytest.approx(0.0008)

    def test_two_hundred_clients_have_names(self, counted):
        ledger, value = counted
        for n in range(MAX_CLIENTS + 5):
            finish(ledger, client=f"client-{n}", used=[USED])
        assert value("gemproxy_client_cost_usd_total", {"client": "client-199"}) is not None
        assert value("gemproxy_client_cost_usd_total", {"client": "client-200"}) is None
        others = {"client": "other", "direction": "input"}
        assert value("gemproxy_client_tokens_total", others) == 500

    def test_limits_of_clients(self, monkeypatch):
        monkeypatch.setattr("gemproxy.telemetry.client_metrics.MAX_CLIENTS", 1)
        registry = CollectorRegistry()
        metrics = ClientMetrics(registry)
        metrics.refusals = lambda: {("ci", "chat", "rpm"): 3, ("b", "chat", "rpm"): 1}
        metrics.shares = lambda: [LimitShare(name, "rpd", 0.5) for name in ("ci", "b", "c")]
        value, name = registry.get_sample_value, "gemproxy_client_limit_refusals_total"
        assert value(name, {"client": "ci", "endpoint": "chat", "limit": "rpm"}) == 3
        assert value(name, {"client": "other", "endpoint": "chat", "limit": "rpm"}) == 1
        used = {"client": "other", "limit": "rpd"}
        assert value("gemproxy_client_limit_used_ratio", used) == 0.5
