"""The database as a file: schema, modes, size, owner."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from fakes.stores import NOON, audit_event, comparable, full_state, idle_key, minute
from twisted.internet.task import Clock

from gemproxy.core.errors import SchemaTooNew, StorageCorrupt, StorageUnavailable
from gemproxy.pool.snapshot import Override, PoolSnapshot
from gemproxy.state import files
from gemproxy.state.kinds import Retention
from gemproxy.state.model import State
from gemproxy.state.sqlite import database
from gemproxy.state.sqlite.database import Database
from gemproxy.state.sqlite.migrations import Migration, migrations
from gemproxy.state.sqlite.store import SQLiteStateStore

DAY = 86400.0
ROOT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "gemproxy.db"


@pytest.fixture
def store(path):
    made = SQLiteStateStore(path)
    yield made
    made.close()


def query(path, statement, *values):
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


def count(path, table):
    return query(path, f"SELECT count(*) FROM {table}")[0][0]


class TestSchema:
    def test_files_are_numbered_without_gaps(self):
        assert [step.version for step in migrations()] == list(range(1, len(migrations()) + 1))

    def test_version_and_settings_are_as_documented(self, store, path):
        store.save(full_state())
        connection = store._database.connection
        expected = {
            "user_version": migrations()[-1].version,
            "auto_vacuum": 2,
            "journal_mode": "wal",
            "synchronous": 1,
            "foreign_keys": 1,
            "busy_timeout": 2000,
        }
        found = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in expected}
        assert found == expected

    def test_newer_schema_is_refused_and_not_touched(self, store, path):
        store.save(full_state())
        store.close()
        query(path, "PRAGMA user_version = 99")
        before = path.read_bytes()
        with pytest.raises(
            SchemaTooNew,
            match=r"gemproxy\.db: its schema has version 99, and .* up to \d+; run a newer",
        ):
            store.load(NOON)
        with pytest.raises(SchemaTooNew):
            store.save(full_state(NOON + 5))
        assert path.read_bytes() == before

    def test_database_of_another_program_is_not_touched(self, store, path):
        path.parent.mkdir()
        query(path, "CREATE TABLE recipes (name)")
        with pytest.raises(StorageUnavailable, match="a database of another program"):
            store.save(full_state())
        assert query(path, "SELECT name FROM sqlite_master") == [("recipes",)]

    def test_steps_are_applied_in_order_and_each_once(self, tmp_path):
        path = tmp_path / "gemproxy.db"
        steps = [
            Migration(1, "CREATE TABLE a (x); INSERT INTO a VALUES (1);"),
            Migration(2, "ALTER TABLE a ADD COLUMN y DEFAULT 2;"),
            Migration(3, "UPDATE a SET x = x + y -- the last comment has no line end"),
        ]
        for known in (steps[:1], steps, steps):
            Database(path, 1.0, known).close()
        assert query(path, "SELECT x, y FROM a") == [(3, 2)]
        assert query(path, "PRAGMA user_version") == [(3,)]

    def test_failed_step_leaves_the_version_before_and_may_be_tried_again(self, tmp_path):
        path = tmp_path / "gemproxy.db"
        first = Migration(1, "CREATE TABLE a (x);")
        broken = Migration(2, "CREATE TABLE b (x); INSERT INTO nowhere VALUES (1);")
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            Database(path, 1.0, [first, broken])
        assert query(path, "SELECT name FROM sqlite_master") == [("a",)]
        assert query(path, "PRAGMA user_version") == [(1,)]
        Database(path, 1.0, [first, Migration(2, "CREATE TABLE b (x);")]).close()
        assert query(path, "PRAGMA user_version") == [(2,)]

    def test_old_database_is_copied_before_its_schema_changes(self, tmp_path):
        path = tmp_path / "gemproxy.db"
        steps = [Migration(1, "CREATE TABLE a (x);"), Migration(2, "DROP TABLE a;")]
        Database(path, 1.0, steps[:1]).close()
        Database(path, 1.0, steps).close()
        copy = tmp_path / "gemproxy.db.schema-1"
        assert query(copy, "SELECT name FROM sqlite_master") == [("a",)]
        assert query(copy, "PRAGMA user_version") == [(1,)]
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600


class TestFiles:
    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
    def test_every_file_is_its_owners_alone(self, store, path, umask):
        before = os.umask(umask)
        try:
            store.save(full_state())
        finally:
            os.umask(before)
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
        assert modes == dict.fromkeys(
            ("gemproxy.db", "gemproxy.db-wal", "gemproxy.db-shm", "gemproxy.db.lock"), 0o600
        )

    def test_file_that_others_could_read_is_closed_to_them(self, store, path):
        store.save(full_state())
        store.close()
        path.chmod(0o644)
        store.save(full_state(NOON + 5))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_no_log_is_left_after_a_close(self, store, path):
        store.save(full_state())
        store.close()
        assert {each.name for each in path.parent.iterdir()} == {"gemproxy.db", "gemproxy.db.lock"}

    @pytest.mark.parametrize("replacement", [None, b""])
    def test_file_that_was_removed_is_written_again_whole(self, store, path, replacement):
        state = full_state()
        store.save(state)
        for each in path.parent.glob("gemproxy.db*"):
            each.unlink()
        if replacement is not None:
            path.write_bytes(replacement)
        store.save(replace(state, pool=replace(state.pool, taken_at=NOON + 5)))
        store.close()
        other = SQLiteStateStore(path)
        assert comparable(other.load(NOON))[1:] == comparable(state)[1:]
        other.close()

    def test_power_cut_in_the_first_moment_leaves_an_empty_file_that_is_no_mistake(
        self, store, path
    ):
        path.parent.mkdir()
        path.touch()
        assert store.load(NOON) is None


_OTHER_PROCESS = """
import sys
from pathlib import Path
from gemproxy.core.errors import StorageUnavailable
from gemproxy.pool.snapshot import PoolSnapshot
from gemproxy.state.model import State
from gemproxy.state.sqlite.store import SQLiteStateStore
try:
    SQLiteStateStore(Path(sys.argv[1])).save(State(PoolSnapshot(1.0)))
    print("saved")
