"""``gemproxy state export FILE``, at any time, and ``state import FILE``, while no daemon runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gemproxy.cli.exits import ExitStatus, Refused
from gemproxy.config.loading import load, locate_clients, locate_files
from gemproxy.core.errors import SchemaTooNew, StorageError, StorageUnavailable
from gemproxy.state.json.store import JSONStateStore, read_state, write_state
from gemproxy.state.kinds import merge_states
from gemproxy.state.sqlite.store import SQLiteStateStore

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from gemproxy.config.settings import PersistenceSettings
    from gemproxy.state.model import State


def add_arguments(parser: ArgumentParser) -> None:
    """The direction and the file."""
    parser.epilog = (
        "The database is the one that the configuration names. The file is JSON and holds no"
        " secret: keys stand in it by name and fingerprint."
    )
    parser.add_argument("direction", choices=("export", "import"), help="to FILE, or from FILE")
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument(
        "--force",
        action="store_true",
        help="overwrite FILE, or the state that is in the database",
    )


def run(arguments: Namespace) -> int:
    """Export or import. Raises :class:`Refused` and :class:`ConfigError`."""
    paths = locate_files(arguments.config, arguments.keys, os.environ)
    clients = locate_clients(arguments.clients, paths[0], os.environ)
    settings = load(*paths, os.environ, clients)
    path = settings.persistence.path
    if path is None:
        raise Refused("persistence.path is null: this configuration keeps no state")
    database = SQLiteStateStore(path)
    move = _export if arguments.direction == "export" else _import
    try:
        state = move(database, settings.persistence, arguments.file, force=arguments.force)
    except SchemaTooNew as error:
        raise Refused(str(error), ExitStatus.CONFIG) from None
    except StorageError as error:
        raise Refused(str(error)) from None
    finally:
        database.close()
    _report(arguments, path, state)
    return ExitStatus.OK


def _export(
    database: SQLiteStateStore, persistence: PersistenceSettings, file: Path, *, force: bool
) -> State:
    if not force and os.path.lexists(file):
        raise Refused(f"{file} exists; --force overwrites it", ExitStatus.CANNOT_CREATE)
    stored = _stored(database) if database.path.exists() else None
    snapshot = _fallback(persistence)
    waiting = snapshot.load() if snapshot is not None else None
    state = stored
    if waiting is not None and snapshot is not None and snapshot.is_newer(waiting, stored):
        state = merge_states(stored, waiting) if stored is not None else waiting
    if state is None:
        raise Refused(f"{database.path} holds no state yet")
    write_state(file, state, overwrite=force)
    return state


def _stored(database: SQLiteStateStore) -> State | None:
    """The state in the database: while a daemon runs, its last checkpoint."""
    try:
        return database.load()
    except StorageUnavailable:
        return database.load_read_only()


def _import(
    database: SQLiteStateStore, persistence: PersistenceSettings, file: Path, *, force: bool
) -> State:
    state = read_state(file)
    snapshot = _fallback(persistence)
    present = database.load()
    if not force and present is not None:
        raise Refused(f"{database.path} holds a state already; --force replaces it")
    if not force and snapshot is not None and snapshot.exists():
        raise Refused(f"{snapshot.path} holds a state already; --force removes it")
    database.replace(state)
    # A newer snapshot would replace the imported state at the next start.
    if snapshot is not None:
        snapshot.discard()
    return state


def _fallback(persistence: PersistenceSettings) -> JSONStateStore | None:
    path = persistence.fallback_path
    return JSONStateStore(path) if path is not None else None


def _report(arguments: Namespace, path: Path, state: State) -> None:
    counts = {
        "keys": len(state.pool.keys),
        "metrics": len(state.metrics),
        "signatures": len(state.signatures),
        "events": len(state.events),
        "resources": len(state.resources),
        "answers": len(state.answers),
    }
    source, target = path, arguments.file
    if arguments.direction == "import":
        source, target = target, source
    if arguments.json:
        print(json.dumps({"ok": True, "from": str(source), "to": str(target), **counts}))
    else:
        what = ", ".join(f"{number} {name}" for name, number in counts.items())
        print(f"{source} -> {target}: {what}")
