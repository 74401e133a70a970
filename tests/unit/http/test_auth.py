"""Who may come in."""

import pytest
from fakes.openai_errors import seen

from gemproxy.config.settings import AccessToken
from gemproxy.core.clients import Client
from gemproxy.core.errors import Unauthorized
from gemproxy.http.auth import TokenAuth
from gemproxy.http.credentials import bearer_token
from gemproxy.secret import Secret

TOKENS = [
    AccessToken("app", Secret("token-of-the-app-0123")),
    AccessToken("curious", Secret("token-of-the-curious"), debug=True),
    AccessToken("umlaut", Secret("schlüssel-für-tests")),
]
ADMIN = Secret("token-of-the-operator")


def auth(*, anonymous=False, **more):
    return TokenAuth(TOKENS, ADMIN, anonymous=anonymous, **more)


def client(auth, header):
    """The client of a request whose only credential is an ``Authorization`` header."""
    return auth.client(None if header is None else bearer_token(header))


def bearer(token):
    return b"Bearer " + token.encode()


def test_a_token_tells_who_comes():
    assert client(auth(), bearer("token-of-the-app-0123")) == Client("app")
    assert client(auth(), bearer("token-of-the-curious")) == Client("curious", debug=True)
    assert client(auth(), bearer("schlüssel-für-tests")) == Client("umlaut")


def test_the_operator_is_a_client_too_and_may_look():
    assert client(auth(), bearer(ADMIN.reveal())) == Client("admin", debug=True, admin=True)


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"token-of-the-app-0123",
        b"Basic token-of-the-app-0123",
        b"Bearer token-of-the-app-012",
        b"Bearer token-of-the-app-01234",
        b"Bearer TOKEN-OF-THE-APP-0123",
        b"Bearer token-of-the-app-0123 token-of-the-app-0123",
        b"Bearer \xff\xfe",
    ],
)
def test_everybody_else_stays_out(header):
    with pytest.raises(Unauthorized) as refused:
        client(auth(), header)
    assert "token-of" not in refused.value.message
    assert seen(refused.value).headers["WWW-Authenticate"] == "Bearer"


def test_where_nobody_needs_a_token_one_that_was_not_seen_before_may_be_a_guess():
    open_auth = TokenAuth([], ADMIN, anonymous=True)
    assert client(open_auth, bearer("unused")) is open_auth.unknown
    assert client(open_auth, bearer("unused")) is not open_auth.unknown
    assert client(open_auth, bearer("another")) is open_auth.unknown
    for header in (None, b"Basic dTpw", bearer(ADMIN.reveal())):
        assert client(open_auth, header) is not open_auth.unknown
    assert not open_auth.unknown.debug
    for number in range(5000):
        client(open_auth, bearer(f"guess-{number}"))
    assert len(open_auth._wrong) <= 1024


@pytest.mark.parametrize(
    "header", [b"bearer token-of-the-app-0123", b" Bearer  token-of-the-app-0123 "]
)
def test_the_schemes_case_and_blanks_do_not_matter(header):
    assert client(auth(), header).name == "app"


def test_the_message_says_whether_the_token_is_missing_or_wrong():
    with pytest.raises(Unauthorized, match="didn't provide"):
        client(auth(), None)
    with pytest.raises(Unauthorized, match="Incorrect"):
        client(auth(), b"Bearer wrong")


@pytest.mark.parametrize("header", [None, b"Basic x"])
def test_anonymous_clients_come_in_where_that_is_allowed(header):
    assert client(auth(anonymous=True), header) == Client()


def test_the_tokens_that_sdks_make_up_do_no_harm_where_there_are_no_tokens():
    open_auth = TokenAuth([], ADMIN, anonymous=True)
    assert client(open_auth, b"Bearer whatever-an-sdk-sends") == Client()


def test_an_unknown_token_is_refused_once_there_are_tokens():
    with pytest.raises(Unauthorized, match="Incorrect"):
        client(auth(anonymous=True), b"Bearer whatever-an-sdk-sends")


def test_a_known_token_is_known_where_anonymous_clients_are_allowed():
    assert client(auth(anonymous=True), bearer("token-of-the-curious")).debug


@pytest.mark.parametrize("anonymous", [False, True])
@pytest.mark.parametrize("token", ["wrong", "token-of-the-app-0123", "token-of-the-curious"])
def test_the_admin_api_takes_the_operators_token_only(anonymous, token):
    with pytest.raises(Unauthorized, match="admin token"):
        auth(anonymous=anonymous).operator(bearer(token))
    with pytest.raises(Unauthorized):
        auth(anonymous=anonymous).operator(None)
    assert auth(anonymous=anonymous).operator(bearer(ADMIN.reveal())).admin


def test_an_open_admin_api_takes_everybody():
    assert auth(admin_open=True).operator(None).admin


def test_without_an_admin_token_nobody_is_the_operator():
    nobody = TokenAuth([], None, anonymous=True)
    with pytest.raises(Unauthorized):
        nobody.operator(b"Bearer ")
