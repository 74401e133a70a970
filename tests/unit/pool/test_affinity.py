"""A request that names a resource is served by keys of the resource's project only."""

from collections import Counter

import pytest

from gemproxy.core.errors import Conflict, DailyQuotaExhausted, NotFound, QuotaExhausted
from gemproxy.pool.key import NO_MODEL, Affinity, Key
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings
from gemproxy.secret import Secret

NOW = 1_000.0
SUCCESS = Outcome(Verdict.SUCCESS, 200)
FILE = "files/abc"


def key(name, project, weight=1, **options):
    secret = Secret(f"test-key-{name}-0123456789abcdef")
    return Key(name, secret, project, weight=weight, **options)


def pool_of(*keys):
    return KeyPool(keys, PoolSettings())


def of(project):
    return Affinity(project, FILE)


@pytest.fixture
def pool():
    return pool_of(key("a1", "a", 2), key("a2", "a"), key("b1", "b"), key("c1", "c"))


def serve(pool, affinity=None, now=NOW, outcome=SUCCESS, tried=()):
    lease = pool.acquire("m", now, affinity=affinity, tried=tried)
    pool.record(lease, outcome, now)
    return lease.key.name


def test_only_keys_of_the_project_are_leased_by_their_weights(pool):
    assert Counter(serve(pool, of("a")) for _ in range(30)) == {"a1": 20, "a2": 10}
    assert {serve(pool, of("b")) for _ in range(5)} == {"b1"}


def test_what_a_project_gets_so_counts_as_its_turns(pool):
    names = Counter(serve(pool, of("b") if number % 5 == 0 else None) for number in range(100))
    assert names == {"a1": 40, "a2": 20, "b1": 20, "c1": 20}


@pytest.mark.parametrize("affinity", [None, of("a")])
def test_every_key_may_serve_a_call_without_a_model(affinity):
    pool = pool_of(key("a1", "a", models=frozenset({"x"})), key("a2", "a"))
    names = set()
    for number in range(4):
        lease = pool.acquire(NO_MODEL, NOW + number, affinity=affinity)
        pool.record(lease, SUCCESS, NOW + number)
        names.add(lease.key.name)
    assert names == {"a1", "a2"}
    assert pool.acquire("y", NOW).key.name == "a2"


def test_a_tried_key_is_not_leased_again(pool):
    first = pool.acquire("m", NOW, affinity=of("a"))
    pool.release(first, NOW)
    assert serve(pool, of("a"), tried=[first.key.id]) != first.key.name


def test_a_project_out_of_quota_refuses_though_others_have_some(pool):
    serve(pool, of("a"), outcome=Outcome(Verdict.QUOTA_MINUTE, 429, retry_after=30.0))
    with pytest.raises(QuotaExhausted) as refused:
        pool.acquire("m", NOW + 10, affinity=of("a"))
    assert refused.value.retry_after == pytest.approx(20.0)
    assert FILE in refused.value.message
    assert "cannot move to another project" in refused.value.message
    assert serve(pool, of("b")) == "b1"
    skipped = pool.skipped_keys("m", NOW + 10, affinity=of("a"))
    assert [each.key for each in skipped] == ["a1", "a2"]


def test_the_attempts_last_error_is_the_projects(pool):
    gone = Outcome(Verdict.QUOTA_DAY, 429, until=NOW + 3600.0)
    serve(pool, of("b"), outcome=gone)
    error = pool.unavailable("m", NOW, gone, of("b"))
    assert isinstance(error, DailyQuotaExhausted)
    assert "cannot move" in error.message


def test_a_project_whose_keys_are_all_disabled_is_a_conflict(pool):
    pool.disable("b1")
    with pytest.raises(Conflict) as refused:
        pool.acquire("m", NOW, affinity=of("b"))
    assert refused.value.reason == "project_disabled"
    assert FILE in refused.value.message


def test_a_project_without_keys_is_not_found(pool):
    pool.apply([key("a1", "a", 2), key("c1", "c")], PoolSettings(), NOW)
    with pytest.raises(NotFound) as refused:
        pool.acquire("m", NOW, affinity=of("b"))
    assert refused.value.reason == "project_without_keys"
    assert pool.projects() == ["a", "c"]
    assert not pool.has_one_project()


def test_a_weak_key_serves_if_its_project_has_no_other():
    pool = pool_of(key("a", "a"), key("b", "b"))
    for _ in range(2):
        for _ in range(10):
            outcome = Outcome(Verdict.BROKEN_OFF, None)
            pool.record(pool.acquire("m", NOW, affinity=of("a")), outcome, NOW)
    assert serve(pool) == "b"
    assert serve(pool, of("a")) == "a"


def test_requests_of_one_project_alone_do_not_pile_up_turns_to_miss(pool):
    for _ in range(1000):
        serve(pool, of("b"))
    names = Counter(serve(pool) for _ in range(400))
    assert names["b1"] >= (400 - 64 * 5) / 5
