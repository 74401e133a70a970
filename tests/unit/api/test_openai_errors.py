"""What an OpenAI client sees of errors, and what they say of another try."""

import pytest
from fakes.openai_errors import seen

from gemproxy.api.errors import STATUSES
from gemproxy.api.openai.errors import _FORMS
from gemproxy.core.errors import (
    LockedOut,
    MethodNotAllowed,
    NoHealthyKeys,
    ProxyError,
    QuotaExhausted,
    UpstreamRejected,
    UpstreamTrouble,
    UpstreamUnavailable,
)


def headers(error):
    return seen(error).headers


@pytest.mark.parametrize("seconds", [60.01, 61, 119, 300, 600, 30_000])
def test_a_wait_longer_than_clients_wait_is_no_invitation(seconds):
    """openai-node ignores a Retry-After above 60 seconds and asks again at once."""
    for kind in (NoHealthyKeys, QuotaExhausted, LockedOut):
        assert headers(kind("no", retry_after=seconds))["x-should-retry"] == "false"
    late = UpstreamUnavailable("no", UpstreamTrouble.UNAVAILABLE)
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


def tree(kind=ProxyError):
    """All types of errors that a client may see."""
    return {kind}.union(*map(tree, kind.__subclasses__()))


def made(kind):
    extra = {MethodNotAllowed: (("GET",),), UpstreamUnavailable: (UpstreamTrouble.TIMEOUT,)}
    return kind("no", *extra.get(kind, ()))


def test_each_type_has_a_form_of_its_own():
    assert set(_FORMS) == set(STATUSES) == tree()
    for kind in tree():
        answer = seen(made(kind))
        assert answer.status == (504 if kind is UpstreamUnavailable else STATUSES[kind])
        assert answer.type == _FORMS[kind].type
        # Operators find the word of the log in the docs under the code that their clients see.
        assert made(kind).word in (answer.code, answer.type)


def test_a_rejection_keeps_the_status_of_the_upstream():
    assert seen(UpstreamRejected("no", upstream_status=413)).status == 413
    assert seen(UpstreamRejected("no")).status == 400
