"""What stickiness brings: the share of prompts that comes from Google's implicit cache.

The pool and the simulator's cache, without the network: many conversations of several turns, in a
random order that is the same each time, together with requests that are alone. By itself:
``PYTHONPATH=. python benchmarks/conversations.py`` from the repository's root.
"""

from collections import Counter
from dataclasses import dataclass
from random import Random

from gemproxy.pool.key import Key
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings
from gemproxy.secret import Secret
from gemproxy.simulator.implicit_cache import ImplicitCache

MODEL = "gemini-2.5-flash"
#: Tokens; Google's own minimum.
SHORTEST = 1024
CONVERSATIONS = 200
TURNS = 8
#: Requests without a conversation, for each turn of one.
ALONE = 0.5
#: Requests a second.
RATE = 20.0
SUCCESS = Outcome(Verdict.SUCCESS, 200)


@dataclass(frozen=True)
class Result:
    """Of the conversations: cached tokens by tokens of prompts; of the busiest key: requests."""

    cached_share: float
    sticky_share: float
    #: Requests of the busiest key, by weight, as a multiple of its share.
    busiest: float


def run(keys: int, share: float | None, seed: int = 7) -> Result:
    """One run with so many keys; ``share`` is ``pool.stickinessShare``, or ``None`` for off."""
    random, cache = Random(seed), ImplicitCache(SHORTEST)
    pool = KeyPool(
        [
            Key(f"key-{n}", Secret(f"bench-key-{n:06}-0123456789"), f"project-{n}")
            for n in range(keys)
        ],
        PoolSettings(stickiness_share=share),
    )
    turns = [n for n in range(CONVERSATIONS) for _ in range(TURNS)]
    turns += [-1] * int(len(turns) * ALONE)
    random.shuffle(turns)
    contents: dict[int, list[object]] = {n: [] for n in range(CONVERSATIONS)}
    served: Counter[str] = Counter()
    prompts = cached = sticky = 0
    for number, conversation in enumerate(turns):
        now = number / RATE
        named = conversation if conversation >= 0 else None
        lease = pool.acquire(MODEL, now, conversation=named)
        pool.record(lease, SUCCESS, now)
        served[lease.key.project] += 1
        if named is None:
            continue
        said = contents[conversation]
        said.append(_turn("user", f"Conversation {conversation}, turn {len(said)}."))
        request = {"contents": said}
        prompts += 400 * len(said)
        cached += cache.cached_tokens(lease.key.project, MODEL, request)
        sticky += lease.sticky
        said.append(_turn("model", "Aha."))
    return Result(
        cached / prompts,
        sticky / (CONVERSATIONS * TURNS),
        max(served.values()) * keys / len(turns),
    )


def _turn(role: str, text: str) -> dict[str, object]:
    return {"role": role, "parts": [{"text": f"{text} " + "word " * 395}]}


def main() -> None:
    """Print a table."""
    print("| keys | stickiness | cached share | sticky | busiest key |")
    print("| --- | --- | --- | --- | --- |")
    for keys in (3, 10, 100):
        for name, share in (("off", None), ("conversation", 0.25), ("conversation, share 1", 1.0)):
            made = run(keys, share)
            print(
                f"| {keys} | {name} | {made.cached_share:.0%} | {made.sticky_share:.0%} |"
                f" {made.busiest:.2f} of its share |"
            )


if __name__ == "__main__":
    main()
