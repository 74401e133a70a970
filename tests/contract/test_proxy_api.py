"""The public API against its contract: shapes of bodies, headers, and how connections are kept."""

import json
import re

import pytest
import yaml
from fakes.running import ADMIN_TOKEN, REPOSITORY, keys_of
from fakes.wire import CHAT, Wire, ask, chat, request, said
from jsonschema import Draft202012Validator

CONTRACT = REPOSITORY.parent / "shared" / "contracts" / "proxy-api.yaml"
ORIGIN = "https://pages.example"


@pytest.fixture(scope="module")
def daemon(shared_daemon):
    return shared_daemon


@pytest.fixture
def fits():
    """``fits(answer, path, method)``: the answer is what the contract says of its status."""
    if not CONTRACT.is_file():
        pytest.skip(f"the contract is not beside this repository: {CONTRACT}")
    contract = yaml.safe_load(CONTRACT.read_text())

    def check(answer, path=CHAT, method="post"):
        responses = contract["paths"][path][method]["responses"]
        response = resolved(contract, responses[str(answer.status)])
        kind = answer.headers["content-type"].partition(";")[0]
        schema = {**response["content"][kind]["schema"], "components": contract["components"]}
        Draft202012Validator(schema).validate(answer.json)
        for name, header in response.get("headers", {}).items():
            assert name.lower() in answer.headers
            value = answer.headers[name.lower()]
            is_number = header["schema"]["type"] == "integer"
            Draft202012Validator(header["schema"]).validate(int(value) if is_number else value)

    return check


def resolved(contract, node):
    if "$ref" not in node:
        return node
    for step in node["$ref"].removeprefix("#/").split("/"):
        contract = contract[step]
    return contract


# -- every status has the contract's shape ---------------------------------------------------------


def test_answers_fit_the_contract(daemon, fits):
    fits(chat(daemon))
    fits(ask(daemon, "GET", "/v1/models"), "/v1/models", "get")
    fits(ask(daemon, "GET", "/v1/models/gemini-3.8-flash"), "/v1/models/{model}", "get")


def test_refusals_fit_the_contract(daemon, fits):
    for expected, answer in [
        (400, ask(daemon, "POST", CHAT, b"{")),
        (404, ask(daemon, "POST", CHAT, said("hi", "gemini-0-nothing"))),
        (413, ask(daemon, "POST", CHAT, None, content_length="99999999")),
    ]:
        assert answer.status == expected
        assert answer.error
        fits(answer)
    unknown = ask(daemon, "GET", "/v1/models/gemini-0-nothing")
    assert unknown.status == 404
    fits(unknown, "/v1/models/{model}", "get")


def test_refusals_of_strangers_fit_the_contract(start_daemon, fits):
    daemon = start_daemon(None, proxy={"accessTokens": ["a-client-token-for-the-tests"]})
    answer = chat(daemon)
    assert answer.status == 401
    fits(answer)
    fits(ask(daemon, "GET", "/v1/models"), "/v1/models", "get")
    fits(ask(daemon, "GET", "/v1/models/m"), "/v1/models/{model}", "get")


@pytest.mark.parametrize(
    ("behaviour", "status", "kind", "code"),
    [
        ("rate-limited-minute", 429, "rate_limit_error", "rate_limit_exceeded"),
        ("rate-limited-day", 429, None, "insufficient_quota"),
        ("reset", 502, "server_error", "upstream_error"),
        ("invalid", 503, "server_error", "no_healthy_keys"),
        ("overloaded", 503, "server_error", None),
        ("hang", 504, "server_error", "upstream_timeout"),
    ],
)
def test_failures_of_the_upstream_fit_the_contract(
    start_daemon, simulator, fits, behaviour, status, kind, code
):
    simulator.behave_all(behaviour)
    timeouts = {"baseUrl": simulator.url, "firstByteTimeoutSeconds": 0.3}
    daemon = start_daemon(keys_of("alpha"), upstream=timeouts, retry={"maxAttempts": 1})
    answer = chat(daemon)
    assert answer.status == status
    assert kind in {None, answer.error["type"]}
    assert code in {None, answer.error["code"]}
    fits(answer)


