"""The pool of keys, by calls with literal times."""

import contextlib
import gc
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count

import pytest
from fakes.pools import date, ineligible_keys

from gemproxy.core.errors import ModelNotFound, NoHealthyKeys, QuotaExhausted
from gemproxy.pool.breaker import BreakerState
from gemproxy.pool.cooldowns import Cooldown
from gemproxy.pool.key import Affinity, Key, Limits
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings, Reason, Transition, UnknownKey
from gemproxy.pool.snapshot import LastError, Override
from gemproxy.pool.state import KeyState
from gemproxy.pool.status import PoolListener
from gemproxy.secret import Secret

# 2026-11-22 12:00 in Los Angeles.
NOON = datetime(2026, 11, 22, 20, tzinfo=UTC).timestamp()
MIDNIGHT = NOON + 12 * 3600

SUCCESS = Outcome(Verdict.SUCCESS, 200)
BLOCKED = Outcome(Verdict.BLOCKED, 200)
BUSY = Outcome(Verdict.QUOTA_MINUTE, 429, retry_after=34.0, message="Slow down.")
USED_UP = Outcome(Verdict.QUOTA_DAY, 429, until=MIDNIGHT)
INVALID = Outcome(Verdict.KEY, 400, reason="invalid", message="API key not valid.")
DENIED = Outcome(Verdict.MODEL_DENIED, 404, until=MIDNIGHT)
FORBIDDEN = Outcome(Verdict.FORBIDDEN, 403, reason="forbidden", message="No permission.")
OVERLOADED = Outcome(Verdict.SERVICE, 503, message="Overloaded.")


def key(name, **options):
    options.setdefault("project", name)
    return Key(name, Secret(f"test-key-{name}-0123456789abcdef"), **options)


def pool_of(*keys, **settings):
    return KeyPool([key(k) if isinstance(k, str) else k for k in keys], PoolSettings(**settings))


def serve(pool, model="m", now=NOON, outcome=SUCCESS, **options):
    lease = pool.acquire(model, now, **options)
    pool.record(lease, outcome, now)
    return lease.key.name


def served(pool, times, model="m", now=NOON):
    return Counter(serve(pool, model, now) for _ in range(times))


def status(pool, name, now=NOON):
    return pool.status(name, now)


def fail_key(pool, name, outcome, now=NOON, model="m"):
    """Let ``name`` in particular have ``outcome``."""
    lease = pool.acquire_again(pool.status(name, now).id, model, now)
    pool.record(lease, outcome, now)


class Listener(PoolListener):
    def __init__(self):
        self.heard = []

    def breaker_changed(self, change):
        self.heard.append(change)

    def cooldown_set(self, cooldown):
        self.heard.append(cooldown)

    def override_changed(self, key, override):
        self.heard.append((key, override))


class TestListener:
    """It hears what happens to keys, once, in epoch seconds. (Breakers: see TestBreaker.)"""

    def test_cooldowns_and_denials(self):
        listener = Listener()
        pool = KeyPool([key("a", project="p")], PoolSettings(), listener)
        pool.set_wall_clock(NOON, NOON + 5)
        lease, late = pool.acquire("m", NOON), pool.acquire("m", NOON)
        pool.record(lease, BUSY, NOON)
        pool.record(late, replace(BUSY, retry_after=1.0), NOON)
        assert listener.heard == [Cooldown("p", "m", NOON + 39, "quota_minute")]
        serve(pool, "n", outcome=DENIED)
        serve(pool, "o", outcome=FORBIDDEN)
        assert listener.heard[1:] == [
            Cooldown("p", "n", MIDNIGHT, "denied"),
            Cooldown(status(pool, "a").id, "o", NOON + 305, "forbidden"),
        ]

    def test_overrides(self):
        listener = Listener()
        pool = KeyPool([key("a")], PoolSettings(), listener)
        pool.disable("a")
        pool.set_weight("a", 3)
        assert listener.heard == [
            ("a", Override(enabled=False)),
            ("a", Override(enabled=False, weight=3)),
        ]

    def test_neither_a_restart_nor_a_reload(self):
        pool = pool_of("a", failure_threshold=1)
        serve(pool, outcome=BUSY)
        serve(pool, "n", outcome=OVERLOADED)
        listener = Listener()
        fresh = KeyPool([key("a")], PoolSettings(), listener)
        fresh.restore(pool.snapshot(NOON), NOON)
        fresh.apply([replace(key("a"), name="b", project="b")], PoolSettings(), NOON)
        assert status(fresh, "b").status == "circuit_open"
        assert status(fresh, "b").cooldowns
        assert listener.heard == []


class TestAdviceWhileKeysAreRejected:
    """Waiting helps only where a key is out of order for another reason."""

    @staticmethod
    def advice(pool, model="m", now=NOON):
        with pytest.raises(NoHealthyKeys) as refused:
            pool.acquire(model, now)
        return refused.value.retry_after, refused.value.should_retry

    def test_a_short_recovery_time_brings_nobody_back(self):
        pool = pool_of("a", "b", recovery_time=20)
        assert served(pool, 2) == {"a": 1, "b": 1}
        fail_key(pool, "a", INVALID)
        fail_key(pool, "b", INVALID)
        for model in ("m", "n"):
            assert self.advice(pool, model, NOON + 5) == (15.0, False)

    def test_nor_does_a_disabled_key_beside_them(self):
        pool = pool_of("a", key("b", enabled=False), recovery_time=20)
        fail_key(pool, "a", INVALID)
        assert self.advice(pool) == (20.0, False)

    def test_a_key_that_only_failed_is_worth_the_wait(self):
        pool = pool_of("a", "b", recovery_time=20, cooldown=10, failure_threshold=1)
        fail_key(pool, "a", INVALID)
        fail_key(pool, "b", OVERLOADED)
        assert self.advice(pool) == (10.0, None)

    def test_so_is_the_trial_of_a_rejected_one(self):
        pool = pool_of("a", recovery_time=20)
        fail_key(pool, "a", INVALID)
        trial = pool.acquire("m", NOON + 20)
        assert self.advice(pool, now=NOON + 20) == (1.0, None)
        pool.record(trial, INVALID, NOON + 20)
        assert self.advice(pool, now=NOON + 20) == (20.0, False)

    def test_what_is_over_is_forgotten(self):
        pool = pool_of("a", recovery_time=20, cooldown=10, failure_threshold=1)
        fail_key(pool, "a", INVALID)
        assert self.advice(pool) == (20.0, False)
        assert serve(pool, now=NOON + 20) == "a"
        fail_key(pool, "a", OVERLOADED, NOON + 20)
        assert self.advice(pool, now=NOON + 20) == (10.0, None)


