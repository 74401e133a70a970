"""Gemini's own API at the daemon: bytes unchanged both ways, errors, retries, what is left out."""

import json
import socket
import threading
from functools import partial
from itertools import product

import pytest
from fakes.running import eventually, keys_of, secret_of
from fakes.wire import MODEL, Wire, ask, request

VERSIONS = ("v1", "v1beta", "v1alpha")
GENERATE = f"/v1beta/models/{MODEL}:generateContent"
STREAM = f"/v1beta/models/{MODEL}:streamGenerateContent"
COUNT = f"/v1beta/models/{MODEL}:countTokens"
#: Numbers, blanks, orders, escapes and fields that no typed model would keep.
BODY = (
    b'{ "contents":[{"parts" : [{"text":"h\\u0069"}]}],\r\n "futureField": 1.0,'
    b' "big": "9007199254740993", "a":1e2 }'
)
ANSWER = (
    b'{\n "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4,'
    b' "totalTokenCount": 7, "new": "9223372036854775807"},\r\n  "candidates" :'
    b' [{"content": {"parts": [{"text": "\\u00fc"}]}, "finishReason": "STOP"}], "x": 1.50 }\n'
)
FIRST = b'{"candidates": [{"content": {"parts": [{"text": "\xe2\x80\xa8a"}]}}], "n": 1.0}'
LAST = (
    b'{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":2,'
    b'"candidatesTokenCount":5,"totalTokenCount":7}}'
)
SSE = b": on\r\n\r\ndata: %b\r\n\r\ndata: %b\r\n\r\n" % (FIRST, LAST)
ARRAY = b"[%b\n,\r\n%b\n]\n" % (FIRST, LAST)


def answered(body, status=b"200 OK", kind=b"application/json; charset=UTF-8", more=b""):
    return b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n%b" % (
        status,
        kind,
        len(body),
        more,
        body,
    )


CALLS = (
    ("POST", GENERATE),
    ("POST", STREAM),
    ("POST", STREAM + "?alt=sse"),
    ("GET", "/v1beta/files"),
    ("GET", "/v1beta/files/x:download?alt=media"),
    ("POST", "/upload/v1beta/files"),
)
START = {"x_goog_upload_protocol": "resumable", "x_goog_upload_command": "start"}


def echoed(status, head):
    """An answer that repeats the request's headers, the key among them, wherever it can."""
    fields = head.partition(b"\r\n")[2]
    secret = fields.partition(b"X-Goog-Api-Key: ")[2].partition(b"\r\n")[0]
    assert secret
    text = b'{"error":{"code":%d,"message":"%b","status":"%b"}}' % (status, secret, secret)
    body = ANSWER if status == 200 else text
    more = b"%b\r\nLocation: /download/%b\r\nX-Goog-Upload-Status: %b\r\n" % (
        fields.replace(b"Content-Length", b"X-Length").replace(b"Host", b"X-Host"),
        secret,
        secret,
    )
    more += b"X-Goog-Upload-URL: http://x/upload/v1/files?upload_id=a&k=%b\r\n" % secret
    return answered(body, b"%d Said" % status, more=more)


class Upstream:
    """Answers the first request of each connection with given bytes; keeps what came."""

    def __init__(self):
        self.answers = []
        self.seen = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                data = b""
                while b"\r\n\r\n" not in data:
                    data += connection.recv(65536)
                head, _, body = data.partition(b"\r\n\r\n")
                lengths = [
                    int(line.partition(b":")[2])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                ]
                while len(body) < sum(lengths):
                    body += connection.recv(65536)
                self.seen.append((head, body))
                answer = self.answers.pop(0)
                connection.sendall(answer(head) if callable(answer) else answer)

    def close(self):
        self._listener.close()


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture(scope="module")
def exact(echo, tmp_path_factory):
    """A daemon in front of ``echo``."""
    from fakes.running import RunningDaemon

    folder = tmp_path_factory.mktemp("daemon")
    models = {"aliases": {"small": "gemini-embedding-001", "big": MODEL}}
    running = RunningDaemon(folder, echo.url, keys_of("alpha", "beta"), models=models)
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def _fresh(echo):
    echo.seen.clear()
    echo.answers.clear()


