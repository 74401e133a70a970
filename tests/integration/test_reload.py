"""Reload: a changed file, a signal or the operator's word, and nobody's request is lost.

The test with many reloads makes as many as ``GEMPROXY_RELOADS`` says.
"""

import json
import os
import secrets
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from fakes.running import ADMIN_TOKEN, RunningDaemon, eventually, keys_of, secret_of
from fakes.wire import CHAT, Wire, ask, chat, request, said

#: Within which a change of the files is noticed.
NOTICED = 2.0
RELOADS = int(os.environ.get("GEMPROXY_RELOADS", "150"))
CLIENT_TOKEN = "a-client-token-for-the-tests"
AS_ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
KEYS = keys_of("alpha", "beta")


@pytest.fixture(scope="module")
def long_lived(simulator, tmp_path_factory):
    running = RunningDaemon(tmp_path_factory.mktemp("daemon"), simulator.url, KEYS)
    yield running
    running.stop()


@pytest.fixture
def daemon(long_lived, simulator):
    """With the two keys and the settings that it was started with."""
    simulator.reset()
    long_lived.configure(KEYS)
    assert long_lived.reload().status == 200
    for key in long_lived.admin("GET", "keys").json["keys"]:
        long_lived.admin("POST", f"keys/{key['id']}/reset")
    return long_lived


def generation(daemon):
    return daemon.health()["config"]["generation"]


def served_by(daemon, count):
    """How many of ``count`` requests each key served."""
    with Wire(daemon) as wire:
        answers = [wire.ask("POST", CHAT, said("hi"), **AS_ADMIN) for _ in range(count)]
    assert {answer.status for answer in answers} == {200}
    return Counter(answer.headers["x-gemproxy-key"] for answer in answers)


def key_file(*keys):
    return yaml.safe_dump({"keys": list(keys)})


def change(daemon, keys=KEYS, **settings):
    """Change the files and reload; gives what the operator is told of the changes."""
    daemon.configure(keys, **settings)
    answer = daemon.reload()
    assert answer.status == 200, answer.body
    return answer.json["changes"]


# -- a changed file is noticed ---------------------------------------------------------------------


def write_in_place(path, text):
    path.write_text(text)


def rename_over(path, text):
    written = path.with_suffix(".new")
    written.write_text(text)
    written.replace(path)


def swap_symlink(path, text):
    """As configuration is delivered to containers: the path is a link, which is replaced."""
    target = path.with_name(f"{path.name}.{time.monotonic_ns()}")
    target.write_text(text)
    link = path.with_suffix(".link")
    link.symlink_to(target)
    link.replace(path)


@pytest.mark.parametrize("save", [write_in_place, rename_over, swap_symlink])
def test_every_way_to_save_a_file_is_noticed(daemon, save):
    before = generation(daemon)
    changed_at = time.monotonic()
    save(daemon.folder / "keys.yaml", key_file(*keys_of("gamma")))
    eventually(lambda: generation(daemon) == before + 1, NOTICED)
    assert time.monotonic() - changed_at <= NOTICED
    assert served_by(daemon, 2) == {"gamma": 2}


def test_the_other_file_and_files_of_secrets_are_watched_as_well(daemon):
    before = generation(daemon)
    secret = daemon.folder / "gamma.secret"
    secret.write_text(secret_of("gamma"))
    change(daemon, [{"name": "one", "keyFile": str(secret)}])
    assert served_by(daemon, 1) == {"one": 1}
    key_id = daemon.key("one")["id"]
    secret.write_text(secret_of("delta"))
    eventually(lambda: generation(daemon) == before + 2, NOTICED)
    assert daemon.key("one")["id"] != key_id
    config = daemon.folder / "proxy.yaml"
    rename_over(config, config.read_text() + "models: {aliases: {gpt-4o: gemini-3.8-flash}}\n")
    eventually(lambda: generation(daemon) == before + 3, NOTICED)
    assert ask(daemon, "POST", CHAT, said("hi", "gpt-4o")).status == 200


