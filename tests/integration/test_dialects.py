"""Three dialects on one port: refusals in the client's own form, and four ways to send a token."""

import json

import pytest
from fakes.running import ADMIN_TOKEN
from fakes.wire import Wire, request, said

TOKEN = "a-token-of-the-clients"
MODEL = "gemini-3.8-flash"
NATIVE = f"/v1beta/models/{MODEL}:generateContent"
ARRAY = f"/v1/models/{MODEL}:streamGenerateContent"
PATHS = {
    "/v1/chat/completions": "openai",
    "/v1/responses": "openai",
    "/v1/embeddings": "openai",
    NATIVE: "gemini",
    f"{ARRAY}?alt=sse": "gemini",
    ARRAY: "array",
    "/v1/messages": "anthropic",
    "/v1/messages/count_tokens": "anthropic",
}
RIGHT = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def guarded(simulator, tmp_path_factory):
    from fakes.running import RunningDaemon, keys_of

    running = RunningDaemon(
        tmp_path_factory.mktemp("daemon"),
        simulator.url,
        keys_of("alpha"),
        proxy={
            "accessTokens": [TOKEN],
            "maxPayloadSize": 5000,
            "corsOrigins": ["https://page.example"],
        },
        logging={"level": "debug"},
    )
    yield running
    assert running.stop() == 0
    assert TOKEN not in running.output
    assert "key=" not in running.output


def form(answer):
    """The dialect in which an answer is a correct error, with its status in it."""
    body, headers = answer.json, answer.headers
    assert headers["x-request-id"]
    assert headers["content-type"] == "application/json"
    if isinstance(body, list):
        (body,) = body
        assert body["error"]["code"] == answer.status
        return "array"
    if body.get("type") == "error":
        assert set(body["error"]) == {"type", "message"}
        assert body["request_id"] == headers["request-id"] == headers["x-request-id"]
        return "anthropic"
    assert "request-id" not in headers
    if "status" in body["error"]:
        assert body["error"]["code"] == answer.status
        return "gemini"
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return "openai"


def ask(daemon, method, path, body=None, source=None, **headers):
    with Wire(daemon, source=source) as wire:
        return wire.ask(method, path, body, **headers)


@pytest.mark.parametrize(("path", "dialect"), PATHS.items())
def test_each_refusal_has_the_form_of_its_dialect(guarded, path, dialect):
    wrong_host = {"host": "elsewhere.example", **RIGHT}
    plain = {"content_type": "text/plain", **RIGHT}
    refusals = [
        (400, ask(guarded, "POST", path, b"{", **RIGHT)),
        (400, ask(guarded, "POST", path, said("hi"), **plain)),
        (400, ask(guarded, "POST", path, b"x", content_length="1, 2")),
        (401, ask(guarded, "POST", path, said("hi"))),
        (401, ask(guarded, "POST", path, said("hi"), x_api_key="wrong", **RIGHT)),
        (405, ask(guarded, "DELETE", path, **RIGHT)),
        (413, ask(guarded, "POST", path, b"x" * 6000, **RIGHT)),
        (421, ask(guarded, "POST", path, said("hi"), **wrong_host)),
    ]
    assert [(answer.status, form(answer)) for _, answer in refusals] == [
        (status, dialect) for status, _ in refusals
    ]


@pytest.mark.parametrize(
    ("path", "headers", "dialect"),
    [
        ("/v1/nothing", {}, "openai"),
        ("/v1/nothing", {"x_goog_api_client": "google-genai-sdk/3.6.1"}, "gemini"),
        ("/v1/nothing", {"anthropic_version": "2023-06-01"}, "anthropic"),
        ("/v1beta/nothing", {}, "gemini"),
        ("/v1/messages/nothing", {}, "anthropic"),
        (f"/v1/models/{MODEL}x", {"x_goog_api_client": "x"}, "gemini"),
    ],
)
def test_what_is_not_there_is_404_in_the_form_of_the_dialect(guarded, path, headers, dialect):
    answer = ask(guarded, "GET", path, **RIGHT, **headers)
    assert (answer.status, form(answer)) == (404, dialect)


@pytest.mark.parametrize("path", ["/v1/moderations", "/v1/fine_tuning/jobs", "/v1/completions"])
def test_a_known_route_that_is_not_offered_says_why(guarded, path):
    answer = ask(guarded, "POST", path, {"input": "hi"}, **RIGHT)
    assert (answer.status, answer.error["code"]) == (404, "unsupported_endpoint")
    assert "/v1/" in answer.error["message"]


@pytest.mark.parametrize(
    ("path", "native"),
    [("/v1/files", "/upload/v1beta/files"), ("/v1/batches", "/v1beta/batches")],
)
def test_a_route_that_is_not_offered_names_geminis_own(guarded, path, native):
    answer = ask(guarded, "POST", path, {"input": "hi"}, **RIGHT)
    assert (answer.status, answer.error["code"]) == (404, "unsupported_endpoint")
    assert native in answer.error["message"]


WAYS = {
    "bearer": ("", {"authorization": "Bearer {}"}),
    "anthropic": ("", {"x_api_key": "{}"}),
    "google": ("", {"x_goog_api_key": "{}"}),
    "query": ("?key={}", {}),
}


def by(way, token):
    query, headers = WAYS[way]
    return query.format(token), {name: value.format(token) for name, value in headers.items()}


@pytest.mark.parametrize("way", WAYS)
def test_a_token_is_accepted_in_four_ways_on_every_path(guarded, simulator, way):
    simulator.reset()
    query, headers = by(way, TOKEN)
    for path in ("/v1/chat/completions", NATIVE, "/v1/messages"):
        body = {**said("hi", MODEL), "max_tokens": 100}
        if path == NATIVE:
            body = {"contents": [{"parts": [{"text": "hi"}]}]}
        assert ask(guarded, "POST", path + query, body, **headers).status == 200
    assert ask(guarded, "GET", f"/v1/models{query}", **headers).status == 200
    seen = json.dumps(simulator.requests()).lower()
    assert TOKEN not in seen
    assert "x-api-key" not in seen


@pytest.mark.parametrize("way", WAYS)
def test_wrong_tokens_lock_an_address_out_whichever_way_they_come(guarded, way):
    source = f"127.0.3.{list(WAYS).index(way) + 1}"
    statuses = []
    for number in range(11):
        query, headers = by(way, f"guess-{number}")
        answer = ask(guarded, "POST", NATIVE + query, {}, source, **headers)
        statuses.append(answer.status)
        assert form(answer) == "gemini"
    assert statuses == [401] * 10 + [429]
    query, headers = by(way, TOKEN)
    assert ask(guarded, "GET", f"/v1/models{query}", None, source, **headers).status == 200


@pytest.mark.parametrize("way", WAYS)
def test_the_admin_api_accepts_a_bearer_token_only(guarded, way):
    query, headers = by(way, ADMIN_TOKEN)
    expected = 200 if way == "bearer" else 401
    assert ask(guarded, "GET", f"/admin/keys{query}", **headers).status == expected


def test_a_browser_may_send_the_headers_of_every_dialect(guarded):
    with Wire(guarded) as wire:
        wire.send(
            request(
                "OPTIONS",
                "/v1/models",
                origin="https://page.example",
                access_control_request_method="GET",
                access_control_request_headers="x-goog-api-key, anthropic-version",
            )
        )
        answer = wire.receive()
    assert answer.status == 200
    assert answer.headers["access-control-allow-headers"] == "x-goog-api-key, anthropic-version"
    assert answer.headers["access-control-allow-methods"] == "GET"
    assert "request-id" in answer.headers["access-control-expose-headers"]
