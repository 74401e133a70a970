"""A state that is damaged, however it is, stops no start, and what is damaged is moved aside."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fakes.admin import AdminStage
from fakes.clocks import TwoClocks
from fakes.stores import NOON, full_state
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gemproxy.core.errors import SchemaTooNew, StorageCorrupt
from gemproxy.pool.key import Key, Limits
from gemproxy.pool.pool import KeyPool
from gemproxy.pricing.prices import PriceList
from gemproxy.secret import Secret
from gemproxy.service.state_collector import StateCollector
from gemproxy.state.fallback import FallbackStateStore
from gemproxy.state.json import store as json_store
from gemproxy.state.json.store import JSONStateStore, encode_state
from gemproxy.state.model import AuditTrail
from gemproxy.state.sqlite.store import SQLiteStateStore
from gemproxy.telemetry.ledger import MetricsLedger
from gemproxy.telemetry.records import RecordBuffer
from gemproxy.telemetry.usage import UsageLedger
from gemproxy.translate.shared.signatures import SignatureStore

KEYS = [
    Key("primary", Secret("test-key-primary-0123456789"), "team", limits=Limits(rpm=5, rpd=10)),
    Key("spare", Secret("test-key-spare-0123456789ab"), "spare"),
]


def state():
    """A full one, of keys that are configured."""
    full = full_state()
    mine = tuple(
        replace(full.pool.keys[0], id=key.id, name=key.name, breaker=full.pool.keys[0].breaker)
        for key in KEYS
    )
    return replace(full, pool=replace(full.pool, keys=(*mine, *full.pool.keys)))


DOCUMENT = b"".join(encode_state(state()))


class Start:
    """What a start makes of the files in ``folder``, and an operator who looks at it."""

    def __init__(self, folder, now=NOON + 5):
        self.clock = TwoClocks(now)
        self.store = FallbackStateStore(
            SQLiteStateStore(folder / "gemproxy.db", busy_timeout=0.05),
            JSONStateStore(folder / "gemproxy.json"),
        )
        self.pool = KeyPool(KEYS)
        self.pool.set_wall_clock(self.clock.seconds(), now)
        self.ledger = MetricsLedger()
        self.live = StateCollector(
            self.pool,
            SignatureStore(),
            self.ledger,
            AuditTrail(),
            UsageLedger(PriceList(), {}),
            RecordBuffer(str),
            self.clock.wall,
        )
        self.state = self.store.load(now)
        if self.state is not None:
            self.live.restore(self.state, self.clock.seconds())

    def look(self):
        """Health, keys and curves as the admin API tells them, over some time."""
        stage = AdminStage(self.clock, *KEYS, pool=self.pool)
        stage.set(persistence=self.store.status())
        stage.rows = self.ledger.rows()
        for _ in range(2):
            assert stage.ask("GET", "/admin/health").status == 200
            assert stage.ask("GET", "/admin/metrics/series").status == 200
            keys = stage.ask("GET", "/admin/keys")
            assert keys.status == 200
            assert [key["name"] for key in keys.json["keys"]] == ["primary", "spare"]
            self.clock.advance(400)
        # Whatever was restored, no key is out for longer than its rule allows.
        self.clock.advance(25 * 3600)
        self.pool.statuses(self.clock.seconds())
        lease = self.pool.acquire("gemini-3.8-flash", self.clock.seconds())
        self.pool.release(lease, self.clock.seconds())

    def save(self):
        """What is restored can be saved, in SQLite, and comes back."""
        self.store.save(self.live.take(self.clock.seconds()))
        assert self.store.status().backend == "sqlite", self.store.status()
        self.store.close()


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def survives(folder):
    start = Start(folder)
    start.look()
    start.save()
    again = Start(folder, NOON + 60)
    assert again.state is not None
    again.look()
    again.store.close()
    return start


# -- JSON ------------------------------------------------------------------------------------------


def with_value(path, value):
    """The document with another value at a path of it."""
    document = json.loads(DOCUMENT)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = "REPLACED"
    return json.dumps(document).replace('"REPLACED"', value).encode()


#: What is read as no number of any place.
NO_NUMBERS = ("1e400", "NaN", "Infinity", "[]", "true")
NONSENSE = {
    "empty": b"",
    "half": DOCUMENT[: len(DOCUMENT) // 2],
    "no UTF-8": DOCUMENT.replace(b"primary", b"pri\xffary"),
    "surrogate": DOCUMENT.replace(b"primary", b"pri\\ud800ry"),
    "nest": b"[" * 100_000,
    "nest of objects": b'{"a":' * 100_000,
    "nest in a place": with_value(
        ["events", 0, "before"], '{"a":' + "[" * 50_000 + "]" * 50_000 + "}"
    ),
    "null": b"null",
    "NUL bytes": b"\0" * 5000,
    "a list": b"[]",
    "no version": b'{"format":"gemproxy-state"}',
    "version of text": with_value(["version"], '"1"'),
    "version of a damaged number": with_value(["version"], "16777217"),
    "negative version": with_value(["version"], "-1"),
    **{
        f"{'.'.join(map(str, path))} = {value[:12]}": with_value(path, value)
        for path in (
            ["taken_at"],
            ["keys", 0, "last_used"],
            ["keys", 0, "breaker", "until"],
            ["keys", 0, "breaker", "consecutive_failures"],
            ["keys", 0, "requests_total"],
            ["keys", 0, "last_error", "at"],
            ["keys", 0, "buckets", 0, 0],
            ["keys", 0, "buckets", 0, 1],
            ["keys", 0, "usage", "uses", 0, 0],
            ["keys", 0, "usage", "today"],
            ["keys", 0, "usage", "day_ends"],
            ["cooldowns", 0, "until"],
            ["metrics", 0, "requests"],
            ["metrics", 0, "start"],
            ["metrics", 0, "seconds"],
            ["events", 0, "at"],
            ["overrides", 0, 1, "weight"],
        )
        for value in ("1e308", "-1e308")
    },
    **{
        f"{path[0]} = {value[:12]}": with_value(path, value)
        for path in (["keys", 0, "requests_total"], ["cooldowns", 0, "until"])
        for value in ("1" + "0" * 400, '"x"')
    },
    **{f"taken_at = {value}": with_value(["taken_at"], value) for value in NO_NUMBERS},
    **{
        f"requests_total = {value}": with_value(["keys", 0, "requests_total"], value)
        for value in NO_NUMBERS
    },
}


@pytest.mark.parametrize("damage", NONSENSE)
def test_a_damaged_snapshot_is_moved_aside(tmp_path, damage):
    (tmp_path / "gemproxy.json").write_bytes(NONSENSE[damage])
    start = survives(tmp_path)
    assert start.state is None
    aside = [name for name in files_in(tmp_path) if name.startswith("gemproxy.json.damaged-")]
    assert len(aside) == 1
    assert (tmp_path / aside[0]).read_bytes() == NONSENSE[damage]
    status = start.store.status()
    assert aside[0] in status.last_error
    assert status.errors["json"] == 1


def test_a_snapshot_of_a_newer_program_is_refused(tmp_path):
    (tmp_path / "gemproxy.json").write_bytes(with_value(["version"], "2"))
    with pytest.raises(SchemaTooNew, match=r"version 2.*versions up to 1"):
        Start(tmp_path)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_mutation_of_a_snapshot_stops_a_start(data):
    document = bytearray(DOCUMENT)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(document) - 1))
        kind = data.draw(st.sampled_from(["byte", "cut", "insert", "digits"]))
        if kind == "byte":
            document[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del document[at : at + data.draw(st.integers(1, 50))]
        elif kind == "insert":
            document[at:at] = data.draw(st.binary(max_size=20))
        else:
            document[at:at] = b"9" * data.draw(st.integers(1, 500))
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "gemproxy.json").write_bytes(document)
        try:
            survives(folder)
        except SchemaTooNew:
            # A digit more in its version is a version.
            assert b'"version":1,' not in document


def test_a_snapshot_of_gigabytes_is_not_read_whole(tmp_path, monkeypatch):
    """It would take the machine's memory, and a start that long."""
    monkeypatch.setattr(json_store, "LARGEST", 1000)
    with (tmp_path / "gemproxy.json").open("wb") as file:
        file.truncate(10**12)
    start = survives(tmp_path)
    assert start.state is None
    assert "larger than 1000 bytes" in start.store.status().last_error
    assert any(name.startswith("gemproxy.json.damaged-") for name in files_in(tmp_path))


