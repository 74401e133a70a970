"""How much is left of the quotas that are known: admin API, metrics, health."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.admin import NOON, AdminStage, key
from prometheus_client import CollectorRegistry
from twisted.internet.task import Clock

from gemproxy.admin.health import warnings
from gemproxy.pool.key import Limits
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.quota_ledger import ExceededQuota
from gemproxy.telemetry.metrics import Metrics

MODEL = "gemini-3.8-flash"
BY_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"


@pytest.fixture
def stage():
    """The project ``team`` has used 10 of 100 requests of its day within the last hour."""
    clock = Clock()
    clock.advance(NOON)
    stage = AdminStage(clock, key("alpha", project="team"), key("beta", limits=Limits(rpm=60)))
    stage.pool.disable("beta")
    quotas = ExceededQuota("rpd", 100, BY_DAY), ExceededQuota("rpm", 50, "PerMinute")
    refused = Outcome(Verdict.QUOTA_MINUTE, 429, retry_after=1.0, quotas=quotas)
    stage.pool.record(stage.pool.acquire(MODEL, NOON), refused, NOON)
    clock.advance(13 * 3600)
    for _ in range(10):
        clock.advance(360)
        lease = stage.pool.acquire(MODEL, clock.seconds())
        stage.pool.record(lease, Outcome(Verdict.SUCCESS), clock.seconds())
    return stage


def test_list_of_quotas(stage):
    answer = stage.ask("GET", "/admin/quotas")
    assert answer.status == 200
    by_day, configured = (
        next(
            row for row in answer.json if row["dimension"] == dimension and row["source"] == source
        )
        for dimension, source in (("rpd", "learned"), ("rpm", "configured"))
    )
    assert by_day == {
        "project": "team",
        "model": MODEL,
        "dimension": "rpd",
        "limit": 100,
        "source": "learned",
        "used": 10,
        "remaining": 90,
        "ends": "2026-11-24T08:00:00Z",
        "exhausted_at": by_day["exhausted_at"],
        "key": None,
        "quota_id": BY_DAY,
    }
    # At 10 an hour, 90 are gone in 9 hours.
    assert by_day["exhausted_at"].startswith("2026-11-23T19:")
    assert configured == {
        "project": "beta",
        "model": "*",
        "dimension": "rpm",
        "limit": 60,
        "source": "configured",
        "used": 0,
        "remaining": 60,
        "ends": None,
        "exhausted_at": None,
        "key": "beta",
        "quota_id": None,
    }


def test_filters(stage):
    def found(query):
        return [row["dimension"] for row in stage.ask("GET", f"/admin/quotas?{query}").json]

    assert found("project=beta") == ["rpm"]
    assert sorted(found("source=learned")) == ["rpd", "rpm"]
    assert found(f"model={MODEL}&dimension=rpd") == ["rpd"]
    assert found("project=nobody") == []
    assert stage.ask("GET", "/admin/quotas?colour=red").status == 400
    assert stage.ask("POST", "/admin/quotas").status == 405


def test_gauges(stage):
    metrics = Metrics(CollectorRegistry())
    metrics.quotas.watch(stage.pool.each_quota, stage.clock.seconds, stage.clock.seconds)
    lines = metrics.render("")[1].decode().splitlines()
    labels = f'dimension="rpd",key="",model="{MODEL}",project="team"'
    assert f"gemproxy_quota_limit{{{labels}}} 100.0" in lines
    assert f"gemproxy_quota_used{{{labels}}} 10.0" in lines
    (left,) = [line for line in lines if line.startswith("gemproxy_quota_exhausted_seconds{")]
    assert float(left.split()[-1]) == pytest.approx(9 * 3600, rel=0.12)


def test_all_gauges_of_a_quota_are_of_one_moment(stage):
    """Operators' requests are answered between the pages of a scrape, here a key is reset."""
    metrics = Metrics(CollectorRegistry())

    def quotas(now):
        yield from stage.pool.each_quota(now)
        stage.pool.reset("alpha")

    metrics.quotas.watch(quotas, stage.clock.seconds, stage.clock.seconds)
    lines = metrics.render("")[1].decode().splitlines()
    limits, used = (
        [line for line in lines if line.startswith(f"gemproxy_quota_{name}{{")]
        for name in ("limit", "used")
    )
    assert len(limits) == len(used) == 3


def test_health_warns_of_a_day_that_is_longer_than_its_quota(stage):
    ending = stage.pool.quotas_ending_today(stage.clock.seconds())
    (sentence,) = warnings(replace(stage.service, ending_quotas=ending))
    assert "rpd of gemini-3.8-flash in the project team at 19:" in sentence
    assert warnings(stage.service) == ()
    stage.clock.advance(3 * 3600)
    assert stage.pool.quotas_ending_today(stage.clock.seconds()) == []
