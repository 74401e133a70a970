"""What an operator does over the admin API, and what traffic, log and strangers notice of it."""

from collections import Counter

import pytest
from fakes.running import ADMIN_TOKEN, RunningDaemon, eventually, keys_of
from fakes.wire import CHAT, Wire, ask, chat, request, said

CLIENT_TOKEN = "a-client-token-for-the-tests"
AS_ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
NEIGHBOUR = "127.0.0.2"


@pytest.fixture(scope="module")
def daemon(simulator, tmp_path_factory):
    folder = tmp_path_factory.mktemp("daemon")
    running = RunningDaemon(folder, simulator.url, keys_of("alpha", "beta"))
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def as_in_the_file(request, simulator):
    """Whatever the last test did to the keys of the shared daemon is undone."""
    simulator.reset()
    if "daemon" in request.fixturenames:
        daemon = request.getfixturevalue("daemon")
        daemon.configure(keys_of("alpha", "beta"))
        daemon.reload()
        for name in ("alpha", "beta"):
            daemon.admin("POST", f"keys/{name}/enable")
            daemon.admin("POST", f"keys/{name}/reset")
            daemon.admin("PUT", f"keys/{name}/weight", {"weight": None})


def served_by(daemon, count):
    """How many of ``count`` requests each key served."""
    with Wire(daemon) as wire:
        answers = [wire.ask("POST", CHAT, said("hi"), **AS_ADMIN) for _ in range(count)]
    assert {answer.status for answer in answers} == {200}
    return Counter(answer.headers["x-gemproxy-key"] for answer in answers)


def reload_another_weight(daemon):
    """A reload that changes every key, though nothing that an operator has said."""
    daemon.configure(keys_of("alpha", "beta", weight=3))
    changes = daemon.reload().json["changes"]
    assert changes["keys_updated"] == 2


# -- an operator's word counts at once, and outlives a reload --------------------------------------


def test_a_disabled_key_serves_nobody_until_it_is_enabled(daemon):
    answer = daemon.admin("POST", "keys/alpha/disable")
    assert answer.status == 200
    assert answer.json["success"]
    assert answer.json["key_id"] == answer.json["key"]["id"]
    assert (answer.json["key"]["enabled"], answer.json["key"]["status"]) == (False, "disabled")
    assert served_by(daemon, 6) == {"beta": 6}
    reload_another_weight(daemon)
    assert served_by(daemon, 6) == {"beta": 6}
    assert daemon.admin("POST", "keys/alpha/enable").json["key"]["enabled"]
    assert served_by(daemon, 6) == {"alpha": 3, "beta": 3}


def test_a_key_that_the_file_disables_can_be_enabled(start_daemon):
    daemon = start_daemon([*keys_of("alpha", enabled=False), *keys_of("beta")])
    assert served_by(daemon, 4) == {"beta": 4}
    daemon.admin("POST", "keys/alpha/enable")
    assert served_by(daemon, 4) == {"alpha": 2, "beta": 2}
    daemon.configure([*keys_of("alpha", enabled=False, weight=3), *keys_of("beta")])
    assert daemon.reload().json["changes"]["keys_updated"] == 1
    assert served_by(daemon, 4) == {"alpha": 3, "beta": 1}


def test_a_weight_that_was_set_counts_until_it_is_given_back(daemon):
    answer = daemon.admin("PUT", "keys/alpha/weight", {"weight": 4})
    assert answer.json["key"]["weight"] == 4
    assert served_by(daemon, 10) == {"alpha": 8, "beta": 2}
    reload_another_weight(daemon)
    assert daemon.key("alpha")["weight"] == 4
    assert served_by(daemon, 14) == {"alpha": 8, "beta": 6}
    answer = daemon.admin("PUT", "keys/alpha/weight", {"weight": None})
    assert answer.json["key"]["weight"] == 3
    assert served_by(daemon, 6) == {"alpha": 3, "beta": 3}


