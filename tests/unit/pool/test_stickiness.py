"""The requests of a conversation prefer one key, and the balance of the keys holds."""

from collections import Counter, defaultdict
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.pool.key import Key, Limits
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings
from gemproxy.pool.rendezvous import CANDIDATES, Preferences
from gemproxy.secret import Secret

NOW = 1_000.0
SUCCESS = Outcome(Verdict.SUCCESS, 200)
SHARE = 0.25
FREE = 10  # requests a minute


def keys_of(*weights, **options):
    return [
        Key(f"k{n}", Secret(f"test-key-{n}-0123456789abcdef"), f"p{n}", weight=weight, **options)
        for n, weight in enumerate(weights)
    ]


def pool_of(*weights, share=SHARE, **options):
    return KeyPool(keys_of(*weights, **options), PoolSettings(stickiness_share=share))


def serve(pool, conversation=None, now=NOW, outcome=SUCCESS, tried=()):
    lease = pool.acquire("m", now, conversation=conversation, tried=tried)
    pool.record(lease, outcome, now)
    return lease.key.name


def entries(*weights):
    return list(pool_of(*weights)._entries.values())


def first_of(preferences, conversation):
    return next(preferences.of(conversation))


def test_a_conversation_stays_with_its_key_whatever_else_is_served():
    pool = pool_of(1, 1, 1)
    served = defaultdict(set)
    for turn in range(5):
        for conversation in range(30):
            served[conversation].add(serve(pool, conversation, NOW + 60 * turn))
            serve(pool, None, NOW + 60 * turn)
    moved = sum(len(names) - 1 for names in served.values())
    assert moved <= 3
    assert len(set().union(*served.values())) == 3


def test_off_is_as_if_no_request_named_its_conversation():
    pool = pool_of(2, 1, share=None)
    assert "".join(serve(pool, 7) for _ in range(9)) == "k0k0k1" * 3


def test_the_lease_says_why_the_key_was_chosen():
    pool = pool_of(1, 1)
    assert pool.acquire("m", NOW, conversation=7).sticky
    assert not pool.acquire("m", NOW).sticky
    assert not pool_of(1, 1, share=None).acquire("m", NOW, conversation=7).sticky


def test_one_conversation_alone_gets_its_share_and_what_the_setting_allows():
    pool = pool_of(1, 1, 1)
    names = Counter(serve(pool, 7) for _ in range(3000))
    most = max(names.values())
    assert 1100 < most <= 1000 * (1 + SHARE) + FREE


def test_a_conversation_with_little_traffic_never_moves():
    pool = pool_of(1, 1, 1)
    assert len({serve(pool, 7, NOW + 7 * turn) for turn in range(200)}) == 1


def test_conversations_are_spread_by_weights():
    preferences = Preferences(entries(4, 2, 1, 1))
    first = Counter(first_of(preferences, number).key.name for number in range(8000))
    assert {name: round(n / 1000) for name, n in first.items()} == {
        "k0": 4,
        "k1": 2,
        "k2": 1,
        "k3": 1,
    }
    second = Counter(
        list(preferences.of(number))[1].key.name
        for number in range(8000)
        if first_of(preferences, number).key.name == "k0"
    )
    assert second["k1"] == pytest.approx(2000, rel=0.1)


def test_a_removed_key_moves_only_its_own_conversations():
    every = entries(*[1] * 40)
    before = Preferences(every)
    after = Preferences(each for each in every if each.key.name != "k7")
    moved = [n for n in range(4000) if first_of(before, n) is not first_of(after, n)]
    own = [n for n in range(4000) if first_of(before, n).key.name == "k7"]
    assert set(own) <= set(moved)
    assert len(moved) < 4000 / 40 + 4000 * 2 / CANDIDATES


def test_a_large_pool_uses_all_its_keys():
    preferences = Preferences(entries(*[1] * 300))
    first = Counter(first_of(preferences, number).key.name for number in range(30_000))
    assert len(first) == 300
    assert max(first.values()) < 300


def test_an_ineligible_key_is_not_waited_for_and_its_conversations_come_back():
    pool = pool_of(1, 1, 1)
    home = serve(pool, 7)
    serve(pool, 7, outcome=Outcome(Verdict.QUOTA_MINUTE, 429, retry_after=30.0))
    away = {serve(pool, 7, NOW + 1) for _ in range(5)}
    assert len(away) == 1
    assert home not in away
    assert serve(pool, 7, NOW + 31) == home


def test_a_key_that_was_tried_is_not_taken_again():
    pool = pool_of(1, 1)
    lease = pool.acquire("m", NOW, conversation=7)
    assert serve(pool, 7, tried=[lease.key.id]) != lease.key.name


def test_a_disabled_and_a_limited_key_give_up_their_conversations():
    pool = pool_of(1, 1, limits=Limits(rpm=3))
    names = [serve(pool, 7) for _ in range(6)]
    assert Counter(names).most_common() == [(names[0], 3), (names[-1], 3)]
    pool = pool_of(1, 1)
    home = serve(pool, 7)
    pool.disable(home)
    assert home not in {serve(pool, 7) for _ in range(5)}


@given(
    weights=st.lists(st.integers(1, 5), min_size=2, max_size=6),
    conversations=st.integers(1, 40),
    sticky=st.floats(0, 1),
    share=st.sampled_from([0.0, 0.1, 0.5]),
    seed=st.integers(0, 2**16),
)
def test_in_a_minute_no_key_gets_more_than_its_share_and_what_is_allowed(
    weights, conversations, sticky, share, seed
):
    """For any mix: n requests give a key at most (1 + share) of its part, or ten requests more.

    What one key gets more, the others get less, and each of them waits no longer than that.
    """
    random = Random(seed)
    pool = pool_of(*weights, share=share)
    number = 400
    names = Counter()
    for _ in range(number):
        named = random.random() < sticky
        names[serve(pool, random.randrange(conversations) if named else None)] += 1
    total = sum(weights)
    for n, weight in enumerate(weights):
        part = number * weight / total
        most = part + max(FREE, share * part) * 1.0 + 2
        assert names[f"k{n}"] <= most
        less = sum(max(FREE, share * number * w / total) + 2 for w in weights) * weight / total
        assert names[f"k{n}"] >= part - less - 2


def test_a_weight_that_the_operator_sets_moves_conversations():
    pool = pool_of(1, 1)
    served = [serve(pool, number, NOW + 60 * number) for number in range(200)]
    pool.set_weight("k0", 9)
    later = [serve(pool, number, NOW + 60 * (200 + number)) for number in range(200)]
    assert served.count("k0") == pytest.approx(100, abs=25)
    assert later.count("k0") > 160
    assert all(after == "k0" for before, after in zip(served, later, strict=True) if before == "k0")


def test_after_a_minute_nothing_is_owed():
    pool = pool_of(1, 1)
    home = serve(pool, 7)
    for _ in range(9):
        serve(pool, 7)
    later = Counter(serve(pool, 7, NOW + 61) for _ in range(1)) + Counter(
        serve(pool, None, NOW + 62) for _ in range(100)
    )
    assert later[home] >= 45