@pytest.fixture
def daemon(shared_daemon, simulator):
    simulator.reset()
    return shared_daemon


class TestBytes:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_a_whole_answer(self, echo, exact, version):
        echo.answers.append(answered(ANSWER))
        got = ask(exact, "POST", f"/{version}/models/{MODEL}:generateContent", BODY)
        assert (got.status, got.body) == (200, ANSWER)
        ((head, body),) = echo.seen
        assert body == BODY
        assert head.startswith(
            f"POST /{version}/models/{MODEL}:generateContent HTTP/1.1\r\n".encode()
        )
        line = exact.request_line(got.headers["x-request-id"])
        assert line["route"] == "/{version}/models/{model}:{verb}"
        assert (line["model"], line["prompt_tokens"], line["completion_tokens"]) == (MODEL, 3, 4)

    @pytest.mark.parametrize(
        ("query", "body", "kind"),
        [
            ("?alt=sse", SSE, "text/event-stream; charset=utf-8"),
            ("?%61lt=%73se", SSE, "text/event-stream; charset=utf-8"),
            ("", ARRAY, "application/json; charset=UTF-8"),
            ("?$alt=sse", ARRAY, "application/json; charset=UTF-8"),
        ],
        ids=["events", "encoded", "array", "system parameter"],
    )
    def test_a_stream(self, echo, exact, query, body, kind):
        echo.answers.append(answered(body))
        got = ask(exact, "POST", STREAM + query, BODY)
        assert (got.status, got.body, got.headers["content-type"]) == (200, body, kind)
        assert echo.seen[0][1] == BODY
        line = exact.request_line(got.headers["x-request-id"])
        assert (line["stream"], line["prompt_tokens"], line["completion_tokens"]) == (True, 2, 5)

    def test_aliases_in_the_path_and_in_the_body(self, echo, exact):
        vector = b'{"embeddings": [{"values": [0.10]}]}'
        echo.answers += [answered(vector), answered(ANSWER)]
        sent = (
            b'{"requests" : [{"model":"models/small","content":{"parts":[{"text":"a"}]}}], "z":1.0}'
        )
        got = ask(exact, "POST", "/v1/models/small:batchEmbedContents", sent)
        assert got.body == vector
        ask(exact, "POST", "/v1/models/big:generateContent", BODY)
        (embedding, embedded), (generation, generated) = echo.seen
        assert embedding.startswith(b"POST /v1/models/gemini-embedding-001:batchEmbedContents ")
        assert embedded == sent.replace(b"models/small", b"models/gemini-embedding-001")
        assert generation.startswith(f"POST /v1/models/{MODEL}:generateContent ".encode())
        assert generated == BODY


def test_what_is_passed_on_and_what_is_not(echo, exact):
    echo.answers.append(answered(ANSWER, more=b"Set-Cookie: a=b\r\nX-Goog-Api-Key: echoed\r\n"))
    query = "?key=a-client-token&%24fields=x&$alt=proto&prettyPrint=false&pageSize=2&access_token=t"
    got = ask(
        exact,
        "POST",
        GENERATE + query,
        BODY,
        x_goog_api_key="a-client-token",
        authorization="Bearer a-client-token",
        cookie="a=b",
        x_goog_user_project="mine",
        x_forwarded_for="10.0.0.1",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        x_goog_api_client="google-genai-sdk/3.6.1 gl-python/3.11",
        x_server_timeout="30",
        api_revision="2026-05-20",
    )
    assert got.status == 200
    assert not {"set-cookie", "x-goog-api-key"} & got.headers.keys()
    line, *headers = echo.seen[0][0].lower().split(b"\r\n")
    assert line == f"post {GENERATE.lower()}?pagesize=2 http/1.1".encode()
    names = sorted(header.partition(b":")[0].decode() for header in headers)
    assert names == [
        "accept-encoding",
        "api-revision",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "x-goog-api-client",
        "x-goog-api-key",
        "x-server-timeout",
    ]
    assert b"a-client-token" not in echo.seen[0][0]
    assert "a-client-token" not in exact.output


