"""What a daemon knows outlives its end, whichever way it ends."""

import os
import random
import subprocess
import sys
import time
from datetime import datetime

import pytest
from fakes.clients import sdk_of
from fakes.load import Found, Load, assert_private
from fakes.running import (
    REPOSITORY,
    TWISTD,
    Process,
    RunningDaemon,
    RunningSimulator,
    eventually,
    keys_of,
    secret_of,
)
from fakes.wire import chat, said

from gemproxy.simulator import calls

NAMES = ("good", "invalid", "spent", "tired", "benched")
INTERVAL = 0.2
#: What a loaded machine may add to the time between two checkpoints.
PATIENCE = 0.6
#: ``make kill-test`` asks for fifty.
KILLS = int(os.environ.get("GEMPROXY_KILLS", "10"))
#: Latencies are of this process's own; the rest is how a key stands.
OF_ONE_PROCESS = {"avg_latency_ms", "p95_latency_ms", "recent_latencies_ms"}
WEATHER = 'call get_weather with {"city": "Oslo"}'
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


@pytest.fixture(scope="module")
def simulator(tmp_path_factory):
    running = RunningSimulator(tmp_path_factory.mktemp("simulator"), NAMES)
    yield running
    running.stop()


@pytest.fixture
def start(simulator, tmp_path):
    """Start a daemon whose files are in the folder of that name; again goes on from its state."""
    started = []

    def start(folder="proxy", *, keys=None, **settings):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        settings = {"persistence": {"checkpointSeconds": INTERVAL}, **settings}
        keys = keys_of(*NAMES) if keys is None else keys
        started.append(RunningDaemon(place, simulator.url, keys, **settings))
        return started[-1]

    simulator.reset()
    yield start
    for daemon in started:
        daemon.popen.kill()
        daemon.wait()


def database(daemon):
    return daemon.folder / "state" / "gemproxy.db"


def standing(daemon):
    """Every key as the admin API shows it, apart from what is of one process only."""
    listed = daemon.admin("GET", "keys").json["keys"]
    return [{k: v for k, v in key.items() if k not in OF_ONE_PROCESS} for key in listed]


def checkpoint_after(daemon, moment):
    """Wait for a checkpoint that was begun after ``moment``."""

    def taken():
        last = daemon.health()["persistence"]["last_checkpoint"]
        return last is not None and datetime.fromisoformat(last).timestamp() > moment

    eventually(taken)


# -- a whole life ----------------------------------------------------------------------------------

PATIENT = {"retry": {"maxAttempts": 5}, "monitoring": {"cooldownSeconds": 250}}


def live_through_it(daemon, simulator):
    """Everything that can befall a key, and an operator's words. Gives the number of requests."""
    for word in ("tired/disable", "tired/enable", "benched/disable"):
        assert daemon.admin("POST", f"keys/{word}").status == 200
    # The last word counts, also when it takes back an earlier one.
    for name, weight in (("good", 7), ("spent", 9), ("spent", None)):
        assert daemon.admin("PUT", f"keys/{name}/weight", {"weight": weight}).status == 200
    simulator.behave("invalid", "suspended")  # echoes the whole key
    simulator.behave("spent", "rate-limited-day")
    simulator.behave("tired", "overloaded")
    asked = 0

    def happened():
        invalid, spent, tired = (daemon.key(name) for name in ("invalid", "spent", "tired"))
        opened = {invalid["status"], tired["status"]} == {"circuit_open"}
        return opened and spent["cooldowns"]

    while not happened():
        assert chat(daemon).status == 200
        asked += 1
        assert asked < 500
    return asked


@pytest.mark.parametrize("end", [RunningDaemon.stop, RunningDaemon.kill], ids=["stop", "kill"])
def test_a_restart_leaves_everything_as_it_was(start, simulator, end):
    first = start(**PATIENT)
    asked = live_through_it(first, simulator)
    call = ask_for_the_weather(first)
    before = standing(first)
    checkpoint_after(first, time.time())
    end(first)

    by_name = {key["name"]: key for key in before}
    assert by_name["invalid"]["needs_attention"]
    assert by_name["invalid"]["next_retry"]
    assert by_name["tired"]["consecutive_failures"] == 3
    assert by_name["spent"]["cooldowns"][0]["reason"] == "quota_day"
    assert by_name["good"]["requests_total"] == by_name["good"]["success_count"] == asked + 1
    assert (by_name["good"]["weight"], by_name["benched"]["enabled"]) == (7, False)

    second = start(**PATIENT)
    assert standing(second) == before
    simulator.reset()
    answer_the_call(second, simulator, call)
    second.stop()
    # The minute that the restart fell into is added up, not begun anew.
    found = Found(database(second))
    assert found.finished == asked + 2
    assert found.events == [
        ("key.disable", "tired"),
        ("key.enable", "tired"),
        ("key.disable", "benched"),
        ("key.weight", "good"),
        ("key.weight", "spent"),
        ("key.weight", "spent"),
    ]
    assert_private(database(second).parent, "test-key-of-")


def ask_for_the_weather(daemon):
    with sdk_of(daemon) as client:
        asked = said(WEATHER, tools=TOOLS)
        return client.chat.completions.create(**asked).choices[0].message.tool_calls[0]