class TestWeights:
    def test_two_to_one_is_exact(self):
        pool = pool_of(key("a", weight=2), key("b"))
        assert served(pool, 300) == {"a": 200, "b": 100}

    def test_every_round_is_exact_and_the_same(self):
        keys = [key("a", weight=5), key("b", weight=3), key("c")]
        pool, twin = pool_of(*keys), pool_of(*keys)
        rounds = [[serve(pool) for _ in range(9)] for _ in range(10)]
        assert all(Counter(names) == {"a": 5, "b": 3, "c": 1} for names in rounds)
        assert rounds == [[serve(twin) for _ in range(9)] for _ in range(10)]

    def test_turns_are_taken_for_each_model(self):
        """Two models that alternate do not lock step with two keys."""
        pool = pool_of("a", "b")
        names = {"m": Counter(), "n": Counter()}
        for n in range(200):
            model = "mn"[n % 2]
            names[model][serve(pool, model)] += 1
        assert names["m"] == names["n"] == {"a": 50, "b": 50}

    def test_health_weighs_once_there_are_enough_outcomes(self):
        pool = pool_of("a", "b", minimum_requests=10, failure_threshold=1000)
        for _ in range(9):
            fail_key(pool, "a", OVERLOADED)
        assert status(pool, "a").effective_weight == 1.0
        for _ in range(9):
            fail_key(pool, "a", SUCCESS)
        assert status(pool, "a").health_score == status(pool, "a").effective_weight == 0.5
        assert served(pool, 3) == {"a": 1, "b": 2}

    def test_operators_weight_outlives_a_reload(self):
        pool = pool_of("a", "b")
        pool.set_weight("a", 3)
        pool.apply([key("b"), key("a", weight=7)], PoolSettings(), NOON)
        assert served(pool, 400) == {"a": 300, "b": 100}
        pool.set_weight("a", None)
        assert status(pool, "a").weight == 7
        with pytest.raises(ValueError, match="at least 1"):
            pool.set_weight("a", 0)

    def test_key_that_comes_back_catches_nothing_up(self):
        pool = pool_of("a", "b", minimum_requests=1000)
        fail_key(pool, "a", BUSY)
        assert served(pool, 100) == {"b": 100}
        assert served(pool, 100, now=NOON + 34.0) == {"a": 50, "b": 50}

    def test_key_that_is_enabled_again_catches_nothing_up(self):
        pool = pool_of("a", "b")
        pool.disable("a")
        served(pool, 100)
        pool.enable("a")
        assert served(pool, 100) == {"a": 50, "b": 50}


class TestQuota:
    def test_cools_the_project_and_the_model_and_nothing_else(self):
        pool = pool_of(key("a", project="p"), key("b", project="p"), key("c", project="q"))
        fail_key(pool, "a", BUSY)
        assert served(pool, 10, now=NOON + 33.9) == {"c": 10}
        assert served(pool, 30, model="other") == {"a": 10, "b": 10, "c": 10}
        assert served(pool, 30, now=NOON + 34.0) == {"a": 10, "b": 10, "c": 10}

    def test_without_a_delay_it_lasts_for_the_keys_own_cooldown(self):
        pool = pool_of(key("a", cooldown_seconds=7.0), "b", cooldown=30.0)
        bare = replace(BUSY, retry_after=None)
        fail_key(pool, "a", bare)
        fail_key(pool, "b", bare)
        assert status(pool, "a").cooldowns[0].until == date(NOON + 7.0)
        assert status(pool, "b").cooldowns[0].until == date(NOON + 30.0)

    def test_of_the_day_lasts_until_midnight(self):
        pool = pool_of("a")
        serve(pool, outcome=USED_UP)
        with pytest.raises(QuotaExhausted):
            pool.acquire("m", MIDNIGHT - 0.1)
        assert serve(pool, now=MIDNIGHT) == "a"

    def test_of_the_account_concerns_all_models(self):
        pool = pool_of("a", "b")
        fail_key(pool, "a", replace(BUSY, retry_after=600.0, all_models=True))
        assert served(pool, 4, model="other", now=NOON + 599.0) == {"b": 4}
        assert status(pool, "a").cooldowns[0].model == "*"

    def test_burst_of_429s_does_not_open_the_breaker(self):
        pool = pool_of("a", failure_threshold=3)
        for n in range(20):
            fail_key(pool, "a", BUSY, model=f"m{n}")
        assert status(pool, "a").status == "active"
        assert status(pool, "a").failure_count == 20
        assert status(pool, "a").consecutive_failures == 0

    def test_in_a_trial_gives_it_back(self):
        pool = pool_of("a", failure_threshold=1)
        serve(pool, outcome=OVERLOADED)
        serve(pool, now=NOON + 30, outcome=BUSY)
        assert status(pool, "a", NOON + 31).status == "circuit_half_open"
        assert serve(pool, "other", now=NOON + 31) == "a"

    def test_retry_after_is_the_soonest_moment(self):
        pool = pool_of("a", "b")
        fail_key(pool, "a", BUSY)
        fail_key(pool, "b", USED_UP)
        with pytest.raises(QuotaExhausted) as refused:
            pool.acquire("m", NOON + 4)
        assert (refused.value.word, refused.value.retry_after) == ("rate_limit_exceeded", 30.0)
        assert refused.value.should_retry is None

    def test_all_out_for_the_day_is_insufficient_quota(self):
        pool = pool_of("a", "b")
        fail_key(pool, "a", USED_UP)
        fail_key(pool, "b", USED_UP)
        with pytest.raises(QuotaExhausted) as refused:
            pool.acquire("m", NOON)
        error = refused.value
        assert (error.word, error.retry_after, error.should_retry) == (
            "insufficient_quota",
            12 * 3600.0,
            False,
        )

    def test_a_late_outcome_is_known_to_the_next_error(self):
        pool = pool_of("a")
        early, late = pool.acquire("m", NOON), pool.acquire("m", NOON)
        pool.record(early, BUSY, NOON)
        with pytest.raises(QuotaExhausted, match="rate limit"):
            pool.acquire("m", NOON)
        pool.record(late, USED_UP, NOON)
        with pytest.raises(QuotaExhausted, match="daily quota"):
            pool.acquire("m", NOON)
        pool.disable("a")
        with pytest.raises(NoHealthyKeys, match="1 disabled"):
            pool.acquire("m", NOON)

    def test_key_that_recovers_sooner_is_waited_for(self):
        pool = pool_of("a", "b")
        fail_key(pool, "a", USED_UP)
        fail_key(pool, "b", INVALID)
        with pytest.raises(QuotaExhausted) as refused:
            pool.acquire("m", NOON)
        assert (refused.value.word, refused.value.retry_after) == ("rate_limit_exceeded", 300.0)

    def test_key_that_is_rejected_while_it_cools_down_is_out_of_order(self):
        pool = pool_of("a")
        early, late = pool.acquire("m", NOON), pool.acquire("m", NOON)
        pool.record(early, BUSY, NOON)
        with pytest.raises(QuotaExhausted):
            pool.acquire("m", NOON)
        pool.record(late, INVALID, NOON)
        with pytest.raises(NoHealthyKeys):
            pool.acquire("m", NOON)

    def test_end_of_another_keys_rest_decides_after_a_reset(self):
        pool = pool_of("a", "b")
        fail_key(pool, "a", BUSY)
        fail_key(pool, "b", replace(BUSY, retry_after=100.0))
        with pytest.raises(QuotaExhausted):
            pool.acquire("m", NOON)
        pool.reset("a")
        pool.disable("a")
        with pytest.raises(QuotaExhausted) as refused:
            pool.acquire("m", NOON)
        assert refused.value.retry_after == 100.0


class TestRejectedKey:
    def test_opens_at_once_and_asks_for_attention(self):
        pool = pool_of("a", "b", recovery_time=300.0)
        fail_key(pool, "a", INVALID)
        assert served(pool, 10) == {"b": 10}
        seen = status(pool, "a")
        assert (seen.status, seen.needs_attention, seen.next_retry) == (
            "circuit_open",
            "invalid",
            date(NOON + 300.0),
        )
        assert (seen.last_error.outcome, seen.last_error.status) == ("key", 400)

    def test_success_clears_the_attention(self):
        pool = pool_of("a")
        serve(pool, outcome=INVALID)
        serve(pool, now=NOON + 300)
        assert status(pool, "a", NOON + 300).needs_attention is None
        assert status(pool, "a", NOON + 300).status == "active"

    def test_success_that_was_sent_before_does_not(self):
        pool = pool_of("a")
        early = pool.acquire("m", NOON)
        serve(pool, outcome=INVALID)
        pool.record(early, SUCCESS, NOON + 1)
        assert status(pool, "a").needs_attention == "invalid"

    def test_no_other_key_is_503_with_the_time_of_the_next_trial(self):
        pool = pool_of("a", "b", "c")
        fail_key(pool, "a", INVALID)
        fail_key(pool, "b", INVALID, now=NOON + 100)
        pool.disable("c")
        with pytest.raises(NoHealthyKeys) as refused:
            pool.acquire("m", NOON + 100)
        assert refused.value.retry_after == 200.0
        assert "1 disabled" in refused.value.message
        assert "2 with an open circuit breaker" in refused.value.message
        assert "test-key" not in refused.value.message