@pytest.mark.parametrize(
    ("said", "passed"),
    [
        (
            {"server-timing": "gfet4t7; dur=231", "x-gemini-service-tier": "flex"},
            {"server-timing", "x-gemini-service-tier"},
        ),
        ({"server-timing": "a;dur=1.5, b;dur=2, c"}, {"server-timing"}),
        ({"server-timing": 'a;desc="{key}"', "x-gemini-service-tier": "{key}"}, set()),
    ],
)
def test_how_google_has_served_is_passed_on(echo, exact, said, passed):
    key = secret_of("alpha")
    more = "".join(f"{name}: {value.format(key=key)}\r\n" for name, value in said.items())
    for path, body in ((GENERATE, ANSWER), (STREAM, ARRAY), (STREAM + "?alt=sse", SSE)):
        echo.answers.append(answered(body, more=more.encode()))
        got = ask(exact, "POST", path, BODY)
        assert got.body == body
        assert {name: got.headers.get(name) for name in passed} == {n: said[n] for n in passed}
        assert not (said.keys() - passed) & got.headers.keys()
    # An error of ours says nothing of an attempt that came before it.
    echo.answers += [answered(b"{", more=more.encode())] * 9
    assert not said.keys() & ask(exact, "POST", GENERATE, BODY).headers.keys()


