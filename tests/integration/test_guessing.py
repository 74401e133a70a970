"""Who guesses tokens, at either API, and those who come from the same address."""

import pytest
from fakes.running import ADMIN_TOKEN, eventually
from fakes.wire import CHAT, Wire, said

TOKEN = "a-token-of-the-clients"


@pytest.fixture
def daemon(start_daemon):
    return start_daemon(None, proxy={"accessTokens": [TOKEN]})


def ask(daemon, token, source="127.0.0.1", path="/v1/models", method="GET", body=None, **headers):
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    with Wire(daemon, source=source) as wire:
        return wire.ask(method, path, body, **headers)


def guess(daemon, times=10, source="127.0.0.1", **more):
    return [ask(daemon, f"guess-{n}", source, **more).status for n in range(times)]


def test_the_eleventh_wrong_token_of_a_minute_gets_429(daemon):
    assert guess(daemon) == [401] * 10
    answer = ask(daemon, "guess-10")
    assert answer.status == 429
    assert answer.error["code"] == "too_many_wrong_tokens"
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert answer.headers["x-should-retry"] == "false"
    # The right one is served, at both doors, and who forgot his is told so.
    assert ask(daemon, TOKEN).status == 200
    assert ask(daemon, ADMIN_TOKEN).status == 200
    assert ask(daemon, None).status == 401
    assert daemon.admin("GET", "keys").status == 200
    # Another address is not concerned.
    assert ask(daemon, "guess", "127.0.0.2").status == 401


def test_the_admin_token_cannot_be_tried_at_the_other_door(daemon):
    guess(daemon, 5, method="POST", path=CHAT, body=said("hi"))
    for n in range(5):
        assert daemon.admin("GET", "keys", token=f"guess-{n}").status == 401
    assert daemon.admin("GET", "keys", token="guess").status == 429
    assert ask(daemon, "guess").status == 429
    assert daemon.admin("GET", "keys").status == 200


def test_a_missing_token_is_no_wrong_one(daemon):
    for _ in range(15):
        assert ask(daemon, None).status == 401
        assert ask(daemon, None, authorization="Basic b3A6b3A=").status == 401
    assert ask(daemon, "guess").status == 401


def test_an_anonymous_client_may_send_what_its_sdk_makes_it_send(start_daemon):
    daemon = start_daemon(None)
    for _ in range(15):
        assert ask(daemon, "unused").status == 200
    assert daemon.admin("GET", "keys", token="typed-wrong").status == 401
    # Who sends another one each time is served too, but tries the admin token at the same time.
    assert guess(daemon, 15) == [200] * 15
    assert daemon.admin("GET", "keys", token="guess").status == 429
    assert daemon.admin("GET", "keys").status == 200
    assert daemon.metric("gemproxy_auth_failures_total", api="public") in {None, 0}


def test_all_are_counted_and_the_address_is_logged(daemon):
    guess(daemon, 12, "127.0.0.3")
    assert daemon.metric("gemproxy_auth_failures_total", api="public") == 12
    event = eventually(
        lambda: [e for e in daemon.events() if "locked out" in e["event"]],
    )[0]
    assert event["address"] == "127.0.0.3"
    assert "guess-9" not in daemon.output


def test_behind_a_trusted_proxy_it_is_the_clients_address(start_daemon):
    daemon = start_daemon(None, proxy={"accessTokens": [TOKEN], "trustedProxies": ["127.0.0.9/32"]})
    proxy, client = "127.0.0.9", {"x_forwarded_for": "6.6.6.6, 192.0.2.1"}
    assert guess(daemon, 10, proxy, **client) == [401] * 10
    assert ask(daemon, "guess", proxy, **client).status == 429
    assert ask(daemon, "guess", proxy, x_forwarded_for="192.0.2.2").status == 401
    # Who is no trusted proxy has the address that he comes from.
    assert ask(daemon, "guess", "127.0.0.8", **client).status == 401
    disable = {"source": proxy, "x_forwarded_for": "192.0.2.77"}
    assert daemon.admin("POST", "keys/alpha/disable", **disable).status == 200
    (event,) = eventually(
        lambda: [e for e in daemon.events() if e.get("action") == "key.disable"],
    )
    assert event["address"] == "192.0.2.77"


def test_a_flood_of_refused_requests_wipes_no_explanation(daemon):
    assert ask(daemon, TOKEN, x_request_id="real").status == 200
    with Wire(daemon) as wire:
        for n in range(600):
            wire.ask("GET", "/v1/models", x_request_id=f"anonymous-{n}")
        wire.ask("GET", "/v1/models", x_request_id="real")
        wire.ask("GET", "/v1/models", host="evil.example", x_request_id="rebound")
    explained = daemon.admin("GET", "requests/real")
    assert explained.json["request"]["status"] == 200
    assert daemon.admin("GET", "requests/anonymous-599").json["request"]["status"] == 401
    assert daemon.admin("GET", "requests/rebound").json["request"]["status"] == 421
    assert daemon.metric("gemproxy_auth_failures_total", api="public") == 601
    listed = [each["id"] for each in daemon.admin("GET", "requests?limit=10").json["requests"]]
    assert "real" in listed