class TestBreaker:
    def test_threshold_opens_and_one_trial_at_a_time(self):
        pool = pool_of("a", failure_threshold=3, cooldown=30.0)
        for _ in range(3):
            serve(pool, outcome=OVERLOADED)
        with pytest.raises(NoHealthyKeys) as refused:
            pool.acquire("m", NOON + 10)
        assert refused.value.retry_after == 20.0
        trial = pool.acquire("m", NOON + 30)
        with pytest.raises(NoHealthyKeys, match="1 half-open") as refused:
            pool.acquire("m", NOON + 30)
        assert refused.value.retry_after == 1.0
        pool.release(trial, NOON + 31)
        pool.record(pool.acquire("other", NOON + 31), BLOCKED, NOON + 32)
        assert served(pool, 5, now=NOON + 32) == {"a": 5}

    def test_trial_that_fails_doubles_the_rest(self):
        pool = pool_of("a", failure_threshold=1, cooldown=30.0)
        serve(pool, outcome=OVERLOADED)
        serve(pool, now=NOON + 30, outcome=OVERLOADED)
        assert status(pool, "a").next_retry == date(NOON + 90)

    @pytest.mark.parametrize(
        "verdict", [Verdict.REQUEST, Verdict.REGION, Verdict.UNUSABLE, Verdict.CLIENT_GONE]
    )
    def test_what_is_nobodys_fault_counts_nothing(self, verdict):
        pool = pool_of("a", failure_threshold=1)
        for _ in range(5):
            serve(pool, outcome=Outcome(verdict, 400))
        seen = status(pool, "a")
        assert (seen.status, seen.failure_count, seen.success_count) == ("active", 0, 0)
        assert (seen.requests_total, seen.last_error) == (5, None)

    def test_lease_is_settled_once(self):
        pool = pool_of("a", failure_threshold=1)
        lease = pool.acquire("m", NOON)
        pool.record(lease, SUCCESS, NOON)
        pool.record(lease, INVALID, NOON)
        pool.release(lease, NOON)
        assert status(pool, "a").status == "active"
        assert status(pool, "a").failure_count == 0

    def test_transitions_are_told(self):
        listener = Listener()
        pool = KeyPool([key("a")], PoolSettings(failure_threshold=1), listener)
        serve(pool, outcome=OVERLOADED)
        serve(pool, now=NOON + 30)
        error = LastError(NOON, "service", 503, "Overloaded.")
        assert listener.heard == [
            Transition("a", BreakerState.CLOSED, BreakerState.OPEN, None, error),
            Transition("a", BreakerState.OPEN, BreakerState.HALF_OPEN),
            Transition("a", BreakerState.HALF_OPEN, BreakerState.CLOSED),
        ]

    def test_probed_pool_keeps_half_open_keys_from_clients(self):
        pool = pool_of("a", "b", failure_threshold=1, probe=True)
        fail_key(pool, "a", OVERLOADED)
        assert served(pool, 4, now=NOON + 40) == {"b": 4}
        fail_key(pool, "a", SUCCESS, now=NOON + 41)
        assert served(pool, 4, now=NOON + 42) == {"a": 2, "b": 2}


class TestModels:
    def test_allow_list_is_kept(self):
        pool = pool_of(key("a", models=frozenset({"m"})), "b")
        assert served(pool, 10) == {"a": 5, "b": 5}
        assert served(pool, 10, model="other") == {"b": 10}

    def test_model_that_no_key_may_use_is_not_found(self):
        pool = pool_of(key("a", models=frozenset({"m"})), key("b", enabled=False))
        with pytest.raises(ModelNotFound) as refused:
            pool.acquire("other", NOON)
        assert refused.value.param == "model"
        pool.disable("a")
        with pytest.raises(NoHealthyKeys):
            pool.acquire("other", NOON)

    def test_refused_model_is_left_to_other_projects(self):
        pool = pool_of(key("a", project="p"), key("b", project="p"), "c")
        fail_key(pool, "a", DENIED)
        assert served(pool, 4) == {"c": 4}
        assert served(pool, 3, model="other") == {"a": 1, "b": 1, "c": 1}
        assert status(pool, "b").denied_models == ("m",)
        assert status(pool, "b").cooldowns == ()
        assert status(pool, "a").failure_count == 0
        assert served(pool, 3, now=MIDNIGHT) == {"a": 1, "b": 1, "c": 1}

    def test_refused_everywhere_is_not_found(self):
        pool = pool_of("a", recovery_time=300.0)
        serve(pool, outcome=replace(DENIED, until=None))
        with pytest.raises(ModelNotFound):
            pool.acquire("m", NOON + 299)
        assert serve(pool, now=NOON + 300) == "a"


class TestForbidden:
    def test_forbidden_model_is_left_to_the_other_keys_and_the_key_to_other_models(self):
        pool = pool_of(key("a", project="p"), key("b", project="p"))
        fail_key(pool, "a", FORBIDDEN)
        assert served(pool, 4) == {"b": 4}
        assert served(pool, 4, model="other") == {"a": 2, "b": 2}
        assert (status(pool, "a").status, status(pool, "a").needs_attention) == ("active", None)
        assert (status(pool, "a").denied_models, status(pool, "b").denied_models) == (("m",), ())
        assert status(pool, "a").last_error.status == 403
        (told,) = ineligible_keys(pool, "m", NOON)
        assert (told.key, told.reason.value) == ("a", "model_not_allowed")
        assert told.until == date(NOON + 300)

    def test_ends_by_itself_and_is_tried_again(self):
        pool = pool_of("a", "b", recovery_time=300.0)
        fail_key(pool, "a", FORBIDDEN)
        assert served(pool, 2, now=NOON + 299) == {"b": 2}
        assert served(pool, 4, now=NOON + 300) == {"a": 2, "b": 2}

    def test_forbidden_to_every_key_is_not_found(self):
        pool = pool_of("a", "b")
        for name in "ab":
            fail_key(pool, name, FORBIDDEN)
        with pytest.raises(ModelNotFound):
            pool.acquire("m", NOON)
        assert isinstance(pool.unavailable("m", NOON, FORBIDDEN), ModelNotFound)
        assert served(pool, 2, model="other") == {"a": 1, "b": 1}

    def test_keys_that_were_not_tried_yet_are_worth_another_request(self):
        pool = pool_of("a", "b")
        fail_key(pool, "a", FORBIDDEN)
        refused = pool.unavailable("m", NOON, FORBIDDEN)
        assert isinstance(refused, NoHealthyKeys)
        assert refused.retry_after == 1.0

    def test_second_model_without_a_success_between_is_the_keys_fault(self):
        pool = pool_of("a", "b")
        fail_key(pool, "a", FORBIDDEN, model="one")
        fail_key(pool, "a", FORBIDDEN, model="two")
        assert (status(pool, "a").status, status(pool, "a").needs_attention) == (
            "circuit_open",
            "forbidden",
        )
        assert status(pool, "a").next_retry == date(NOON + 300)
        assert served(pool, 2, model="three") == {"b": 2}

    def test_success_between_two_models_speaks_for_the_key(self):
        pool = pool_of("a", "b")
        for model in ("one", "two", "three"):
            fail_key(pool, "a", FORBIDDEN, model=model)
            fail_key(pool, "a", SUCCESS, model="other")
        assert status(pool, "a").status == "active"
        assert status(pool, "a").denied_models == ("one", "three", "two")

    def test_same_model_again_is_no_second_one(self):
        pool = pool_of("a", "b")
        leases = [pool.acquire_again(status(pool, "a").id, "m", NOON) for _ in range(5)]
        for lease in leases:
            pool.record(lease, FORBIDDEN, NOON)
        assert status(pool, "a").status == "active"

    def test_forbidden_trial_leaves_the_trial_to_another_model(self):
        pool = pool_of("a", failure_threshold=1)
        fail_key(pool, "a", OVERLOADED)
        fail_key(pool, "a", FORBIDDEN, now=NOON + 30)
        assert serve(pool, model="other", now=NOON + 30) == "a"
        assert status(pool, "a", NOON + 30).status == "active"

    def test_reset_forgets_it(self):
        pool = pool_of("a", "b")
        fail_key(pool, "a", FORBIDDEN, model="one")
        pool.reset("a")
        assert status(pool, "a").denied_models == ()
        assert served(pool, 2, model="one") == {"a": 1, "b": 1}
        fail_key(pool, "a", FORBIDDEN, model="two")
        assert status(pool, "a").status == "active"

    def test_outlives_a_restart(self):
        pool = pool_of(key("a", project="p"), key("b", project="p"))
        fail_key(pool, "a", FORBIDDEN)
        again = pool_of(key("a", project="p"), key("b", project="p"))
        again.restore(pool.snapshot(NOON), NOON)
        assert served(again, 2) == {"b": 2}
        assert again.snapshot(NOON).denials == pool.snapshot(NOON).denials