def test_a_reset_closes_the_breaker_and_forgets_cooldowns(daemon, simulator):
    simulator.behave("alpha", "invalid")
    simulator.behave("beta", "rate-limited-minute")
    assert chat(daemon).status in {429, 503}
    assert chat(daemon).status in {429, 503}
    assert daemon.key("alpha")["status"] == "circuit_open"
    assert daemon.key("beta")["cooldowns"] != []
    simulator.reset()
    assert chat(daemon).status in {429, 503}
    daemon.admin("POST", "keys/alpha/reset")
    assert served_by(daemon, 2) == {"alpha": 2}
    daemon.admin("POST", "keys/beta/reset")
    assert set(served_by(daemon, 4)) == {"alpha", "beta"}
    assert daemon.key("beta")["cooldowns"] == []


# -- audit -----------------------------------------------------------------------------------------


def audited(daemon, action, target):
    """The audit events of one action, as they stand in the log."""
    return [
        event
        for event in daemon.events()
        if event["logger"] == "gemproxy.audit"
        and (event["action"], event["target"]) == (action, target)
    ]


def test_every_change_is_told_with_who_what_before_and_after(start_daemon):
    daemon = start_daemon()
    key_id = daemon.key("alpha")["id"]
    told = {
        "key.disable": ("POST", "keys/alpha/disable", None, {"enabled": True, "status": "active"}),
        "key.enable": ("POST", "keys/alpha/enable", None, {"enabled": False, "status": "disabled"}),
        "key.weight": ("PUT", "keys/alpha/weight", {"weight": 5}, {"weight": 1}),
        "key.reset": ("POST", "keys/alpha/reset", None, None),
    }
    for action, (method, path, body, before) in told.items():
        assert daemon.admin(method, path, body, source=NEIGHBOUR).status == 200
        (event,) = eventually(lambda action=action: audited(daemon, action, "alpha"))
        assert (event["address"], event["token"]) == (NEIGHBOUR, "admin")
        assert event["target_id"] == key_id
        if before is not None:
            assert event["before"] == before
            assert event["after"].keys() == before.keys()
            assert event["after"] != before
    daemon.configure(keys_of("alpha", "gamma"), retry={"maxAttempts": 2})
    assert daemon.reload().status == 200
    (event,) = eventually(lambda: audited(daemon, "config.reload", "configuration"))
    assert event["before"] == {"generation": 1}
    assert event["after"] == {
        "generation": 2,
        "keys_added": ["gamma"],
        "keys_removed": ["beta"],
        "keys_updated": [],
        "settings": ["retry.maxAttempts"],
        "restart_required": [],
    }


# -- who comes in ----------------------------------------------------------------------------------


def test_ten_wrong_tokens_lock_an_address_out_and_no_other_one(start_daemon):
    daemon = start_daemon()
    for number in range(10):
        answer = daemon.admin("GET", "keys", token=f"wrong-token-{number}")
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    locked = daemon.admin("GET", "keys", token="wrong-token-10")
    assert locked.status == 429
    assert 1 <= int(locked.headers["retry-after"]) <= 60
    assert daemon.admin("GET", "no/such/thing", token="wrong-token-11").status == 429
    assert daemon.admin("GET", "keys", token="wrong-token", source=NEIGHBOUR).status == 401
    # What a header says of another address counts for nothing.
    told = daemon.admin("GET", "keys", token="wrong-token", x_forwarded_for=NEIGHBOUR)
    assert told.status == 429
    # The operator behind the same reverse proxy is not shut out, nor are the clients.
    assert daemon.admin("GET", "keys").status == 200
    assert chat(daemon).status == 200
    assert daemon.admin("GET", "keys", token="wrong-token-12").status == 429
    assert daemon.metric("gemproxy_auth_failures_total", api="admin") == 15


def test_a_clients_token_opens_no_admins_door(start_daemon):
    daemon = start_daemon(
        None, proxy={"accessTokens": [{"name": "app", "token": CLIENT_TOKEN, "debug": True}]}
    )
    assert chat(daemon, authorization=f"Bearer {CLIENT_TOKEN}").status == 200
    assert daemon.admin("GET", "keys", token=CLIENT_TOKEN).status == 401
    assert daemon.admin("GET", "keys").status == 200


