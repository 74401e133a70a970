"""``gemproxy state``, by its arguments, output, files and exit status."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from fakes.stores import NOON, comparable, full_state

from gemproxy.cli import main
from gemproxy.state.json.store import JSONStateStore, read_state
from gemproxy.state.sqlite.store import SQLiteStateStore

DATABASE = Path("state/gemproxy.db")
SNAPSHOT = Path("state/gemproxy.json")
EXPORT = Path("export.json")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in ("GEMPROXY_CONFIG", "GEMPROXY_KEYS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", "test-key-one-0123456789")
    main(["init"])
    return tmp_path


@pytest.fixture
def stored(capsys):
    """The database holds a state."""
    save(full_state())
    capsys.readouterr()


def save(state):
    store = SQLiteStateStore(DATABASE)
    store.save(state)
    store.close()


def in_database():
    store = SQLiteStateStore(DATABASE)
    try:
        return store.load()
    finally:
        store.close()


def test_export_writes_everything_for_the_owner_alone(stored, capsys):
    before = os.umask(0)
    try:
        assert main(["state", "export", "export.json"]) == 0
    finally:
        os.umask(before)
    assert capsys.readouterr().out == (
        "state/gemproxy.db -> export.json: 2 keys, 3 metrics, 2 signatures, 2 events, 2 resources,"
        " 2 answers\n"
    )
    assert comparable(read_state(EXPORT)) == comparable(full_state())
    assert stat.S_IMODE(EXPORT.stat().st_mode) == 0o600
    assert {each.name for each in Path().iterdir()} == {"config", "state", "export.json"}


def test_what_was_exported_can_be_imported_elsewhere(stored, capsys):
    main(["state", "export", "export.json"])
    DATABASE.unlink()
    capsys.readouterr()
    assert main(["--json", "state", "import", "export.json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "from": "export.json",
        "to": "state/gemproxy.db",
        "keys": 2,
        "metrics": 3,
        "signatures": 2,
        "events": 2,
        "resources": 2,
        "answers": 2,
    }
    assert comparable(in_database()) == comparable(full_state())


def test_export_takes_the_snapshot_where_it_is_newer(stored, capsys):
    JSONStateStore(SNAPSHOT).save(full_state(NOON + 5, metrics=()))
    assert main(["state", "export", "export.json"]) == 0
    exported = read_state(EXPORT)
    assert exported.taken_at == NOON + 5
    assert len(exported.metrics) == 3


def test_export_beside_a_running_daemon_gives_its_last_checkpoint(stored):
    daemon = SQLiteStateStore(DATABASE)
    daemon.load()
    assert main(["state", "export", "export.json"]) == 0
    daemon.close()
    assert JSONStateStore(EXPORT).load().taken_at == NOON


def test_import_beside_a_running_daemon_is_refused_and_changes_nothing(stored, capsys):
    JSONStateStore(EXPORT).save(full_state(NOON + 5))
    before = EXPORT.read_bytes()
    daemon = SQLiteStateStore(DATABASE)
    daemon.load()
    assert main(["state", "import", "export.json", "--force"]) == 1
    assert capsys.readouterr().err == (
        f"gemproxy: state/gemproxy.db: a running gemproxy uses it (process {os.getpid()})\n"
    )
    daemon.close()
    assert EXPORT.read_bytes() == before
    assert in_database().taken_at == NOON


def test_export_never_overwrites_without_force(stored, capsys):
    EXPORT.write_text("mine")
    assert main(["state", "export", "export.json"]) == 73
    assert capsys.readouterr().err == "gemproxy: export.json exists; --force overwrites it\n"
    assert EXPORT.read_text() == "mine"
    assert main(["state", "export", "--force", "export.json"]) == 0
    assert read_state(EXPORT).taken_at == NOON


def test_import_never_replaces_without_force(stored, capsys):
    JSONStateStore(EXPORT).save(full_state(NOON + 5, events=()))
    assert main(["state", "import", "export.json"]) == 1
    assert capsys.readouterr().err == (
        "gemproxy: state/gemproxy.db holds a state already; --force replaces it\n"
    )
    assert comparable(in_database()) == comparable(full_state())
    assert main(["state", "import", "export.json", "--force"]) == 0
    assert comparable(in_database()) == comparable(full_state(NOON + 5, events=()))


def test_import_leaves_no_snapshot_that_would_win_over_it(capsys):
    JSONStateStore(EXPORT).save(full_state())
    JSONStateStore(SNAPSHOT).save(full_state(NOON + 5))
    capsys.readouterr()
    assert main(["state", "import", "export.json"]) == 1
    assert "state/gemproxy.json holds a state already" in capsys.readouterr().err
    assert main(["state", "import", "export.json", "--force"]) == 0
    assert not SNAPSHOT.exists()


def test_older_state_may_be_imported_over_a_newer_one(stored):
    JSONStateStore(EXPORT).save(full_state(NOON - 86400))
    assert main(["state", "import", "export.json", "--force"]) == 0
    assert in_database().taken_at == NOON - 86400


def test_nothing_to_export(capsys):
    assert main(["state", "export", "export.json"]) == 1
    assert capsys.readouterr().err == "gemproxy: state/gemproxy.db holds no state yet\n"
    assert not EXPORT.exists()
    assert not DATABASE.exists()


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        ("{", 1, "not a state of gemproxy"),
        ('{"format": "gemproxy-state", "version": 2}', 78, "run a newer gemproxy"),
        (None, 1, "export.json: No such file or directory"),
    ],
)
def test_file_that_is_no_state_is_refused(stored, capsys, content, status, message):
    if content is not None:
        EXPORT.write_text(content)
    assert main(["state", "import", "export.json", "--force"]) == status
    assert message in capsys.readouterr().err
    assert comparable(in_database()) == comparable(full_state())


def test_database_of_a_newer_program_is_refused(stored, capsys):
    with closing(sqlite3.connect(DATABASE)) as connection:
        connection.execute("PRAGMA user_version = 99")
    assert main(["state", "export", "export.json"]) == 78
    assert "its schema has version 9" in capsys.readouterr().err


def test_damaged_database_is_told_of_and_left_where_it_is(stored, capsys):
    DATABASE.write_bytes(b"garbage" * 1000)
    assert main(["state", "export", "export.json"]) == 1
    assert capsys.readouterr().err == "gemproxy: state/gemproxy.db: file is not a database\n"
    assert DATABASE.read_bytes() == b"garbage" * 1000


def test_configuration_without_persistence(capsys):
    Path("config/proxy.yaml").write_text(
        "proxy: {adminToken: made-up-admin-token-0123}\npersistence: {path: null}\n"
    )
    capsys.readouterr()
    status = main(["state", "export", "export.json"])
    assert (status, capsys.readouterr().err) == (
        1,
        "gemproxy: persistence.path is null: this configuration keeps no state\n",
    )


def test_export_where_it_cannot_write(stored, capsys):
    Path("folder").write_text("not a folder")
    assert main(["state", "export", "folder/export.json"]) == 1
    assert "folder/export.json: " in capsys.readouterr().err