def failed(daemon):
    return daemon.metric("gemproxy_config_reloads_total", result="failure")


# -- a signal --------------------------------------------------------------------------------------


def test_sighup_reads_the_files_at_once(daemon):
    told = len(daemon.lines)
    daemon.popen.send_signal(signal.SIGHUP)
    # The watch would not have read files that are as they were.
    daemon.wait_for_line("read again, nothing to apply", told)
    before = generation(daemon)
    daemon.configure(keys_of("gamma"))
    daemon.popen.send_signal(signal.SIGHUP)
    eventually(lambda: generation(daemon) == before + 1)
    assert served_by(daemon, 1) == {"gamma": 1}


def test_a_burst_of_signals_kills_nobody(daemon):
    told = len(daemon.lines)
    for _ in range(200):
        daemon.popen.send_signal(signal.SIGHUP)
    daemon.wait_for_line("read again, nothing to apply", told)
    assert chat(daemon).status == 200
    assert daemon.popen.poll() is None


# -- a bad file ------------------------------------------------------------------------------------


def test_a_bad_file_changes_nothing_and_is_told_everywhere(daemon):
    before, failures = generation(daemon), failed(daemon)
    keys_before = daemon.admin("GET", "keys").json
    told = len(daemon.lines)
    bad = "keys:\n- name: alpha\n  key: " + secret_of("alpha") + "\n  weight: two\n"
    write_in_place(daemon.folder / "keys.yaml", bad)
    place = f"{daemon.folder}/keys.yaml:4: keys[0].weight: "
    health = eventually(lambda: degraded(daemon), NOTICED)
    assert health["config"]["generation"] == before
    assert place in health["config"]["last_error"]
    assert any(place in reason for reason in health["reasons"])
    assert failed(daemon) == failures + 1
    line = json.loads(daemon.wait_for_line("configuration not applied", told))
    assert line["level"] == "error"
    assert place in line["faults"][0]
    refused = daemon.reload()
    assert refused.status == 400
    assert refused.error["type"] == "invalid_request_error"
    assert place in refused.error["message"]
    assert "expected a whole number of at least 1, got 'two'" in refused.error["message"]
    assert daemon.admin("GET", "keys").json == keys_before
    assert served_by(daemon, 4) == {"alpha": 2, "beta": 2}
    # Repaired, it is as if nothing had been.
    daemon.configure(KEYS)
    eventually(lambda: daemon.health()["status"] == "healthy", NOTICED)
    assert daemon.health()["config"]["last_error"] is None
    assert generation(daemon) == before


def degraded(daemon):
    health = daemon.health()
    return health if health["status"] == "degraded" else None


@pytest.mark.parametrize(
    ("file", "text", "place"),
    [
        ("keys.yaml", None, "keys.yaml"),
        ("keys.yaml", "", "keys.yaml"),
        ("keys.yaml", "keys: []\n", "keys.yaml:1: keys"),
        ("keys.yaml", "keys:\n- name: 'alpha\n", "keys.yaml:"),
        ("proxy.yaml", None, "proxy.yaml"),
        ("proxy.yaml", "proxy:\n  adminToken: short\n", "proxy.yaml:2: proxy.adminToken"),
        ("proxy.yaml", "retry: {maxAttempt: 2}\n", "proxy.yaml:1: retry.maxAttempt"),
    ],
)
def test_a_file_that_is_missing_or_wrong_is_named(daemon, file, text, place):
    before = generation(daemon)
    if text is None:
        (daemon.folder / file).unlink()
    else:
        (daemon.folder / file).write_text(text)
    answer = daemon.reload()
    assert answer.status == 400
    assert answer.error["code"] == "invalid_configuration"
    assert place in answer.error["message"]
    assert generation(daemon) == before
    assert served_by(daemon, 2) == {"alpha": 1, "beta": 1}


