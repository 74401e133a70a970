"""Which keys were skipped, at a bounded cost."""

from dataclasses import replace

import pytest
from fakes.pools import date, ineligible_keys

from gemproxy.core.errors import ProxyError
from gemproxy.pool.key import Key, Limits
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings, Reason, SkippedKey
from gemproxy.secret import Secret

NOW = 1_790_000_000.0
SUCCESS = Outcome(Verdict.SUCCESS, 200)
BUSY = Outcome(Verdict.QUOTA_MINUTE, 429, retry_after=34.0)
INVALID = Outcome(Verdict.KEY, 400, reason="invalid")
OVERLOADED = Outcome(Verdict.SERVICE, 503)


def key(name, **options):
    return Key(name, Secret(f"test-key-{name}-0123456789abcdef"), project=name, **options)


def pool_of(*keys):
    return KeyPool([key(k) if isinstance(k, str) else k for k in keys], PoolSettings())


def crowd(number, *more):
    return pool_of(*more, *[f"k{n}" for n in range(number)])


def serve(pool, outcome=SUCCESS, times=1, model="m", now=NOW):
    for _ in range(times):
        pool.record(pool.acquire(model, now), outcome, now)


def skipped(pool, **options):
    return [(seen.key, seen.reason) for seen in pool.skipped_keys("m", NOW, **options)]


class TestSmallPool:
    def test_no_key_of_a_healthy_pool(self):
        assert skipped(pool_of("a", "b", "c")) == []

    def test_every_ineligible_key_in_the_files_order(self):
        """Also one that was not next yet."""
        pool = pool_of("a", "b", key("c", models=frozenset({"n"})), key("d", limits=Limits(rpm=1)))
        pool.disable("b")
        pool.release(pool.acquire_again(pool.status("d", NOW).id, "m", NOW), NOW)
        serve(pool, INVALID)
        assert pool.skipped_keys("m", NOW) == ineligible_keys(pool, "m", NOW)
        assert skipped(pool) == [
            ("a", Reason.CIRCUIT_OPEN),
            ("b", Reason.DISABLED),
            ("c", Reason.MODEL_NOT_ALLOWED),
            ("d", Reason.OVER_LIMIT),
        ]

    def test_a_cooldown_and_low_health_are_seen(self):
        pool = KeyPool([key("a"), key("b")], PoolSettings(failure_threshold=99))
        serve(pool, BUSY)
        serve(pool, OVERLOADED, times=10)
        cooling, weak = pool.skipped_keys("m", NOW)
        assert cooling == SkippedKey("a", Reason.COOLING_DOWN, date(NOW + 34))
        assert (weak.key, weak.reason) == ("b", Reason.LOW_HEALTH)

    def test_low_health_alone_is_seen(self):
        pool = KeyPool([key("a")], PoolSettings(failure_threshold=99))
        serve(pool, OVERLOADED, times=10)
        assert skipped(pool) == [("a", Reason.LOW_HEALTH)]

    def test_a_projects_other_key_cools_with_it(self):
        """The second key itself has no failure."""
        keys = [Key(name, Secret(f"test-key-{name}-0123456789"), project="p") for name in "ab"]
        pool = KeyPool(keys, PoolSettings())
        serve(pool, BUSY)
        assert skipped(pool) == [("a", Reason.COOLING_DOWN), ("b", Reason.COOLING_DOWN)]

    def test_the_chosen_key_is_not_among_them(self):
        """The trial of a half-open key is this very request."""
        pool = pool_of("a")
        serve(pool, INVALID)
        lease = pool.acquire("m", NOW + 300)
        assert [seen.reason for seen in pool.skipped_keys("m", NOW + 300)] == [
            Reason.HALF_OPEN_BUSY
        ]
        assert pool.skipped_keys("m", NOW + 300, chosen=lease.key.id) == []

    def test_a_key_that_was_tried_says_what_came_of_it(self):
        pool = pool_of("a", "b", "c")
        first = pool.acquire("m", NOW)
        pool.record(first, BUSY, NOW)
        second = pool.acquire("m", NOW, tried=[first.key.id])
        pool.release(second, NOW)
        assert skipped(pool, tried=[first.key.id, second.key.id]) == [
            ("a", Reason.COOLING_DOWN),
            ("b", Reason.ALREADY_TRIED),
        ]

    def test_a_request_too_large_for_a_keys_minute_is_told_so(self):
        pool = pool_of(key("a", limits=Limits(tpm=100)), "b")
        lease = pool.acquire("m", NOW, tokens=60)
        assert skipped(pool, tokens=30, chosen=lease.key.id) == []
        pool.release(lease, NOW)
        assert skipped(pool, tokens=60) == [("a", Reason.OVER_LIMIT)]


class TestLargePool:
    def test_those_that_were_passed_over_are_told(self):
        pool = crowd(1000)
        serve(pool, BUSY, times=5)
        serve(pool, times=1000)
        assert skipped(pool) == [(f"k{n}", Reason.COOLING_DOWN) for n in range(5)]

    def test_never_more_than_the_limit(self):
        pool = crowd(1000)
        serve(pool, INVALID, times=999)
        serve(pool, times=2)
        assert len(skipped(pool)) == 20
        assert len(skipped(pool, limit=7)) == 7

    def test_tried_keys_come_first(self):
        pool = crowd(100)
        leases = [pool.acquire("m", NOW) for _ in range(2)]
        pool.record(leases[0], INVALID, NOW)
        tried = [lease.key.id for lease in leases]
        assert skipped(pool, tried=tried) == [
            ("k0", Reason.CIRCUIT_OPEN),
            ("k1", Reason.ALREADY_TRIED),
        ]

    def test_a_tried_key_that_was_set_aside_is_told_once(self):
        pool = crowd(100)
        lease = pool.acquire("m", NOW)
        pool.record(lease, INVALID, NOW)
        serve(pool, times=100)
        assert skipped(pool, tried=[lease.key.id]) == [("k0", Reason.CIRCUIT_OPEN)]

    def test_a_tried_key_that_a_reload_removed_is_left_out(self):
        pool = crowd(100)
        assert skipped(pool, tried=["no such id"]) == []

    def test_keys_of_other_models_are_told(self):
        pool = crowd(
            100, key("other", models=frozenset({"n"})), key("own", models=frozenset({"m"}))
        )
        assert skipped(pool) == [("other", Reason.MODEL_NOT_ALLOWED)]

    def test_what_is_over_is_not_told(self):
        pool = crowd(100)
        serve(pool, BUSY, times=5)
        serve(pool, times=100)
        assert len(skipped(pool)) == 5
        assert pool.skipped_keys("m", NOW + 35) == []

    def test_the_reason_is_the_present_one(self):
        """Not the one for which the key was suspended."""
        pool = crowd(100, key("first"))
        serve(pool, replace(BUSY, retry_after=200.0))
        serve(pool, times=101)
        assert skipped(pool) == [("first", Reason.COOLING_DOWN)]
        pool.disable("first")
        serve(pool, times=101)
        assert skipped(pool) == [("first", Reason.DISABLED)]

    def test_a_refused_request_learns_of_all_reasons(self):
        pool = crowd(30)
        serve(pool, BUSY, times=30)
        with pytest.raises(ProxyError):
            pool.acquire("m", NOW)
        assert [reason for _, reason in skipped(pool)] == [Reason.COOLING_DOWN] * 20