class TestMoment:
    """When a key is free again, for requests that wait for it."""

    def test_is_the_exact_end_of_the_first_cooldown(self):
        pool = pool_of("a", "b")
        fail_key(pool, "a", BUSY)
        fail_key(pool, "b", replace(BUSY, retry_after=0.4))
        with pytest.raises(QuotaExhausted) as refused:
            pool.acquire("m", NOON)
        assert (refused.value.free_at, refused.value.retry_after) == (NOON + 0.4, 1.0)

    def test_is_a_breakers_trial_and_unknown_while_that_is_running(self):
        pool = pool_of("a", failure_threshold=1, cooldown=2.0)
        serve(pool, outcome=OVERLOADED)
        with pytest.raises(NoHealthyKeys) as refused:
            pool.acquire("m", NOON + 1)
        assert refused.value.free_at == NOON + 2
        pool.acquire("m", NOON + 2)
        with pytest.raises(NoHealthyKeys) as refused:
            pool.acquire("m", NOON + 3)
        assert refused.value.free_at is None

    def test_may_come_before_it_was_known(self):
        """Whatever can make a key eligible early is reported."""
        pool = pool_of("a", key("b", limits=Limits(tpm=10)), failure_threshold=1, cooldown=2.0)
        reported = []
        pool.more_eligible = lambda: reported.append(True)

        def reports(call, *args, **options):
            reported.clear()
            call(*args, **options)
            return bool(reported)

        assert not reports(serve, pool)
        lease = pool.acquire("m", NOON)
        assert reports(pool.record, lease, SUCCESS, NOON, tokens=1)
        assert reports(pool.reset, "a")
        assert reports(lambda: list(pool.reset_many([pool.status("a", NOON).id], 1)))
        assert reports(pool.enable, "a")
        assert reports(pool.apply, [key("a"), key("c")], PoolSettings(), NOON)
        assert reports(pool.set_wall_clock, NOON, NOON + 9000)
        fail_key(pool, "a", INVALID)
        trial = pool.acquire_again(pool.status("a", NOON).id, "m", NOON + 400)
        assert reports(pool.release, trial, NOON + 401)


class TestLimits:
    def test_requests_a_minute(self):
        pool = pool_of(key("a", limits=Limits(rpm=2)), "b")
        assert served(pool, 10) == {"a": 2, "b": 8}
        assert served(pool, 4, now=NOON + 60) == {"a": 2, "b": 2}

    def test_released_request_counts_as_one(self):
        pool = pool_of(key("a", limits=Limits(rpm=1)))
        pool.release(pool.acquire("m", NOON), NOON)
        with pytest.raises(QuotaExhausted) as refused:
            pool.acquire("other", NOON + 20)
        assert (refused.value.word, refused.value.retry_after) == ("rate_limit_exceeded", 40.0)

    def test_tokens_are_corrected(self):
        pool = pool_of(key("a", limits=Limits(tpm=1000)))
        lease = pool.acquire("m", NOON, tokens=900)
        with pytest.raises(QuotaExhausted) as refused:
            pool.acquire("m", NOON, tokens=500)
        assert refused.value.retry_after == 60.0
        pool.record(lease, SUCCESS, NOON, tokens=400)
        assert serve(pool, tokens=500) == "a"

    def test_tokens_that_were_reserved_before_limits_went_and_came_are_not_given_back(self):
        limited = key("a", limits=Limits(tpm=1000))
        pool = pool_of(limited)
        lease = pool.acquire("m", NOON, tokens=900)
        for keys in ([key("a")], [limited]):
            pool.apply(keys, PoolSettings(), NOON)
        pool.record(lease, SUCCESS, NOON, tokens=100)
        pool.acquire("m", NOON, tokens=900)
        with pytest.raises(QuotaExhausted):
            pool.acquire("m", NOON, tokens=900)

    def test_large_request_does_not_keep_small_ones_out(self):
        pool = pool_of(key("a", limits=Limits(tpm=1000)), "b")
        fail_key(pool, "a", SUCCESS)
        pool.record(pool.acquire("m", NOON, tokens=600), SUCCESS, NOON)
        assert {serve(pool, tokens=900) for _ in range(5)} == {"b"}
        assert {serve(pool, tokens=10) for _ in range(5)} == {"a", "b"}

    @pytest.mark.parametrize("way", [{}, {"affinity": Affinity("a", "files/x")}, {"tokens": 1}])
    def test_the_last_part_of_a_minute_is_left_to_others(self, way):
        pool = pool_of(key("a", limits=Limits(rpm=10, tpm=1000)))
        for second in range(8):
            serve(pool, now=NOON + second, reserve=0.2, **way)
        with pytest.raises(QuotaExhausted) as refused:
            pool.acquire("m", NOON + 20, reserve=0.2, **way)
        assert (refused.value.free_at, refused.value.retry_after) == (NOON + 60, 40.0)
        (skipped,) = pool.skipped_keys("m", NOON + 20, reserve=0.2)
        assert skipped.reason is Reason.OVER_LIMIT
        assert [serve(pool, now=NOON + 20) for _ in range(2)] == ["a", "a"]
        # Nine and ten places are free then, of which two are not for this request.
        with pytest.raises(QuotaExhausted):
            pool.acquire("m", NOON + 61, reserve=0.2, **way)
        assert serve(pool, now=NOON + 62, reserve=0.2, **way) == "a"

    def test_so_are_the_last_tokens_and_never_all_of_a_small_limit(self):
        pool = pool_of(key("a", limits=Limits(tpm=1000)))
        pool.release(pool.acquire("m", NOON, tokens=700, reserve=0.2), NOON)
        with pytest.raises(QuotaExhausted):
            pool.acquire("m", NOON, tokens=200, reserve=0.2)
        pool.acquire("m", NOON, tokens=200)
        assert serve(pool_of(key("a", limits=Limits(rpm=1))), reserve=0.2) == "a"

    def test_of_a_large_pool_only_some_keys_are_checked_for_it(self):
        pool = pool_of(*[key(f"key-{number}", limits=Limits(rpm=2)) for number in range(600)])
        for _ in range(600):
            pool.release(pool.acquire("m", NOON), NOON)
        checks, check = [], pool._eligibility.check

        def counted(*args, **options):
            checks.append(args)
            return check(*args, **options)

        pool._eligibility.check = counted
        with pytest.raises(QuotaExhausted) as refused:
            pool.acquire("m", NOON, reserve=0.5)
        assert refused.value.free_at == NOON + 60
        assert len(checks) == 400
        # Nothing has changed for others.
        assert serve(pool)

    def test_sums_follow_keys_that_come_and_go(self):
        limited = key("a", limits=Limits(rpm=10))
        pool = pool_of(limited, key("b", limits=Limits(tpm=5)), "c")
        assert (pool.has_limits, pool.requests_per_minute) == (True, 10)
        pool.disable("a")
        assert (pool.has_limits, pool.requests_per_minute) == (True, 0)
        pool.apply([key("c"), key("d")], PoolSettings(), NOON)
        assert not pool.has_limits

    def test_requests_a_day(self):
        pool = pool_of(key("a", limits=Limits(rpd=1)))
        serve(pool)
        with pytest.raises(QuotaExhausted) as refused:
            pool.acquire("m", NOON + 60)
        assert refused.value.word == "insufficient_quota"
        assert serve(pool, now=MIDNIGHT) == "a"


