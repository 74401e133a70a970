"""``kill -9`` at any moment: the database is whole and at most one checkpoint behind."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
KILLS = 50

# Runs apart from the tests, since it forks: a child saves one state after another and tells of
# each that is done, until it is killed; the next child goes on from what it finds.
_PLAY = """
import os, random, signal, sys, time
from dataclasses import replace
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
from fakes.stores import full_state, key_snapshot, minute
from gemproxy.pool.snapshot import PoolSnapshot
from gemproxy.state.sqlite.store import SQLiteStateStore

path, kills = Path(sys.argv[2]), int(sys.argv[3])

def state(n):
    keys = tuple(key_snapshot(f"k{k}", requests_total=n) for k in range(20))
    rows = tuple(minute(60 * n + 60, key=f"k{k}", requests=n) for k in range(20))
    return replace(full_state(), pool=PoolSnapshot(float(n), keys), metrics=rows)

def save_until_killed(acknowledge):
    store = SQLiteStateStore(path)
    found = store.load()
    n = int(found.taken_at) if found else 0
    while True:
        n += 1
        store.save(state(n))
        os.write(acknowledge, b"%d\\n" % n)

dice = random.Random(4806)
for _ in range(kills):
    told, acknowledge = os.pipe()
    child = os.fork()
    if not child:
        save_until_killed(acknowledge)
    os.close(acknowledge)
    with open(told) as lines:
        # While it opens the database, or within one of its first saves.
        heard = [lines.readline() for _ in range(dice.randrange(4))]
        time.sleep(dice.uniform(0, 0.005 if heard else 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        heard += lines.readlines()
    print(heard[-1].strip() if heard else "", flush=True)
    sys.stdin.readline()
"""


@dataclass
class Found:
    """What the database holds after a kill."""

    integrity: str
    taken_at: float
    rows: set[tuple[float, ...]]


def look(path):
    """Read as another program would, with the log that the dead process has left."""
    with closing(sqlite3.connect(path)) as connection:
        (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
        if not connection.execute("SELECT * FROM sqlite_master").fetchall():
            return Found(integrity, 0.0, set())
        taken = connection.execute("SELECT taken_at FROM checkpoint").fetchone()
        keys = connection.execute("SELECT DISTINCT requests_total FROM keys").fetchall()
        latest = connection.execute("SELECT max(requests) FROM request_metrics").fetchall()
        return Found(integrity, taken[0] if taken else 0.0, {*keys, *latest} - {(None,)})


def test_fifty_kills_lose_at_most_the_checkpoint_that_was_under_way(tmp_path):
    path = tmp_path / "gemproxy.db"
    play = subprocess.Popen(
        [sys.executable, "-c", _PLAY, str(ROOT), str(path), str(KILLS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    acknowledged = saves = 0
    with play:
        for _ in range(KILLS):
            line = play.stdout.readline().strip()
            saves += bool(line)
            acknowledged = int(line) if line else acknowledged
            found = look(path)
            assert found.integrity == "ok"
            assert acknowledged <= found.taken_at <= acknowledged + 1
            # All of one state, nothing of another.
            assert found.rows <= {(int(found.taken_at),)}
            acknowledged = int(found.taken_at)
            play.stdin.write("\n")
            play.stdin.flush()
    assert play.returncode == 0
    assert saves > KILLS // 2
    assert list(path.parent.glob("*.damaged*")) == []