class TestErrors:
    def test_googles_own_is_repeated_without_the_key(self, echo, exact):
        said = (
            b'{\n "error": {"code": 400, "status": "INVALID_ARGUMENT", "details": [{"@type": "x"}],'
        )
        said += b' "message": "Bad field of api_key:%b"}\n}\n'
        echo.answers.append(answered(said % secret_of("alpha").encode(), b"400 Bad Request"))
        echo.answers.append(answered(b"[%b]" % (said % b"nobody"), b"400 Bad Request"))
        got = ask(exact, "POST", GENERATE, BODY)
        assert got.status == 400
        assert secret_of("alpha").encode() not in got.body
        assert got.body.startswith(said.partition(b"%b")[0])
        assert ask(exact, "POST", STREAM, BODY).body == b"[%b]" % (said % b"nobody")

    def test_no_key_leaves_however_it_is_echoed(self, echo, start_daemon):
        names = [f"key{number}" for number in range(100)]
        daemon = start_daemon(keys_of(*names, project="one"), base_url=echo.url)
        secrets = [secret_of(name).encode() for name in names]
        # The last one ends the quota of the project.
        for status, (method, path) in product((200, 302, 400, 404, 500, 403, 401, 429), CALLS):
            echo.answers[:] = [partial(echoed, status)] * 12
            with Wire(daemon) as wire:
                body = BODY if method == "POST" else None
                wire.send(request(method, path, body, connection="close", **START))
                raw = wire.rest()
            assert raw.startswith(b"HTTP/1.1 ")
            assert not any(secret in raw for secret in secrets)
        assert len(echo.seen) > 50

    @pytest.mark.parametrize(
        ("method", "path", "status", "word"),
        [
            ("POST", "/v1beta/tunedModels/x:generateContent", 403, "PERMISSION_DENIED"),
            ("POST", "/v1alpha/auth_tokens", 403, "PERMISSION_DENIED"),
            ("POST", "/v1/interactions/x/auth_tokens", 403, "PERMISSION_DENIED"),
            ("GET", "/v1beta/webhooks/x", 403, "PERMISSION_DENIED"),
            ("POST", f"/v1beta/models/{MODEL}:unheardOf", 404, "NOT_FOUND"),
            ("PUT", GENERATE, 405, "UNIMPLEMENTED"),
            ("POST", "/v1/models/gemini-embedding-001:generateContent", 400, "INVALID_ARGUMENT"),
            ("POST", f"/v1/models/{MODEL}:batchEmbedContents", 400, "INVALID_ARGUMENT"),
            ("POST", "/v1/models/gemini-3.5-transcribe:generateContent", 400, "INVALID_ARGUMENT"),
            ("POST", GENERATE + "?alt=proto", 400, "INVALID_ARGUMENT"),
            ("POST", "/v1/models/nothing-of-the-kind:generateContent", 404, "NOT_FOUND"),
        ],
    )
    def test_refusals_have_googles_form(self, daemon, method, path, status, word):
        got = ask(daemon, method, path, {"contents": []} if method == "POST" else None)
        error = got.json["error"]
        assert (got.status, error["code"], error["status"]) == (status, status, word)
        assert error["message"]

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
    def test_a_call_has_one_method(self, daemon, method):
        got = ask(daemon, method, f"{GENERATE}?name=secret")
        assert (got.status, got.headers["allow"]) == (405, "POST")
        if method != "HEAD":
            error = got.json["error"]
            assert error["status"] == "UNIMPLEMENTED"
            assert error["message"] == f"Not allowed to {method} on {GENERATE}."

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/v1alpha/auth_tokens", 403),
            ("/v1/agents", 403),
            (f"/v1beta/models/{MODEL}:unheardOf", 404),
            ("/v1beta/batches/x:unheardOf", 404),
            ("/v1beta/files/x", 404),
        ],
    )
    def test_what_is_not_offered_is_so_whatever_its_body(self, daemon, path, status):
        got = ask(daemon, "POST", path, b"x=1", content_type="text/plain")
        assert got.status == status

    def test_a_model_that_is_not_allowed_is_unknown(self, start_daemon):
        daemon = start_daemon(models={"allow": ["gemini-3.6-flash"]})
        got = ask(daemon, "POST", GENERATE, {"contents": []})
        assert (got.status, got.json["error"]["status"]) == (404, "NOT_FOUND")

    def test_an_exhausted_pool_says_when_to_come_back(self, start_daemon, simulator):
        daemon = start_daemon()
        simulator.behave_all("rate-limited")
        got = ask(daemon, "POST", GENERATE, said("hi"))
        error = got.json["error"]
        assert (got.status, error["status"]) == (429, "RESOURCE_EXHAUSTED")
        assert any(each["@type"].endswith("RetryInfo") for each in error["details"])
        assert int(got.headers["retry-after"]) > 0


def said(text):
    return {"contents": [{"role": "user", "parts": [{"text": text}]}]}


