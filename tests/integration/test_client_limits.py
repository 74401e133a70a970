"""Clients' own limits and budgets at a daemon: over restarts, crashes and reloads."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
import yaml
from fakes.running import RunningDaemon, RunningSimulator, eventually, keys_of
from fakes.wire import CHAT, MODEL, Wire, request

NATIVE = f"/v1beta/models/{MODEL}:generateContent"
TOKENS = {name: f"token-of-{name}-0123456789abcdef" for name in ("day", "money", "place", "free")}
SETTINGS = {
    "day": {"limits": {"rpd": 3, "tpd": 1_000_000}},
    "money": {"budget": {"usdPerMonth": 0.5}},
    "place": {"limits": {"concurrent": 1, "rpm": None, "rpd": None}},
    "free": {"limits": {"rpd": None}},
}
PRICES = {
    "date": date(2026, 11, 30),
    "source": "made up",
    "prices": [{"models": ["*"], "input": 100_000.0, "output": 100_000.0}],
}


@pytest.fixture
def simulator(tmp_path):
    running = RunningSimulator(tmp_path, ("alpha",), keepRequests=10)
    yield running
    running.stop()


@pytest.fixture
def start(simulator, tmp_path):
    started = []
    (tmp_path / "prices.yaml").write_text(yaml.safe_dump(PRICES))
    write_clients(tmp_path)

    def start(**more):
        started.append(
            RunningDaemon(
                tmp_path,
                simulator.url,
                keys_of("alpha"),
                pricing={"file": str(tmp_path / "prices.yaml")},
                persistence={"checkpointSeconds": 0.2},
                proxy={"allowAnonymous": True},
                **more,
            )
        )
        return started[-1]

    yield start
    for daemon in started:
        daemon.popen.kill()
        daemon.wait()


def write_clients(folder, **settings):
    clients = [
        {"name": name, "token": token} | (SETTINGS | settings)[name]
        for name, token in TOKENS.items()
    ]
    file = folder / "clients.yaml"
    file.write_text(yaml.safe_dump({"clients": clients, "defaults": {"limits": {"rpd": 4}}}))
    file.chmod(0o600)


def ask(daemon, client, path=CHAT, said="Hello", **more):
    body = {"model": MODEL, "messages": [{"role": "user", "content": said}]} | more
    if path == NATIVE:
        body = {"contents": [{"role": "user", "parts": [{"text": said}]}]}
    headers = {"authorization": f"Bearer {TOKENS[client]}"} if client else {}
    with Wire(daemon) as wire:
        return wire.ask("POST", path, body, **headers)


def own(daemon, client):
    with Wire(daemon) as wire:
        return wire.ask("GET", "/v1/usage/me", authorization=f"Bearer {TOKENS[client]}").json


def test_a_days_limit_outlives_everything(start, tmp_path):
    daemon = start()
    assert ask(daemon, "day").status == 200
    daemon.stop()
    daemon = start()
    answer = ask(daemon, "day", NATIVE)
    assert answer.headers["x-ratelimit-remaining-requests"] == "1"
    assert answer.headers["x-ratelimit-limit-tokens"] == "1000000"
    daemon.wait_for_checkpoint()
    daemon.kill()
    daemon = start()
    write_clients(tmp_path, free={"limits": {"rpd": None, "rpm": 7}})
    daemon.configure(keys_of("alpha"), proxy={"allowAnonymous": True, "timezone": "Etc/UTC"})
    assert daemon.reload().status == 200
    assert ask(daemon, "day", "/v1/messages", max_tokens=5).status == 200
    refused = ask(daemon, "day")
    now = datetime.now(UTC)
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
    assert refused.status == 429
    assert refused.json["error"]["code"] == "rate_limit_exceeded"
    assert "rpd 3" in refused.json["error"]["message"]
    assert abs(int(refused.headers["retry-after"]) - (midnight - now).total_seconds()) < 60
    told = own(daemon, "day")
    assert told["limits"]["rpd"] == 3
    assert told["remaining"]["rpd"] == 0
    tokens = told["today"]["tokens"]
    assert told["remaining"]["tpd"] == 1_000_000 - tokens["input"] - tokens["output"]
    # It is nobody's fault but the client's.
    assert daemon.health()["status"] == "healthy"
    assert told["today"]["failures"] == {"theirs": 1, "ours": 0, "upstream": 0}
    labels = {"client": "day", "endpoint": "chat", "limit": "rpd"}
    assert daemon.metric("gemproxy_client_limit_refusals_total", **labels) == 1
    assert daemon.metric("gemproxy_client_limit_used_ratio", client="day", limit="rpd") == 1
    line = daemon.request_line(refused.headers["x-request-id"])
    assert (line["client"], line["status"]) == ("day", 429)


def test_a_budget_is_spent_once(start):
    daemon = start()
    assert ask(daemon, "money").status == 200
    daemon.wait_for_checkpoint()
    daemon.kill()
    daemon = start()
    refused = ask(daemon, "money", said="again")
    assert (refused.status, refused.json["error"]["code"]) == (429, "insufficient_quota")
    begins = (datetime.now(UTC).date().replace(day=28) + timedelta(days=4)).replace(day=1)
    assert begins.isoformat() in refused.json["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert own(daemon, "money")["remaining"]["usdPerMonth"] == 0
    # A first limit holds for what was used before.
    assert ask(daemon, "free").status == 200
    write_clients(daemon.folder, free={"budget": {"usdPerDay": 0.1}})
    assert daemon.reload().status == 200
    eventually(lambda: ask(daemon, "free").status == 429)


def test_a_stream_takes_a_place_until_its_end(start):
    daemon = start()
    stalled = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "[simulate:stall chunks=1]"}],
        "stream": True,
    }
    with Wire(daemon) as wire:
        wire.send(request("POST", CHAT, stalled, authorization=f"Bearer {TOKENS['place']}"))
        wire.until(b"data: ")
        refused = ask(daemon, "place")
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert "concurrent 1" in refused.json["error"]["message"]
    eventually(lambda: ask(daemon, "place").status == 200)
    assert [ask(daemon, "place").status for _ in range(10)] == [200] * 10
    # The defaults are those of everybody who sends no token.
    assert [ask(daemon, None).status for _ in range(5)] == [200] * 4 + [429]
    assert "without a token" in ask(daemon, None).json["error"]["message"]
    assert ask(daemon, "free").status == 200