def test_where_the_token_is_given_up_on_purpose_anybody_local_is_the_operator(start_daemon):
    daemon = start_daemon(None, proxy={"adminAuth": "disabled"})
    assert daemon.admin("GET", "keys", token=None).status == 200
    assert daemon.admin("POST", "keys/alpha/disable", token=None).status == 200
    assert served_by(daemon, 2) == {"beta": 2}
    (event,) = eventually(lambda: audited(daemon, "key.disable", "alpha"))
    assert event["token"] == "anonymous"
    # A page of another site that the operator's browser shows is not the operator.
    for origin in ("https://elsewhere.example", "null"):
        answer = daemon.admin("POST", "keys/alpha/enable", token=None, origin=origin)
        assert answer.status == 403
    assert not daemon.key("alpha")["enabled"]


# -- a listener of its own -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_on_a_listener_of_its_own_the_public_one_knows_no_admin(start_daemon, tmp_path, kind):
    place = {
        "tcp": "tcp:port=0:interface=127.0.0.1",
        "unix": f"unix:{tmp_path}/admin.sock",
    }[kind]
    daemon = start_daemon(None, proxy={"adminEndpoint": place})
    assert daemon.admin_address != daemon.address
    assert daemon.health()["status"] == "healthy"
    assert daemon.admin("GET", "keys", token=None).status == 401
    assert daemon.admin("POST", "keys/alpha/disable").status == 200
    assert served_by(daemon, 2) == {"beta": 2}
    for path in ("/admin/health", "/admin/", "/admin"):
        for headers in ({}, AS_ADMIN):
            answer = ask(daemon, "GET", path, **headers)
            assert (answer.status, answer.error["code"]) == (404, "unknown_url")
    with Wire(daemon, place=daemon.admin_address) as wire:
        answer = wire.ask("POST", CHAT, said("hi"), **AS_ADMIN)
        assert answer.status == 404
    assert daemon.stop() == 0


# -- during a drain --------------------------------------------------------------------------------


def test_the_operator_is_served_while_the_daemon_drains(start_daemon, simulator):
    daemon = start_daemon(keys_of("alpha"), proxy={"drainSeconds": 20})
    simulator.behave("alpha", "slow", parameters={"delay": 0.0, "chunkDelay": 0.25})
    with Wire(daemon) as kept, Wire(daemon) as stream, Wire(daemon) as other:
        assert kept.ask("GET", "/admin/health", **AS_ADMIN).json["draining"] is False
        assert other.ask("GET", "/livez").status == 200
        stream.send(request("POST", CHAT, said("tell me", stream=True)))
        stream._until(b"data: {")
        daemon.popen.terminate()
        daemon.wait_for_line("draining")
        health = kept.ask("GET", "/admin/health", **AS_ADMIN).json
        assert health["draining"] is True
        assert health["in_flight"] == 1
        assert other.ask("GET", "/admin/metrics", **AS_ADMIN).status == 200
        assert b"[DONE]" in stream.rest()
    assert daemon.wait() == 0


def test_a_listener_of_its_own_is_open_until_the_drain_is_over(start_daemon, simulator):
    own = "tcp:port=0:interface=127.0.0.1"
    daemon = start_daemon(keys_of("alpha"), proxy={"adminEndpoint": own})
    simulator.behave("alpha", "slow", parameters={"delay": 0.0, "chunkDelay": 0.25})
    with Wire(daemon) as stream:
        stream.send(request("POST", CHAT, said("tell me", stream=True)))
        stream._until(b"data: {")
        daemon.popen.terminate()
        daemon.wait_for_line("draining")
        assert daemon.health()["draining"]
        assert daemon.admin("POST", "keys/alpha/disable").status == 200
        assert b"[DONE]" in stream.rest()
    assert daemon.wait() == 0
    assert daemon.errors == []


def test_the_operator_is_served_while_the_house_is_full(start_daemon, simulator):
    daemon = start_daemon(keys_of("alpha"), proxy={"maxConcurrentRequests": 1})
    simulator.behave("alpha", "hang")
    with Wire(daemon) as waiting:
        waiting.send(request("POST", CHAT, said("hi")))
        simulator.wait_for_request(lambda _: True)
        assert chat(daemon).status == 429
        assert daemon.health()["in_flight"] == 1
        assert daemon.admin("POST", "keys/alpha/disable").status == 200