@pytest.mark.parametrize("name", ["gemproxy.json", "gemproxy.db"])
@pytest.mark.parametrize("kind", ["folder", "fifo", "dangling link", "link to itself"])
def test_what_is_no_file_stops_no_start(tmp_path, name, kind):
    path = tmp_path / name
    if kind == "folder":
        (path / "within").mkdir(parents=True)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "nowhere" / "gemproxy")
    else:
        path.symlink_to(path)
    start = Start(tmp_path)
    start.look()
    start.store.save(start.live.take(start.clock.seconds()))
    if name == "gemproxy.db":
        assert start.store.status().backend == "json"
        assert start.store.status().last_error
    else:
        assert start.store.status().backend == "sqlite"
    start.store.close()


# -- SQLite ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """The bytes of a whole database."""
    folder = tmp_path_factory.mktemp("database")
    store = SQLiteStateStore(folder / "gemproxy.db")
    store.save(state())
    store.close()
    return (folder / "gemproxy.db").read_bytes()


STATEMENTS = {
    "text that is no UTF-8": "UPDATE keys SET name = CAST(x'ff41' AS TEXT)",
    "a surrogate": "UPDATE rests SET reason = CAST(x'eda080' AS TEXT)",
    "JSON that is no UTF-8": "UPDATE keys SET buckets = CAST(x'5b22ff225d' AS TEXT)",
    "JSON that is a number": "UPDATE keys SET buckets = 7",
    "JSON that is a blob": "UPDATE keys SET usage = x'00ff'",
    "JSON that is a nest": f"UPDATE keys SET last_error = '{'[' * 100_000}'",
    "JSON with a huge number": "UPDATE keys SET buckets = '[[1e308, 1, 1]]'",
    "an event that is a nest": f"UPDATE audit_events SET before = '{'[' * 100_000}'",
    "an id that is a blob": "UPDATE overrides SET key_id = CAST(key_id AS BLOB)",
    "a call's id that is a blob": "UPDATE signatures SET call_id = CAST(call_id AS BLOB)",
    "a name that is a blob": "UPDATE keys SET name = x'00'",
    "a time that is a word": "UPDATE rests SET until = 'tomorrow'",
    "a time that is infinite": "UPDATE rests SET until = 9e999",
    "a time of the checkpoint that is none": "UPDATE checkpoint SET taken_at = 1e308",
    "a checkpoint that is a word": "UPDATE checkpoint SET taken_at = 'x'",
    "a negative count": "UPDATE keys SET requests_total = -9",
    "a count that is a float": "UPDATE keys SET requests_total = 1e300",
    "a weight of millions": "UPDATE overrides SET weight = 1000000",
    "a row of metrics that is full": "UPDATE request_metrics SET requests = 9223372036854775807",
    "metrics of words": "UPDATE request_metrics SET seconds = 'x'",
    "no keys": "DROP TABLE keys",
    "no metrics": "DROP TABLE request_metrics",
    "no column": "ALTER TABLE audit_events RENAME COLUMN action TO acted",
    "no column that is only written": "ALTER TABLE keys RENAME COLUMN left_at TO went_at",
    "no tables": "DROP TABLE keys; DROP TABLE checkpoint; DROP TABLE signatures",
    "a version that was lost": "PRAGMA user_version = 0",
    "a version that is damaged": "PRAGMA user_version = 16777217",
    "a negative version": "PRAGMA user_version = -5",
}


