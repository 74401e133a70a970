"""What clients use is counted exactly, whatever happens to requests and to the daemon."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter

import pytest
import yaml
from fakes.running import RunningDaemon, RunningSimulator, eventually, keys_of
from fakes.wire import CHAT, MODEL, Wire, request

NAMES = ("alpha", "beta", "gamma")
#: ``make usage-test`` asks for ten thousand.
REQUESTS = int(os.environ.get("GEMPROXY_USAGE_REQUESTS", "240"))
CLIENTS = {name: f"access-token-of-{name}-0123456789" for name in ("ci", "web")}
LIMITS = {"rpd": 10**6, "tpd": 10**9, "tpm": 10**9, "rpm": 10**6, "concurrent": 1000}
CANARY = "canary-in-a-prompt-7d1f"
#: What a request asks of the simulator, and whether its client leaves after the first event.
KINDS = (
    ("", False),
    ("[simulate:words n=40]", False),
    ("[simulate:cached]", False),
    ("[simulate:empty-text]", False),
    ("[simulate:malformed-call]", False),
    ("[simulate:block]", False),
    ("[simulate:bad-request]", False),
    ("[simulate:cut chunks=2]", False),
    ("[simulate:truncated chunks=2]", False),
    ("[simulate:error-mid-stream chunks=2]", False),
    ("[simulate:stall chunks=1]", True),
)


@pytest.fixture
def simulator(tmp_path):
    running = RunningSimulator(tmp_path, NAMES, keepRequests=10)
    # Requests fail with one key and are served by another one.
    running.behave("beta", "overloaded", everyNth=7)
    running.behave("gamma", "internal-error", everyNth=9)
    yield running
    running.stop()


@pytest.fixture
def start(simulator, tmp_path):
    started = []
    # Nobody reaches them, but everything is counted for them.
    file = tmp_path / "clients.yaml"
    file.write_text(yaml.safe_dump({"defaults": {"limits": LIMITS, "budget": {"usdPerDay": 1e6}}}))
    file.chmod(0o600)

    def start(**more):
        started.append(
            RunningDaemon(
                tmp_path,
                simulator.url,
                keys_of(*NAMES),
                proxy={"accessTokens": [{"name": n, "token": t} for n, t in CLIENTS.items()]},
                persistence={"checkpointSeconds": 0.2},
                monitoring={"failureThreshold": 10_000},
                **more,
            )
        )
        return started[-1]

    yield start
    for daemon in started:
        daemon.popen.kill()
        daemon.wait()


def ask(daemon, client, kind, leaves, *, stream):
    body = {"model": MODEL, "messages": [{"role": "user", "content": f"{CANARY} {kind}"}]}
    with Wire(daemon) as wire:
        authorization = f"Bearer {CLIENTS[client]}"
        if not leaves:
            wire.ask("POST", CHAT, body | {"stream": stream}, authorization=authorization)
            return
        wire.send(request("POST", CHAT, body | {"stream": True}, authorization=authorization))
        # The simulator sends one event, so the daemon has read all of it.
        wire.until(b"data: ")


def ask_many(daemon, number, dice, sent):
    """Let eight clients ask ``number`` mixed requests; ``sent`` counts them by client."""
    plan = [
        (dice.choice(list(CLIENTS)), *dice.choice(KINDS), dice.random() < 0.5)
        for _ in range(number)
    ]
    rest, lock = iter(plan), threading.Lock()

    def work():
        while True:
            with lock:
                asked = next(rest, None)
            if asked is None:
                return
            client, kind, leaves, stream = asked
            ask(daemon, client, kind, leaves, stream=stream)
            with lock:
                sent[client] += 1

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    eventually(lambda: daemon.health()["in_flight"] == 0)


def used(daemon, by):
    listed = daemon.admin("GET", f"usage?from=yesterday&by={by}").json["usage"]
    return {row[by]: row for row in listed}


def test_usage_is_what_the_upstream_handed_out(simulator, start, tmp_path):
    dice, sent = random.Random(14), Counter()
    daemon = start()
    for end in ("stop", "kill", "stop", ""):
        ask_many(daemon, REQUESTS // 4, dice, sent)
        if end == "kill":
            daemon.wait_for_checkpoint()
            daemon.kill()
        elif end:
            daemon.stop()
        if end:
            daemon = start()
    eventually(lambda: simulator.control("GET", "")["inFlight"] == 0)
    handed_out = simulator.control("GET", "handed-out")["keys"]
    tokens = {
        project: {name: row["tokens"][name] for name in ("input", "cached", "output", "reasoning")}
        for project, row in used(daemon, "project").items()
        if row["tokens"]["input"]
    }
    assert tokens == {
        key: {name: count for name, count in sums.items() if name != "answers"}
        for key, sums in handed_out.items()
    }
    by_client = used(daemon, "client")
    assert {client: row["requests"] for client, row in by_client.items()} == sent
    for time in ("hour", "day"):
        rows = used(daemon, time).values()
        assert sum(row["requests"] for row in rows) == sum(sent.values())
    for row in by_client.values():
        assert row["cost_usd"] > 0
        assert row["failures"]["theirs"] > 0
        assert row["failures"]["upstream"] > 0
    # What clients have used of their limits is the same.
    for client, row in by_client.items():
        with Wire(daemon) as wire:
            own = wire.ask("GET", "/v1/usage/me", authorization=f"Bearer {CLIENTS[client]}").json
        left = {name: LIMITS[name] - own["remaining"][name] for name in LIMITS}
        assert left["rpd"] == sent[client]
        assert left["tpd"] == row["tokens"]["input"] + row["tokens"]["output"]
        assert left["concurrent"] == 0
        assert 1e6 - own["remaining"]["usdPerDay"] == pytest.approx(row["cost_usd"], abs=1e-6)
    # Requests of before the kill are found and explained, whichever process served them.
    listed = daemon.admin("GET", "requests?failed=true&client=web&limit=500").json["requests"]
    assert all(each["client"] == "web" and each["outcome"] != "success" for each in listed)
    oldest = listed[-1]
    explained = daemon.admin("GET", f"requests/{oldest['id']}").json
    assert explained["request"] == oldest
    assert len(explained["attempts"]) >= oldest["attempts"]
    daemon.stop()
    # Prompts are nowhere.
    for place in (tmp_path / "state").iterdir():
        assert CANARY.encode() not in place.read_bytes(), place
    assert CANARY not in daemon.output


@pytest.mark.parametrize("limits", [{"rpd": 3}, {"tpd": 40}])
def test_of_what_its_own_limit_refuses_some_is_recorded_and_all_is_counted(start, tmp_path, limits):
    file = tmp_path / "clients.yaml"
    file.write_text(yaml.safe_dump({"defaults": {"limits": limits}}))
    daemon = start()
    for _ in range(100):
        ask(daemon, "ci", "", False, stream=False)
    daemon.wait_for_checkpoint()
    daemon.kill()
    daemon = start()
    row = used(daemon, "client")["ci"]
    assert row["requests"] == 100
    served = row["requests"] - row["failures"]["theirs"]
    assert 1 <= served < 10
    listed = daemon.admin("GET", "requests?limit=500&client=ci").json["requests"]
    refused = [each for each in listed if each["status"] == 429]
    # 60 a minute, and the hundred may have taken longer.
    assert 60 <= len(refused) < 100 - served
    assert len(listed) == served + len(refused)
    explained = daemon.admin("GET", f"requests/{refused[-1]['id']}").json
    assert explained == {"request": refused[-1], "attempts": []}


def test_a_client_asks_what_it_used_itself(start):
    daemon = start()
    ask(daemon, "ci", "", False, stream=False)
    ask(daemon, "web", "", False, stream=True)

    def own(name):
        with Wire(daemon) as wire:
            return wire.ask("GET", "/v1/usage/me", authorization=f"Bearer {CLIENTS[name]}").json

    answer = eventually(lambda: (found := own("ci"))["today"]["requests"] and found)
    assert answer["client"] == "ci"
    assert answer["today"] == answer["month"]
    assert answer["today"]["requests"] == 1
    assert answer["today"]["tokens"]["input"] > 0
    assert set(answer) == {"client", "limits", "remaining", "budget", "today", "month"}
    lines = [event for event in daemon.events() if event.get("client") == "ci"]
    (line,) = [event for event in lines if event["route"] == CHAT]
    assert line["cost_usd"] == pytest.approx(answer["today"]["cost_usd"])
    labels = {"client": "ci", "endpoint": "chat", "outcome": "success"}
    assert daemon.metric("gemproxy_client_requests_total", **labels) == 1
    assert own("ci") == answer
    with Wire(daemon) as wire:
        assert wire.ask("GET", "/v1/usage/me").status == 401


def test_counting_tokens_and_looking_at_resources_cost_nothing(start):
    daemon = start(models={"countTokens": "exact"})
    contents = [{"role": "user", "parts": [{"text": "How long?"}]}]
    messages = {"model": MODEL, "messages": [{"role": "user", "content": "How long?"}]}
    ask(daemon, "ci", "", False, stream=False)
    paths = {
        f"/v1beta/models/{MODEL}:countTokens": {"contents": contents},
        "/v1/responses/input_tokens": {"model": MODEL, "input": "How long?"},
        "/v1/messages/count_tokens": messages,
        "/v1beta/files": None,
    }
    with Wire(daemon) as wire:
        authorization = f"Bearer {CLIENTS['ci']}"
        interaction = {"model": MODEL, "input": "hi"}
        made = wire.ask("POST", "/v1beta/interactions", interaction, authorization=authorization)
        daemon.request_line(made.headers["x-request-id"])
        before = wire.ask("GET", "/v1/usage/me", authorization=authorization).json["today"]
        # It tells the tokens of the interaction, which were counted when it was made.
        paths[f"/v1beta/interactions/{made.json['id']}"] = None
        for path, body in paths.items():
            method = "GET" if body is None else "POST"
            answer = wire.ask(method, path, body, authorization=authorization)
            assert answer.status == 200, answer.body
            daemon.request_line(answer.headers["x-request-id"])
        today = wire.ask("GET", "/v1/usage/me", authorization=authorization).json["today"]
    assert today["requests"] == before["requests"] + len(paths)
    assert today["cost_usd"] == before["cost_usd"] > 0
    assert today["tokens"] == before["tokens"]
