"""What a client may ask, and how much."""

import pytest

from gemproxy.core.clients import ANONYMOUS, Budget, Client, Expiry, Limits


def test_a_client_without_restrictions_and_limits_needs_no_checks():
    for client in (ANONYMOUS, Client("app"), Client("app", debug=True), Client("x", models=("m",))):
        assert not client.is_restricted
        assert not client.is_limited


@pytest.mark.parametrize(
    "restriction",
    [
        {"enabled": False},
        {"expires": Expiry("2027-06-30", 1.0)},
        {"endpoints": ("chat",)},
        {"addresses": ("10.0.0.0/8",)},
    ],
)
def test_what_is_checked_with_the_head_is_known_beforehand(restriction):
    assert Client("app", **restriction).is_restricted


@pytest.mark.parametrize(
    "limit",
    [
        {"limits": Limits(rpm=1)},
        {"limits": Limits(concurrent=1)},
        {"budget": Budget(usd_per_month=0.0)},
    ],
)
def test_a_limit_or_budget_is_known_beforehand(limit):
    assert Client("app", **limit).is_limited
