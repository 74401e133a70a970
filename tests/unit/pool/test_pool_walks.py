"""Long walks of a pool: what its schedulers remember is what a fresh look at every key finds."""

from dataclasses import replace
from random import Random

import pytest
from fakes.pools import ineligible_keys

from gemproxy.core.errors import ModelNotFound, ProxyError
from gemproxy.pool.cooldowns import next_pacific_midnight
from gemproxy.pool.key import Key, Limits
from gemproxy.pool.outcome import QUOTA, Outcome, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings, Reason
from gemproxy.pool.quota_ledger import ExceededQuota
from gemproxy.secret import Secret

SETTINGS = PoolSettings(
    failure_threshold=2,
    cooldown=20.0,
    recovery_time=100.0,
    window=100.0,
    minimum_requests=3,
    stickiness_share=0.25,
)
MODELS = ["m", "n", "o"]
VERDICTS = [*Verdict, *[Verdict.SUCCESS] * 6, *[Verdict.SERVICE] * 3]
ENDING = {
    Reason.COOLING_DOWN,
    Reason.OVER_LIMIT,
    Reason.QUOTA_REACHED,
    Reason.CIRCUIT_OPEN,
}
QUOTAS = [
    (),
    (),
    (ExceededQuota("rpm", 3),),
    (ExceededQuota("rpm", 5, model="*"), ExceededQuota("tpm", 100)),
    (ExceededQuota("rpd", 9, model="n"),),
]


class Walk:
    def __init__(self, seed):
        self.dice = Random(seed)
        self.now = 1_800_000_000.0
        self.keys = [self.key(number) for number in range(self.dice.choice([2, 4, 8, 24]))]
        self.pool = KeyPool(self.keys, SETTINGS)
        self.leases = []

    def key(self, number):
        name = f"k{number}"
        return Key(
            name,
            Secret(f"test-key-{name}-0123456789abcdef"),
            project=self.dice.choice(["p", "q", name, name]),
            weight=self.dice.choice([1, 1, 2, 3]),
            limits=self.dice.choice([Limits(), Limits(), Limits(2), Limits(3, 50, 9)]),
            enabled=self.dice.random() > 0.1,
        )

    def step(self):
        steps = [self.wait, self.acquire, self.settle, self.speak, self.reload]
        self.dice.choices(steps, [12, 38, 35, 4, 3])[0]()

    def wait(self):
        self.now += self.dice.choice([0.5, 1.0, 5.0, 19.5, 30.0, 60.0, 100.0, 40_000.0])

    def acquire(self):
        model = self.dice.choice(MODELS)
        ineligible = ineligible_keys(self.pool, model, self.now)
        try:
            talk = self.dice.choice([None, None, *range(9)])
            lease = self.pool.acquire(model, self.now, conversation=talk)
        except ProxyError as refused:
            self.check_error(refused, ineligible)
            return
        reasons = {seen.key: seen.reason for seen in ineligible}
        assert reasons.get(lease.key.name) in (None, Reason.LOW_HEALTH)
        told = self.pool.skipped_keys(model, self.now, chosen=lease.key.id, limit=99)
        assert told == [
            seen
            for seen in ineligible_keys(self.pool, model, self.now)
            if seen.key != lease.key.name
        ]
        self.leases.append(lease)

    def check_error(self, refused, ineligible):
        assert len(ineligible) == len(self.keys)
        assert Reason.LOW_HEALTH not in {seen.reason for seen in ineligible}
        ends = [seen.until.timestamp() for seen in ineligible if seen.reason in ENDING]
        if ends and not isinstance(refused, ModelNotFound):
            assert refused.retry_after == pytest.approx(max(1.0, min(ends) - self.now), abs=1e-5)

    def settle(self):
        if not self.leases:
            return
        lease = self.leases.pop(self.dice.randrange(len(self.leases)))
        verdict = self.dice.choice(VERDICTS)
        until = next_pacific_midnight(self.now) if verdict is Verdict.QUOTA_DAY else None
        outcome = Outcome(
            verdict,
            retry_after=self.dice.choice([None, 1.0, 34.0, 120.0]),
            until=until,
            all_models=verdict is Verdict.QUOTA_MINUTE and self.dice.random() < 0.2,
            quotas=self.dice.choice(QUOTAS) if verdict in QUOTA else (),
        )
        tokens = self.dice.choice([None, 0, 60])
        self.pool.record(lease, outcome, self.now, tokens=tokens, prompt_tokens=tokens or 0)

    def speak(self):
        name = self.dice.choice(self.keys).name
        getattr(self.pool, self.dice.choice(["enable", "enable", "disable", "reset"]))(name)

    def reload(self):
        place = self.dice.randrange(len(self.keys))
        other = self.key(self.dice.randrange(100, 10_000))
        self.keys = self.keys.copy()
        self.keys[place] = self.dice.choice(
            [
                other,
                replace(self.keys[place], weight=other.weight),
                replace(self.keys[place], limits=other.limits),
                replace(self.keys[place], project=self.dice.choice(["p", "q"])),
            ]
        )
        self.pool.apply(self.keys, SETTINGS, self.now)


@pytest.mark.parametrize("seed", range(80))
def test_every_answer_is_what_a_fresh_look_finds(seed):
    walk = Walk(seed)
    for _ in range(400):
        walk.step()