def answer_the_call(daemon, simulator, call):
    """As a client does that knows no field of Google's; the signature is there all the same."""
    function = {"name": call.function.name, "arguments": call.function.arguments}
    asked = said(WEATHER, tools=TOOLS)
    asked["messages"] += [
        {
            "role": "assistant",
            "tool_calls": [{"id": call.id, "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": call.id, "content": "4 degrees"},
    ]
    with sdk_of(daemon) as client:
        client.chat.completions.create(**asked)
    (request,) = simulator.requests()
    (part,) = request["body"]["contents"][1]["parts"]
    assert part["thoughtSignature"] == calls.sign(0, part["functionCall"])


# -- under load ------------------------------------------------------------------------------------


def test_a_stop_under_load_counts_every_request(start):
    first = start(keys=keys_of("good", "benched"))
    with Load(first) as load:
        load.wait_for(30)
        assert first.stop() == 0
    second = start(keys=keys_of("good", "benched"))
    counted = {name: second.key(name)["requests_total"] for name in ("good", "benched")}
    assert sum(counted.values()) == len(load.answered)
    assert abs(counted["good"] - counted["benched"]) <= 1
    assert second.key("good")["success_count"] == counted["good"]


def test_kill_after_kill_loses_one_interval_at_most_and_no_start(start, tmp_path):
    dice = random.Random(4806)
    known = 0
    for kill in range(KILLS):
        if kill % 3 == 2:
            kill_while_it_starts(tmp_path / "proxy", dice)
            assert_whole(tmp_path / "proxy", known, known)
            continue
        daemon = start(keys=keys_of("good", "benched"))
        with Load(daemon) as load:
            load.wait_for(1)
            time.sleep(dice.uniform(0, 2 * INTERVAL) if kill % 4 else 2 * PATIENCE)
            daemon.popen.kill()
            killed = time.time()
            daemon.wait()
        horizon = max(killed - INTERVAL - PATIENCE, Found(database(daemon)).taken_at)
        durable = sum(moment < horizon for moment in load.answered)
        known = assert_whole(daemon.folder, known + durable, known + load.begun)
    daemon = start(keys=keys_of("good", "benched"))
    assert sum(key["requests_total"] for key in standing(daemon)) == known
    assert daemon.health()["status"] == "healthy"
    assert list(database(daemon).parent.glob("*.damaged*")) == []


def kill_while_it_starts(folder, dice):
    files = ("--config", folder / "proxy.yaml", "--keys", folder / "keys.yaml")
    process = Process(*TWISTD, "gemproxy", *files, cwd=folder)
    time.sleep(dice.uniform(0.3, 0.8))
    process.kill()


def assert_whole(folder, least, most):
    """The database is sound and counts a number of requests between these; gives the number."""
    found = Found(folder / "state" / "gemproxy.db")
    assert found.integrity == ["ok"]
    counted = sum(found.requests.values())
    assert least <= counted <= most
    return counted


# -- the operator's choice -------------------------------------------------------------------------


def test_without_a_path_nothing_is_kept_and_nothing_is_missed(start):
    nowhere = {"persistence": {"path": None}}
    first = start(**nowhere)
    assert chat(first).status == 200
    health = first.health()
    assert (health["status"], health["reasons"]) == ("healthy", [])
    assert health["persistence"] == {"backend": "none", "last_checkpoint": None, "last_error": None}
    assert b'gemproxy_persistence_backend{backend="none"} 1.0' in first.admin("GET", "metrics").body
    assert first.stop() == 0
    assert {path.name for path in first.folder.iterdir()} == {"proxy.yaml", "keys.yaml"}
    second = start(**nowhere)
    assert {key["requests_total"] for key in standing(second)} == {0}


def gemproxy(folder, *arguments):
    """Run the operator's program on the files in ``folder``."""
    program = "import sys; from gemproxy.cli import main; sys.exit(main())"
    files = ("--config", "proxy.yaml", "--keys", "keys.yaml")
    return subprocess.run(
        [sys.executable, "-c", program, *files, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_state_moves_from_one_machine_to_another(start, simulator, tmp_path):
    first = start(**PATIENT)
    live_through_it(first, simulator)
    call = ask_for_the_weather(first)
    before = standing(first)
    exported = tmp_path / "moved.json"

    def exported_meanwhile():
        backup = gemproxy(first.folder, "state", "export", tmp_path / "backup.json")
        # Nothing is there before the daemon's first checkpoint.
        assert backup.returncode == 0 or "holds no state yet" in backup.stderr
        return backup.returncode == 0

    eventually(exported_meanwhile)
    refused = gemproxy(first.folder, "state", "import", tmp_path / "backup.json")
    assert refused.returncode != 0
    assert "a running gemproxy uses it" in refused.stderr
    first.stop()
    done = gemproxy(first.folder, "state", "export", exported)
    assert (done.returncode, done.stderr) == (0, "")
    assert exported.stat().st_mode & 0o777 == 0o600
    assert "test-key-of-" not in exported.read_text()

    other = start("other", **PATIENT)
    other.stop()
    # The other daemon has written a state of its own, if an empty one.
    assert gemproxy(other.folder, "state", "import", exported).returncode != 0
    done = gemproxy(other.folder, "state", "import", exported, "--force")
    assert (done.returncode, done.stderr) == (0, "")
    other = start("other", **PATIENT)
    assert standing(other) == before
    simulator.reset()
    answer_the_call(other, simulator, call)
    assert_private(database(other).parent, *map(secret_of, NAMES))
