"""The one word for how a key stands."""

from types import SimpleNamespace

import pytest

from gemproxy.pool.status import STATES, badness, condition_of, is_in, state_named


def key(status="active", attention=None, cooldowns=()):
    return SimpleNamespace(
        status=status,
        enabled=status != "disabled",
        needs_attention=attention,
        cooldowns=cooldowns,
    )


@pytest.mark.parametrize(
    ("found", "condition", "states"),
    [
        (key(), "active", {"active"}),
        (key(cooldowns=["m"]), "cooling", {"active", "cooling", "trouble"}),
        (key("circuit_open"), "open", {"open", "trouble"}),
        (key("circuit_open", "expired"), "attention", {"attention", "open", "trouble"}),
        (key("circuit_half_open"), "half-open", {"half-open", "trouble"}),
        (key("disabled", "expired", ["m"]), "disabled", {"disabled"}),
    ],
)
def test_states_of_a_key(found, condition, states):
    assert condition_of(found) == condition
    assert {state for state in STATES if is_in(found, state)} == states


def test_the_worst_comes_first():
    keys = [key(), key("disabled"), key("circuit_open"), key("circuit_open", "leaked")]
    ordered = [condition_of(each) for each in sorted(keys, key=badness)]
    assert ordered == ["attention", "open", "disabled", "active"]


def test_the_admin_apis_spelling_is_known():
    assert state_named("circuit_open") == state_named("open") == "open"
    assert state_named("circuit_half_open") == "half-open"
    assert state_named("ill") is None
