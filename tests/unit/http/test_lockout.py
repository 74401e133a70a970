"""Who guesses is made to wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.http.auth_failures import Lockout

HERE, THERE = "192.0.2.1", "192.0.2.2"


def guess(lockout, times, now, address=HERE):
    for _ in range(times):
        lockout.count(address, now)


def test_ten_wrong_tokens_lock_an_address_out_and_nine_do_not():
    lockout = Lockout()
    guess(lockout, 9, now=100.0)
    assert lockout.wait(HERE, 100.0) == 0
    guess(lockout, 1, now=100.0)
    assert lockout.wait(HERE, 100.0) == 60


def test_other_addresses_are_not_locked_out():
    lockout = Lockout()
    guess(lockout, 10, now=100.0)
    assert lockout.wait(THERE, 100.0) == 0


def test_the_wait_ends_a_minute_after_the_first_of_the_ten():
    lockout = Lockout()
    for second in range(10):
        lockout.count(HERE, 100.0 + second)
    assert lockout.wait(HERE, 110.0) == 50
    assert lockout.wait(HERE, 159.5) == 0.5
    assert lockout.wait(HERE, 160.0) == 0


def test_tries_while_it_is_locked_make_the_wait_no_longer():
    lockout = Lockout()
    guess(lockout, 10, now=100.0)
    guess(lockout, 10, now=130.0)
    assert lockout.wait(HERE, 130.0) == 30
    assert lockout.wait(HERE, 160.0) == 0


def test_after_the_wait_one_more_wrong_token_within_the_minute_locks_again():
    lockout = Lockout()
    for second in range(10):
        lockout.count(HERE, 100.0 + second)
    lockout.count(HERE, 160.0)
    assert lockout.wait(HERE, 160.0) == 1


def test_wrong_tokens_that_come_slowly_lock_nobody_out():
    lockout = Lockout()
    for n in range(100):
        lockout.count(HERE, 100.0 + 7 * n)
        assert lockout.wait(HERE, 100.0 + 7 * n) == 0


def test_of_too_many_addresses_the_one_is_forgotten_that_is_quiet_for_longest():
    lockout = Lockout(capacity=3)
    guess(lockout, 10, now=100.0, address="a")
    guess(lockout, 10, now=101.0, address="b")
    guess(lockout, 10, now=102.0, address="c")
    lockout.count("a", 103.0)
    lockout.count("d", 104.0)
    assert len(lockout) == 3
    assert lockout.wait("b", 104.0) == 0
    assert lockout.wait("a", 104.0) > 0
    assert lockout.wait("c", 104.0) > 0


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1e6)), max_size=300))
def test_whatever_comes_the_memory_is_bounded_and_the_wait_at_most_a_minute(guesses):
    lockout = Lockout(capacity=20)
    for address, now in guesses:
        lockout.count(str(address), now)
        assert len(lockout) <= 20
        assert 0 <= lockout.wait(str(address), now) <= 60


@pytest.mark.parametrize("now", [0.0, 1e12])
def test_an_address_that_was_never_seen_waits_for_nothing(now):
    assert Lockout().wait(HERE, now) == 0
