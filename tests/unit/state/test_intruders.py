"""Somebody else's hands on the files of an open store: garbage, removal, another program."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from fakes.stores import NOON, comparable, full_state

from gemproxy.core.errors import StorageCorrupt, StorageUnavailable
from gemproxy.state.sqlite.instance_lock import InstanceLock
from gemproxy.state.sqlite.store import SQLiteStateStore


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "gemproxy.db"


@pytest.fixture
def store(path):
    """A store that was filled by an earlier process: nothing is left in the log."""
    earlier = SQLiteStateStore(path)
    earlier.save(full_state())
    earlier.close()
    made = SQLiteStateStore(path)
    made.load(NOON)
    yield made
    made.close()


def later(seconds):
    state = full_state()
    return replace(state, pool=replace(state.pool, taken_at=NOON + seconds))


def overwrite(path):
    path.write_bytes(random.Random(4806).randbytes(path.stat().st_size))


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_garbage_in_a_file_that_is_open_is_noticed_at_the_next_save(store, path, suffix):
    store.save(later(1))
    overwrite(path.with_name(path.name + suffix))
    with pytest.raises(StorageCorrupt):
        store.save(later(2))
    store.move_aside(NOON)
    store.save(later(3))
    assert comparable(store.load()) == comparable(later(3))


def test_what_another_program_has_deleted_is_written_again(store, path):
    state = later(1)
    store.save(state)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DELETE FROM keys")
    store.save(replace(state, pool=replace(state.pool, taken_at=NOON + 2)))
    assert [key.id for key in store.load().pool.keys] == [key.id for key in state.pool.keys]


def test_reader_changes_nothing_for_the_writer(store, path):
    store.save(later(1))
    database = store._database
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM keys").fetchall()
        store.save(later(2))
    store.save(later(3))
    assert store._database is database


def test_folder_that_was_removed_is_made_again(store, path):
    shutil.rmtree(path.parent)
    store.save(later(1))
    assert comparable(store.load()) == comparable(later(1))


def test_lock_whose_file_was_removed_is_taken_anew_and_keeps_others_away(path):
    ours, other = InstanceLock(path), InstanceLock(path)
    ours.acquire()
    shutil.rmtree(path.parent)
    ours.acquire()
    with pytest.raises(StorageUnavailable, match="a running gemproxy uses it"):
        other.acquire()
    ours.release()
    other.acquire()
    other.release()
