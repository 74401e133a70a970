"""Web pages that an operator's or client's browser shows, and what they cannot make it do here."""

import pytest
from fakes.running import ADMIN_TOKEN, keys_of
from fakes.wire import CHAT, Wire, chat, request, said

EVIL = "http://evil.example"
PROMPT = said("hi")
#: What a browser says of a simple request that a page of another site sends.
CROSS_SITE = {"origin": EVIL, "sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}


def ask(daemon, method, path, body=None, **headers):
    with Wire(daemon) as wire:
        return wire.ask(method, path, body, **headers)


@pytest.fixture(scope="module")
def open_daemon(simulator, tmp_path_factory):
    """Neither clients nor the operator need a token."""
    from fakes.running import RunningDaemon

    running = RunningDaemon(
        tmp_path_factory.mktemp("daemon"),
        simulator.url,
        keys_of("alpha", "beta"),
        proxy={"adminToken": None, "adminAuth": "disabled"},
    )
    yield running
    running.stop()


@pytest.fixture
def seen(simulator):
    """How many requests have come upstream since."""
    before = len(simulator.requests())
    return lambda: len(simulator.requests()) - before


# ---- a page whose name was made to point at this machine ---------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", CHAT),
        ("GET", "/v1/models"),
        ("GET", "/admin/"),
        ("GET", "/admin"),
        ("GET", "/admin/page/page.js"),
        ("GET", "/admin/keys"),
        ("POST", "/admin/keys/alpha/disable"),
        ("POST", "/admin/config/reload"),
        ("GET", "/"),
        ("OPTIONS", CHAT),
        ("HEAD", "/v1/models"),
    ],
)
def test_a_rebound_page_gets_nothing(open_daemon, seen, method, path):
    body = PROMPT if path == CHAT else None
    page = {"host": "evil.example:4806", "origin": "http://evil.example:4806"}
    answer = ask(open_daemon, method, path, body, sec_fetch_site="same-origin", **page)
    assert answer.status == 421
    if method != "HEAD":
        assert answer.error["code"] == "misdirected_request"
    assert answer.headers["x-request-id"]
    assert open_daemon.admin("GET", "keys/", token=None).status == 404
    assert all(key["enabled"] for key in open_daemon.admin("GET", "keys").json["keys"])
    assert seen() == 0


def test_a_token_does_not_help_it(start_daemon, seen):
    daemon = start_daemon(None, proxy={"accessTokens": ["a-token-of-the-clients"]})
    token = {"authorization": "Bearer a-token-of-the-clients"}
    assert ask(daemon, "POST", CHAT, PROMPT, host="evil.example", **token).status == 421
    assert daemon.admin("GET", "keys", host="evil.example").status == 421
    assert ask(daemon, "GET", "/admin/", host="evil.example").status == 421
    assert seen() == 0
    assert ask(daemon, "POST", CHAT, PROMPT, **token).status == 200


def test_probes_are_answered_under_every_name(shared_daemon):
    for path in ("/livez", "/healthz", "/readyz"):
        assert ask(shared_daemon, "GET", path, host="10.1.2.3:4806").status == 200


def test_the_authority_of_the_target_is_what_was_asked(shared_daemon):
    models = "/v1/models"
    assert ask(shared_daemon, "GET", f"http://evil.example{models}").status == 421
    assert ask(shared_daemon, "GET", f"http://localhost{models}", host="evil").status == 200


def test_http_1_0_without_a_host_is_served(shared_daemon):
    with Wire(shared_daemon) as wire:
        wire.send(b"GET /v1/models HTTP/1.0\r\n\r\n")
        assert wire.receive().status == 200


def test_a_host_is_judged_before_the_body_comes(shared_daemon):
    with Wire(shared_daemon) as wire:
        wire.send(request("POST", CHAT, host="evil.example", content_length="9000"))
        assert wire.receive().status == 421
    with Wire(shared_daemon) as wire:
        wire.send(request("POST", CHAT, host="evil.example", transfer_encoding="chunked"))
        assert wire.receive().status == 421


