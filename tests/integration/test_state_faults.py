"""Disks that fail under a daemon that serves: no client notices, an operator does."""

import os
import random
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing, contextmanager, suppress

import pytest
from fakes.load import Found, Load, assert_private
from fakes.running import (
    TWISTD,
    Process,
    RunningDaemon,
    eventually,
    keys_of,
    write_configuration,
)
from fakes.wire import chat

from gemproxy.state.json.store import JSONStateStore
from gemproxy.state.sqlite.store import SQLiteStateStore

#: The snapshot lies elsewhere, so that what befalls the database's folder does not befall it.
SETTINGS = {"persistence": {"checkpointSeconds": 0.2, "fallbackPath": "other/gemproxy.json"}}
KEYS = keys_of("alpha", "beta")
MIB = 1024 * 1024


class Place:
    """A folder with a daemon's files, and the daemons that ran there one after the other."""

    def __init__(self, folder, upstream):
        self.folder = folder
        self.upstream = upstream
        self.database = folder / "state" / "gemproxy.db"
        self.snapshot = folder / "other" / "gemproxy.json"
        self.daemon = None

    def start(self):
        self.daemon = RunningDaemon(self.folder, self.upstream, KEYS, **SETTINGS)
        return self.daemon

    def stop(self):
        if self.daemon is not None:
            assert self.daemon.stop() == 0

    def refused(self):
        """Start where no start should succeed; gives the exit status and the output."""
        files = write_configuration(self.folder, self.upstream, KEYS, **SETTINGS)
        options = ("--config", files[0], "--keys", files[1])
        process = Process(*TWISTD, "gemproxy", *options, cwd=self.folder)
        try:
            return process.wait(), process
        finally:
            process.popen.kill()

    def damaged(self, pattern="state/gemproxy.db.damaged-*Z"):
        return sorted(self.folder.glob(pattern))

    def wait_for_checkpoint(self):
        """Wait for the next one."""
        latest = self.persistence()["last_checkpoint"]
        eventually(lambda: self.persistence()["last_checkpoint"] != latest)

    def persistence(self):
        return self.daemon.health()["persistence"]

    def requests_total(self):
        return sum(self.daemon.key(name)["requests_total"] for name in ("alpha", "beta"))


@pytest.fixture
def place(simulator, tmp_path):
    simulator.reset()
    made = Place(tmp_path, simulator.url)
    yield made
    if made.daemon is not None:
        made.daemon.kill()


def metric(daemon, name):
    """The value of one series, written as in the text format."""
    found = re.search(
        rf"^{re.escape(name)} (\S+)$", daemon.admin("GET", "metrics").body.decode(), re.MULTILINE
    )
    return float(found[1])


# -- a fault that passes ---------------------------------------------------------------------------


