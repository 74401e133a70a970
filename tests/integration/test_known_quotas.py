"""A quota that Google names is shown by the daemon, and known after a crash."""

from __future__ import annotations

import pytest
from fakes.running import RunningDaemon, RunningSimulator, keys_of, secret_of
from fakes.wire import CHAT, MODEL, Wire

QUOTA_ID = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"


@pytest.fixture
def simulator(tmp_path):
    limited = {"name": "alpha", "key": secret_of("alpha"), "limits": {"rpm": 4}}
    free = {"name": "beta", "key": secret_of("beta")}
    running = RunningSimulator(tmp_path, ("alpha", "beta"), keys=[limited, free])
    yield running
    running.stop()


@pytest.fixture
def start(simulator, tmp_path):
    started = []

    def start():
        started.append(
            RunningDaemon(
                tmp_path,
                simulator.url,
                keys_of("alpha", "beta", limits={"rpd": 1000}),
                persistence={"checkpointSeconds": 0.2},
                proxy={"allowAnonymous": True},
            )
        )
        return started[-1]

    yield start
    for daemon in started:
        daemon.popen.kill()
        daemon.wait()


def learned(daemon):
    answer = daemon.admin("GET", "quotas?source=learned")
    assert answer.status == 200
    return answer.json


def test_quota_is_learned_shown_and_kept_over_a_crash(simulator, start):
    daemon = start()
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
    with Wire(daemon) as wire:
        assert [wire.ask("POST", CHAT, body).status for _ in range(12)] == [200] * 12
    (row,) = learned(daemon)
    shown = ("project", "model", "dimension", "limit", "source", "used", "quota_id")
    assert [row[name] for name in shown] == ["alpha", MODEL, "rpm", 4, "learned", 4, QUOTA_ID]
    labels = {"project": "alpha", "model": MODEL, "dimension": "rpm", "key": ""}
    assert daemon.metrics()["gemproxy_quota_limit", frozenset(labels.items())] == 4
    by_key = {q["key"]: q["used"] for q in daemon.admin("GET", "quotas?source=configured").json}
    assert by_key.keys() == {"alpha", "beta"}
    assert sum(by_key.values()) == len(simulator.requests())
    daemon.wait_for_checkpoint()
    daemon.popen.kill()
    daemon.wait()
    (again,) = learned(start())
    # What was used leaves the window meanwhile, on a slow machine.
    lasting = (*shown[:5], "quota_id")
    assert [again[name] for name in lasting] == [row[name] for name in lasting]
