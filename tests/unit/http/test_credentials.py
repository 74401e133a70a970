"""The four ways to send a token, and that none of them is passed on."""

import pytest

from gemproxy.http.credentials import SEVERAL, take_token, without_credentials
from gemproxy.http.http1 import read_head
from gemproxy.http.request import ProxyRequest


def request(target=b"/v1/models", *headers):
    lines = b"".join(each + b"\r\n" for each in headers)
    return ProxyRequest(None, read_head(b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (target, lines)))


BEARER, ANTHROPIC, GOOGLE = b"Authorization: Bearer T", b"x-api-key: T", b"X-Goog-Api-Key:  T "


@pytest.mark.parametrize(
    "asked",
    [
        request(b"/", BEARER),
        request(b"/", ANTHROPIC),
        request(b"/", GOOGLE),
        request(b"/?key=T"),
        request(b"/?a=b&key=T&c"),
        request(b"/?%6Bey=%54"),
        request(b"/?key=T", BEARER, ANTHROPIC, GOOGLE),
        request(b"/?key=", BEARER, b"x-api-key:"),
        request(b"/", b"Authorization: Basic dTpw", GOOGLE),
        request(b"/", BEARER, BEARER),
    ],
)
def test_the_token_of_a_request(asked):
    assert take_token(asked._head) == b"T"
    assert not {b"authorization", b"x-api-key", b"x-goog-api-key"} & set(asked.values)
    assert asked.header(b"x-api-key") is None
    assert b"T" not in asked.query


@pytest.mark.parametrize(
    "asked",
    [
        request(b"/", BEARER, b"x-api-key: U"),
        request(b"/", GOOGLE, b"x-api-key: U"),
        request(b"/?key=U", GOOGLE),
        request(b"/?key=T&key=U"),
    ],
)
def test_two_tokens_that_differ(asked):
    assert take_token(asked._head) == SEVERAL


@pytest.mark.parametrize("header", [BEARER, ANTHROPIC, GOOGLE])
def test_a_header_with_two_tokens_holds_no_valid_one(header):
    """It comes twice; the value is both."""
    other = header.replace(b"T", b"U")
    assert take_token(request(b"/", header, other)._head) not in (b"T", b"U", None)


@pytest.mark.parametrize(
    "asked", [request(), request(b"/?monkey=T"), request(b"/", b"Authorization: T")]
)
def test_no_token(asked):
    assert take_token(asked._head) is None


def test_a_query_without_credentials():
    assert without_credentials(b"alt=sse&key=T&pageSize=%31&$key=T&flag") == (
        b"alt=sse&pageSize=%31&flag"
    )
    assert without_credentials(b"access_token=T&%6bey=T&%24access_token=T") == b""
    assert without_credentials(b"") == b""


def test_what_a_log_would_show_of_a_request():
    assert repr(request(b"/v1/models?key=T", BEARER)) == "<ProxyRequest refused>"
