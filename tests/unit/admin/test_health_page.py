"""The word for the whole, and its reasons."""

from dataclasses import replace

import pytest
from fakes.admin import KEPT, LOADED, NOON

from gemproxy.admin.health import Diagnosis, ServiceStatus, diagnose
from gemproxy.core.interfaces import StoreStatus
from gemproxy.pool.pool import PoolCounts
from gemproxy.telemetry.recent import RecentRequests

SERVICE = ServiceStatus("1", NOON, False, 0, False, KEPT, LOADED)
ALL_WELL = PoolCounts(total=3, healthy=3, unhealthy=0, disabled=0, recovering=0)


def judge(counts=ALL_WELL, *, unavailable=(), can_serve=True, cooling=0, **changes):
    service = replace(SERVICE, **changes)
    return diagnose(service, counts, unavailable, can_serve=can_serve, cooling=cooling)


def test_all_is_well():
    assert judge() == Diagnosis("healthy", (), "All 3 keys serve.")
    assert judge(PoolCounts(1, 1, 0, 0, 0)).headline == "The only key serves."


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        (PoolCounts(3, 2, 1, 0, 0), "Keys that are taken out because they failed: 1 of 3."),
        (PoolCounts(3, 2, 1, 0, 1), "Keys that are on trial after they failed: 1 of 3."),
        (PoolCounts(3, 1, 0, 2, 0), "Keys that are disabled: 2 of 3."),
    ],
)
def test_some_keys_cannot_serve(counts, reason):
    diagnosis = judge(counts)
    assert diagnosis.status == "degraded"
    assert diagnosis.reasons == (reason,)


def test_keys_out_of_quota_are_a_reason():
    assert judge(cooling=2) == Diagnosis(
        "degraded",
        ("Keys that are out of quota for a model: 2 of 3.",),
        "Serving, and something is not as it should be.",
    )
    assert judge(PoolCounts(3, 2, 1, 0, 0)).headline == "Serving with 2 of 3 keys."


def test_no_key_can_serve():
    diagnosis = judge(PoolCounts(3, 0, 2, 1, 0), can_serve=False)
    assert diagnosis.status == "unhealthy"
    assert diagnosis.reasons == (
        "No key can serve.",
        "Keys that are taken out because they failed: 2 of 3.",
        "Keys that are disabled: 1 of 3.",
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"persistence": StoreStatus("json", NOON, "database is locked", NOON, NOON)},
            "The state is kept in the JSON fallback: database is locked.",
        ),
        (
            {"persistence": StoreStatus("json", degraded_since=NOON)},
            "The state is kept in the JSON fallback.",
        ),
        (
            {"persistence": StoreStatus("none", None, "No space left on device", NOON, NOON)},
            "The state is kept nowhere: No space left on device.",
        ),
        (
            {"config": replace(LOADED, last_error="keys.yaml:7: keys[1]: no\nkeys.yaml:9: x")},
            "The last reload of the configuration failed: keys.yaml:7: keys[1]: no (and 1 more).",
        ),
        (
            {"region_refused": True},
            "Google refuses requests from this host's location; no key is at fault.",
        ),
        (
            {"unavailable": [("gemini-3.8-flash", NOON + 8)]},
            "The model gemini-3.8-flash fails with every key; it is tried again within seconds.",
        ),
    ],
)
def test_what_else_degrades(changes, words):
    diagnosis = judge(**changes)
    assert diagnosis.status == "degraded"
    assert diagnosis.reasons == (words,)


@pytest.mark.parametrize(
    "persistence",
    [
        # What the operator chose.
        StoreStatus("none"),
        # A past trouble of a store that works again.
        StoreStatus("sqlite", NOON, "database is locked", NOON - 60),
    ],
)
def test_what_does_not(persistence):
    assert judge(persistence=persistence).status == "healthy"


def test_an_error_without_words_is_told_all_the_same():
    assert judge(config=replace(LOADED, last_error="")).status == "degraded"


def recently(total, failed, late=(0, 0), causes=(("upstream 503", 1),)):
    return RecentRequests(total, failed, *late, causes)


class TestClients:
    """The whole is judged by what clients get, whatever the keys look like."""

    @pytest.mark.parametrize(
        ("requests", "status"),
        [
            (recently(0, 0), "healthy"),
            (recently(4, 4), "healthy"),
            (recently(5, 5), "unhealthy"),
            (recently(200, 200), "unhealthy"),
            (recently(200, 198), "unhealthy"),
            (recently(200, 101), "unhealthy"),
            (recently(200, 100), "degraded"),
            (recently(200, 20), "degraded"),
            (recently(200, 19), "healthy"),
            # It was bad, and is over; or is bad again.
            (recently(200, 150, (50, 1)), "degraded"),
            (recently(200, 150, (50, 30)), "unhealthy"),
            (recently(200, 150, (2, 0)), "unhealthy"),
        ],
    )
    def test_share_of_failures(self, requests, status):
        diagnosis = judge(requests=requests)
        assert diagnosis.status == status
        failing = requests.failed and status != "healthy"
        assert diagnosis.headline.startswith("Serving") is (status == "degraded")
        assert bool(diagnosis.reasons) is bool(failing)

    def test_words(self):
        causes = (("upstream 503", 150), ("model unavailable", 40), ("a", 5), ("b", 3))
        requests = recently(200, 198, causes=causes)
        diagnosis = judge(requests=requests)
        told = "150 upstream 503, 40 model unavailable, 5 a, others"
        assert diagnosis.headline == (
            f"Failing: 198 of 200 requests in the last 5 minutes failed ({told})."
        )
        assert diagnosis.reasons == (
            f"Requests that failed in the last 5 minutes: 198 of 200 ({told}).",
        )

    def test_no_key_goes_before_failing_requests(self):
        counts = PoolCounts(500, 0, 500, 0, 0, (("expired", 452), ("leaked", 3), ("billing", 45)))
        diagnosis = judge(counts, can_serve=False, requests=recently(200, 200))
        assert diagnosis.headline == (
            "No key can serve: 452 expired, 3 leaked, 45 without billing."
        )
        assert diagnosis.reasons[0].startswith("Requests that failed")
        assert judge(PoolCounts(0, 0, 0, 0, 0), can_serve=False).headline == "There are no keys."


def test_keys_that_google_rejects_are_counted_by_reason():
    counts = PoolCounts(1000, 545, 455, 0, 0, (("expired", 452), ("leaked", 3)))
    assert judge(counts).reasons[0] == (
        "Keys that need a person: 455 of 1000 (452 expired, 3 leaked)."
    )