class TestHealth:
    def test_low_health_is_passed_over_while_a_better_key_is_there(self):
        pool = pool_of("a", "b", failure_threshold=1000)
        for _ in range(10):
            fail_key(pool, "a", OVERLOADED)
        assert served(pool, 10) == {"b": 10}
        assert serve(pool, tried=[status(pool, "b").id]) == "a"
        pool.disable("b")
        assert served(pool, 3) == {"a": 3}

    def test_failures_age_out(self):
        pool = pool_of("a", "b", failure_threshold=1000, window=300.0)
        for _ in range(10):
            fail_key(pool, "a", OVERLOADED)
        serve(pool)
        assert served(pool, 10, now=NOON + 301) == {"a": 5, "b": 5}

    def test_all_in_low_health_still_serve_by_weight(self):
        pool = pool_of(key("a", weight=2), "b", failure_threshold=1000)
        for name in "ab":
            for _ in range(100):
                fail_key(pool, name, OVERLOADED)
        leases = [pool.acquire("m", NOON) for _ in range(300)]
        assert Counter(lease.key.name for lease in leases) == {"a": 200, "b": 100}


class TestTried:
    def test_is_passed_over(self):
        pool = pool_of("a", "b", "c")
        first = pool.acquire("m", NOON)
        second = pool.acquire("m", NOON, tried=[first.key.id])
        third = pool.acquire("m", NOON, tried=[first.key.id, second.key.id])
        assert len({first.key.name, second.key.name, third.key.name}) == 3

    def test_only_tried_keys_left_is_told_with_an_early_return(self):
        pool = pool_of("a")
        lease = pool.acquire("m", NOON)
        with pytest.raises(NoHealthyKeys, match="1 already tried") as refused:
            pool.acquire("m", NOON, tried=[lease.key.id])
        assert refused.value.retry_after == 1.0

    def test_other_keys_decide_the_error(self):
        pool = pool_of("a", "b")
        fail_key(pool, "b", BUSY)
        lease = pool.acquire("m", NOON)
        with pytest.raises(QuotaExhausted):
            pool.acquire("m", NOON, tried=[lease.key.id])

    def test_same_key_may_be_had_again(self):
        pool = pool_of("a", failure_threshold=1)
        lease = pool.acquire("m", NOON)
        again = pool.acquire_again(lease.key.id, "m", NOON)
        assert again.key is lease.key
        pool.record(again, OVERLOADED, NOON)
        with pytest.raises(NoHealthyKeys):
            pool.acquire_again(lease.key.id, "m", NOON)
        with pytest.raises(NoHealthyKeys):
            pool.acquire_again("unknown", "m", NOON)


class TestRefusal:
    def test_of_a_pool_with_nothing_left(self):
        pool = pool_of("a")
        serve(pool, outcome=BUSY)
        error = pool.unavailable("m", NOON, BUSY)
        assert isinstance(error, QuotaExhausted)
        assert error.retry_after == 34.0

    def test_of_a_client_whose_attempts_are_used_up(self):
        pool = pool_of("a", "b")
        fail_key(pool, "a", USED_UP)
        error = pool.unavailable("m", NOON, USED_UP)
        assert (error.word, error.retry_after) == ("rate_limit_exceeded", 1.0)
        error = pool.unavailable("m", NOON, INVALID)
        assert (error.word, error.retry_after) == ("no_healthy_keys", 1.0)

    def test_takes_nobodys_turn(self):
        pool, asked = pool_of("a", "b", "c"), pool_of("a", "b", "c")
        for _ in range(7):
            asked.unavailable("m", NOON, BUSY)
            assert serve(pool) == serve(asked)

    def test_empty_pool(self):
        with pytest.raises(NoHealthyKeys, match="none is configured"):
            pool_of().acquire("m", NOON)

    def test_unhealthy_key_out_of_quota_is_out_of_quota(self):
        pool = pool_of("a")
        for _ in range(10):
            serve(pool, "x", outcome=Outcome(Verdict.BROKEN_OFF))
        serve(pool, "m", outcome=USED_UP)
        pool.acquire("x", NOON)
        with pytest.raises(QuotaExhausted) as refused:
            pool.acquire("m", NOON)
        assert refused.value.word == "insufficient_quota"
        assert refused.value.retry_after == MIDNIGHT - NOON

    def test_unhealthy_keys_of_a_large_project_out_of_quota_are_out_of_quota(self):
        names = [f"k{number}" for number in range(20)]
        pool = pool_of(*(key(name, project="p") for name in names), minimum_requests=1)
        serve(pool)
        for name in names:
            for _ in range(5):
                fail_key(pool, name, Outcome(Verdict.BROKEN_OFF))
        pool.record(pool.acquire("m", NOON), USED_UP, NOON)
        with pytest.raises(QuotaExhausted) as refused:
            pool.acquire("m", NOON)
        assert refused.value.word == "insufficient_quota"
        assert refused.value.retry_after == MIDNIGHT - NOON

    def test_rest_that_outlasts_what_others_know_of_the_key_counts(self):
        pool = pool_of(key("a", limits=Limits(rpm=1)))
        serve(pool, "m", outcome=USED_UP)
        with pytest.raises(QuotaExhausted) as refused:
            pool.acquire("x", NOON)
        assert refused.value.retry_after == 60.0
        with pytest.raises(QuotaExhausted) as refused:
            pool.acquire("m", NOON)
        assert refused.value.retry_after == MIDNIGHT - NOON

    def test_rest_that_outlasts_what_others_know_counts_also_once_another_key_served(self):
        pool = pool_of(key("a", limits=Limits(rpm=1)), "b")
        fail_key(pool, "a", USED_UP)
        assert served(pool, 2, "x", NOON) == {"b": 2}
        fail_key(pool, "b", SUCCESS)
        fail_key(pool, "b", USED_UP)
        with pytest.raises(QuotaExhausted) as refused:
            pool.acquire("m", NOON)
        assert refused.value.retry_after == MIDNIGHT - NOON

    def test_limit_that_outlasts_a_rest_counts(self):
        pool = pool_of(key("a", limits=Limits(rpm=2)))
        serve(pool, "m", outcome=BUSY)
        with pytest.raises(QuotaExhausted) as refused:
            pool.acquire("m", NOON)
        assert refused.value.retry_after == 34.0
        pool.acquire("x", NOON)
        with pytest.raises(QuotaExhausted) as refused:
            pool.acquire("m", NOON)
        assert refused.value.retry_after == 60.0

    def test_breaker_that_has_to_stay_open_for_longer_counts(self):
        pool = pool_of("a", failure_threshold=1)
        leases = [pool.acquire("m", NOON) for _ in range(2)]
        pool.record(leases[0], OVERLOADED, NOON)
        with pytest.raises(NoHealthyKeys) as refused:
            pool.acquire("m", NOON)
        assert refused.value.retry_after == 30.0
        pool.record(leases[1], INVALID, NOON)
        with pytest.raises(NoHealthyKeys) as refused:
            pool.acquire("m", NOON)
        assert refused.value.retry_after == 300.0