@pytest.mark.parametrize("damage", STATEMENTS)
def test_a_database_whose_contents_make_no_sense_is_moved_aside(tmp_path, database, damage):
    path = tmp_path / "gemproxy.db"
    path.write_bytes(database)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(STATEMENTS[damage])
    start = survives(tmp_path)
    assert start.state is None
    aside = [name for name in files_in(tmp_path) if name.startswith("gemproxy.db.damaged-")]
    assert aside
    status = start.store.status()
    assert aside[0] in status.last_error
    assert status.errors["sqlite"] == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:100],
        lambda whole: whole[:-1],
        lambda whole: b"\0" * len(whole),
        lambda whole: b"SQLite format 3\0" + b"\xff" * 4000,
        lambda whole: os.urandom(len(whole)),
        lambda whole: whole[:4096] + os.urandom(len(whole) - 4096),
        # SQLite's error quotes the name of the table: no UTF-8, so that Python raises another one.
        lambda whole: whole.replace(b"CREATE TABLE keys", b"CREATE TABLE \xb4eys"),
        lambda whole: whole.replace(b"CREATE TABLE ", b"CREATE \xffABLE "),
        lambda whole: whole.replace(b"tablekeyskeys", b"tablek\xffysk\xffys"),
    ],
)
def test_a_database_that_is_cut_or_overwritten_is_moved_aside(tmp_path, database, damage):
    (tmp_path / "gemproxy.db").write_bytes(damage(database))
    start = survives(tmp_path)
    assert any("damaged" in name for name in files_in(tmp_path)), start.store.status()


