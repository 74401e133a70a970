"""What a choice of a key and the record of its outcome cost, with 10,000 keys and no network.

By itself: ``PYTHONPATH=. python benchmarks/keypool.py`` from the repository's root.
"""

import gc
import time
from dataclasses import dataclass

from gemproxy.pool.key import Key
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings
from gemproxy.secret import Secret

KEYS = 10_000
#: Of them, those that can serve where the others cool down or are disabled.
FREE = 100
ROUNDS = 30_000
START = 1_800_000_000.0
SUCCESS = Outcome(Verdict.SUCCESS, 200)
DAY_IS_OVER = Outcome(Verdict.QUOTA_DAY, 429, until=START + 40_000.0)


@dataclass(frozen=True)
class Cost:
    """Means in microseconds of the processor's time, and the longest of both together.

    Not of the clock's: a machine that others share takes a thread away for milliseconds.
    """

    choice: float
    record: float
    longest: float

    @property
    def together(self) -> float:
        """What a request pays."""
        return self.choice + self.record


def costs(rounds: int = ROUNDS) -> dict[str, Cost]:
    """By the state that the pool is in."""
    cooling = _cooling_pool("model-a")
    return {
        "all free": _measure(pool_of(KEYS), "model-a", rounds),
        "9,900 cooling": _measure(cooling, "model-a", rounds),
        "9,900 cooling, other model": _measure(cooling, "model-b", rounds),
        "9,900 disabled": _measure(_disabled_pool(), "model-a", rounds),
    }


def pool_of(count: int) -> KeyPool:
    """A pool in which every key can serve."""
    secrets = (Secret(f"bench-key-{number:06}-0123456789") for number in range(count))
    keys = [
        Key(f"key-{number}", secret, f"project-{number}", weight=1 + number % 3)
        for number, secret in enumerate(secrets)
    ]
    return KeyPool(keys, PoolSettings())


def _cooling_pool(model: str) -> KeyPool:
    pool = pool_of(KEYS)
    for _ in range(KEYS - FREE):
        pool.record(pool.acquire(model, START), DAY_IS_OVER, START)
    return pool


def _disabled_pool() -> KeyPool:
    pool = pool_of(KEYS)
    for status in pool.statuses(START)[: KEYS - FREE]:
        pool.disable(status.id)
    return pool


def _measure(pool: KeyPool, model: str, rounds: int) -> Cost:
    # As the daemon does at its start and after a reload.
    gc.collect()
    gc.freeze()
    choosing = recording = longest = 0
    for number in range(rounds):
        now = START + 1.0 + number / 1000
        before = time.thread_time_ns()
        lease = pool.acquire(model, now)
        between = time.thread_time_ns()
        pool.record(lease, SUCCESS, now, latency=0.5, tokens=100)
        after = time.thread_time_ns()
        choosing += between - before
        recording += after - between
        longest = max(longest, after - before)
    return Cost(choosing / rounds / 1000, recording / rounds / 1000, longest / 1000)


def main() -> None:
    for title, cost in costs().items():
        print(
            f"{title:28} choice {cost.choice:6.2f} us, record {cost.record:6.2f} us,"
            f" longest {cost.longest / 1000:6.2f} ms"
        )


if __name__ == "__main__":
    main()
