"""The word for the whole, and its reasons."""

from dataclasses import replace

import pytest
from fakes.admin import KEPT, LOADED, NOON

from gemproxy.interfaces import StoreStatus
from gemproxy.keys.pool import PoolCounts
from gemproxy.web.health import Diagnosis, ServiceStatus, diagnose

SERVICE = ServiceStatus("1", NOON, False, 0, False, KEPT, LOADED)
ALL_WELL = PoolCounts(total=3, healthy=3, unhealthy=0, disabled=0, recovering=0)


def judge(counts=ALL_WELL, *, unavailable=(), can_serve=True, resting=0, **changes):
    service = replace(SERVICE, **changes)
    return diagnose(service, counts, unavailable, can_serve=can_serve, resting=resting)


def test_all_is_well():
    assert judge() == Diagnosis("healthy", ())


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
    assert judge(resting=2) == Diagnosis(
        "degraded", ("Keys that are out of quota for a model: 2 of 3.",)
    )


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