def test_an_empty_file_is_a_fresh_database(tmp_path):
    (tmp_path / "gemproxy.db").write_bytes(b"")
    start = survives(tmp_path)
    assert start.store.status().last_error is None


def test_a_database_of_a_newer_program_is_refused(tmp_path, database):
    path = tmp_path / "gemproxy.db"
    path.write_bytes(database)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SchemaTooNew, match=r"version 99.*versions up to \d+"):
        Start(tmp_path)


def test_a_table_that_somebody_drops_meanwhile_is_noticed_and_the_rest_moved_aside(
    tmp_path, database
):
    (tmp_path / "gemproxy.db").write_bytes(database)
    start = Start(tmp_path)
    with closing(sqlite3.connect(tmp_path / "gemproxy.db", isolation_level=None)) as connection:
        connection.execute("DROP TABLE request_metrics")
    for _ in range(2):
        start.store.save(start.live.take(start.clock.seconds()))
    assert start.store.status().backend == "sqlite"
    assert any("damaged" in name for name in files_in(tmp_path))
    start.store.close()


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_mutation_of_a_database_stops_a_start(database, data):
    whole = bytearray(database)
    for _ in range(data.draw(st.integers(1, 6))):
        # Most of it is empty: the headers, and where there is something.
        places = st.integers(0, 99) | st.sampled_from(
            [at for at in range(0, len(whole), 7) if whole[at]]
        )
        whole[data.draw(places)] = data.draw(st.integers(0, 255))
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "gemproxy.db").write_bytes(whole)
        try:
            start = Start(folder)
        except SchemaTooNew:
            assert whole[60:64] != database[60:64]
            return
        start.look()
        start.store.save(start.live.take(start.clock.seconds()))
        # In the snapshot where it became another program's database, which is let alone.
        assert start.store.status().backend in {"sqlite", "json"}
        start.store.close()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_damage_of_the_log_stops_a_start(database, data):
    with TemporaryDirectory() as name:
        folder = Path(name)
        path, log = folder / "gemproxy.db", folder / "gemproxy.db-wal"
        path.write_bytes(database)
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute("PRAGMA wal_autocheckpoint = 0")
            writer.execute("UPDATE keys SET requests_total = requests_total + 1")
            writer.execute("UPDATE checkpoint SET taken_at = taken_at + 1")
            frames = bytearray(log.read_bytes())
            whole = path.read_bytes()
        path.write_bytes(whole)
        for _ in range(data.draw(st.integers(0, 4))):
            frames[data.draw(st.integers(0, len(frames) - 1))] = data.draw(st.integers(0, 255))
        log.write_bytes(frames[: data.draw(st.integers(0, len(frames)))])
        survives(folder)


# -- what reads it, apart from a start -------------------------------------------------------------


def test_an_import_of_nonsense_is_refused(tmp_path):
    store = JSONStateStore(tmp_path / "gemproxy.json")
    for damage in ("no UTF-8", "nest", "taken_at = 1e308"):
        store.path.write_bytes(NONSENSE[damage])
        with pytest.raises(StorageCorrupt):
            store.load()


def test_the_bounds_leave_room_to_count_on():
    full = state()
    pool = replace(
        full.pool,
        keys=tuple(replace(kept, requests_total=2**62 - 9) for kept in full.pool.keys),
    )
    with TemporaryDirectory() as name:
        folder = Path(name)
        JSONStateStore(folder / "gemproxy.json").save(replace(full, pool=pool))
        survives(folder)