def test_a_refused_request_does_not_end_the_connection(shared_daemon):
    with Wire(shared_daemon) as wire:
        for host, status in (("evil.example", 421), ("localhost", 200), ("evil.example", 421)):
            assert wire.ask("POST", CHAT, PROMPT, host=host).status == status


def test_names_come_and_go_with_a_reload(start_daemon):
    daemon = start_daemon(None)
    assert ask(daemon, "POST", CHAT, PROMPT, host="gw.example").status == 421
    daemon.configure(keys_of("alpha", "beta"), proxy={"allowedHosts": ["gw.example"]})
    assert daemon.reload().status == 200
    assert ask(daemon, "POST", CHAT, PROMPT, host="GW.example:443").status == 200
    assert ask(daemon, "GET", "/admin/", host="gw.example").status == 200
    daemon.configure(keys_of("alpha", "beta"))
    assert daemon.reload().status == 200
    assert ask(daemon, "POST", CHAT, PROMPT, host="gw.example").status == 421


def test_an_admin_listener_answers_for_its_own_names_only(start_daemon):
    daemon = start_daemon(None, proxy={"adminEndpoint": "tcp:port=0:interface=127.0.0.1"})
    assert daemon.admin("GET", "keys", host="evil.example").status == 421
    assert daemon.admin("GET", "keys").status == 200


def test_a_unix_socket_has_no_names(start_daemon, tmp_path):
    daemon = start_daemon(None, proxy={"endpoint": f"unix:{tmp_path}/public.sock"})
    with Wire(daemon, place=daemon.address) as wire:
        assert wire.ask("POST", CHAT, PROMPT, host="any.example").status == 200


def test_a_public_listener_has_names_where_they_are_given(start_daemon):
    token = {"authorization": "Bearer a-token-of-the-clients"}
    public = {"endpoint": "tcp:0:interface=0.0.0.0", "accessTokens": ["a-token-of-the-clients"]}
    daemon = start_daemon(None, proxy=public)
    assert ask(daemon, "POST", CHAT, PROMPT, host="any.example", **token).status == 200
    daemon = start_daemon(None, proxy={**public, "allowedHosts": ["gw.example"]})
    assert ask(daemon, "POST", CHAT, PROMPT, host="gw.example", **token).status == 200
    assert ask(daemon, "POST", CHAT, PROMPT, host="10.0.0.1", **token).status == 200
    assert ask(daemon, "POST", CHAT, PROMPT, host="any.example", **token).status == 421


# ---- a page that sends what every page may send ------------------------------------------------


