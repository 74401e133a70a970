"""Conversations with files and caches over three projects whose keys fail: none goes astray."""

import json
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from random import Random
from urllib.request import Request, urlopen

import pytest
from fakes.running import RunningDaemon, RunningSimulator, keys_of, secret_of
from fakes.wire import Wire

PROJECTS = ("a", "b", "c")
#: Tokens of the shortest prompt that is cached.
CACHED = 1024
NAMES = tuple(f"{project}{number}" for project in PROJECTS for number in (1, 2))
MODEL, OTHER_MODEL = "gemini-2.5-flash", "gemini-2.5-flash-lite"
CONVERSATIONS = 1000
CLIENTS = 6


@pytest.fixture(scope="module")
def google(tmp_path_factory):
    keys = [{"name": name, "key": secret_of(name), "project": name[0]} for name in NAMES]
    folder = tmp_path_factory.mktemp("simulator")
    running = RunningSimulator(folder, NAMES, keys=keys, keepRequests=10_000)
    yield running
    running.stop()


def start(folder, google):
    keys = [{"name": name, "key": secret_of(name), "project": name[0]} for name in NAMES]
    monitoring = {"cooldownSeconds": 0.2, "recoveryTime": 0.5}
    return RunningDaemon(folder, google.url, keys, monitoring=monitoring)


def made(google, name):
    """A file and a cache of the project of one key, made past the daemon."""

    def sent(path, data, **headers):
        headers |= {"X-Goog-Api-Key": secret_of(name)}
        with urlopen(Request(google.url + path, data, headers)) as response:
            return json.load(response)

    file = sent("/upload/v1beta/files", b"text", **{"X-Goog-Upload-Protocol": "raw"})["file"]
    cache = {"model": f"models/{MODEL}", "contents": []}
    return file, sent("/v1beta/cachedContents", json.dumps(cache).encode())


def user(text):
    return {"role": "user", "content": text}


def chat(model, *parts, **fields):
    content = [{"type": "text", "text": "What is it?"}, *parts]
    return "/v1/chat/completions", {"model": model, "messages": [user(content)], **fields}


def native(model, *parts, **fields):
    contents = [{"role": "user", "parts": [{"text": "What is it?"}, *parts]}]
    return f"/v1beta/models/{model}:generateContent", {"contents": contents, **fields}


def plain(model, file, cache):
    return chat(model)


def chat_file_id(model, file, cache):
    return chat(model, {"type": "file", "file": {"file_id": file["name"]}})


def chat_file_uri(model, file, cache):
    return chat(model, {"type": "image_url", "image_url": {"url": file["uri"]}})


def chat_stream(model, file, cache):
    return chat(model, {"type": "file", "file": {"file_id": file["name"]}}, stream=True)


def chat_cache(model, file, cache):
    return chat(model, google={"cached_content": cache["name"]})


def native_file(model, file, cache):
    return native(model, {"fileData": {"fileUri": file["uri"], "mimeType": "text/plain"}})


def native_cache(model, file, cache):
    return native(model, cachedContent=cache["name"])


def responses_file(model, file, cache):
    content = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_file", "file_id": file["name"]},
    ]
    return "/v1/responses", {"model": model, "input": [user(content)]}


def messages_file(model, file, cache):
    source = {"type": "file", "file_id": file["name"]}
    content = [{"type": "text", "text": "What is it?"}, {"type": "document", "source": source}]
    return "/v1/messages", {"model": model, "max_tokens": 100, "messages": [user(content)]}


def native_plain(model, file, cache):
    return native(model)


def responses_plain(model, file, cache):
    return "/v1/responses", {"model": model, "input": "What is it?"}


def messages_plain(model, file, cache):
    return "/v1/messages", {"model": model, "max_tokens": 100, "messages": [user("What is it?")]}


FORMS = (
    plain,
    chat_file_id,
    chat_file_uri,
    chat_stream,
    chat_cache,
    native_file,
    native_cache,
    responses_file,
    messages_file,
)