# -- headers of every answer -----------------------------------------------------------------------


def every_kind_of_answer(daemon):
    yield chat(daemon)
    yield ask(daemon, "POST", CHAT, said("hi", stream=True))
    yield ask(daemon, "POST", CHAT, b"{")
    yield ask(daemon, "POST", CHAT, None, content_length="99999999")
    yield ask(daemon, "GET", "/v1/models")
    yield ask(daemon, "GET", "/nowhere")
    yield ask(daemon, "DELETE", "/v1/models")
    yield ask(daemon, "GET", "/admin/health")
    yield ask(daemon, "GET", "/%ff")
    yield ask(daemon, "GET", "/livez")
    yield ask(daemon, "GET", "/readyz")


def test_every_answer_has_an_id_a_time_and_its_attempts(daemon):
    seen = set()
    for answer in every_kind_of_answer(daemon):
        seen.add(answer.headers["x-request-id"])
        assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
        assert re.fullmatch(r"\d+", answer.headers["openai-processing-ms"])
        assert re.fullmatch(r"\d+", answer.headers["x-gemproxy-attempts"])
        assert answer.headers["server"] == "gemproxy"
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", answer.headers["date"])
        assert "x-gemproxy-key" not in answer.headers
    assert len(seen) == 11


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "x" * 128])
def test_a_proper_request_id_is_kept(daemon, given):
    assert chat(daemon, x_request_id=given).headers["x-request-id"] == given
    assert ask(daemon, "GET", "/nowhere", x_request_id=given).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a/b", "a;b", "\xe9", "a\tb"])
def test_an_improper_request_id_is_replaced(daemon, given):
    assert chat(daemon, x_request_id=given).headers["x-request-id"].startswith("req_")


def test_the_id_stands_in_the_log_line(daemon):
    chat(daemon, x_request_id="find-me-in-the-log")
    line = daemon.request_line("find-me-in-the-log")
    assert (line["status"], line["attempts"], line["route"]) == (200, 1, CHAT)


def test_attempts_are_counted(start_daemon, simulator):
    daemon = start_daemon(keys_of("alpha", "beta"))
    simulator.behave("alpha", "overloaded")
    attempts = {chat(daemon).headers["x-gemproxy-attempts"] for _ in range(4)}
    assert attempts == {"1", "2"}
    assert ask(daemon, "POST", CHAT, b"{").headers["x-gemproxy-attempts"] == "0"


def test_processing_time_is_the_proxys_and_the_upstreams(start_daemon, simulator):
    daemon = start_daemon(keys_of("alpha"))
    simulator.behave("alpha", "slow", parameters={"delay": 0.3})
    assert 300 <= int(chat(daemon).headers["openai-processing-ms"]) < 10_000


# -- connections -----------------------------------------------------------------------------------


def test_one_connection_serves_answers_and_errors_in_turn(daemon):
    with Wire(daemon) as wire:
        for body, status in [(said("a"), 200), (b"{", 400), (said("b"), 200), (b"[]", 400)]:
            answer = wire.ask("POST", CHAT, body)
            assert answer.status == status
            assert "connection" not in answer.headers
        assert wire.ask("GET", "/nowhere").status == 404
        assert wire.ask("DELETE", "/v1/models").status == 405
        assert wire.ask("GET", "/livez").status == 200


def test_pipelined_requests_are_answered_in_their_order(daemon):
    with Wire(daemon) as wire:
        wire.send(
            b"".join(
                [
                    request("POST", CHAT, said("one", stream=True), x_request_id="first"),
                    request("GET", "/nowhere", x_request_id="second"),
                    request("POST", CHAT, said("three"), x_request_id="third"),
                    request("POST", CHAT, b"{", x_request_id="fourth"),
                    request("GET", "/livez", x_request_id="fifth", connection="close"),
                    request("GET", "/livez", x_request_id="after the close"),
                ]
            )
        )
        answers = [wire.receive() for _ in range(5)]
        assert wire.rest() == b""
    assert [answer.headers["x-request-id"] for answer in answers] == [
        *("first", "second", "third", "fourth", "fifth")
    ]
    assert [answer.status for answer in answers] == [200, 404, 200, 400, 200]
    assert answers[0].body.endswith(b"data: [DONE]\n\n")


