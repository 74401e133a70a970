"""What the errors that a client sees say of another try."""

import pytest

from gemproxy.core.errors import LockedOut, NoHealthyKeys, QuotaExhausted, UpstreamUnavailable


def headers(error):
    return {name.decode(): value.decode() for name, value in error.headers()}


@pytest.mark.parametrize("seconds", [60.01, 61, 119, 300, 600, 30_000])
def test_a_wait_longer_than_clients_wait_is_no_invitation(seconds):
    """openai-node ignores a Retry-After above 60 seconds and asks again at once."""
    for kind in (NoHealthyKeys, QuotaExhausted, LockedOut):
        assert headers(kind("no", retry_after=seconds))["x-should-retry"] == "false"
    late = UpstreamUnavailable("no", status=503)
    late.retry_after = seconds  # as the forwarder does it for a model that is out of order
    assert headers(late)["x-should-retry"] == "false"


@pytest.mark.parametrize("seconds", [0.2, 1, 37, 59.5, 60])
def test_a_short_wait_is_left_to_the_client(seconds):
    assert "x-should-retry" not in headers(QuotaExhausted("no", retry_after=seconds))
    assert "x-should-retry" not in headers(QuotaExhausted("no"))


def test_what_was_told_stands():
    told = QuotaExhausted("no", retry_after=300, should_retry=True)
    assert headers(told)["x-should-retry"] == "true"
    assert headers(QuotaExhausted("no", retry_after=1, should_retry=False)) == {
        "Retry-After": "1",
        "x-should-retry": "false",
    }