class TestAttempts:
    @pytest.mark.parametrize(
        ("behaviour", "path"),
        [
            ("rate-limited", GENERATE),
            ("invalid", STREAM + "?alt=sse"),
            ("reset", STREAM),
            ("rate-limited", COUNT),
        ],
    )
    def test_another_key_serves(self, start_daemon, simulator, behaviour, path):
        daemon = start_daemon()
        simulator.behave("alpha", behaviour, calls=["generate", "stream", "count"])
        answers = [ask(daemon, "POST", path, said("hi")) for _ in range(2)]
        assert [got.status for got in answers] == [200, 200]
        tried = [entry["key"] for entry in simulator.requests()]
        assert "alpha" in tried
        assert tried.count("beta") == 2

    def test_an_empty_answer_is_asked_for_once_more(self, echo, exact):
        empty = b'{"candidates": [{"finishReason": "STOP"}], "usageMetadata": {}}'
        echo.answers += [answered(empty), answered(ANSWER)]
        assert ask(exact, "POST", GENERATE, BODY).body == ANSWER
        echo.answers += [answered(empty), answered(empty)]
        assert ask(exact, "POST", GENERATE, BODY).body == empty

    @pytest.mark.parametrize("query", ["", "?alt=sse"])
    def test_a_stream_that_breaks_off(self, daemon, simulator, query):
        simulator.behave_all("error-mid-stream")
        with Wire(daemon) as wire:
            wire.send(request("POST", STREAM + query, said("hi"), connection="close"))
            raw = wire.rest()
        simulator.reset()
        if query:
            event = raw.rpartition(b"data: ")[2].partition(b"\r\n")[0]
            assert json.loads(event)["error"]["code"] == 503
            assert raw.endswith(b"0\r\n\r\n")
        else:
            assert not raw.endswith(b"0\r\n\r\n")
            assert b'"error"' not in raw

    def test_a_silent_stream_says_that_it_lives_unless_it_is_an_array(
        self, start_daemon, simulator
    ):
        daemon = start_daemon(streaming={"headersAfterSeconds": 0})
        simulator.behave_all("slow", parameters={"delay": 0.3, "chunkDelay": 0})
        events = ask(daemon, "POST", STREAM + "?alt=sse", said("hi"))
        assert events.body.startswith(b": heartbeat\n\ndata: ")
        array = ask(daemon, "POST", STREAM, said("hi"))
        assert json.loads(array.body)[-1]["candidates"][0]["finishReason"] == "STOP"

    def test_a_client_that_leaves_ends_the_call(self, daemon, simulator):
        simulator.behave_all("slow", parameters={"delay": 0, "chunkDelay": 5})
        with Wire(daemon) as wire:
            wire.send(request("POST", STREAM + "?alt=sse", said("hi")))
            wire._until(b"data: ")
        assert eventually(lambda: simulator.requests()[-1]["closedEarly"])


def test_metrics_and_explanation_know_native_calls(daemon):
    got = ask(daemon, "POST", GENERATE, said("hi"), x_request_id="native-1")
    assert got.status == 200
    explained = json.dumps(daemon.admin("GET", "requests/native-1").json)
    assert MODEL in explained
    assert "/{version}/models/{model}:{verb}" in explained
    samples = daemon.metrics()
    assert any(
        dict(labels).get("route") == "/{version}/models/{model}:{verb}" and value > 0
        for (_, labels), value in samples.items()
    )


def test_a_body_that_cannot_be_judged_is_not_sent(start_daemon, simulator):
    models = {"aliases": {"mine": MODEL}, "allow": [MODEL]}
    daemon = start_daemon(models=models)
    seen = len(simulator.requests())
    escapes = b'"model"' + rb"\"" * 20_000
    answers = []
    for path, body in (
        (GENERATE, b'{"contents": ['),
        (GENERATE.replace("models/", "models/models%2F"), escapes),
        (f"/v1beta/models/{MODEL}:batchGenerateContent", b'"fileSearchStoreNames":[' * 4166),
        ("/v1beta/models/mine:generateContent", b'{"model":"\xff"}'),
        ("/v1beta/cachedContents", b'{"model":"\xff"}'),
        ("/v1beta/interactions", b'{"model":"\xff"}'),
        ("/v1beta/interactions", b'{"model":"%b","agent":[]}' % MODEL.encode()),
        ("/v1beta/files/a", b'{"fileName":"\xff"}'),
    ):
        method = "PATCH" if path.endswith("/a") else "POST"
        answers.append(ask(daemon, method, path, body))
    assert [(got.status, got.json["error"]["status"]) for got in answers] == [
        (400, "INVALID_ARGUMENT")
    ] * len(answers)
    assert "agent: expected a string" in answers[-2].json["error"]["message"]
    other = {"model": "gemini-2.5-pro", "input": "hi", "stream": "true"}
    for collection in ("interactions", "cachedContents"):
        assert ask(daemon, "POST", f"/v1beta/{collection}", other).status == 404
    assert len(simulator.requests()) == seen
    assert "critical" not in daemon.output
