"""What clients send is in no log, metric, record, page or file of the state, whatever happens.

Only what ``responses.store: state`` keeps is in the database.
"""

from __future__ import annotations

import json

import pytest
from fakes.echoing_upstream import echoing_upstream
from fakes.running import RunningDaemon, RunningSimulator, eventually, keys_of
from fakes.wire import CHAT, MODEL, Wire, request

CANARY = "canary-5c1d-of-a-prompt"
TOKEN = "access-token-of-ci-0123456789"
NAMES = ("alpha", "beta")
#: What the simulator does with a prompt.
DIRECTIVES = ("", "bad-request", "block", "cut chunks=1", "error-mid-stream chunks=1", "empty-text")
#: Bodies that are refused here, each with its path.
REFUSED = (
    (CHAT, {"model": MODEL, "messages": [{"role": CANARY, "content": CANARY}]}),
    (CHAT, {"model": MODEL, "messages": CANARY}),
    (CHAT, {"model": MODEL, "messages": [], "temperature": CANARY}),
    (
        "/v1/messages",
        {"model": MODEL, "messages": [{"role": "user", "content": [{"type": CANARY}]}]},
    ),
    ("/v1/messages", {"model": MODEL, "max_tokens": CANARY, "messages": []}),
    ("/v1/responses", {"model": MODEL, "input": [{"type": CANARY}]}),
    (f"/v1beta/models/{MODEL}:generateContent", {"contents": CANARY}),
    ("/v1/embeddings", {"model": "gemini-embedding-001", "input": {"a": CANARY}}),
)
PAGES = (
    "health",
    "keys",
    "quotas",
    "clients",
    "metrics",
    "metrics/series",
    "usage?from=yesterday&by=client,model,project,endpoint,hour",
    "usage?from=yesterday&by=client,model,project,endpoint,day&format=csv",
    "requests?limit=500",
    "requests?limit=500&failed=true",
    "",
)


def calls(prompt):
    """One call of each endpoint that takes a prompt, whole and as a stream where it has both."""
    contents = [{"role": "user", "parts": [{"text": prompt}]}]
    chat = {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}
    asked = {
        CHAT: chat | {"user": prompt},
        "/v1/messages": chat | {"max_tokens": 100},
        "/v1/responses": {"model": MODEL, "input": prompt},
    }
    for path, body in asked.items():
        yield path, body
        yield path, body | {"stream": True}
    yield "/v1/messages/count_tokens", chat
    yield "/v1/embeddings", {"model": "gemini-embedding-001", "input": prompt}
    for verb in ("generateContent", "streamGenerateContent?alt=sse", "countTokens"):
        yield f"/v1beta/models/{MODEL}:{verb}", {"contents": contents}


def ask(daemon, path, body, **headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with Wire(daemon) as wire:
        headers = {"authorization": f"Bearer {TOKEN}", "content_type": "application/json"} | headers
        wire.send(request("POST", path, data, connection="close", **headers))
        return wire.rest().decode("latin-1")


def start(folder, upstream, **settings):
    return RunningDaemon(
        folder,
        upstream,
        keys_of(*NAMES),
        proxy={"accessTokens": [{"name": "ci", "token": TOKEN, "debug": True}]},
        persistence={"checkpointSeconds": 0.2},
        monitoring={"failureThreshold": 10_000},
        logging={"level": "debug"},
        **settings,
    )


def sinks(daemon):
    """Everything that an operator can read of a daemon that runs."""
    found = {path: daemon.admin("GET", path).body.decode() for path in PAGES}
    for each in json.loads(found["requests?limit=500"])["requests"]:
        path = f"requests/{each['id']}"
        found[path] = daemon.admin("GET", path).body.decode()
    return found


def stop(daemon):
    """Stop it; gives its output, and the files of its state."""
    daemon.stop()
    files = {
        str(path): path.read_bytes().decode("latin-1")
        for path in (daemon.folder / "state").iterdir()
    }
    assert any("/v1/chat/completions" in text for text in files.values())
    return {"output": daemon.output, **files}


def leaks(found):
    return {name: at(text) for name, text in found.items() if CANARY in text}


def at(text):
    place = text.index(CANARY)
    return text[max(0, place - 200) : place + 200]


@pytest.mark.parametrize("store", ["memory", "state"])
def test_of_what_is_asked_nothing_is_kept(tmp_path, store):
    simulator = RunningSimulator(tmp_path, NAMES)
    simulator.behave("beta", "overloaded", everyNth=3)  # Such a request is tried again.
    daemon = start(tmp_path, simulator.url, responses={"store": store})
    try:
        sent = 0
        for directive in DIRECTIVES:
            mark = f" [simulate:{directive}]" if directive else ""
            for path, body in calls(CANARY + mark):
                ask(daemon, path, body)
                sent += 1
        ask(
            daemon,
            "/upload/v1beta/files",
            {"file": {"displayName": CANARY}},
            x_goog_upload_protocol="resumable",
            x_goog_upload_command="start",
            x_goog_upload_header_content_length="30",
        )
        ask(daemon, "/upload/v1beta/files", CANARY.encode(), x_goog_upload_protocol="raw")
        answers = {str(each): ask(daemon, *each) for each in REFUSED}
        answers["not JSON"] = ask(daemon, CHAT, b'{"messages": "' + CANARY.encode())
        assert all(" 400 " in answer.partition("\r\n")[0] for answer in answers.values()), answers
        sent += 3 + len(REFUSED)
        recorded = eventually(
            lambda: (
                len(found := daemon.admin("GET", "requests?limit=500").json["requests"]) >= sent
                and found
            )
        )
        assert {each["client"] for each in recorded} == {"ci"}
        assert any(each["retries"] for each in recorded)
        found = sinks(daemon)
    finally:
        found |= stop(daemon)
        simulator.stop()
    leaked = leaks(found)
    if store == "state":
        assert any(name.endswith((".db", "-wal")) for name in leaked)
        leaked = {name: text for name, text in leaked.items() if "/state/" not in name}
    assert leaked == {}


@pytest.mark.parametrize("is_brief", [False, True])
def test_of_an_upstream_that_repeats_what_it_is_asked_nothing_is_kept(tmp_path, is_brief):
    with echoing_upstream() as upstream:
        upstream.is_brief = is_brief
        daemon = start(tmp_path, upstream.url, retry={"maxAttempts": 2})
        try:
            for mode in (400, 403, 429, 500, "event", "not json"):
                upstream.mode = mode
                for path, body in calls(CANARY):
                    ask(daemon, path, body)
            found = sinks(daemon)
        finally:
            found |= stop(daemon)
    assert leaks(found) == {}
