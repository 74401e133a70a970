"""What a scrape shows, read back with the client library's own parsers."""

import asyncio
import re
import shutil
import subprocess
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gemproxy.core.context import Attempt, RequestContext
from gemproxy.core.interfaces import StoreStatus
from gemproxy.core.limits import LimitShare
from gemproxy.pool.key import Key
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings
from gemproxy.pool.quota_ledger import ExceededQuota
from gemproxy.secret import Secret
from gemproxy.telemetry.metrics import Metrics
from gemproxy.telemetry.usage import UsageCounts
from gemproxy.translate.shared.usage import TokenUsage

NOW = 1_790_000_000.0
CHAT = "/v1/chat/completions"
ROOT = Path(__file__).parents[3]
OPENMETRICS = (
    "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
)


@dataclass(frozen=True)
class Configuration:
    generation: int
    loaded_at: float
    successes: int = 0
    failures: int = 0
    last_error: str | None = None


class Proxy:
    """Metrics with the pool that they watch; requests are told, not made."""

    def __init__(self, *names, knows_model=lambda _: False):
        self.now = NOW
        self.metrics = Metrics(CollectorRegistry(), knows_model)
        self.pool = KeyPool(
            [self.key(name) for name in names],
            PoolSettings(failure_threshold=1),
            self.metrics,
        )
        self.metrics.watch_keys(self.pool.each_status, lambda: self.now)

    @staticmethod
    def key(name):
        return Key(name, Secret(f"test-key-{name}-0123456789abcdef"), project=name, weight=3)

    def use(self, verdict, model="gemini-2.5-flash", **evidence):
        lease = self.pool.acquire(model, self.now)
        self.pool.record(lease, Outcome(verdict, **evidence), self.now)
        return lease.key.name

    def finish(self, *attempts, status=200, seconds=2.0, model="gemini-2.5-flash", **more):
        """A request that went as ``attempts`` say: (key, verdict, seconds)."""
        records = [
            Attempt(name, name, NOW, Outcome(verdict), lasted, waited=lasted)
            for name, verdict, lasted in attempts
        ]
        context = RequestContext("r", more.pop("route", CHAT), NOW, model, attempts=records, **more)
        self.metrics.request_ended(context, status, seconds)

    def scrape(self, accept=""):
        return self.metrics.render(accept)[1].decode()

    def families(self):
        return {family.name: family for family in parse_text(self.scrape())}

    def value(self, name, **labels):
        """One sample's value; ``None`` where there is no such series."""
        for family in parse_text(self.scrape()):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return None

    def labels_of(self, name, label):
        return {
            sample.labels[label]
            for family in parse_text(self.scrape())
            for sample in family.samples
            if sample.name == name
        }


def busy_proxy():
    """One of which every metric has something to say."""
    proxy = Proxy("alpha", "beta", "gamma")
    proxy.use(Verdict.KEY, reason="invalid")
    quotas = (ExceededQuota("rpm", 5, "PerMinute"),)
    proxy.use(Verdict.QUOTA_MINUTE, retry_after=30.0, quotas=quotas)
    proxy.metrics.quotas.watch(proxy.pool.each_quota, lambda: NOW)
    proxy.finish(
        ("alpha", Verdict.KEY, 0.2),
        ("gamma", Verdict.SUCCESS, 1.5),
        stream=True,
        first_byte=NOW + 0.7,
        usage=TokenUsage(input=10, cached=4, output=20, reasoning=5, total=30),
    )
    proxy.finish(("gamma", Verdict.BROKEN_OFF, 1.0), stream=True, first_byte=NOW + 0.5)
    proxy.metrics.watch_service(lambda: 1, lambda: Configuration(1, NOW))
    proxy.metrics.watch_connections(
        lambda: {"active": 1, "idle": 2}, lambda: {"limit": 3}, lambda: 4096
    )
    proxy.metrics.checkpoint_finished(StoreStatus("sqlite"), 0.01)
    clients = proxy.metrics.clients
    clients.totals = lambda: {("ci", "chat"): UsageCounts(requests=1)}
    clients.refusals = lambda: {("ci", "chat", "rpm"): 1}
    clients.shares = lambda: [LimitShare("ci", "rpm", 0.5)]
    return proxy


