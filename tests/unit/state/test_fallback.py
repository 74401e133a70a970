"""Disks that fail, with real files; and the way back to SQLite."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.stores import NOON, audit_event, comparable, full_state, idle_key, minute

from gemproxy.pool.snapshot import Override, PoolSnapshot
from gemproxy.state import fallback
from gemproxy.state.fallback import FallbackStateStore
from gemproxy.state.json.store import JSONStateStore
from gemproxy.state.model import State
from gemproxy.state.sqlite.store import SQLiteStateStore

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("step", [-86400.0 * 3, -3600.0, 0.0, 3600.0])
def test_a_snapshot_wins_that_was_written_after_the_clock_was_set(tmp_path, step):
    """What the operator said meanwhile, and what was counted, is not lost."""
    files = Files(tmp_path)
    store = files.store()
    store.save(full_state())
    store.close()
    database = files.database.read_bytes()
    store = files.store()
    store.load(NOON + 30)
    word = Override(enabled=False)
    pool = replace(
        full_state().pool, taken_at=NOON + 60 + step, overrides=(("primary-fingerprint", word),)
    )
    store._primary._disconnect()
    files.database.unlink()
    files.database.mkdir()
    row = minute(NOON + 60 + step, requests=77)
    store.save(replace(full_state(), pool=pool, metrics=(row,)))
    assert store.status().backend == "json"
    store.close()
    files.database.rmdir()
    files.database.write_bytes(database)
    again = files.store()
    found = again.load(NOON + 65 + step)
    assert dict(found.pool.overrides)["primary-fingerprint"] == word
    assert found.taken_at == pool.taken_at
    again.save(found)
    assert again.status().backend == "sqlite"
    files.close()
    assert 77 in [kept.requests for kept in files.in_sqlite().metrics]
    assert not files.snapshot.exists()


def test_a_snapshot_that_stayed_behind_does_not_win(tmp_path):
    files = Files(tmp_path)
    store = files.store()
    store.save(full_state())
    JSONStateStore(files.snapshot).save(replace(full_state(), pool=PoolSnapshot(NOON - 60)))
    store.close()
    assert files.store().load(NOON + 5).taken_at == full_state().taken_at
    files.close()


class Files:
    """A folder for the database and one for the snapshot, and stores of both."""

    def __init__(self, folder):
        self.database = folder / "state" / "gemproxy.db"
        self.snapshot = folder / "other" / "gemproxy.json"
        self._opened = []

    def store(self, *, snapshot=True):
        made = FallbackStateStore(
            SQLiteStateStore(self.database, busy_timeout=0.05),
            JSONStateStore(self.snapshot) if snapshot else None,
        )
        self._opened.append(made)
        return made

    def close(self):
        for store in self._opened:
            store.close()

    def in_sqlite(self):
        """What another process would find in the database, once the store is closed."""
        self.close()
        store = SQLiteStateStore(self.database)
        try:
            return store.load()
        finally:
            store.close()

    @contextmanager
    def locked(self):
        """Another connection holds SQLite's write lock."""
        with closing(sqlite3.connect(self.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")


@pytest.fixture
def files(tmp_path):
    made = Files(tmp_path)
    yield made
    made.close()


def at(seconds, **options):
    """A full state, ``seconds`` after noon."""
    return full_state(NOON + seconds, **options)


def summary(store):
    status = store.status()
    return status.backend, status.last_checkpoint, status.degraded_since


def test_sqlite_is_used_while_it_works(files):
    store = files.store()
    assert store.load(NOON) is None
    assert summary(store) == ("sqlite", None, None)
    store.save(at(5))
    assert summary(store) == ("sqlite", NOON + 5, None)
    assert store.status().last_error is None
    assert not files.snapshot.exists()


class TestLockedDatabase:
    def test_json_is_written_while_another_process_holds_the_lock_and_sqlite_after_it(self, files):
        store = files.store()
        store.load(NOON)
        store.save(at(0))
        with files.locked():
            store.save(at(5))
            store.save(at(10))
            assert summary(store) == ("json", NOON + 10, NOON + 5)
            assert store.status().last_error == f"{files.database}: database is locked"
            assert store.status().errors["sqlite"] == 2
            assert comparable(JSONStateStore(files.snapshot).load()) == comparable(at(10))
            assert stat.S_IMODE(files.snapshot.stat().st_mode) == 0o600
        store.save(at(15))
        assert summary(store) == ("sqlite", NOON + 15, None)
        assert not files.snapshot.exists()
        assert comparable(files.in_sqlite()) == comparable(at(15))

    def test_nothing_that_came_meanwhile_is_missing_afterwards(self, files):
        store = files.store()
        store.load(NOON)
        with_rows = [
            State(
                PoolSnapshot(NOON + 60 * n, (idle_key(f"k{n}"),)),
                metrics=(minute(NOON + 60 * n),),
                events=(audit_event(NOON + 60 * n),),
            )
            for n in range(4)
        ]
        store.save(with_rows[0])
        with files.locked():
            store.save(with_rows[1])
            store.save(with_rows[2])
        store.save(with_rows[3])
        found = files.in_sqlite()
        assert {row.start for row in found.metrics} == {NOON + 60 * n for n in range(4)}
        assert [event.at for event in found.events] == [NOON + 60 * n for n in range(4)]
        assert {kept.name for kept in found.pool.keys} == {"k0", "k1", "k2", "k3"}

    def test_rows_that_wait_for_sqlite_are_bounded_and_hours_are_worth_more(
        self, files, monkeypatch
    ):
        monkeypatch.setattr(fallback, "MAX_WAITING_ROWS", 3)
        store = files.store()
        store.load(NOON)
        store.save(State(PoolSnapshot(NOON)))
        hour = minute(NOON, period=3600)
        with files.locked():
            for n in range(5):
                rows = (hour, minute(NOON + 60 * n))
                store.save(State(PoolSnapshot(NOON + 60 * n), metrics=rows))
        store.save(State(PoolSnapshot(NOON + 300)))
        starts = {(row.period, row.start - NOON) for row in files.in_sqlite().metrics}
        assert starts == {(3600, 0), (60, 180), (60, 240)}

    def test_crash_meanwhile_goes_on_from_the_snapshot_with_the_database_s_history(self, files):
        store = files.store()
        store.load(NOON)
        store.save(at(0, metrics=(minute(NOON - 120),)))
        with files.locked():
            store.save(at(5, metrics=(minute(NOON),)))
        store.close()

        store = files.store()
        loaded = store.load(NOON + 10)
        assert loaded.taken_at == NOON + 5
        assert {row.start for row in loaded.metrics} == {NOON - 120, NOON}
        store.save(State(PoolSnapshot(NOON + 15)))
        assert {row.start for row in files.in_sqlite().metrics} == {NOON - 120, NOON}
        assert not files.snapshot.exists()

    def test_state_that_could_not_be_read_at_the_start_comes_to_light_once(self, files):
        first = files.store()
        first.load(NOON)
        first.save(at(0))
        first.close()
        held = SQLiteStateStore(files.database)
        held.load()

        store = files.store()
        assert store.load(NOON + 10) is None
        assert summary(store)[0] == "json"
        assert "a running gemproxy uses it" in store.status().last_error
        now = State(
            PoolSnapshot(NOON + 15, overrides=(("primary-fingerprint", Override(weight=2)),))
        )
        store.save(now)
        assert store.recovered() is None
        held.close()
        store.save(now)
        late = store.recovered()
        assert comparable(late) == comparable(at(0))
        assert store.recovered() is None
        store.save(now)
        assert store.recovered() is None
        words = dict(files.in_sqlite().pool.overrides)
        assert words == {
            "primary-fingerprint": Override(weight=2),
            "absent-fingerprint": Override(weight=7),
        }


class TestNewest:
    def test_snapshot_that_is_newer_wins(self, files):
        SQLiteStateStore(files.database).save(at(0))
        JSONStateStore(files.snapshot).save(at(5, signatures={}))
        files.database.with_name("gemproxy.db.lock").unlink()
        store = files.store()
        assert store.load(NOON).taken_at == NOON + 5

    def test_snapshot_that_is_older_does_not_and_goes_with_the_next_save(self, files):
        JSONStateStore(files.snapshot).save(at(-5))
        database = SQLiteStateStore(files.database)
        database.save(at(0))
        database.close()
        store = files.store()
        assert comparable(store.load(NOON)) == comparable(at(0))
        store.save(at(5))
        assert not files.snapshot.exists()

    def test_snapshot_alone_is_enough(self, files):
        JSONStateStore(files.snapshot).save(at(0))
        store = files.store()
        assert comparable(store.load(NOON)) == comparable(at(0))
        store.save(at(5))
        assert comparable(files.in_sqlite()) == comparable(at(5))

    def test_schema_that_becomes_newer_while_running_is_left_alone(self, files):
        store = files.store()
        store.load(NOON)
        store.save(at(0))
        store._primary._disconnect()
        with closing(sqlite3.connect(files.database)) as connection:
            connection.execute("PRAGMA user_version = 99")
        store.save(at(5))
        assert summary(store)[0] == "json"
        assert "version 99" in store.status().last_error


class TestDamage:
    def damaged(self, files, pattern="gemproxy.db.damaged-*Z"):
        return sorted(files.database.parent.glob(pattern))

    def test_garbage_at_the_start_is_moved_aside(self, files):
        files.database.parent.mkdir()
        files.database.write_bytes(b"garbage" * 1000)
        store = files.store()
        assert store.load(NOON) is None
        (aside,) = self.damaged(files)
        assert aside.name == "gemproxy.db.damaged-20260801T120000.000000Z"
        assert aside.read_bytes() == b"garbage" * 1000
        assert summary(store) == ("sqlite", None, None)
        assert store.status().last_error == (
            f"{files.database}: file is not a database; moved to {aside.name}"
        )
        store.save(at(5))
        assert comparable(files.in_sqlite()) == comparable(at(5))

    def test_garbage_at_the_start_with_a_snapshot_goes_on_from_the_snapshot(self, files):
        files.database.parent.mkdir()
        files.database.write_bytes(b"garbage" * 1000)
        JSONStateStore(files.snapshot).save(at(0))
        store = files.store()
        assert comparable(store.load(NOON)) == comparable(at(0))

    def test_damage_while_running_is_moved_aside_and_the_state_written_again_whole(self, files):
        store = files.store()
        store.load(NOON)
        state = at(0)
        store.save(state)
        store._primary._disconnect()
        files.database.write_bytes(b"garbage" * 1000)
        store.save(replace(state, pool=replace(state.pool, taken_at=NOON + 5)))
        assert summary(store) == ("sqlite", NOON + 5, None)
        assert len(self.damaged(files)) == 1
        assert comparable(files.in_sqlite())[1:] == comparable(state)[1:]

    def test_both_garbage_is_still_a_start(self, files):
        for path in (files.database, files.snapshot):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"\0" * 5000)
        store = files.store()
        assert store.load(NOON) is None
        store.save(at(0))
        assert comparable(files.in_sqlite()) == comparable(at(0))


class TestNoPlace:
    def test_folder_that_is_a_file(self, files):
        files.database.parent.write_text("not a folder")
        store = files.store()
        assert store.load(NOON) is None
        store.save(at(0))
        assert summary(store) == ("json", NOON, NOON)
        files.database.parent.unlink()
        store.save(at(5))
        assert summary(store) == ("sqlite", NOON + 5, None)
        assert comparable(files.in_sqlite()) == comparable(at(5))

    def test_neither_place_works_and_the_save_returns_all_the_same(self, files):
        for path in (files.database, files.snapshot):
            path.parent.write_text("not a folder")
        store = files.store()
        assert store.load(NOON) is None
        store.save(at(0))
        store.save(at(5))
        status = store.status()
        assert summary(store) == ("none", None, NOON)
        assert str(files.database) in status.last_error
        assert str(files.snapshot) in status.last_error
        assert status.errors == {"sqlite": 3, "json": 2}
        for path in (files.database, files.snapshot):
            path.parent.unlink()
        store.save(at(10))
        assert summary(store) == ("sqlite", NOON + 10, None)

    def test_no_fallback_is_wanted(self, files):
        files.database.parent.write_text("not a folder")
        store = files.store(snapshot=False)
        assert store.load(NOON) is None
        store.save(at(0))
        assert summary(store) == ("none", None, NOON)

    def test_full_disk(self, files, tmp_path):
        """The database on a file system of its own that is full; the snapshot elsewhere."""
        with _tmpfs(files, "400k"):
            store = files.store()
            store.load(NOON)
            store.save(at(0))
            large = tuple(minute(NOON - 60 * n, route="r" * 2000) for n in range(400))
            store.save(at(5, metrics=large))
            assert summary(store) == ("json", NOON + 5, NOON + 5)
            assert "full" in store.status().last_error
            assert len(JSONStateStore(files.snapshot).load().metrics) == 400
            subprocess.run(["mount", "-o", "remount,size=40m", files.database.parent], check=True)
            store.save(at(10, metrics=large))
            assert summary(store) == ("sqlite", NOON + 10, None)
            assert set(large) <= set(files.in_sqlite().metrics)

    def test_read_only_file_system(self, files):
        with _tmpfs(files, "10m"):
            store = files.store()
            store.load(NOON)
            store.save(at(0))
            # What is open for writing would keep it from becoming read-only.
            store.close()
            subprocess.run(["mount", "-o", "remount,ro", files.database.parent], check=True)
            store.save(at(5))
            assert summary(store) == ("json", NOON + 5, NOON + 5)
            subprocess.run(["mount", "-o", "remount,rw", files.database.parent], check=True)
            store.save(at(10))
            assert summary(store) == ("sqlite", NOON + 10, None)


@contextmanager
def _tmpfs(files, size):
    """The database's folder is a file system of its own."""
    folder = files.database.parent
    folder.mkdir(parents=True)
    mounted = shutil.which("mount") and os.geteuid() == 0
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if not mounted or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this needs the right to mount a file system")
    try:
        yield
    finally:
        files.close()
        subprocess.run(["umount", folder], check=True)


_LIMITED = """
import json, sys
from dataclasses import asdict
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
from fakes.stores import NOON, full_state, minute
from gemproxy.state.fallback import FallbackStateStore
from gemproxy.state.json.store import JSONStateStore
from gemproxy.state.sqlite.store import SQLiteStateStore
import resource
folder = Path(sys.argv[2])
store = FallbackStateStore(SQLiteStateStore(folder / "a.db"), JSONStateStore(folder / "a.json"))
store.load(NOON)
large = tuple(minute(NOON - 60 * n, route="r" * 2000) for n in range(200))
def tell():
    print(json.dumps(asdict(store.status())))
store.save(full_state(NOON)); tell()
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
store.save(full_state(NOON + 5, metrics=large)); tell()
store.save(full_state(NOON + 10, metrics=large[:10])); tell()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.save(full_state(NOON + 15, metrics=large)); tell()
store.close()
"""


def test_files_that_must_not_grow(tmp_path):
    """A limit on the size of files strikes in the middle of a write, in both backends."""
    output = subprocess.check_output(
        [sys.executable, "-c", _LIMITED, str(ROOT), str(tmp_path)],
        text=True,
        # The limit's signal would end the process; as a daemon of Python it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    told = [json.loads(line) for line in output.splitlines()]
    assert [each["backend"] for each in told] == ["sqlite", "none", "none", "sqlite"]
    assert told[1]["last_checkpoint"] == NOON
    assert told[3]["last_checkpoint"] == NOON + 15
    store = SQLiteStateStore(tmp_path / "a.db")
    assert len(store.load().metrics) == 203
    store.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.db", "a.db.lock"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
