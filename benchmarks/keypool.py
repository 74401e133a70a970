"""What a choice of a key and the record of its outcome cost, in microseconds, with 10,000 keys.

Run from the repository's root: ``python benchmarks/keypool.py``.
"""

import time

from gemproxy.keys.key import Key
from gemproxy.keys.outcome import Outcome, Verdict
from gemproxy.keys.pool import KeyPool, PoolSettings
from gemproxy.secret import Secret

KEYS = 10_000
ROUNDS = 30_000
START = 1_800_000_000.0
SUCCESS = Outcome(Verdict.SUCCESS, 200)
DAY_IS_OVER = Outcome(Verdict.QUOTA_DAY, 429, until=START + 40_000.0)


def fresh_pool() -> KeyPool:
    secrets = (Secret(f"bench-key-{number:06}-0123456789") for number in range(KEYS))
    keys = [
        Key(f"key-{number}", secret, f"project-{number}", weight=1 + number % 3)
        for number, secret in enumerate(secrets)
    ]
    return KeyPool(keys, PoolSettings())


def cooling_pool(model: str) -> KeyPool:
    pool = fresh_pool()
    for _ in range(KEYS - 100):
        pool.record(pool.acquire(model, START), DAY_IS_OVER, START)
    return pool


def disabled_pool() -> KeyPool:
    pool = fresh_pool()
    for status in pool.statuses(START)[: KEYS - 100]:
        pool.disable(status.id)
    return pool


def measure(title: str, pool: KeyPool, model: str) -> None:
    choosing = recording = longest = 0
    for number in range(ROUNDS):
        now = START + 1.0 + number / 1000
        before = time.perf_counter_ns()
        lease = pool.acquire(model, now)
        between = time.perf_counter_ns()
        pool.record(lease, SUCCESS, now, latency=0.5, tokens=100)
        after = time.perf_counter_ns()
        choosing += between - before
        recording += after - between
        longest = max(longest, after - before)
    print(
        f"{title:28} choice {choosing / ROUNDS / 1000:6.2f} us, record"
        f" {recording / ROUNDS / 1000:6.2f} us, longest {longest / 1e6:6.2f} ms"
    )


def main() -> None:
    measure("all free", fresh_pool(), "model-a")
    cooling = cooling_pool("model-a")
    measure("9,900 cooling", cooling, "model-a")
    measure("9,900 cooling, other model", cooling, "model-b")
    measure("9,900 disabled", disabled_pool(), "model-a")


if __name__ == "__main__":
    main()