class TestExplanations:
    def test_every_reason_is_told(self):
        pool = pool_of(
            "free",
            "off",
            "open",
            "half",
            "cooling",
            key("limited", limits=Limits(rpm=1)),
            key("listed", models=frozenset({"other"})),
            "weak",
            "tried",
            failure_threshold=20,
            cooldown=50.0,
        )
        pool.disable("off")
        fail_key(pool, "open", INVALID)
        for _ in range(20):
            fail_key(pool, "half", OVERLOADED, now=NOON - 60)
        pool.acquire_again(status(pool, "half").id, "m", NOON)
        fail_key(pool, "cooling", BUSY)
        fail_key(pool, "limited", SUCCESS)
        for _ in range(10):
            fail_key(pool, "weak", OVERLOADED)
        told = ineligible_keys(pool, "m", NOON, tried=[status(pool, "tried").id])
        assert [(seen.key, seen.reason) for seen in told] == [
            ("off", Reason.DISABLED),
            ("open", Reason.CIRCUIT_OPEN),
            ("half", Reason.HALF_OPEN_BUSY),
            ("cooling", Reason.COOLING_DOWN),
            ("limited", Reason.OVER_LIMIT),
            ("listed", Reason.MODEL_NOT_ALLOWED),
            ("weak", Reason.LOW_HEALTH),
            ("tried", Reason.ALREADY_TRIED),
        ]
        assert [seen.until for seen in told][1:4:2] == [date(NOON + 300), date(NOON + 34)]
        assert len(ineligible_keys(pool, "m", NOON, limit=3)) == 3

    def test_status_of_a_key(self):
        pool = pool_of(key("a", project="p", weight=2))
        for n in range(1, 101):
            lease = pool.acquire("m", NOON)
            pool.record(lease, SUCCESS, NOON + n, latency=n / 1000)
        serve(pool, now=NOON + 101, outcome=replace(BUSY, message="Too much. Wait."))
        (seen,) = pool.statuses(NOON + 101)
        assert seen == pool.status(seen.id, NOON + 101)
        assert (seen.name, seen.project, seen.weight, seen.enabled) == ("a", "p", 2, True)
        assert seen.masked == "test…cdef"
        assert (seen.success_count, seen.failure_count, seen.requests_total) == (100, 1, 101)
        assert seen.health_score == pytest.approx(100 / 101)
        assert seen.effective_weight == pytest.approx(2 * 100 / 101)
        assert seen.avg_latency_ms == pytest.approx(68.5)
        assert seen.p95_latency_ms == pytest.approx(97.0)
        assert seen.recent_latencies_ms == tuple(range(77, 101))
        assert (seen.last_used, seen.last_error.at) == (date(NOON + 101),) * 2
        assert seen.last_error.message == "Too much."
        assert [
            (cooldown.model, cooldown.until, cooldown.reason) for cooldown in seen.cooldowns
        ] == [("m", date(NOON + 135), "quota_minute")]

    def test_the_last_error_quotes_no_prompt(self):
        """Neither what Google says now, nor what an earlier version stored."""
        refused = replace(BUSY, message='Invalid value "my pin is 1234" at contents. Look it up.')
        pool = pool_of("a")
        serve(pool, now=NOON, outcome=refused)
        (before,) = pool.statuses(NOON)
        assert before.last_error.message == 'Invalid value "…" at contents.'
        stored = pool.snapshot(NOON)
        (row,) = stored.keys
        old = replace(row, last_error=replace(row.last_error, message=refused.message))
        again = pool_of("a")
        again.restore(replace(stored, keys=(old,)), NOON)
        (after,) = again.statuses(NOON)
        assert after.last_error.message == before.last_error.message

    def test_counts_add_up(self):
        pool = pool_of("a", "b", "c", "d", failure_threshold=1)
        pool.disable("a")
        fail_key(pool, "b", INVALID)
        fail_key(pool, "c", OVERLOADED)
        counts = pool.counts(NOON + 30)
        assert (counts.total, counts.healthy, counts.unhealthy) == (4, 1, 2)
        assert (counts.disabled, counts.recovering) == (1, 1)

    def test_can_serve_while_some_breaker_admits_something(self):
        pool = pool_of("a", "b")
        pool.disable("b")
        assert pool.can_serve(NOON)
        serve(pool, outcome=BUSY)
        assert pool.can_serve(NOON)
        serve(pool, "other", outcome=INVALID)
        assert not pool.can_serve(NOON)
        assert pool.can_serve(NOON + 300)


class TestOperator:
    def test_disabled_key_serves_nobody_over_reloads(self):
        pool = pool_of("a", "b")
        pool.disable(status(pool, "a").id)
        assert status(pool, "a").status == "disabled"
        pool.apply([key("a"), key("b")], PoolSettings(), NOON)
        assert served(pool, 4) == {"b": 4}
        pool.apply([key("b")], PoolSettings(), NOON)
        pool.apply([key("a"), key("b")], PoolSettings(), NOON)
        assert served(pool, 4) == {"b": 4}

    def test_enabling_overrides_the_file(self):
        pool = pool_of(key("a", enabled=False))
        pool.enable("a")
        assert serve(pool) == "a"

    def test_reset_frees_the_key_and_its_project_at_once(self):
        pool = pool_of(key("a", project="p"), key("b", project="p"))
        fail_key(pool, "b", USED_UP)
        fail_key(pool, "a", DENIED, model="other")
        fail_key(pool, "a", INVALID, model="third")
        with pytest.raises(QuotaExhausted):
            pool.acquire("m", NOON)
        pool.reset("a")
        assert served(pool, 4) == {"a": 2, "b": 2}
        assert served(pool, 4, model="other") == {"a": 2, "b": 2}
        assert status(pool, "a").needs_attention is None

    @pytest.mark.parametrize("word", ["enable", "disable", "reset"])
    def test_unknown_key(self, word):
        with pytest.raises(UnknownKey):
            getattr(pool_of("a"), word)("nobody")