def test_one_bad_file_keeps_the_good_one_from_being_applied(daemon):
    daemon.configure(keys_of("gamma"))
    (daemon.folder / "proxy.yaml").write_text("proxy: 7\n")
    assert daemon.reload().status == 400
    assert served_by(daemon, 2) == {"alpha": 1, "beta": 1}


def test_no_answer_log_or_page_shows_a_secret_of_a_file_that_was_refused(start_daemon):
    """Not even one that the daemon has never had in use, at the place of another setting."""
    daemon = start_daemon()
    one, other = (f"canary-{secrets.token_urlsafe(30)}" for _ in range(2))
    misplaced = (
        f"- {{name: a, key: {one}, weight: {one}}}\n- {{name: b, keey: {other}}}\n- {other}\n"
    )
    (daemon.folder / "keys.yaml").write_text("keys:\n" + misplaced)
    refused = daemon.reload()
    assert refused.status == 400
    told = eventually(lambda: [line for line in daemon.lines if "not applied" in line])
    shown = refused.body.decode() + daemon.admin("GET", "health").body.decode() + "".join(told)
    for secret in (one, other):
        assert secret[7:16] not in shown
    change(daemon, [{"name": "a", "key": one}, *KEYS])
    for path in ("keys", "health", "metrics", "requests"):
        assert one[7:16] not in daemon.admin("GET", path).body.decode()
    assert one[7:16] not in daemon.output


# -- what is in flight, and what was learnt --------------------------------------------------------


def test_a_stream_whose_key_a_reload_removes_ends_whole(daemon, simulator):
    change(daemon, keys_of("alpha"))
    simulator.behave("alpha", "slow", parameters={"delay": 0.0, "chunkDelay": 0.1})
    with Wire(daemon) as wire:
        wire.send(request("POST", CHAT, said("tell me", stream=True), connection="close"))
        begin = wire._until(b"data: {")
        assert b"200 OK" in begin
        changes = change(daemon, keys_of("beta"))
        assert (changes["keys_added"], changes["keys_removed"]) == (1, 1)
        assert served_by(daemon, 2) == {"beta": 2}
        assert daemon.health()["in_flight"] == 1
        rest = wire.rest()
    assert b'"finish_reason":"stop"' in rest
    assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_a_request_that_waits_during_a_reload_is_answered_and_may_use_a_new_key(daemon, simulator):
    change(daemon, keys_of("alpha"))
    simulator.behave("alpha", "slow", parameters={"delay": 0.6})
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(chat, daemon, x_request_id="waited")
        simulator.wait_for_request(lambda seen: seen["key"] == "alpha")
        change(daemon, keys_of("beta"))
        assert answer.result().status == 200


def test_what_is_known_of_a_key_stays_when_it_is_renamed_and_weighed_anew(start_daemon, simulator):
    daemon = start_daemon(keys_of("alpha", "beta", "gamma"))
    simulator.behave("alpha", "invalid")
    simulator.behave("beta", "rate-limited-minute")
    for _ in range(4):
        assert chat(daemon).status == 200
    before = daemon.admin("GET", "keys").json["keys"]
    assert before[0]["status"] == "circuit_open"
    assert before[1]["cooldowns"]
    assert before[2]["requests_total"] == 4
    renamed = [
        {**key, "name": f"new-{key['name']}", "weight": 5}
        for key in keys_of("alpha", "beta", "gamma")
    ]
    assert change(daemon, renamed)["keys_updated"] == 3
    after = daemon.admin("GET", "keys").json["keys"]
    differing = {"name", "weight", "project", "effective_weight"}
    for old, new in zip(before, after, strict=True):
        assert (new["name"], new["weight"]) == (f"new-{old['name']}", 5)
        kept = old.keys() - differing
        assert {name: new[name] for name in kept} == {name: old[name] for name in kept}
    assert served_by(daemon, 3) == {"new-gamma": 3}


