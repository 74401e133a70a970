"""No key of the pool in any byte towards a client, whatever the upstream repeats of a request."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest
from fakes.echoing_upstream import MODES, echoing_upstream
from fakes.running import ADMIN_TOKEN, RunningDaemon
from fakes.wire import Wire, request

KEYS = {f"key{place}": sha256(bytes([place])).hexdigest()[:39] for place in range(8)}
TOKEN = "token-of-the-only-client-0123456789"
MODEL = "gemini-2.5-flash"
#: The longest part of a key that a mask shows, and one more.
PART = 9

CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
MESSAGES = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
RESPONSE = {"model": MODEL, "input": "hi"}
EMBEDDED = {"content": CONTENTS["contents"][0]}


def native(verb, body=CONTENTS, version="v1beta", model=MODEL):
    return "POST", f"/{version}/models/{model}:{verb}", body


def streamed(body):
    return {**body, "stream": True}


def embedding(verb, body):
    return native(verb, body, model="gemini-embedding-001")


CALLS = [
    ("POST", "/v1/chat/completions", MESSAGES),
    ("POST", "/v1/chat/completions", streamed(MESSAGES)),
    ("POST", "/v1/embeddings", {"model": "gemini-embedding-001", "input": "hi"}),
    ("POST", "/v1/responses", RESPONSE),
    ("POST", "/v1/responses", streamed(RESPONSE)),
    ("POST", "/v1/messages", MESSAGES),
    ("POST", "/v1/messages", streamed(MESSAGES)),
    ("POST", "/v1/messages/count_tokens", MESSAGES),
    native("generateContent"),
    native("generateContent", version="v1"),
    native("streamGenerateContent?alt=sse"),
    native("streamGenerateContent"),
    native("countTokens"),
    embedding("embedContent", EMBEDDED),
    embedding("batchEmbedContents", {"requests": [{"model": f"models/{MODEL}", **EMBEDDED}]}),
    ("GET", "/v1/models", None),  # As Gemini's list, because of the key in the query.
    ("GET", f"/v1/models/{MODEL}", None),
    ("GET", "/v1beta/models", None),
    ("GET", f"/v1beta/models/{MODEL}", None),
    ("GET", "/v1beta/files", None),
    ("GET", "/v1beta/files/abc", None),
    ("GET", "/v1beta/files/abc:download?alt=media", None),
    ("POST", "/v1beta/cachedContents", {"model": f"models/{MODEL}", **CONTENTS}),
    ("DELETE", "/v1beta/cachedContents/abc", None),
    ("POST", "/upload/v1beta/files", {"file": {"displayName": "x"}}),
]


@pytest.fixture(scope="module")
def echo():
    with echoing_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def daemon(echo, tmp_path_factory):
    running = RunningDaemon(
        tmp_path_factory.mktemp("daemon"),
        echo.url,
        [{"name": name, "key": key} for name, key in KEYS.items()],
        proxy={"accessTokens": [TOKEN]},
        retry={"maxAttempts": 2},
        monitoring={"failureThreshold": 10_000, "cooldownSeconds": 0.1, "recoveryTime": 0.1},
        models={"cacheSeconds": 0},
        logging={"level": "debug"},
    )
    yield running
    assert running.stop() == 0
    # Neither a key nor the token, which came in the query of every request.
    for secret in (*KEYS.values(), TOKEN):
        assert shown(secret, running.output) == []


@pytest.mark.parametrize("mode", MODES)
def test_no_key_is_in_what_an_operator_reads_of_a_request(echo, daemon, mode):
    """The list of requests, and what ``gemproxy explain`` prints of one."""
    echo.mode = mode
    names = []
    for call in CALLS:
        head = ask(daemon, *call).partition(b"\r\n\r\n")[0].decode("latin-1").lower()
        names.append(head.partition("x-request-id: ")[2].partition("\r\n")[0])
    told = [daemon.admin("GET", "requests?limit=100").body.decode()]
    told += [daemon.admin("GET", f"requests/{name}").body.decode() for name in names]
    assert all(names)
    assert all(name in text for name, text in zip(names, told[1:], strict=True))
    if mode == 429:
        told += [explained(daemon, name) for name in names[:2]]
    for secret in (*KEYS.values(), TOKEN):
        assert [text for text in told if shown(secret, text)] == []


def explained(daemon, request_id):
    where = ("--url", daemon.url, "--config", daemon.folder / "proxy.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "gemproxy", "explain", request_id, *where],
        env={**os.environ, "GEMPROXY_ADMIN_TOKEN": ADMIN_TOKEN},
        capture_output=True,
        text=True,
        check=True,
    )
    assert request_id in done.stdout
    return done.stdout


@pytest.mark.parametrize("mode", MODES)
def test_no_key_is_in_any_byte_towards_a_client(echo, daemon, mode):
    echo.mode = mode
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda call: ask(daemon, *call), CALLS))
    assert echo.seen & set(KEYS.values())
    found = {}
    for call, answer in zip(CALLS, answers, strict=True):
        assert answer.startswith(b"HTTP/1.1 "), call
        parts = {part for key in KEYS.values() for part in shown(key, answer.decode("latin-1"))}
        if parts or b"x-echo" in answer.lower():
            found[call[:2]] = answer
    assert found == {}


def ask(daemon, method, path, body):
    """Each way to send a token comes once, with the token in the query."""
    mark = "&" if "?" in path else "?"
    headers = {} if body is None else {"content_type": "application/json"}
    if path.startswith("/upload/"):
        headers |= {"x_goog_upload_protocol": "resumable", "x_goog_upload_command": "start"}
    data = None if body is None else json.dumps(body).encode()
    with Wire(daemon) as wire:
        wire.send(request(method, f"{path}{mark}key={TOKEN}", data, connection="close", **headers))
        return wire.rest()


def shown(secret, where):
    """The parts of ``secret``, longer than its mask, that ``where`` holds."""
    parts = [secret[place : place + PART] for place in range(len(secret) - PART + 1)]
    return [part for part in parts if part in where]