@contextmanager
def locked(place):
    """Another process holds SQLite's own lock, for longer than the daemon waits for it."""
    with closing(sqlite3.connect(place.database, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield lambda: None
        other.execute("ROLLBACK")


@contextmanager
def folder_is_a_file(place):
    """The database's folder is gone, and nothing can be made in its place."""
    away = place.folder / "away"
    place.database.parent.rename(away)
    place.database.parent.write_text("not a folder")
    yield lambda: None
    place.database.parent.unlink()
    away.rename(place.database.parent)


@contextmanager
def folder_is_gone_for_good(place):
    """All of the past is lost but for what the daemon knows."""
    shutil.rmtree(place.database.parent)
    place.database.parent.write_text("not a folder")
    yield lambda: None
    place.database.parent.unlink()


@contextmanager
def disk_is_full(place):
    """Others write until nothing is left, and take whatever the database gives back."""
    filler = place.database.parent / "filler"

    def fill():
        with filler.open("ab", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass

    yield fill
    filler.unlink()


@contextmanager
def small_disk(folder):
    """``folder`` is a file system of its own of 4 MiB."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    mounted = shutil.which("mount") and os.geteuid() == 0
    if not mounted or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this needs the right to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


FAULTS = {
    "locked": (locked, "database is locked"),
    "no folder": (folder_is_a_file, "Not a directory|File exists"),
    "all gone": (folder_is_gone_for_good, "Not a directory|File exists"),
    "full disk": (disk_is_full, "full|No space left|disk I/O"),
}


@pytest.fixture(params=FAULTS)
def fault(request, place):
    """How to bring the fault about, and what the daemon says of it."""
    if request.param != "full disk":
        yield FAULTS[request.param]
        return
    with small_disk(place.database.parent):
        yield FAULTS[request.param]


def test_a_fault_that_passes_costs_no_request_and_no_state(place, fault):
    befall, reason = fault
    daemon = place.start()
    with Load(daemon) as load:
        place.wait_for_checkpoint()
        with befall(place) as insist:
            # What is said and done in the meantime must not be lost.
            assert daemon.admin("PUT", "keys/alpha/weight", {"weight": 7}).status == 200

            def degraded():
                insist()
                health = daemon.health()
                return health if health["persistence"]["backend"] == "json" else None

            health = eventually(degraded)
            assert health["status"] == "degraded"
            (told,) = health["reasons"]
            assert told.startswith("The state is kept in the JSON fallback: ")
            assert re.search(reason, told)
            assert re.search(reason, health["persistence"]["last_error"])
            assert metric(daemon, 'gemproxy_persistence_backend{backend="json"}') == 1
            assert metric(daemon, 'gemproxy_persistence_backend{backend="sqlite"}') == 0
            assert metric(daemon, 'gemproxy_persistence_errors_total{backend="sqlite"}') >= 1
            assert_private(place.snapshot.parent, "test-key-of-")
            eventually(lambda: (insist(), '"weight":7' in place.snapshot.read_text())[1])
            load.wait_for(20)
        eventually(lambda: daemon.health()["status"] == "healthy")
        assert place.persistence()["backend"] == "sqlite"
        load.wait_for(20)
    assert load.ends == []
    assert load.begun == len(load.answered)
    assert metric(daemon, 'gemproxy_persistence_backend{backend="sqlite"}') == 1
    assert_told(daemon, "the state cannot be kept in SQLite")
    assert_told(daemon, "the state is kept in SQLite again")
    assert not place.snapshot.exists()
    place.stop()

    found = Found(place.database)
    assert found.integrity == ["ok"]
    assert sum(found.requests.values()) == found.finished == len(load.answered)
    assert found.events == [("key.weight", "alpha")]
    place.start()
    assert place.requests_total() == len(load.answered)
    assert place.daemon.key("alpha")["weight"] == 7


def assert_told(daemon, words):
    """In the log, and not once a checkpoint."""
    assert 1 <= sum(words in str(event) for event in daemon.events()) <= 5


def test_what_only_the_snapshot_knows_is_there_after_the_restart(place):
    daemon = place.start()
    assert chat(daemon).status == 200
    place.wait_for_checkpoint()
    with locked(place):
        daemon.admin("PUT", "keys/alpha/weight", {"weight": 7})
        assert chat(daemon).status == 200
        eventually(lambda: place.snapshot.exists() and '"weight":7' in place.snapshot.read_text())
        daemon.kill()
        # Locked still, though it may read.
        again = place.start()
        assert again.key("alpha")["weight"] == 7
        assert place.requests_total() == 2
    eventually(lambda: not place.snapshot.exists())
    again.kill()
    assert sum(Found(place.database).requests.values()) == 2


def test_a_database_that_cannot_be_read_at_the_start_is_read_later(place):
    """Another program has it for itself; what the operator once said counts again afterwards."""
    place.start().admin("PUT", "keys/alpha/weight", {"weight": 7})
    assert chat(place.daemon).status == 200
    place.stop()
    with closing(sqlite3.connect(place.database, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        daemon = place.start()
        assert chat(daemon).status == 200
        assert daemon.health()["status"] == "degraded"
        assert "database is locked" in daemon.health()["reasons"][0]
        assert daemon.key("alpha")["weight"] == 1
        daemon.admin("PUT", "keys/beta/weight", {"weight": 5})
        other.execute("ROLLBACK")
    eventually(lambda: daemon.key("alpha")["weight"] == 7)
    assert daemon.key("beta")["weight"] == 5
    eventually(lambda: daemon.health()["status"] == "healthy")
    place.stop()
    found = Found(place.database)
    assert found.finished == 2
    assert sorted(found.events) == [("key.weight", "alpha"), ("key.weight", "beta")]


def test_a_start_without_a_place_for_the_state(place):
    """The folder is a file from the start on, and so is the snapshot's."""
    for folder in (place.database.parent, place.snapshot.parent):
        folder.write_text("not a folder")
    daemon = place.start()
    assert chat(daemon).status == 200
    health = eventually(lambda: (h := daemon.health())["persistence"]["backend"] == "none" and h)
    assert health["status"] == "degraded"
    assert "The state is kept nowhere" in health["reasons"][0]
    assert metric(daemon, 'gemproxy_persistence_backend{backend="none"}') == 1
    eventually(lambda: metric(daemon, 'gemproxy_persistence_errors_total{backend="json"}') >= 1)
    for folder in (place.database.parent, place.snapshot.parent):
        folder.unlink()
    eventually(lambda: daemon.health()["status"] == "healthy")
    place.stop()
    assert sum(Found(place.database).requests.values()) == 1


# -- a damaged file --------------------------------------------------------------------------------


def garbage(path, seed=4806):
    """Overwrite every byte of a file, without changing its length."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(random.Random(seed).randbytes(size))


@pytest.mark.parametrize(
    ("files", "end"),
    [
        (("",), RunningDaemon.kill),
        (("-wal",), RunningDaemon.stop),
        (("", "-wal"), RunningDaemon.kill),
    ],
    ids=["database", "log", "both"],
)
def test_garbage_while_running_is_moved_aside_and_the_state_written_anew(place, files, end):
    # An earlier daemon's stop has brought everything from the log into the database.
    place.start().admin("PUT", "keys/beta/weight", {"weight": 5})
    place.stop()
    daemon = place.start()
    with Load(daemon) as load:
        load.wait_for(10)
        place.wait_for_checkpoint()
        for suffix in files:
            garbage(place.database.with_name(place.database.name + suffix))
        daemon.admin("PUT", "keys/alpha/weight", {"weight": 7})
        eventually(place.damaged)
        load.wait_for(10)
    assert load.ends == []
    for _ in range(2):
        place.wait_for_checkpoint()
    health = daemon.health()
    assert (health["status"], health["persistence"]["backend"]) == ("healthy", "sqlite")
    assert place.damaged()[0].name in health["persistence"]["last_error"]
    assert metric(daemon, 'gemproxy_persistence_errors_total{backend="sqlite"}') >= 1
    end(daemon)
    assert Found(place.database).integrity == ["ok"]
    place.start()
    assert place.requests_total() == len(load.answered)
    assert [place.daemon.key(name)["weight"] for name in ("alpha", "beta")] == [7, 5]


def test_garbage_before_the_start_is_moved_aside(place):
    place.database.parent.mkdir()
    content = random.Random(4806).randbytes(50_000)
    place.database.write_bytes(content)
    daemon = place.start()
    (aside,) = place.damaged()
    assert re.fullmatch(r"gemproxy\.db\.damaged-\d{8}T\d{6}\.\d{6}Z", aside.name)
    assert aside.read_bytes() == content
    assert chat(daemon).status == 200
    health = daemon.health()
    assert health["status"] == "healthy"
    assert health["persistence"]["backend"] == "sqlite"
    assert aside.name in health["persistence"]["last_error"]
    assert aside.name in daemon.output
    assert metric(daemon, 'gemproxy_persistence_errors_total{backend="sqlite"}') == 1
    place.stop()
    assert sum(Found(place.database).requests.values()) == 1
    assert_private(place.snapshot.parent.parent / "state")


def test_a_damaged_snapshot_before_the_start_is_moved_aside(place):
    daemon = place.start()
    assert chat(daemon).status == 200
    place.stop()
    store = SQLiteStateStore(place.database)
    JSONStateStore(place.snapshot).save(store.load())
    store.close()
    content = place.snapshot.read_bytes().replace(b"alpha", b"al\xffha")
    place.snapshot.write_bytes(content)
    daemon = place.start()
    (aside,) = place.damaged("other/gemproxy.json.damaged-*Z")
    assert aside.read_bytes() == content
    assert "Traceback" not in daemon.output
    assert aside.name in daemon.output
    health = daemon.health()
    assert health["status"] == "healthy"
    assert aside.name in health["persistence"]["last_error"]
    # The database still knew it.
    assert sum(key["requests_total"] for key in daemon.admin("GET", "keys").json["keys"]) == 1


def test_damage_that_no_read_would_meet_is_found_at_the_start(place):
    """A page of an index, which only a later write would have stumbled over."""
    daemon = place.start()
    assert chat(daemon).status == 200
    place.stop()
    with closing(sqlite3.connect(place.database)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        query = "SELECT rootpage FROM sqlite_master WHERE name LIKE 'sqlite_autoindex_signatures%'"
        ((page,),) = connection.execute(query).fetchall()
    with place.database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(random.Random(1).randbytes(size))
    daemon = place.start()
    assert chat(daemon).status == 200
    assert len(place.damaged()) == 1
    place.stop()
    assert Found(place.database).integrity == ["ok"]


# -- a newer program's -----------------------------------------------------------------------------


def test_a_newer_schema_is_refused_and_left_alone(place):
    place.start()
    place.stop()
    with closing(sqlite3.connect(place.database)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = place.database.read_bytes()
    status, process = place.refused()
    assert status == 78
    (line,) = process.errors
    assert line.startswith("gemproxy: ")
    assert str(place.database.name) in line
    assert "its schema has version 99, and this program knows versions up to " in line
    assert "Traceback" not in process.output
    assert place.database.read_bytes() == before
    assert place.damaged() == []