def listed_metrics(document):
    """The rows of a document's table: name, and (type, labels)."""
    rows = re.findall(r"^\| `(gemproxy_\w+)` \| (\w+)[^|]*\| ([^|]*)\|", document, re.MULTILINE)
    return {
        name: (kind, {word.strip() for word in re.sub(r"\(.*\)", "", labels).split(",")} - {""})
        for name, kind, labels in rows
    }


def shown_metrics(proxy):
    shown = {}
    for family in proxy.families().values():
        if family.name.startswith("gemproxy_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            shown[name] = (family.type, labels)
    return shown


@pytest.mark.parametrize(
    "path", [ROOT / "docs/metrics.md", ROOT.parent / "shared/contracts/metrics.md"]
)
def test_names_types_and_labels_are_those_of_the_contract(path):
    if not path.exists():
        pytest.skip(f"{path.name} of {path.parent} is not here")
    listed = listed_metrics(path.read_text())
    assert len(listed) >= 26
    shown = shown_metrics(busy_proxy())
    assert {name: shown.get(name) for name in listed} == listed
    if path.is_relative_to(ROOT):
        # The contract's own table does not have those that came after it.
        assert shown.keys() == listed.keys()


def test_connections_and_bodies_are_shown():
    """The specification's section 13 names these beside the contract's table."""
    shown = shown_metrics(busy_proxy())
    assert shown["gemproxy_connections"] == ("gauge", {"state"})
    assert shown["gemproxy_connections_refused_total"] == ("counter", {"reason"})
    assert shown["gemproxy_buffered_bytes"] == ("gauge", set())


def test_nothing_else_is_shown_but_the_librarys_own():
    families = busy_proxy().families()
    others = [name for name in families if not name.startswith("gemproxy_")]
    assert others
    assert all(name.startswith(("process_", "python_gc_")) for name in others)
    assert "_created" not in busy_proxy().scrape()


def test_every_metric_says_what_it_is():
    text = busy_proxy().scrape()
    for name in listed_metrics((ROOT / "docs/metrics.md").read_text()):
        assert text.count(f"# HELP {name} ") == 1
        assert text.count(f"# TYPE {name} ") == 1


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_say():
    said = subprocess.run(
        ["promtool", "check", "metrics"],
        input=busy_proxy().scrape(),
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in said.stdout.splitlines() if line.startswith("gemproxy_")]
    assert (said.returncode, complaints) == (0, [])


class TestFormats:
    def test_plain_text_unless_something_else_is_asked_for(self):
        content_type, body = Proxy("alpha").metrics.render("")
        assert content_type == "text/plain; version=0.0.4; charset=utf-8"
        assert b"# EOF" not in body

    def test_openmetrics_where_it_is_asked_for(self):
        content_type, body = busy_proxy().metrics.render(OPENMETRICS)
        assert content_type.startswith("application/openmetrics-text; version=1.0.0")
        assert body.endswith(b"# EOF\n")
        assert body.count(b"# EOF") == 1
        names = {family.name for family in parse_openmetrics(body.decode())}
        assert {"gemproxy_requests", "gemproxy_build_info", "process_cpu_seconds"} <= names

    @pytest.mark.parametrize(
        "accept",
        [
            "application/openmetrics-text;version=abc",
            "application/openmetrics-text;version=1.x",
            "text/plain;version=;;=,,",
            "\x00é" * 100,
        ],
    )
    def test_a_senseless_accept_header_gets_text(self, accept):
        content_type, body = Proxy("alpha").metrics.render(accept)
        assert content_type.startswith("text/plain")
        assert list(parse_text(body.decode()))

    @pytest.mark.parametrize(
        ("accept", "parse"), [("", parse_text), (OPENMETRICS, parse_openmetrics)]
    )
    def test_a_long_text_is_written_in_turns_and_is_the_same(self, accept, parse):
        proxy = Proxy(*[f"key-{n}" for n in range(300)])
        turns = []

        async def pause():
            turns.append(1)

        whole = proxy.metrics.render(accept)
        in_turns = asyncio.run(proxy.metrics.render_in_turns(accept, pause))
        assert in_turns[0] == whole[0]
        assert len(turns) > 10
        families = [family for family in parse(in_turns[1].decode()) if "gemproxy" in family.name]
        assert families == [
            family for family in parse(whole[1].decode()) if "gemproxy" in family.name
        ]
        assert in_turns[1].count(b"# TYPE gemproxy_key_state") == 1
        assert len(next(f for f in families if f.name == "gemproxy_key_state").samples) == 1200

    @pytest.mark.parametrize("accept", ["", OPENMETRICS])
    def test_no_turn_writes_more_than_a_few_hundred_lines(self, accept):
        names = [f"key-{n}" for n in range(300)]
        proxy = Proxy(*names)
        for name in names:
            proxy.finish((name, Verdict.SUCCESS, 1.0))
        asked = []
        statuses = proxy.pool.each_status
        proxy.metrics.watch_keys(
            lambda now: (asked.append(status) or status for status in statuses(now)), lambda: NOW
        )
        turns = []

        async def pause():
            turns.append(len(asked))

        asyncio.run(proxy.metrics.render_in_turns(accept, pause))
        lines = proxy.metrics.render(accept)[1].count(b"\n")
        assert lines > 7000
        assert lines / len(turns) < 200
        assert max(after - before for before, after in pairwise([0, *turns])) <= 60


class TestRequests:
    def test_are_counted_by_route_model_and_status(self):
        proxy = Proxy("alpha")
        for _ in range(2):
            proxy.finish(("alpha", Verdict.SUCCESS, 1.0))
        labels = {"route": CHAT, "model": "gemini-2.5-flash", "status": "200"}
        assert proxy.value("gemproxy_requests_total", **labels) == 2

    def test_durations_fall_into_buckets_that_reach_ten_minutes(self):
        proxy = Proxy("alpha")
        for seconds in (0.05, 0.06, 600.0, 601.0):
            proxy.finish(("alpha", Verdict.SUCCESS, 0.0), seconds=seconds)
        labels = {"route": CHAT, "model": "gemini-2.5-flash"}
        name = "gemproxy_request_duration_seconds"
        assert proxy.value(f"{name}_bucket", **labels, le="0.05") == 1
        assert proxy.value(f"{name}_bucket", **labels, le="0.1") == 2
        assert proxy.value(f"{name}_bucket", **labels, le="600.0") == 3
        assert proxy.value(f"{name}_bucket", **labels, le="+Inf") == 4
        assert proxy.value(f"{name}_count", **labels) == 4
        assert proxy.value(f"{name}_sum", **labels) == pytest.approx(1201.11)

    def test_overhead_is_the_time_that_was_not_the_upstreams(self):
        proxy = Proxy("alpha", "beta")
        proxy.finish(("alpha", Verdict.SERVICE, 0.5), ("beta", Verdict.SUCCESS, 1.25), seconds=2.0)
        proxy.finish(("alpha", Verdict.SUCCESS, 3.0), seconds=2.9)
        assert proxy.value("gemproxy_overhead_seconds_sum", route=CHAT) == pytest.approx(0.25)
        assert proxy.value("gemproxy_overhead_seconds_count", route=CHAT) == 2

    def test_prompt_tokens_are_counted_by_why_the_key_was_chosen(self):
        proxy = Proxy("alpha")
        usage = TokenUsage(input=2000, cached=1500, output=1, total=2001)
        proxy.finish(("alpha", Verdict.SUCCESS, 1.0), usage=usage)
        sticky = Attempt("alpha", "alpha", NOW, Outcome(Verdict.SUCCESS), sticky=True)
        for _ in range(2):
            context = RequestContext("r", CHAT, NOW, "m", attempts=[sticky], usage=usage)
            proxy.metrics.request_ended(context, 200, 1.0)
        name = "gemproxy_prompt_tokens_total"
        assert proxy.value(name, sticky="true", direction="input") == 4000
        assert proxy.value(name, sticky="true", direction="cached") == 3000
        assert proxy.value(name, sticky="false", direction="input") == 2000
        assert proxy.value(name, sticky="false", direction="cached") == 1500

    def test_first_chunk_is_about_streams(self):
        proxy = Proxy("alpha")
        proxy.finish(("alpha", Verdict.SUCCESS, 1.0), first_byte=NOW + 1.0)
        proxy.finish(("alpha", Verdict.SUCCESS, 1.0), first_byte=NOW + 0.25, stream=True)
        name = "gemproxy_time_to_first_chunk_seconds"
        assert proxy.value(f"{name}_count", model="gemini-2.5-flash") == 1
        assert proxy.value(f"{name}_sum", model="gemini-2.5-flash") == pytest.approx(0.25)

    def test_attempts_and_retries(self):
        proxy = Proxy("alpha", "beta")
        proxy.finish(("alpha", Verdict.QUOTA_MINUTE, 0.5), ("beta", Verdict.SUCCESS, 1.0))
        model = {"model": "gemini-2.5-flash"}
        name = "gemproxy_upstream_attempts_total"
        assert proxy.value(name, key="alpha", outcome="quota_minute", **model) == 1
        assert proxy.value(name, key="beta", outcome="success", **model) == 1
        assert proxy.value("gemproxy_retries_total", outcome="quota_minute") == 1
        assert proxy.value("gemproxy_retries_total", outcome="success") is None
        assert proxy.value("gemproxy_upstream_duration_seconds_sum", key="beta") == 1.0

    def test_the_jobs_of_one_request_are_no_retries(self):
        proxy = Proxy("alpha", "beta")
        proxy.finish(
            ("alpha", Verdict.SUCCESS, 0.5),
            ("beta", Verdict.SERVICE, 0.5),
            ("alpha", Verdict.SUCCESS, 0.5),
            ("alpha", Verdict.SUCCESS, 0.5),
        )
        assert proxy.value("gemproxy_retries_total", outcome="service") == 1
        assert proxy.value("gemproxy_retries_total", outcome="success") is None

    def test_tokens(self):
        proxy = Proxy("alpha")
        usage = TokenUsage(input=10, cached=4, output=20, reasoning=5, total=30)
        proxy.finish(("alpha", Verdict.SUCCESS, 1.0), usage=usage)
        tokens = {
            direction: proxy.value(
                "gemproxy_tokens_total", model="gemini-2.5-flash", direction=direction
            )
            for direction in ("input", "cached", "output", "reasoning")
        }
        assert tokens == {"input": 10, "cached": 4, "output": 20, "reasoning": 5}

    @pytest.mark.parametrize(
        ("verdict", "status", "counted"),
        [
            (Verdict.SUCCESS, 200, None),
            (Verdict.BLOCKED, 200, None),
            (Verdict.BROKEN_OFF, 200, 1),
            (Verdict.QUOTA_MINUTE, 200, 1),
            (Verdict.CLIENT_GONE, 499, None),
            (Verdict.CLIENT_GONE, 503, 1),  # a drain cut it off
        ],
    )
    def test_streams_that_did_not_end_well(self, verdict, status, counted):
        proxy = Proxy("alpha", knows_model=lambda _: True)
        proxy.finish(("alpha", verdict, 1.0), status=status, stream=True, first_byte=NOW + 1)
        proxy.finish(("alpha", Verdict.SERVICE, 1.0), status=503, stream=True)
        name = "gemproxy_streams_incomplete_total"
        assert proxy.value(name, model="gemini-2.5-flash") == counted

    def test_a_wrong_token_is_counted_for_its_api(self):
        proxy = Proxy("alpha")
        proxy.finish(status=401, model=None)
        proxy.finish(status=429, model=None, outcome="too_many_wrong_tokens")
        proxy.finish(status=429, model=None, outcome="rate_limit_exceeded")
        proxy.metrics.auth_failed("admin")
        proxy.metrics.auth_failed("admin")
        assert proxy.value("gemproxy_auth_failures_total", api="public") == 2
        assert proxy.value("gemproxy_auth_failures_total", api="admin") == 2


class TestModels:
    NAME = "gemproxy_requests_total"

    def test_invented_ones_are_one_series(self):
        proxy = Proxy("alpha")
        for n in range(1000):
            proxy.finish(("alpha", Verdict.REQUEST, 0.1), model=f"gemini-{n}", status=404)
        proxy.finish(model=None, status=400)
        assert proxy.labels_of(self.NAME, "model") == {"other"}
        assert proxy.value(self.NAME, route=CHAT, model="other", status="404") == 1000

    def test_one_that_was_served_is_known_from_then_on(self):
        proxy = Proxy("alpha")
        proxy.finish(("alpha", Verdict.SUCCESS, 1.0))
        proxy.finish(("alpha", Verdict.SERVICE, 1.0), status=503)
        assert proxy.labels_of(self.NAME, "model") == {"gemini-2.5-flash"}

    def test_one_that_the_upstream_lists_is_known_at_once(self):
        proxy = Proxy("alpha", knows_model={"gemini-2.5-flash"}.__contains__)
        proxy.finish(("alpha", Verdict.SERVICE, 1.0), status=503)
        assert proxy.labels_of(self.NAME, "model") == {"gemini-2.5-flash"}

    def test_even_those_that_are_served_are_not_without_number(self):
        proxy = Proxy("alpha")
        for n in range(300):
            proxy.finish(("alpha", Verdict.SUCCESS, 0.1), model=f"gemini-{n}")
        labels = proxy.labels_of(self.NAME, "model")
        assert len(labels) == 201
        assert "other" in labels


class TestKeys:
    def test_exactly_one_state_holds(self):
        proxy = Proxy("alpha", "beta", "gamma", "delta")
        opened = proxy.use(Verdict.KEY, reason="invalid")
        proxy.pool.disable("delta")
        states = ("active", "disabled", "circuit_open", "circuit_half_open")

        def shown(key):
            return [proxy.value("gemproxy_key_state", key=key, state=state) for state in states]

        assert shown(opened) == [0, 0, 1, 0]
        assert shown("beta") == [1, 0, 0, 0]
        assert shown("delta") == [0, 1, 0, 0]
        proxy.now += 1000
        assert shown(opened) == [0, 0, 0, 1]

    def test_health_weight_and_attention(self):
        proxy = Proxy("alpha")
        proxy.use(Verdict.SUCCESS)
        proxy.use(Verdict.KEY, reason="leaked")
        proxy.pool.set_weight("alpha", 7)
        assert proxy.value("gemproxy_key_health_score", key="alpha") == 0.5
        assert proxy.value("gemproxy_key_weight", key="alpha") == 7
        assert proxy.value("gemproxy_key_needs_attention", key="alpha") == 1

    def test_cooldowns_run_down_and_vanish(self):
        proxy = Proxy("alpha", knows_model={"gemini-2.5-flash"}.__contains__)
        name = "gemproxy_key_cooldown_seconds"
        proxy.use(Verdict.QUOTA_MINUTE, retry_after=30.0)
        for n, seconds in enumerate((50.0, 90.0, 70.0)):
            proxy.use(Verdict.QUOTA_MINUTE, model=f"invented-{n}", retry_after=seconds)
        proxy.now += 10
        assert proxy.value(name, key="alpha", model="gemini-2.5-flash") == 20
        assert proxy.value(name, key="alpha", model="other") == 80
        proxy.now += 200
        assert proxy.families()[name].samples == []

    def test_a_spent_budget_cools_every_model(self):
        proxy = Proxy("alpha")
        proxy.use(Verdict.QUOTA_MINUTE, retry_after=30.0, all_models=True)
        assert proxy.value("gemproxy_key_cooldown_seconds", key="alpha", model="*") == 30

    def test_breaker_transitions(self):
        proxy = Proxy("alpha")
        proxy.use(Verdict.KEY)
        proxy.now += 1000
        proxy.use(Verdict.SUCCESS)
        name = "gemproxy_breaker_transitions_total"
        steps = [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]
        assert [
            proxy.value(name, **{"key": "alpha", "from": before, "to": after})
            for before, after in steps
        ] == [1, 1, 1]

    def test_one_that_a_reload_removed_has_no_series_left(self):
        proxy = Proxy("alpha", "beta")
        proxy.use(Verdict.KEY)
        proxy.finish(("alpha", Verdict.KEY, 1.0), ("beta", Verdict.SUCCESS, 1.0))
        assert 'key="alpha"' in proxy.scrape()
        proxy.pool.apply([proxy.key("beta"), proxy.key("gamma")], PoolSettings(), NOW)
        proxy.finish(("alpha", Verdict.SUCCESS, 1.0))  # it was still in flight
        text = proxy.scrape()
        assert 'key="alpha"' not in text
        assert 'key="beta"' in text
        assert 'key="gamma"' in text

    def test_one_that_came_back_is_counted_afresh(self):
        proxy = Proxy("alpha", "beta")
        attempt = ("alpha", Verdict.SUCCESS, 1.0)
        proxy.finish(attempt)
        for names in (("beta",), ("alpha", "beta")):
            proxy.pool.apply([proxy.key(name) for name in names], PoolSettings(), NOW)
            proxy.scrape()
        proxy.finish(attempt)
        assert proxy.value("gemproxy_upstream_duration_seconds_count", key="alpha") == 1
        labels = {"key": "alpha", "model": "gemini-2.5-flash", "outcome": "success"}
        assert proxy.value("gemproxy_upstream_attempts_total", **labels) == 1

    def test_one_that_comes_in_the_middle_of_a_scrape_loses_nothing(self):
        proxy = Proxy(*[f"key-{n}" for n in range(300)])
        keys = [*map(proxy.key, [f"key-{n}" for n in range(1, 300)]), proxy.key("late")]
        turns = 0

        async def pause():
            nonlocal turns
            turns += 1
            if turns == 2:
                proxy.pool.apply(keys, PoolSettings(), NOW)
                proxy.finish(("late", Verdict.SUCCESS, 1.0))

        proxy.finish(("key-0", Verdict.SUCCESS, 1.0))
        _, text = asyncio.run(proxy.metrics.render_in_turns("", pause))
        # Told as they were when the scrape began, and complete in the next one.
        assert b'gemproxy_key_weight{key="key-0"}' in text
        assert b'gemproxy_key_weight{key="late"}' not in text
        assert proxy.value("gemproxy_upstream_duration_seconds_count", key="late") == 1
        assert proxy.labels_of("gemproxy_upstream_duration_seconds_count", "key") == {"late"}

    def test_no_secret_is_shown(self):
        assert "test-key" not in busy_proxy().scrape()


class TestService:
    def test_configuration(self):
        proxy = Proxy("alpha")
        status = Configuration(1, NOW)
        proxy.metrics.watch_service(lambda: 0, lambda: status)

        def shown():
            name = "gemproxy_config"
            return (
                proxy.value(f"{name}_generation"),
                proxy.value(f"{name}_last_reload_timestamp_seconds"),
                proxy.value(f"{name}_last_reload_successful"),
                proxy.value(f"{name}_reloads_total", result="success"),
                proxy.value(f"{name}_reloads_total", result="failure"),
            )

        assert shown() == (1, NOW, 1, 0, 0)
        status = Configuration(2, NOW + 60, successes=4, failures=1, last_error="keys.yaml:7: no")
        assert shown() == (2, NOW + 60, 0, 4, 1)

    def test_persistence(self):
        proxy = Proxy("alpha")

        def shown():
            backends = ("sqlite", "json", "none")
            name = "gemproxy_persistence_backend"
            return [proxy.value(name, backend=backend) for backend in backends]

        assert shown() == [0, 0, 1]
        status = StoreStatus("sqlite")
        proxy.metrics.watch_service(lambda: 0, store=lambda: status)
        assert shown() == [1, 0, 0]
        status = StoreStatus("json", errors={"sqlite": 3, "json": 1})
        assert shown() == [0, 1, 0]
        assert proxy.value("gemproxy_persistence_errors_total", backend="sqlite") == 3
        assert proxy.value("gemproxy_persistence_errors_total", backend="json") == 1

    def test_checkpoints(self):
        proxy = Proxy("alpha")
        proxy.metrics.checkpoint_finished(StoreStatus("json"), 0.02)
        assert proxy.value("gemproxy_checkpoint_duration_seconds_sum", backend="json") == 0.02

    def test_requests_in_flight_are_counted_when_asked(self):
        proxy = Proxy("alpha")
        numbers = iter([3, 5])
        proxy.metrics.watch_service(lambda: next(numbers))
        assert proxy.value("gemproxy_requests_in_flight") == 3
        assert proxy.value("gemproxy_requests_in_flight") == 5

    def test_lines_of_the_log_that_were_dropped(self):
        proxy = Proxy("alpha")
        assert proxy.value("gemproxy_log_lines_dropped_total") == 0
        proxy.metrics.watch_log(lambda: 7)
        assert proxy.value("gemproxy_log_lines_dropped_total") == 7

    def test_reactor_lag(self):
        proxy = Proxy("alpha")
        assert proxy.value("gemproxy_reactor_lag_seconds_count") == 0
        proxy.metrics.reactor_lagged(0.03)
        assert proxy.value("gemproxy_reactor_lag_seconds_bucket", le="0.025") == 0
        assert proxy.value("gemproxy_reactor_lag_seconds_bucket", le="0.05") == 1

    def test_two_registries_know_nothing_of_each_other(self):
        busy_proxy()
        assert Proxy().families()["gemproxy_requests"].samples == []