def serve(daemon, model, things, number, seed):
    """``number`` requests of different forms; the status and the body of each that failed."""

    def ask(client):
        random, got = Random(seed + client), []
        with Wire(daemon) as wire:
            for _ in range(number // CLIENTS):
                path, body = random.choice(FORMS)(model, *random.choice(things))
                answer = wire.ask("POST", path, body)
                got.append((path, answer.status, answer.body))
        return got

    with ThreadPoolExecutor(CLIENTS) as clients:
        every = [each for got in clients.map(ask, range(CLIENTS)) for each in got]
    served = Counter(status for _, status, _ in every)
    return served, [each for each in every if each[1] != 200]


def calls(google, after=0):
    """What came to the upstream after so many requests."""
    return google.control("GET", "requests?limit=10000")["requests"][after:]


def test_of_1000_conversations_none_is_sent_to_another_project(google, tmp_path):
    things = [made(google, name) for name in NAMES for _ in range(4)]
    daemon = start(tmp_path, google)
    each = CONVERSATIONS // 4
    try:
        # Nothing is known yet, since all was made past the daemon.
        served, failed = serve(daemon, MODEL, things, each, 1)
        assert not failed
        google.behave("a1", "overloaded")
        google.behave("b2", "reset")
        google.behave("c1", "invalid")
        served, failed = serve(daemon, MODEL, things, each, 2)
        assert served[200] > 0.9 * each, failed[:3]
    finally:
        daemon.stop()
    seen = calls(google)
    found = {call["path"] for call in seen if call["method"] == "GET" and call["status"] == 200}
    assert len(found) > len(things)
    assert not [call for call in seen if call["method"] == "POST" and call["status"] == 403]

    daemon = start(tmp_path, google)
    try:
        served, more = serve(daemon, MODEL, things, each, 3)
        failed += more
        assert served[200] > 0.9 * each, failed[:3]
        google.behave("a1", "rate-limited-minute")
        google.behave("a2", "rate-limited-minute")
        served, refused = serve(daemon, OTHER_MODEL, things, each, 4)
        assert served[429] > 0
        failed += refused
    finally:
        daemon.stop()
    seen = calls(google, len(seen))
    assert not [call for call in seen if call["method"] == "POST" and call["status"] == 403]
    assert not found & {call["path"] for call in seen if call["method"] == "GET"}
    for _path, status, body in failed:
        assert status in (429, 502, 503, 529), body
    over = [body for _, status, body in refused if status == 429]
    assert all(b"cannot move to another project" in body for body in over)


def test_a_session_stays_with_its_key_in_every_dialect(start_daemon):
    daemon = start_daemon(keys_of("alpha", "beta", "gamma", project="one"))
    thing = {"name": "files/x", "uri": "https://example.com/x.png"}
    asked = {}
    with Wire(daemon) as wire:
        # So few that even with one key for all of them the balance lets each have its key.
        for number in range(3):
            for form in (plain, native_plain, responses_plain, messages_plain):
                path, body = form(MODEL, thing, thing)
                answer = wire.ask("POST", path, body, **{"session-id": f"session {number}"})
                assert answer.status == 200, answer.body
                asked[answer.headers["x-request-id"]] = number
    keys = defaultdict(set)
    for line in daemon.events():
        if line["event"] == "request finished":
            assert line["chosen_for"] == "conversation"
            keys[asked[line["request_id"]]].add(line["key"])
    assert [len(names) for names in keys.values()] == [1] * 3


def growing(number):
    """A conversation of four requests, each of which begins as the one before."""
    turns = [{"role": "system", "content": f"Instructions of {number}. " + "Word " * CACHED}]
    for turn in range(4):
        turns.append(user(f"Turn {turn}"))
        yield {"model": MODEL, "messages": list(turns)}
        turns.append({"role": "assistant", "content": "Aha."})


@pytest.mark.parametrize("stickiness", ["conversation", "off"])
def test_a_conversation_hits_the_implicit_cache_of_its_key(tmp_path, stickiness):
    google = RunningSimulator(tmp_path, PROJECTS, implicitCacheTokens=CACHED)
    daemon = RunningDaemon(
        tmp_path, google.url, keys_of(*PROJECTS), pool={"stickiness": stickiness}
    )
    try:
        # No multiple of the keys, or a rotation would bring each conversation to its key again.
        talks = [growing(number) for number in range(13)]
        with Wire(daemon) as wire:
            for bodies in zip(*talks, strict=True):
                for body in bodies:
                    answer = wire.ask("POST", "/v1/chat/completions", body)
                    assert answer.status == 200
        used = {
            dict(labels)["key"]
            for (name, labels), count in daemon.metrics().items()
            if name == "gemproxy_upstream_attempts_total" and count
        }
        tokens = {
            (dict(labels)["sticky"], dict(labels)["direction"]): count
            for (name, labels), count in daemon.metrics().items()
            if name == "gemproxy_prompt_tokens_total"
        }
    finally:
        daemon.stop()
        google.stop()
    assert used == set(PROJECTS)
    share = sum(n for (_, kind), n in tokens.items() if kind == "cached") / sum(
        n for (_, kind), n in tokens.items() if kind == "input"
    )
    if stickiness == "off":
        assert tokens["true", "input"] == 0
        assert share < 0.3
    else:
        assert tokens["true", "cached"] > 0
        assert share > 0.6
