"""The pool under any order of events, over virtual days.

``ineligible_keys`` checks every key afresh, while ``acquire`` relies on what its schedulers
remember; the machine compares the two, and both with a simple model of its own.
"""

from collections import Counter
from datetime import UTC, datetime

import pytest
from fakes.pools import ineligible_keys
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gemproxy.core.errors import ModelNotFound, NoHealthyKeys, ProxyError, QuotaExhausted
from gemproxy.pool.cooldowns import next_pacific_midnight
from gemproxy.pool.key import Affinity, Key, Limits
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings, Reason
from gemproxy.secret import Secret

START = datetime(2026, 10, 31, 20, tzinfo=UTC).timestamp()
SETTINGS = PoolSettings(
    failure_threshold=1,
    cooldown=20.0,
    recovery_time=100.0,
    window=100.0,
    minimum_requests=3,
    stickiness_share=0.25,
)


def key(name, **options):
    return Key(name, Secret(f"test-key-{name}-0123456789abcdef"), **options)


KEYS = (
    key("a", project="p", weight=3),
    key("b", project="p", cooldown_seconds=5.0),
    key("c", project="q", limits=Limits(rpm=2, tpm=50, rpd=9)),
    key("d", project="r", models=frozenset({"m"})),
)
NAMES = st.sampled_from([k.name for k in KEYS])
MODELS = st.sampled_from(["m", "n"])
QUOTA = {Reason.COOLING_DOWN, Reason.OVER_LIMIT}
OUT_OF_ORDER = {Reason.CIRCUIT_OPEN, Reason.HALF_OPEN_BUSY, Reason.LOW_HEALTH}


class PoolMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.now = START
        self.keys = KEYS
        self.pool = KeyPool(KEYS, SETTINGS)
        self.leases = []
        self.disabled = set()
        self.cooling = {}  # (project, model) -> until
        self.requests = Counter()

    # -- events ----------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0, 0.5, 5.0, 19.9, 30.0, 100.0, 40_000.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(
        model=MODELS,
        tokens=st.sampled_from([0, 20, 80]),
        tried=st.sets(NAMES, max_size=2),
        conversation=st.none() | st.integers(0, 9),
    )
    def acquire(self, model, tokens, tried, conversation):
        self.acquire_but(model, tokens, tried, conversation)

    @rule(model=MODELS, project=st.sampled_from(["p", "q", "r"]))
    def acquire_of_project(self, model, project):
        """As if the keys of other projects did not exist."""
        skipped = ineligible_keys(self.pool, model, self.now)
        ineligible = {seen.key: seen.reason for seen in skipped}
        own = {k.name for k in self.keys if k.project == project}
        fit = {name for name in own if ineligible.get(name) is None}
        weak = {name for name in own if ineligible.get(name) is Reason.LOW_HEALTH}
        try:
            lease = self.pool.acquire(model, self.now, affinity=Affinity(project, "files/x"))
        except ProxyError:
            assert not fit | weak
            return
        assert lease.key.name in (fit or weak)
        self.leases.append(lease)
        self.requests[lease.key.name] += 1

    @rule(model=MODELS, name=NAMES)
    def acquire_from(self, model, name):
        """With all others tried the scheduler must know of this one what the key itself knows."""
        self.acquire_but(model, 0, {k.name for k in KEYS} - {name})

    @rule(
        events=st.lists(
            st.tuples(
                st.sampled_from([0.0, 0.0, 1.0, 34.0, 120.0]),
                MODELS,
                NAMES,
                st.sampled_from([None, None, *Verdict, *[Verdict.SERVICE] * 6]),
            ),
            min_size=5,
            max_size=15,
        )
    )
    def serve(self, events):
        """Requests one after the other; those without a verdict stay in flight."""
        for seconds, model, name, verdict in events:
            self.now += seconds
            before = len(self.leases)
            self.acquire_from(model, name)
            if len(self.leases) > before and verdict is not None:
                self.settle(self.leases[-1], verdict, 34.0, None)
            self.one_trial_at_a_time()

    def acquire_but(self, model, tokens, tried, conversation=None):
        tried_ids = {k.id for k in self.keys if k.name in tried}
        skipped = ineligible_keys(self.pool, model, self.now)
        ineligible = {seen.key: seen.reason for seen in skipped}
        before = {seen.name: seen.status for seen in self.pool.statuses(self.now)}
        try:
            lease = self.pool.acquire(
                model, self.now, tried=tried_ids, tokens=tokens, conversation=conversation
            )
        except ProxyError as refused:
            self.check_error(refused, model, ineligible, tried, tokens)
            if not (tried or tokens or isinstance(refused, ModelNotFound)):
                self.check_delay(refused, skipped)
            return
        name = lease.key.name
        assert ineligible.get(name) in (None, Reason.LOW_HEALTH)
        if name in ineligible and tokens == 0:
            better = {k.name for k in self.keys} - set(ineligible) - tried
            assert not better
        assert name not in self.disabled | tried
        assert before[name] in ("active", "circuit_half_open")
        assert lease.permit.trial == (before[name] == "circuit_half_open")
        assert self.cooling.get((lease.key.project, model), 0.0) <= self.now
        assert self.cooling.get((lease.key.project, "*"), 0.0) <= self.now
        assert not lease.key.models or model in lease.key.models
        self.leases.append(lease)
        self.requests[name] += 1

    def check_error(self, refused, model, ineligible, tried, tokens):
        left = {k.name for k in self.keys} - tried
        fit = {name for name in left if ineligible.get(name) in (None, Reason.LOW_HEALTH)}
        if tokens == 0:
            assert not fit
        else:
            assert fit <= {"c"}
        allowed = {k.name for k in self.keys if not k.models or model in k.models}
        reasons = {reason for name, reason in ineligible.items() if name in allowed}
        if (tokens and "c" in tried) or len(tried) > 2:
            # What keeps a key out beside the earlier attempt at it is all the same.
            return
        if reasons & QUOTA or fit:
            assert isinstance(refused, QuotaExhausted)
        elif reasons & OUT_OF_ORDER or len(ineligible) < len(self.keys):
            assert isinstance(refused, NoHealthyKeys)
        else:
            assert isinstance(refused, NoHealthyKeys | ModelNotFound)
        if not isinstance(refused, ModelNotFound):
            assert refused.retry_after >= 1.0

    def check_delay(self, refused, skipped):
        """The delay ends when the first key is eligible again."""
        ending = QUOTA | {Reason.CIRCUIT_OPEN}
        ends = [seen.until.timestamp() for seen in skipped if seen.reason in ending]
        if ends:
            assert refused.retry_after == pytest.approx(max(1.0, min(ends) - self.now), abs=1e-5)
        elif any(seen.reason is Reason.HALF_OPEN_BUSY for seen in skipped):
            assert refused.retry_after == 1.0

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(),
        verdict=st.sampled_from(sorted(Verdict, key=str)),
        delay=st.sampled_from([None, 1.0, 34.0, 120.0]),
        tokens=st.sampled_from([None, 0, 60]),
    )
    def record(self, data, verdict, delay, tokens):
        self.settle(data.draw(st.sampled_from(self.leases)), verdict, delay, tokens)

    def settle(self, lease, verdict, delay, tokens):
        self.leases.remove(lease)
        until = next_pacific_midnight(self.now) if verdict is Verdict.QUOTA_DAY else None
        everything = verdict is Verdict.QUOTA_MINUTE and delay == 120.0
        outcome = Outcome(verdict, retry_after=delay, until=until, all_models=everything)
        self.pool.record(lease, outcome, self.now, latency=1.0, tokens=tokens)
        if verdict in (Verdict.QUOTA_DAY, Verdict.QUOTA_MINUTE):
            cooldown = (lease.key.cooldown_seconds or 20.0) if delay is None else delay
            place = (lease.key.project, "*" if everything else lease.model)
            end = until or self.now + cooldown
            self.cooling[place] = max(end, self.cooling.get(place, 0.0))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data):
        lease = data.draw(st.sampled_from(self.leases))
        self.leases.remove(lease)
        self.pool.release(lease, self.now)
        self.pool.record(lease, Outcome(Verdict.KEY), self.now)

    @rule(name=NAMES, word=st.sampled_from(["enable", "disable", "enable", "reset"]))
    def operator_says(self, name, word):
        if name not in {k.name for k in self.keys}:
            return
        getattr(self.pool, word)(name)
        if word == "disable":
            self.disabled.add(name)
        elif word == "enable":
            self.disabled.discard(name)
        else:
            projects = {k.project for k in KEYS if k.name == name}
            self.cooling = {p: t for p, t in self.cooling.items() if p[0] not in projects}

    @rule(absent=st.sets(NAMES, max_size=1))
    def reload(self, absent):
        """Keys come and go; who comes back has its history and the operator's word."""
        names = {k.name for k in KEYS} - absent
        self.keys = tuple(k for k in KEYS if k.name in names)
        self.pool.apply(self.keys, SETTINGS, self.now)

    @rule()
    def restart(self):
        """A restart loses the leases; everything else is as it was."""
        snapshot = self.pool.snapshot(self.now)
        before = self.pool.statuses(self.now)
        for lease in self.leases:
            self.pool.release(lease, self.now)
        self.leases.clear()
        self.pool = KeyPool(self.keys, SETTINGS)
        self.pool.restore(snapshot, self.now)
        after = self.pool.statuses(self.now)
        assert [(s.name, s.status, s.health_score, s.cooldowns) for s in before] == [
            (s.name, s.status, s.health_score, s.cooldowns) for s in after
        ]
        # A key that is not in the file then is for the store to remember.
        for name in {k.name for k in KEYS} - {k.name for k in self.keys}:
            del self.requests[name]

    # -- what always holds -----------------------------------------------------------------------

    @invariant()
    def one_trial_at_a_time(self):
        breakers = {seen.id: seen.status for seen in self.pool.statuses(self.now)}
        half_open = Counter(
            lease.key.id
            for lease in self.leases
            if lease.permit.trial
            and lease.permit.generation == lease.entry.breaker.generation
            and not lease.entry.removed
        )
        assert all(number == 1 for number in half_open.values())
        assert all(breakers[key_id] in ("circuit_half_open", "disabled") for key_id in half_open)

    @invariant()
    def counts_are_consistent(self):
        counts = self.pool.counts(self.now)
        statuses = self.pool.statuses(self.now)
        states = Counter(seen.status for seen in statuses)
        assert counts.total == len(self.keys)
        assert counts.total == counts.healthy + counts.unhealthy + counts.disabled
        assert counts.healthy == states["active"]
        assert (
            counts.disabled
            == states["disabled"]
            == len(self.disabled & {k.name for k in self.keys})
        )
        assert counts.recovering == states["circuit_half_open"]
        assert self.pool.can_serve(self.now) == bool(counts.healthy + counts.recovering)
        for seen in statuses:
            assert 0.0 <= seen.health_score <= 1.0
            assert seen.requests_total == self.requests[seen.name]

    @invariant()
    def cooldowns_are_those_that_were_recorded(self):
        for seen in self.pool.statuses(self.now):
            expected = {
                model: until
                for (project, model), until in self.cooling.items()
                if project == seen.project and until > self.now
            }
            found = {cooldown.model: cooldown.until.timestamp() for cooldown in seen.cooldowns}
            assert found == pytest.approx(expected, abs=1e-5)


PoolMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestPoolMachine = PoolMachine.TestCase