class TestApply:
    def test_history_follows_the_secret(self):
        pool = pool_of("a", "b")
        fail_key(pool, "a", INVALID)
        renamed = replace(key("a"), name="renamed", weight=5)
        change = pool.apply([key("c"), renamed], PoolSettings(), NOON)
        assert (change.added, change.removed, change.updated) == (("c",), ("b",), ("renamed",))
        assert [seen.name for seen in pool.statuses(NOON)] == ["c", "renamed"]
        assert status(pool, "renamed").needs_attention == "invalid"
        assert served(pool, 4) == {"c": 4}

    def test_cooldowns_follow_the_secret_that_earned_them(self):
        """A project that nobody named is the key's own, whatever the key is called."""
        pool = pool_of("a", "b")
        fail_key(pool, "a", USED_UP)
        fail_key(pool, "a", DENIED, model="other")
        swapped = [
            replace(key("a"), name="b", project="b"),
            replace(key("b"), name="a", project="a"),
        ]
        pool.apply(swapped, PoolSettings(), NOON)
        assert [cooldown.until for cooldown in status(pool, "b").cooldowns] == [date(MIDNIGHT)]
        assert status(pool, "b").denied_models == ("other",)
        assert status(pool, "a").cooldowns == ()
        assert served(pool, 2) == served(pool, 2, model="other") == {"a": 2}

    def test_a_new_secret_under_an_old_name_has_quota_of_its_own(self):
        pool = pool_of("a")
        fail_key(pool, "a", USED_UP)
        pool.apply([replace(key("z"), name="a", project="a")], PoolSettings(), NOON)
        assert served(pool, 1) == {"a": 1}

    def test_the_cooldowns_of_a_project_that_was_named_stay_with_it(self):
        pool = pool_of(key("a", project="team"), key("b", project="team"))
        fail_key(pool, "a", USED_UP)
        pool.apply([key("z", project="team"), key("b")], PoolSettings(), NOON)
        assert [len(status(pool, name).cooldowns) for name in ("z", "b")] == [1, 0]

    def test_a_project_that_others_share_keeps_its_cooldowns_when_a_key_leaves_it(self):
        pool = pool_of("a", key("b", project="a"))
        fail_key(pool, "a", USED_UP)
        renamed = replace(key("a"), name="new", project="new")
        pool.apply([renamed, key("b", project="a")], PoolSettings(), NOON)
        assert [len(status(pool, name).cooldowns) for name in ("new", "b")] == [1, 1]

    def test_new_secret_under_an_old_name_starts_afresh(self):
        pool = pool_of("a")
        fail_key(pool, "a", INVALID)
        pool.apply([replace(key("other"), name="a")], PoolSettings(), NOON)
        assert status(pool, "a").needs_attention is None
        assert serve(pool) == "a"

    def test_a_project_that_others_share_hears_of_a_removed_keys_used_up_quota(self):
        settings = PoolSettings()
        shared = [key(name, project="p") for name in "ab"]
        pool = pool_of(*shared)
        late = pool.acquire("m", NOON)
        stays = [each for each in shared if each.id != late.key.id]
        pool.apply(stays, settings, NOON)
        pool.record(late, USED_UP, NOON)
        with pytest.raises(QuotaExhausted) as refused:
            pool.acquire("m", NOON)
        assert refused.value.retry_after == MIDNIGHT - NOON

    def test_leases_of_removed_keys_come_to_nothing(self):
        pool = pool_of("a", "b")
        leases = [pool.acquire("m", NOON) for _ in range(4)]
        pool.apply([key("b")], PoolSettings(), NOON)
        for lease in leases:
            if lease.key.name == "a":
                pool.record(lease, INVALID, NOON)
        assert served(pool, 4) == {"b": 4}
        assert pool.counts(NOON).total == 1
        pool.apply([key("a"), key("b")], PoolSettings(), NOON)
        assert served(pool, 4) == {"a": 2, "b": 2}

    def test_late_answer_to_an_old_secret_does_not_rest_the_new_one(self):
        pool = pool_of("a")
        lease = pool.acquire("m", NOON)
        pool.apply([replace(key("other"), name="a", project="a")], PoolSettings(), NOON)
        pool.record(lease, USED_UP, NOON)
        assert status(pool, "a").cooldowns == ()
        assert serve(pool) == "a"

    def test_unchanged_file_changes_nothing(self):
        keys = [key("a", weight=3), key("b")]
        pool, twin = pool_of(*keys), pool_of(*keys)
        for _ in range(20):
            assert serve(pool) == serve(twin)
            change = pool.apply(keys, PoolSettings(), NOON)
            assert (change.added, change.removed, change.updated) == ((), (), ())

    def test_settings_take_effect(self):
        pool = pool_of("a", failure_threshold=3)
        serve(pool, outcome=OVERLOADED)
        pool.apply([key("a", limits=Limits(rpm=2))], PoolSettings(2, 5.0, window=60.0), NOON)
        serve(pool, outcome=OVERLOADED)
        assert status(pool, "a").next_retry == date(NOON + 5.0)
        assert status(pool, "a").failure_count == 2
        assert status(pool, "a", NOON + 80).failure_count == 0
        serve(pool, now=NOON + 5)
        with pytest.raises(QuotaExhausted):
            pool.acquire("m", NOON + 6)

    def test_allow_lists_may_change(self):
        pool = pool_of("a", "b")
        served(pool, 4)
        pool.apply([key("a", models=frozenset({"n"})), key("b")], PoolSettings(), NOON)
        assert served(pool, 4) == {"b": 4}
        assert served(pool, 4, model="n") == {"a": 2, "b": 2}


def kept_in_memory(kind):
    return sum(isinstance(thing, kind) for thing in gc.get_objects())


class TestMemory:
    @pytest.mark.parametrize("windows", [(300, 300), (300, 200)], ids=["", "with other settings"])
    def test_keys_that_come_and_go_leave_nothing_behind(self, windows):
        """Neither healthy nor failing ones, in schedulers that nobody uses, without a collector."""
        pool = pool_of("a", "b")
        serve(pool)
        gc.collect()
        before = kept_in_memory(KeyState)
        gc.disable()
        try:
            for _ in range(250):
                for name, window in zip("cb", windows, strict=True):
                    broken_off = Outcome(Verdict.BROKEN_OFF)
                    fail_key(pool, pool.statuses(NOON)[1].name, broken_off)
                    pool.apply([key("a"), key(name)], PoolSettings(window=window), NOON)
            assert kept_in_memory(KeyState) < before + 300
        finally:
            gc.enable()


class TestRestart:
    KEYS = (key("a", weight=2), key("b", limits=Limits(rpm=1)), key("c"), key("d"))

    def restarted(self, pool, now, keys=KEYS):
        fresh = KeyPool(keys, PoolSettings())
        fresh.restore(pool.snapshot(NOON), now)
        return fresh

    def busy_pool(self):
        pool = KeyPool(self.KEYS, PoolSettings())
        fail_key(pool, "a", USED_UP)
        fail_key(pool, "a", BUSY, model="other")
        fail_key(pool, "b", SUCCESS)
        fail_key(pool, "c", INVALID)
        fail_key(pool, "d", DENIED)
        pool.set_weight("d", 9)
        return pool

    def test_everything_but_latencies_is_there_again(self):
        pool = self.busy_pool()
        assert self.restarted(pool, NOON).statuses(NOON) == pool.statuses(NOON)
        with pytest.raises(QuotaExhausted):
            self.restarted(pool, NOON).acquire("m", NOON + 1)

    def test_what_is_over_is_left_out(self):
        fresh = self.restarted(self.busy_pool(), NOON + 40)
        assert [cooldown.model for cooldown in status(fresh, "a", NOON + 40).cooldowns] == ["m"]
        assert serve(fresh, "other", NOON + 400, tried=[]) in "abcd"

    def test_overrides_of_absent_keys_are_kept(self):
        pool = self.busy_pool()
        pool.disable("a")
        without = self.restarted(pool, NOON, self.KEYS[1:])
        again = KeyPool(self.KEYS, PoolSettings())
        again.restore(without.snapshot(NOON), NOON)
        assert not status(again, "a").enabled

    def test_no_secret_in_it(self):
        snapshot = repr(self.busy_pool().snapshot(NOON))
        assert "0123456789abcdef" not in snapshot

    def test_key_without_news_gives_the_same_object(self):
        pool = self.busy_pool()
        before = {kept.id: kept for kept in pool.snapshot(NOON).keys}
        fail_key(pool, "d", SUCCESS, model="other")
        after = {kept.id: kept for kept in pool.snapshot(NOON).keys}
        changed = {after[kid].name for kid in before if before[kid] is not after[kid]}
        assert changed == {"d"}


def calls_made(work):
    """How many functions ``work`` calls: what it costs, on whatever machine."""
    calls = count()
    sys.setprofile(lambda _frame, event, _: event == "call" and next(calls))
    try:
        work()
    finally:
        sys.setprofile(None)
    return next(calls)