@pytest.mark.parametrize(
    "page",
    [
        CROSS_SITE,
        {"origin": EVIL},
        {"origin": "null"},
        {"origin": "http://localhost:3000"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site", "origin": "http://localhost:3000"},
    ],
)
def test_a_page_of_another_site_spends_no_quota_and_changes_nothing(open_daemon, seen, page):
    body = b'{"model":"gemini-3.8-flash","messages":[{"role":"user","content":"hi"}]}'
    with Wire(open_daemon) as wire:
        for kind in ("text/plain", "application/json"):
            answer = wire.ask("POST", CHAT, body, content_type=kind, **page)
            assert answer.status == 403
            assert answer.error["code"] == "forbidden"
            assert not [name for name in answer.headers if name.startswith("access-control")]
        for method, path in (
            ("GET", "/v1/models"),
            ("GET", "/v1/models/gemini-3.8-flash"),
            ("OPTIONS", "/admin/keys"),
            ("POST", "/admin/keys/alpha/disable"),
            ("POST", "/admin/config/reload"),
            ("GET", "/admin/keys"),
            ("GET", "/admin/requests"),
            ("GET", "/admin/metrics"),
        ):
            assert wire.ask(method, path, **page).status == 403
        preflight = wire.ask("OPTIONS", CHAT, access_control_request_method="POST", **page)
        assert preflight.status == 405
        assert not [name for name in preflight.headers if name.startswith("access-control")]
    assert seen() == 0
    assert all(key["enabled"] for key in open_daemon.admin("GET", "keys").json["keys"])


def test_its_own_page_and_programs_are_served(open_daemon):
    own = {"origin": open_daemon.url, "host": open_daemon.address, "sec_fetch_site": "same-origin"}
    assert ask(open_daemon, "POST", CHAT, PROMPT, **own).status == 200
    assert ask(open_daemon, "POST", "/admin/keys/alpha/enable", **own).status == 200
    assert chat(open_daemon).status == 200


def test_where_tokens_are_asked_for_the_token_counts(start_daemon):
    daemon = start_daemon(None, proxy={"accessTokens": ["a-token-of-the-clients"]})
    token = {"authorization": "Bearer a-token-of-the-clients"}
    assert ask(daemon, "POST", CHAT, PROMPT, **CROSS_SITE, **token).status == 200
    assert ask(daemon, "POST", CHAT, PROMPT, **CROSS_SITE).status == 401
    assert daemon.admin("GET", "keys", token=ADMIN_TOKEN, **CROSS_SITE).status == 200


def test_pages_that_the_operator_named_may_call(start_daemon):
    daemon = start_daemon(None, proxy={"corsOrigins": ["https://app.example"]})
    page = {"origin": "https://app.example", "sec_fetch_site": "cross-site"}
    asked = {"access_control_request_method": "POST"}
    preflight = ask(daemon, "OPTIONS", CHAT, **page, **asked)
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    answer = ask(daemon, "POST", CHAT, PROMPT, **page)
    assert answer.status == 200
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"x-request-id", "retry-after", "x-should-retry"} <= set(exposed)
    # The SDK of Gemini reads these in its uploads.
    for name in ("url", "control-url", "status", "size-received", "chunk-granularity"):
        assert f"x-goog-upload-{name}" in exposed
    foreign = ask(daemon, "OPTIONS", CHAT, **CROSS_SITE, **asked)
    assert "access-control-allow-origin" not in foreign.headers


def test_a_refused_page_is_told_of_in_the_log(start_daemon):
    daemon = start_daemon(None)
    ask(daemon, "POST", CHAT, PROMPT, x_request_id="cross-1", **CROSS_SITE)
    ask(daemon, "POST", CHAT, PROMPT, x_request_id="rebound-1", host="evil.example")
    assert daemon.request_line("cross-1")["status"] == 403
    assert daemon.request_line("rebound-1")["outcome"] == "misdirected_request"


# ---- what JSON is ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (None, "missing"),
        ("", "missing"),
        ("text/plain", "text/plain"),
        ("text/plain; x=application/json", "text/plain"),
        ("application/x-www-form-urlencoded", "form"),
        ("multipart/form-data; boundary=x", "form"),
        ("application/jsonp", "jsonp"),
        ("text/plain, application/json", "text/plain"),
        ("application/json; charset=iso-8859-1", "iso-8859-1"),
        ('application/json; charset="UTF-16"', "utf-16"),
    ],
)
def test_a_body_that_is_not_said_to_be_json_is_refused(shared_daemon, seen, kind, words):
    headers = {} if kind is None else {"content_type": kind}
    content = b'{"model":"gemini-3.8-flash","messages":[{"role":"user","content":"hi"}]}'
    head = request("POST", CHAT, content_length=str(len(content)), **headers)
    with Wire(shared_daemon) as wire:
        wire.send(head + content)
        answer = wire.receive()
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert "application/json" in answer.error["message"] or "UTF-8" in answer.error["message"]
    assert words in answer.error["message"]
    assert seen() == 0


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        'application/json ; charset="utf-8"; v=1',
        "application/vnd.openai+json",
    ],
)
def test_json_is_taken_by_all_its_names(shared_daemon, kind):
    assert ask(shared_daemon, "POST", CHAT, PROMPT, content_type=kind).status == 200


def test_the_operator_says_json_where_there_is_a_body(shared_daemon):
    with Wire(shared_daemon) as wire:
        token = {"authorization": f"Bearer {ADMIN_TOKEN}"}
        head = request("PUT", "/admin/keys/alpha/weight", content_length="12", **token)
        wire.send(head + b'{"weight": 1}'[:12])
        answer = wire.receive()
        assert answer.status == 400
        assert "Content-Type" in answer.error["message"]
        assert wire.ask("POST", "/admin/keys/alpha/reset", **token).status == 200