def test_the_requests_before_a_reload_stay_explained(daemon):
    assert chat(daemon, x_request_id="before").status == 200
    change(daemon, keys_of("gamma"))
    told = daemon.admin("GET", "requests/before").json
    assert told["request"]["key"] in {"alpha", "beta"}


# -- what a reload can change, and what it cannot --------------------------------------------------


def test_keys_and_weights(daemon):
    changes = change(daemon, [*keys_of("alpha", weight=2), *keys_of("gamma")])
    assert changes == {
        "keys_added": 1,
        "keys_removed": 1,
        "keys_updated": 1,
        "settings": [],
        "restart_required": [],
    }
    assert served_by(daemon, 30) == {"alpha": 20, "gamma": 10}
    change(daemon, [*keys_of("alpha", enabled=False), *keys_of("gamma")])
    assert served_by(daemon, 3) == {"gamma": 3}


def test_access_tokens(daemon):
    token = {"authorization": f"Bearer {CLIENT_TOKEN}"}
    changes = change(daemon, proxy={"accessTokens": [CLIENT_TOKEN]})
    assert changes["settings"] == ["proxy.accessTokens"]
    assert chat(daemon).status == 401
    assert chat(daemon, **token).status == 200
    change(daemon, proxy={"accessTokens": ["another-client-token-for-the-tests"]})
    assert chat(daemon, **token).status == 401


def test_the_admin_token(daemon):
    fresh = "another-admin-token-for-the-tests"
    change(daemon, proxy={"adminToken": fresh})
    assert daemon.admin("GET", "health").status == 401
    assert daemon.admin("GET", "health", token=fresh).status == 200
    daemon.configure(KEYS)
    assert daemon.admin("POST", "config/reload", token=fresh).status == 200
    assert daemon.admin("GET", "health").status == 200


def test_aliases_and_allowed_models(daemon):
    assert ask(daemon, "POST", CHAT, said("hi", "gpt-4o")).status == 404
    change(daemon, models={"aliases": {"gpt-4o": "gemini-3.8-flash"}})
    assert ask(daemon, "POST", CHAT, said("hi", "gpt-4o")).status == 200
    change(daemon, models={"allow": ["gemini-2.5-flash"]})
    assert ask(daemon, "POST", CHAT, said("hi", "gemini-3.8-flash")).status == 404
    assert ask(daemon, "POST", CHAT, said("hi", "gemini-2.5-flash")).status == 200


def test_the_level_of_the_log(daemon):
    change(daemon, logging={"level": "error"})
    told = len(daemon.lines)
    assert chat(daemon, x_request_id="in-silence").status == 200
    change(daemon, logging={"level": "info"})
    assert chat(daemon, x_request_id="told-of").status == 200
    daemon.wait_for_line('"told-of"', told)
    assert not any('"in-silence"' in line for line in daemon.lines[told:])


def test_the_largest_body(daemon):
    body = said("x" * 5000)
    assert ask(daemon, "POST", CHAT, body).status == 200
    change(daemon, proxy={"maxPayloadSize": 4096})
    assert ask(daemon, "POST", CHAT, body).status == 413
    change(daemon)
    assert ask(daemon, "POST", CHAT, body).status == 200


def test_the_number_of_attempts(daemon, simulator):
    simulator.behave_all("internal-error")
    change(daemon, retry={"maxAttempts": 1})
    assert chat(daemon, x_request_id="once").headers["x-gemproxy-attempts"] == "1"


def test_the_number_of_requests_in_flight(daemon, simulator):
    simulator.behave_all("hang")
    change(daemon, proxy={"maxConcurrentRequests": 1})
    with Wire(daemon) as waiting:
        waiting.send(request("POST", CHAT, said("hi"), x_request_id="left"))
        simulator.wait_for_request(lambda _: True)
        assert chat(daemon).status == 429
    daemon.request_line("left")
    simulator.reset()
    assert chat(daemon).status == 200