class TestCostOfWhatIsOver:
    """A key that was ineligible once costs as little as before, as soon as it is eligible again."""

    def cost(self, pool, now=NOON):
        lease = pool.acquire("m", now)
        cost = calls_made(lambda: pool.skipped_keys("m", now, chosen=lease.key.id))
        pool.release(lease, now)
        return cost

    @pytest.fixture
    def pool(self):
        return pool_of("a", "b", failure_threshold=1)

    def test_failures_that_have_left_the_window(self, pool):
        fresh = self.cost(pool)
        fail_key(pool, "a", Outcome(Verdict.BROKEN_OFF))
        assert self.cost(pool) > fresh
        self.cost(pool, NOON + 400)
        assert self.cost(pool, NOON + 400) == fresh

    def test_a_key_that_was_disabled(self, pool):
        fresh = self.cost(pool)
        pool.disable("a")
        assert self.cost(pool) > fresh
        pool.enable("a")
        assert self.cost(pool) == fresh

    def test_a_breaker_that_was_reset(self, pool):
        fresh = self.cost(pool, NOON + 400)
        fail_key(pool, "a", INVALID)
        pool.reset("a")
        self.cost(pool, NOON + 400)
        assert self.cost(pool, NOON + 400) == fresh


class TestManyKeys:
    def test_hundred_free_among_ten_thousand_cooling(self):
        pool = pool_of(*(f"k{n}" for n in range(10_000)))
        for _ in range(9_900):
            serve(pool, outcome=USED_UP)
        assert sorted(served(pool, 1000).values()) == [10] * 100
        assert max(served(pool, 1000, model="other").values()) == 1
        names = served(pool, 10_000, now=MIDNIGHT)
        assert max(names.values()) == 2
        assert len(names) > 8_000

    @pytest.mark.parametrize(
        "befall",
        [
            lambda pool, n: serve(pool, outcome=USED_UP),
            lambda pool, n: serve(pool, outcome=INVALID),
            lambda pool, n: serve(pool, outcome=DENIED),
            lambda pool, n: serve(pool, outcome=replace(USED_UP, all_models=True)),
            lambda pool, n: pool.disable(key(f"k{n}").id),
        ],
        ids=["quota", "rejected", "denied", "account", "disabled"],
    )
    def test_thousands_that_became_ineligible_are_not_checked_one_by_one(self, befall):
        """So that no choice blocks the reactor: they are marked before they are next."""
        pool = pool_of(*(f"k{n}" for n in range(2_000)))
        serve(pool)
        pool.apply([key(f"k{n}") for n in range(2_000)], PoolSettings(window=60.0), NOON)
        serve(pool)
        for n in range(1_900):
            befall(pool, n)
        assert max(calls_made(lambda: serve(pool)) for _ in range(300)) < 300
        assert max(served(pool, 1000).values()) <= 11

    def test_limits_of_thousands_are_not_looked_up_one_by_one(self):
        pool = pool_of(*(key(f"k{n}", limits=Limits(rpm=1)) for n in range(2_000)), "free")
        served(pool, 2_001)
        assert max(calls_made(lambda: serve(pool)) for _ in range(3)) < 300
        assert served(pool, 10) == {"free": 10}

    def test_thousands_whose_open_time_is_over_but_who_wait_for_their_probe(self):
        pool = pool_of(*(f"k{n}" for n in range(2_000)), probe=True)
        for n in range(1_900):
            fail_key(pool, f"k{n}", INVALID)
        served(pool, 200)
        later = NOON + 300.0
        assert max(calls_made(lambda: serve(pool, now=later)) for _ in range(300)) < 3_000
        assert len(served(pool, 1000, now=later)) == 100

    def test_the_error_after_the_last_attempt_checks_some(self):
        pool = pool_of(*(f"k{n}" for n in range(10_000)))
        serve(pool)
        serve(pool, outcome=USED_UP)
        told = []
        assert calls_made(lambda: told.append(pool.unavailable("m", NOON, OVERLOADED))) < 20_000
        assert "1 out of quota, 9999 not tried" in told[0].message

    def test_invented_models_do_not_disturb_the_turns(self):
        pool = pool_of("a", "b", "c")
        serve(pool)
        for n in range(500):
            lease = pool.acquire(f"invented-{n}", NOON)
            pool.record(lease, Outcome(Verdict.REQUEST, 404), NOON)
        assert served(pool, 300) == {"a": 100, "b": 100, "c": 100}

    def test_more_models_in_use_than_are_remembered(self):
        pool = pool_of("a", "b")
        fail_key(pool, "a", USED_UP, model="model-7")
        names = Counter()
        for _ in range(10):
            for n in range(100):
                name = serve(pool, f"model-{n}")
                assert (name, n) != ("a", 7)
                names[name] += 1
        assert abs(names["a"] - names["b"]) < 200


class TestDeparture:
    def test_key_that_leaves_the_file_and_comes_back_has_its_history(self):
        pool = KeyPool([key("a"), key("b")])
        lease = pool.acquire_again(key("a").id, "m", NOON)
        pool.record(lease, Outcome(Verdict.KEY, 403, reason="leaked"), NOON)
        pool.apply([key("b")], PoolSettings(), NOON + 1)
        pool.apply([key("a"), key("b")], PoolSettings(), NOON + 2)
        back = pool.status("a", NOON + 3)
        assert (back.needs_attention, back.status) == ("leaked", "circuit_open")
        assert back.requests_total == 1

    def test_it_has_it_over_a_restart_as_well(self):
        pool = KeyPool([key("a"), key("b")])
        lease = pool.acquire_again(key("a").id, "m", NOON)
        pool.record(lease, Outcome(Verdict.KEY, 403, reason="leaked"), NOON)
        again = KeyPool([key("b")])
        again.restore(pool.snapshot(NOON), NOON + 1)
        again.apply([key("a"), key("b")], PoolSettings(), NOON + 2)
        assert again.status("a", NOON + 3).needs_attention == "leaked"


class TestManyAtOnce:
    def test_reset_of_many_is_that_of_each(self):
        keys = [key(f"k{n}", project=f"p{n % 3}") for n in range(30)]
        one, many = pool_of(*keys), pool_of(*keys)
        for pool in (one, many):
            for number in range(0, 30, 2):
                fail_key(pool, f"k{number}", INVALID)
            fail_key(pool, "k1", USED_UP)
            fail_key(pool, "k3", FORBIDDEN)
            # Each key is next once, so that the ineligible ones are suspended.
            with contextlib.suppress(QuotaExhausted, ModelNotFound):
                served(pool, 60)
        chosen = [f"k{number}" for number in range(0, 30, 4)] + ["k3"]
        for name in chosen:
            one.reset(name)
        ids = frozenset(status(many, name).id for name in chosen)
        steps = len(list(many.reset_many(ids, 10)))
        assert steps >= 3
        for each in keys:
            assert status(one, each.name).status == status(many, each.name).status
            assert status(one, each.name).cooldowns == status(many, each.name).cooldowns
        assert set(served(one, 60)) == set(served(many, 60))

    def test_keys_may_go_between_two_steps(self):
        pool = pool_of("a", "b", "c")
        ids = frozenset(status(pool, name).id for name in "abc")
        for name in "abc":
            fail_key(pool, name, INVALID)
        steps = pool.reset_many(ids, 1)
        next(steps)
        pool.apply([key("b")], PoolSettings(), NOON)
        list(steps)
        assert status(pool, "b").status == "active"

    def test_a_rejection_that_no_request_met_opens_the_breaker(self):
        pool = pool_of("a", "b")
        assert pool.reject(status(pool, "a").id, INVALID, NOON)
        assert (status(pool, "a").status, status(pool, "a").needs_attention) == (
            "circuit_open",
            "invalid",
        )
        assert served(pool, 4) == {"b": 4}
        assert not pool.reject("0123456789ab", INVALID, NOON)