except StorageUnavailable as error:
    print(error)
"""


def test_one_process_at_a_time_owns_it(store, path):
    def other_process_says():
        command = [sys.executable, "-c", _OTHER_PROCESS, str(path)]
        return subprocess.check_output(command, cwd=ROOT, text=True).strip()

    store.save(full_state())
    assert other_process_says() == f"{path}: a running gemproxy uses it (process {os.getpid()})"
    store.close()
    assert other_process_says() == "saved"


class TestDamage:
    def test_damaged_page_is_found_at_the_start(self, store, path):
        store.save(
            full_state(signatures={}, metrics=tuple(minute(NOON - 60 * n) for n in range(900)))
        )
        store.close()
        content = bytearray(path.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 4096] = b"\xaa" * 4096
        path.write_bytes(content)
        with pytest.raises(StorageCorrupt):
            SQLiteStateStore(path).load(NOON)

    def test_many_damaged_files_are_not_added_to(self, store, path):
        path.parent.mkdir()
        for n in range(files.MAX_DAMAGED):
            path.write_bytes(b"garbage")
            assert store.move_aside(NOON + n).read_bytes() == b"garbage"
        path.write_bytes(b"garbage")
        with pytest.raises(StorageUnavailable, match="10 damaged ones lie beside it already"):
            store.move_aside(NOON + 60)
        assert path.exists()


class TestChanges:
    def changed_rows(self, store, state):
        before = store._database.connection.total_changes
        store.save(state)
        return store._database.connection.total_changes - before

    def test_only_what_changed_is_written(self, store):
        state = full_state()
        keys = tuple(idle_key(f"k{n}") for n in range(100))
        state = replace(state, pool=replace(state.pool, keys=keys))
        store.save(state)
        store.save(state)
        assert self.changed_rows(store, state) == 1  # the checkpoint's own
        busy = replace(keys[5], requests_total=1)
        later = replace(
            state,
            pool=replace(state.pool, keys=(*keys[:5], busy, *keys[6:])),
            metrics=(replace(state.metrics[0], requests=9), *state.metrics[1:]),
        )
        assert self.changed_rows(store, later) == 3

    def test_interrupted_save_is_not_taken_for_done(self, store, path):
        state = full_state()
        store.save(state)
        bad = replace(state, events=(*state.events, audit_event(NOON + 1, target="\ud800")))
        with pytest.raises(Exception, match="surrogates"):
            store.save(bad)
        store.close()
        assert comparable(store.load(NOON)) == comparable(state)


class TestRetention:
    def save_days(self, store, days, rows=20):
        """Rows of the last ``days`` days, one save."""
        metrics = tuple(
            minute(NOON - day * DAY - 60 * n) for day in range(days) for n in range(rows)
        )
        store.save(full_state(metrics=metrics))

    def test_old_metrics_go_in_small_steps(self, store, path):
        store.retention = Retention(days=2.5)
        self.save_days(store, 6)
        seen = [count(path, "request_metrics")]
        for n in range(20):
            store.save(State(PoolSnapshot(NOON + n)))
            seen.append(count(path, "request_metrics"))
        assert seen[-1] == 3 * 20
        assert all(before - after <= 5 for before, after in pairwise(seen))

    def test_a_day_of_rows_past_their_time_does_not_keep_the_younger(self, store, path):
        store.retention = Retention(days=1)
        store.save(State(PoolSnapshot(NOON), metrics=(minute(NOON - 3 * DAY), minute(NOON))))
        store.save(State(PoolSnapshot(NOON + 1)))
        assert query(path, "SELECT start FROM request_metrics") == [(int(NOON),)]

    def test_contents_have_a_bound_in_bytes(self, store, path):
        store.retention = Retention(bytes=200_000, records=0)
        wide = tuple(
            minute(NOON - 7200 - 60 * n, key=f"key-{k}") for n in range(60) for k in range(40)
        )
        store.save(full_state(metrics=wide))
        assert store._database.used_bytes() > 200_000
        for n in range(12):
            store.save(State(PoolSnapshot(NOON + n)))
        assert store._database.used_bytes() < 200_000
        left = query(path, "SELECT min(start) FROM request_metrics")[0][0]
        assert left > NOON - 7200 - 60 * 59

    def test_pages_go_back_to_the_disk_in_small_steps(self, store, path):
        wide = tuple(
            minute(NOON - 10 * DAY + n, key="k" * 500, route=f"{n}") for n in range(20_000)
        )
        store.retention = Retention(days=100)
        store.save(full_state(metrics=wide))
        store.retention = Retention(days=1)
        sizes = []
        for n in range(400):
            store.save(State(PoolSnapshot(NOON + n)))
            sizes.append(
                query(path, "PRAGMA page_count")[0][0] * query(path, "PRAGMA page_size")[0][0]
            )
        assert count(path, "request_metrics") == 0
        steps = [before - after for before, after in pairwise(sizes)]
        assert max(steps) <= 128 * 4096
        assert sizes[-1] < 0.2 * sizes[0]
        store.close()
        assert path.stat().st_size < 2 * 1024 * 1024

    @pytest.mark.parametrize("step", [-400 * DAY, 400 * DAY])
    def test_a_clock_that_is_wrong_for_a_while_costs_nothing(self, path, step):
        clock = Clock()
        store = SQLiteStateStore(path, Retention(settle=3600.0), seconds=clock.seconds)
        gone = idle_key("gone")
        word = ((gone.id, Override(enabled=False)),)
        event = audit_event(NOON - 300 * DAY)
        state = full_state(metrics=(minute(NOON), minute(NOON - 6 * DAY)), events=(event,))
        store.save(replace(state, pool=PoolSnapshot(NOON, (gone,), overrides=word)))
        for n in range(1, 115):
            clock.advance(30)
            store.save(State(PoolSnapshot(NOON + 30 * n + step)))
        clock.advance(30)
        store.save(State(PoolSnapshot(NOON + 30 * 115)))
        kept = store.load()
        assert [row.start for row in kept.metrics] == [NOON - 6 * DAY, NOON]
        assert kept.events == (event,)
        assert dict(kept.pool.overrides) == dict(word)
        store.close()

    def test_what_a_clock_left_in_the_future_goes_once_it_is_right(self, path):
        clock = Clock()
        store = SQLiteStateStore(path, Retention(settle=3600.0), seconds=clock.seconds)
        gone = idle_key("gone")
        future = tuple(minute(NOON + 400 * DAY + 60 * n) for n in range(20))
        soon = minute(NOON + 6 * DAY)
        store.save(State(PoolSnapshot(NOON + 400 * DAY, (gone,)), metrics=(*future, soon)))
        clock.advance(5)
        store.save(State(PoolSnapshot(NOON + 400 * DAY)))
        for n in range(140):
            clock.advance(30)
            store.save(State(PoolSnapshot(NOON + 30 * n)))
        assert store.load().metrics == (soon,)
        ((left_at,),) = query(path, "SELECT left_at FROM keys")
        assert left_at < NOON + 10_000
        store.close()

    def test_events_are_bounded_by_number_and_age(self, store, path):
        store.retention = Retention(events=5, event_days=2)
        events = [audit_event(NOON - 3 * DAY), *(audit_event(NOON + n) for n in range(8))]
        store.save(full_state(NOON + 8, events=tuple(events)))
        store.save(State(PoolSnapshot(NOON + 9)))
        assert [event.at - NOON for event in store.load(NOON).events] == [3, 4, 5, 6, 7]

    def test_keys_that_left_the_file_are_forgotten_in_time_with_the_words_on_them(self, store):
        store.retention = Retention(days=7)
        gone, there = idle_key("gone"), idle_key("there")
        words = ((gone.id, Override(enabled=False)), (there.id, Override(weight=2)))
        store.save(State(PoolSnapshot(NOON, (gone, there), overrides=words)))
        for day in range(1, 8):
            store.save(State(PoolSnapshot(NOON + day * DAY, (there,), overrides=words)))
            loaded = store.load(NOON)
            assert {kept.name for kept in loaded.pool.keys} == {"gone", "there"}
            assert dict(loaded.pool.overrides) == dict(words)
            store.close()
        store.save(State(PoolSnapshot(NOON + 8.1 * DAY, (there,), overrides=words)))
        loaded = store.load(NOON)
        assert [kept.name for kept in loaded.pool.keys] == ["there"]
        assert dict(loaded.pool.overrides) == dict(words[1:])

    def test_key_that_leaves_the_file_over_a_restart_is_forgotten_too(self, store):
        store.save(State(PoolSnapshot(NOON, (idle_key("gone"),))))
        store.close()
        store.save(State(PoolSnapshot(NOON + DAY)))
        store.close()
        store.save(State(PoolSnapshot(NOON + 7.9 * DAY)))
        assert len(store.load(NOON).pool.keys) == 1
        store.save(State(PoolSnapshot(NOON + 8.1 * DAY)))
        assert store.load(NOON).pool.keys == ()

    def test_key_that_comes_back_in_time_stays(self, store):
        store.retention = Retention(days=7)
        key = idle_key("wandering")
        words = ((key.id, Override(enabled=False)),)
        for day, keys in ((0, (key,)), (5, ()), (6, (key,)), (20, (key,))):
            store.save(State(PoolSnapshot(NOON + day * DAY, keys, overrides=words)))
        loaded = store.load(NOON)
        assert loaded.pool.keys == (key,)
        assert loaded.pool.overrides == words


class TestLog:
    def test_log_is_cut_back_when_it_starts_afresh(self, store, path):
        wal = path.with_name("gemproxy.db-wal")
        wide = tuple(minute(NOON, key=f"key-{k}", route="r" * 200) for k in range(30_000))
        store.save(State(PoolSnapshot(NOON), metrics=wide))
        assert wal.stat().st_size > 8 * 1024 * 1024
        for n in range(3):
            store.save(State(PoolSnapshot(NOON + n)))
        assert wal.stat().st_size <= 4 * 1024 * 1024

    def test_log_that_a_reader_let_grow_is_emptied_when_it_is_gone(self, store, path, monkeypatch):
        monkeypatch.setattr(database, "_WAL_LARGE", 100_000)
        store._busy_timeout = 0.01
        wal = path.with_name("gemproxy.db-wal")
        wide = tuple(minute(NOON, key=f"key-{k}") for k in range(1000))
        store.save(State(PoolSnapshot(NOON)))
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM checkpoint").fetchall()
            store.save(State(PoolSnapshot(NOON + 1), metrics=wide))
            assert wal.stat().st_size > 100_000
        store.save(State(PoolSnapshot(NOON + 2)))
        assert wal.stat().st_size < 100_000

    def test_reader_that_never_ends_does_not_make_the_log_grow_without_end(
        self, store, path, monkeypatch
    ):
        monkeypatch.setattr(database, "_WAL_LARGE", 100_000)
        monkeypatch.setattr(database, "_WAL_LARGEST", 400_000)
        store._busy_timeout = 0.01
        store.save(State(PoolSnapshot(NOON)))
        wide = tuple(minute(NOON, key=f"key-{k}") for k in range(1000))
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM checkpoint").fetchall()

            def save_much():
                for n in range(100):
                    store.save(State(PoolSnapshot(NOON + n), metrics=tuple(map(replace, wide))))

            with pytest.raises(StorageUnavailable, match="another process is reading"):
                save_much()
        store.save(State(PoolSnapshot(NOON + 200), metrics=wide))
        assert path.with_name("gemproxy.db-wal").stat().st_size < 400_000