def test_where_google_is(start_daemon, simulator):
    daemon = start_daemon(KEYS, base_url="http://127.0.0.1:9")
    assert chat(daemon).status == 502
    daemon.upstream = simulator.url
    changes = change(daemon)
    assert changes["settings"] == ["upstream.baseUrl"]
    for key in KEYS:
        daemon.admin("POST", f"keys/{key['name']}/reset")
    eventually(lambda: chat(daemon).status == 200)


def test_what_needs_a_restart_is_told_and_left_as_it_is(daemon):
    before, told = generation(daemon), len(daemon.lines)
    new = {"proxy": {"port": 4806, "host": "127.0.0.2"}, "persistence": {"path": "other.db"}}
    changes = change(daemon, **new)
    waiting = ["proxy.host", "proxy.port", "persistence.path"]
    assert changes["restart_required"] == waiting
    line = json.loads(daemon.wait_for_line("settings wait for a restart", told))
    assert line["settings"] == waiting
    assert generation(daemon) == before
    assert chat(daemon).status == 200
    assert not list(Path(daemon.folder).rglob("other.db*"))
    # What stands beside it is applied all the same.
    changes = change(daemon, [*keys_of("gamma")], **new)
    assert changes["restart_required"] == waiting
    assert served_by(daemon, 1) == {"gamma": 1}
    assert generation(daemon) == before + 1


# -- many of them ----------------------------------------------------------------------------------


class Load:
    """Clients that never stop asking, each on a connection of its own, whole and as a stream."""

    def __init__(self, daemon, clients=4):
        self._daemon = daemon
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._clients = [self._pool.submit(self._ask, bool(n % 2)) for n in range(clients)]

    def _ask(self, stream):
        served = 0
        with Wire(self._daemon) as wire:
            while not self._over.is_set():
                answer = wire.ask("POST", CHAT, said("hi", stream=stream))
                assert answer.status == 200, answer.body
                assert not stream or answer.body.endswith(b"data: [DONE]\n\n")
                served += 1
        return served

    def end(self):
        """How many requests were served; raises what any client met."""
        self._over.set()
        with self._pool:
            return sum(client.result() for client in self._clients)


class Holdings(NamedTuple):
    """What a process has: resident memory in MiB, and open files."""

    memory: float
    files: int

    @classmethod
    def of(cls, daemon):
        process = Path(f"/proc/{daemon.popen.pid}")
        resident = (process / "status").read_text().partition("VmRSS:")[2].split()[0]
        return cls(int(resident) / 1024, len(list((process / "fd").iterdir())))


def test_reloads_under_load_lose_no_request_and_no_memory(start_daemon):
    """Keys come and go, weights, tokens and aliases change, and every request is served."""
    daemon = start_daemon(keys_of("alpha", "beta"))
    kinds = [
        (keys_of("alpha", "gamma", weight=2), {"models": {"aliases": {"gpt-4o": "gemini-a"}}}),
        (keys_of("gamma", "beta", "delta"), {"retry": {"maxAttempts": 2}}),
    ]
    load = Load(daemon)
    try:
        grown = reload_many(daemon, kinds)
    finally:
        served = load.end()
    assert served >= RELOADS
    assert generation(daemon) == RELOADS + 1
    assert daemon.metric("gemproxy_config_reloads_total", result="success") == RELOADS
    assert failed(daemon) == 0
    assert daemon.health()["in_flight"] == 0
    assert grown.memory < 8
    assert grown.files < 10
    assert "Traceback" not in daemon.output


def reload_many(daemon, kinds):
    """By how much the process grew, once it had warmed up."""
    for number in range(RELOADS):
        keys, settings = kinds[number % 2]
        daemon.configure(keys, **settings)
        answer = daemon.reload()
        assert answer.status == 200, answer.body
        if number == RELOADS // 3:
            warm = Holdings.of(daemon)
    after = Holdings.of(daemon)
    return Holdings(after.memory - warm.memory, after.files - warm.files)