def test_a_request_that_comes_byte_by_byte_is_served(daemon):
    with Wire(daemon) as wire:
        sent = request("POST", CHAT, said("hi"))
        for place in range(len(sent)):
            wire.send(sent[place : place + 1])
        assert wire.receive().status == 200


def test_a_chunked_body_is_read(daemon):
    body = json.dumps(said("hi")).encode()
    pieces = [body[:10], body[10:40], body[40:]]
    chunks = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    with Wire(daemon) as wire:
        wire.send(request("POST", CHAT, transfer_encoding="chunked", content_type="a/b+json"))
        wire.send(chunks + b"0\r\nTrailer: x\r\n\r\n")
        assert wire.receive().status == 200
        assert wire.ask("GET", "/livez").status == 200


def test_connection_close_is_obeyed(daemon):
    for body in (said("hi"), said("hi", stream=True), b"{"):
        with Wire(daemon) as wire:
            answer = wire.ask("POST", CHAT, body, connection="close")
            assert answer.headers["connection"] == "close"
            assert wire.rest() == b""


def test_a_client_of_http_1_0_gets_whole_answers_and_then_the_end(daemon):
    with Wire(daemon) as wire:
        answer = wire.ask("POST", CHAT, said("hi"), version="HTTP/1.0")
        assert answer.status == 200
        assert answer.json["object"] == "chat.completion"
        assert wire.rest() == b""


def test_a_client_of_http_1_0_gets_a_stream_without_chunks(daemon):
    with Wire(daemon) as wire:
        answer = wire.ask("POST", CHAT, said("hi", stream=True), version="HTTP/1.0")
        assert "transfer-encoding" not in answer.headers
        assert answer.headers["connection"] == "close"
        assert answer.body.startswith(b"data: {")
        assert answer.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("path", ["/v1/models", "/livez", "/readyz", "/nowhere", CHAT])
def test_head_has_the_headers_of_get_and_no_body(daemon, path):
    with Wire(daemon) as wire:
        got = wire.ask("GET", path)
        head = wire.ask("HEAD", path)
        assert head.status == got.status
        if got.status == 200:
            assert head.headers["content-length"] == got.headers["content-length"]
        assert wire.ask("GET", "/livez").body == b'{"status":"live"}'


def test_a_stream_has_the_headers_that_keep_it_flowing(daemon):
    answer = ask(daemon, "POST", CHAT, said("hi", stream=True))
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["transfer-encoding"] == "chunked"


# -- what the upstream gets ------------------------------------------------------------------------


def test_the_clients_headers_stay_here(start_daemon, simulator):
    daemon = start_daemon(keys_of("alpha"))
    private = {
        "authorization": "Bearer something-private",
        "cookie": "something-private=1",
        "x_goog_api_key": "something-private",
        "x_forwarded_for": "192.0.2.77",
        "openai_organization": "something-private",
    }
    assert chat(daemon, **private).status == 200
    (seen,) = simulator.requests()
    assert seen["key"] == "alpha"
    assert "something-private" not in str(seen)
    assert "192.0.2.77" not in str(seen)


# -- browsers --------------------------------------------------------------------------------------


def preflight(daemon, origin, path=CHAT):
    return ask(
        daemon,
        "OPTIONS",
        path,
        origin=origin,
        access_control_request_method="POST",
        access_control_request_headers="authorization,content-type,x-stainless-lang",
    )


