"""What a client that floods leaves to others, without keys."""

import pytest

from gemproxy.core.shares import FIRST_RESERVE, LAST_RESERVE, SMALLEST_SHARE, FairShares


def used(number, *, clients=2, client="flood", now=0.0):
    shares = FairShares()
    shares.configured = clients
    for _ in range(number):
        shares.count(client, now)
    return shares


def test_a_share_is_half_of_what_the_keys_may_serve():
    assert used(100).reserve("flood", 0.0, 200) == 0.0
    assert used(101).reserve("flood", 0.0, 200) == FIRST_RESERVE
    assert used(101).reserve("calm", 0.0, 200) == 0.0
    # The clients of the last minute divide it, the configured ones that are idle do not.
    several = used(60)
    several.count("b", 0.0)
    several.count("c", 0.0)
    assert several.reserve("flood", 0.0, 200) == 0.0
    several.count("d", 0.0)
    assert several.reserve("flood", 1.0, 200) == FIRST_RESERVE


def test_small_numbers_are_no_flood():
    assert used(SMALLEST_SHARE).reserve("flood", 0.0, 10) == 0.0
    assert used(SMALLEST_SHARE + 1).reserve("flood", 0.0, 10) == FIRST_RESERVE


def test_a_client_alone_leaves_nothing_and_neither_does_one_of_tokens_only():
    assert used(500, clients=1).reserve("flood", 0.0, 200) == 0.0
    assert used(500).reserve("flood", 0.0, 0) == 0.0
    # Another one that was seen in the last minute is enough.
    seen = used(500, clients=0)
    seen.count("calm", 30.0)
    assert seen.reserve("flood", 30.0, 200) == FIRST_RESERVE
    for _ in range(500):
        seen.count("flood", 80.0)
    assert seen.reserve("flood", 91.0, 200) == 0.0


def test_the_reserve_shrinks_in_a_minute_at_known_moments():
    shares = used(101)
    assert shares.next_change("flood", 0.0) == float("inf")
    assert shares.reserve("flood", 0.0, 200) == FIRST_RESERVE
    assert shares.next_change("flood", 0.0) == 1.0
    assert shares.reserve("flood", 30.9, 200) == FIRST_RESERVE / 2
    assert shares.next_change("flood", 30.9) == 31.0
    for _ in range(60):
        shares.count("flood", 50.0)
    assert shares.reserve("flood", 75.0, 200) == LAST_RESERVE
    assert shares.next_change("flood", 75.0) == float("inf")


@pytest.mark.parametrize(("left", "reserve"), [(50, LAST_RESERVE), (49, 0.0)])
def test_a_flood_is_over_when_half_a_share_was_used_in_a_minute(left, reserve):
    shares = used(101)
    shares.reserve("flood", 0.0, 200)
    for _ in range(left):
        shares.count("flood", 40.0)
    assert shares.reserve("flood", 61.0, 200) == reserve
