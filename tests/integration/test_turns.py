"""The reactor is not held: by checkpoints, by what is deleted, or by an operator who searches.

The length of a turn is the CPU time of the reactor's thread. It is 5 ms at most where nobody else
computes; on a machine that others use, caches are cold, and it may be several times as much. How
many rows a turn makes is counted by the tests of each part.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest
from fakes import running
from fakes.running import RunningDaemon, RunningSimulator, eventually, keys_of
from fakes.stores import full_state, used
from fakes.wire import CHAT, Wire, said

from gemproxy.state.kinds import Retention
from gemproxy.state.model import USAGE_DAY, RecordRow
from gemproxy.state.record_query import MICROSECONDS, digest_of
from gemproxy.state.sqlite.store import SQLiteStateStore

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no epoll to time")

RECORDS, KEPT = 8_000, 3_000
USAGE_ROWS = 4_000
#: Seconds. Before long answers were made in turns, they took 50 ms to 1.2 s, each time.
LONG = 0.025
#: How often each question is asked. A turn that is long by itself is long each time; one in which
#: the machine did something else, or the garbage collector, is not.
TIMES = 3
#: Turns of the whole time that may be longer.
MOST_LONG = 10
DATA = (
    '[["%s","2026-11-01T00:00:00.123456Z","/v1/chat/completions",null,false,0,"",null,1,812.5,700.2,'
    '1200,340,0,null,"",0,120,0.001234567,0.0],[]]'
)
QUESTIONS = (
    "requests?limit=500",
    "requests?limit=500&failed=true",
    "requests?limit=500&client=client-3",
    "requests?status=418",
    "requests/req_1",
    "usage?from=yesterday&by=client,model,day",
    "usage?from=yesterday&by=client,model,day&format=csv",
    "metrics",
)


def fill(path, now):
    """Records of the last minutes, and as many clients' usage as an answer can have."""
    store = SQLiteStateStore(path, Retention(records=RECORDS))
    first = int((now - 600) * MICROSECONDS)
    records = tuple(
        RecordRow(
            first + n,
            digest_of(f"req_{n}"),
            f"client-{n % 20}",
            "chat",
            "m",
            f"key-{n % 500}",
            503 if n % 50 == 0 else 200,
            "service" if n % 50 == 0 else "success",
            DATA % f"req_{n}",
        )
        for n in range(RECORDS)
    )
    day = int(now) // USAGE_DAY * USAGE_DAY
    usage = tuple(
        used(
            period=USAGE_DAY,
            start=day - USAGE_DAY,
            client=f"client-{n % 200}",
            model=f"m-{n // 200}",
        )
        for n in range(USAGE_ROWS)
    )
    store.save(full_state(now, records=records, usage=usage))
    store.close()


def test_no_turn_of_the_reactor_is_long(tmp_path, monkeypatch):
    path, turns = tmp_path / "state.db", tmp_path / "turns"
    fill(path, time.time())
    program = Path(__file__).parents[1] / "fakes/twistd_that_times_turns.py"
    monkeypatch.setattr(running, "TWISTD", (sys.executable, program, "-n", "--pidfile="))
    simulator = RunningSimulator(tmp_path, ("alpha", "beta"))
    daemon = RunningDaemon(
        tmp_path,
        simulator.url,
        keys_of("alpha", "beta"),
        environ={"GEMPROXY_TURNS": str(turns)},
        persistence={"path": str(path), "checkpointSeconds": 0.5},
        records={"maxRows": KEPT},
    )
    is_over = threading.Event()

    def ask():
        with Wire(daemon) as wire:
            while not is_over.is_set():
                wire.ask("POST", CHAT, said("hi"))

    asking = threading.Thread(target=ask)
    asking.start()
    spans = {question: [] for question in QUESTIONS}
    begin = time.monotonic()
    try:
        for question in QUESTIONS * TIMES:
            asked = time.monotonic()
            assert daemon.admin("GET", question).status in (200, 404), question
            spans[question].append((asked, time.monotonic()))
        # Some thousand records are deleted at the first checkpoint.
        eventually(lambda: daemon.admin("GET", "requests/req_100").status == 404)
    finally:
        is_over.set()
        asking.join()
        daemon.stop()
        simulator.stop()
    ended = [tuple(map(float, line.split())) for line in turns.read_text().splitlines()]

    def longest(first, last):
        # The turn that sends the answer's end is still going on when the answer is there.
        return max((took for end, took in ended if first < end and end - took < last), default=0.0)

    least = {question: min(longest(*each) for each in spans[question]) for question in QUESTIONS}
    assert 0.0 < max(least.values()) < LONG, least
    lengths = sorted((took for end, took in ended if end > begin), reverse=True)
    assert max(lengths[MOST_LONG:], default=0.0) < LONG, lengths[:20]