def test_pages_of_named_origins_may_ask_and_no_others(start_daemon):
    daemon = start_daemon(None, proxy={"corsOrigins": [ORIGIN], "accessTokens": ["t" * 20]})
    allowed = preflight(daemon, ORIGIN)
    assert allowed.status == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert allowed.headers["access-control-allow-methods"] == "POST"
    assert "x-stainless-lang" in allowed.headers["access-control-allow-headers"]
    assert allowed.headers["vary"] == "Origin"
    assert preflight(daemon, ORIGIN, "/v1/models").headers["access-control-allow-methods"] == "GET"

    for stranger in (
        "https://elsewhere.example",
        f"{ORIGIN}.evil.example",
        "null",
        "http" + ORIGIN[5:],
    ):
        assert "access-control-allow-origin" not in preflight(daemon, stranger).headers
        assert "access-control-allow-origin" not in chat(daemon, origin=stranger).headers

    # An answer that the page may not read looks like a broken network to it.
    refused = chat(daemon, origin=ORIGIN)
    assert refused.status == 401
    assert refused.headers["access-control-allow-origin"] == ORIGIN
    assert "x-request-id" in refused.headers["access-control-expose-headers"]


def test_without_named_origins_no_page_may_ask(daemon):
    assert preflight(daemon, ORIGIN).status == 405
    assert "access-control-allow-origin" not in chat(daemon, origin=ORIGIN).headers


# -- probes and the admin's door -------------------------------------------------------------------


def test_probes_ask_for_nothing_and_tell_little(start_daemon):
    daemon = start_daemon(None, proxy={"accessTokens": ["a-client-token-for-the-tests"]})
    for path, told in [("/livez", "live"), ("/healthz", "live"), ("/readyz", "ready")]:
        answer = ask(daemon, "GET", path)
        assert answer.status == 200
        assert answer.json == {"status": told}
        assert b"alpha" not in answer.head + answer.body


def test_not_ready_while_every_key_is_disabled(start_daemon):
    daemon = start_daemon(keys_of("alpha", "beta", enabled=False))
    answer = ask(daemon, "GET", "/readyz")
    assert answer.status == 503
    assert b"alpha" not in answer.head + answer.body
    assert ask(daemon, "GET", "/livez").status == 200
    refused = chat(daemon)
    assert (refused.status, refused.error["code"]) == (503, "no_healthy_keys")


def test_not_ready_while_every_breaker_is_open(start_daemon, simulator):
    daemon = start_daemon(keys_of("alpha", "beta"))
    assert ask(daemon, "GET", "/readyz").status == 200
    simulator.behave_all("invalid")
    refused = chat(daemon)
    assert (refused.status, refused.error["code"]) == (503, "no_healthy_keys")
    assert int(refused.headers["retry-after"]) >= 1
    assert ask(daemon, "GET", "/readyz").status == 503
    assert ask(daemon, "GET", "/livez").status == 200


#: Ten wrong tokens from one address would lock it out.
ADMINS_SOURCES = {
    "GET": "127.0.0.2",
    "POST": "127.0.0.3",
    "PUT": "127.0.0.4",
    "DELETE": "127.0.0.5",
}
#: The dashboard's page holds no data and may be read by everybody.
FOR_EVERYBODY = {("GET", "/admin"), ("GET", "/admin/")}


@pytest.mark.parametrize(
    ("method", "source", "path"),
    [
        (method, source, path)
        for method, source in ADMINS_SOURCES.items()
        for path in ("/admin", "/admin/", "/admin/keys", "/admin/no/such/thing")
        if (method, path) not in FOR_EVERYBODY
    ],
)
def test_the_admins_door_asks_for_the_token_before_anything_else(daemon, path, method, source):
    for headers in ({}, {"authorization": "Bearer wrong"}, {"x_forwarded_for": "127.0.0.1"}):
        with Wire(daemon, source=source) as wire:
            answer = wire.ask(method, path, **headers)
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")


def test_the_page_is_all_that_is_told_without_the_token(daemon):
    page = ask(daemon, "GET", "/admin/", authorization="Bearer wrong")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert ask(daemon, "GET", "/admin").headers["location"] == "admin/"


def test_behind_the_admins_door_an_unknown_path_is_not_found(daemon):
    answer = ask(daemon, "GET", "/admin/no/such/thing", authorization=f"Bearer {ADMIN_TOKEN}")
    assert answer.status == 404
