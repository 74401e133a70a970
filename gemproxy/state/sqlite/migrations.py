"""The schema of the database: a numbered file for each ``PRAGMA user_version``.

A migration is an SQL file ``schema/NNNN_words.sql``. A released file is never changed;
every change is a new file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import resources
from typing import NamedTuple

from gemproxy.core.errors import SchemaTooNew, StorageCorrupt, StorageUnavailable
from gemproxy.state.files import LAST_PLAUSIBLE_VERSION

#: ``gemp``: identifies databases of this program.
APPLICATION_ID = 0x67656D70


class Migration(NamedTuple):
    """One migration: the version that it leads to, and its SQL."""

    version: int
    sql: str


def migrations() -> list[Migration]:
    """All migrations, in order."""
    files = resources.files("gemproxy.state.sqlite").joinpath("schema").iterdir()
    return sorted(
        Migration(int(file.name[:4]), file.read_text("utf-8"))
        for file in files
        if file.name.endswith(".sql")
    )


def refuse_foreign(connection: sqlite3.Connection, steps: Sequence[Migration]) -> None:
    """Check a database before it is changed.

    Raises :class:`SchemaTooNew`, :class:`StorageCorrupt` for an impossible version, and
    :class:`StorageUnavailable` for another program's database.
    """
    present, latest = _number(connection, "user_version"), steps[-1].version
    ours = _number(connection, "application_id") == APPLICATION_ID
    begun = _has_tables(connection)
    if ours and not begun <= present <= LAST_PLAUSIBLE_VERSION:
        raise StorageCorrupt(f"damaged: its schema has the version {present}")
    if present > latest:
        raise SchemaTooNew(
            f"its schema has version {present}, and this program knows versions up to {latest};"
            " run a newer gemproxy, or move the file away to begin without its state"
        )
    if begun and not ours:
        raise StorageUnavailable("this is a database of another program")


def migrate(
    connection: sqlite3.Connection,
    steps: Sequence[Migration],
    backup: Callable[[int], None],
) -> None:
    """Bring a database to the last of ``steps``, each in its own transaction.

    ``connection`` is in autocommit mode. Before a database with contents is changed, ``backup`` is
    called with its version.
    """
    present = _number(connection, "user_version")
    if 0 < present < steps[-1].version:
        backup(present)
    for step in steps:
        if step.version > present:
            _apply(connection, step)


def _apply(connection: sqlite3.Connection, step: Migration) -> None:
    # executescript() commits an open transaction, so the script has its own.
    script = (
        f"BEGIN IMMEDIATE;\n{step.sql}\n;PRAGMA user_version = {step.version};"
        f"PRAGMA application_id = {APPLICATION_ID};\nCOMMIT;"
    )
    try:
        connection.executescript(script)
    except sqlite3.Error:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def _has_tables(connection: sqlite3.Connection) -> bool:
    (number,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return bool(number)


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    (number,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(number)
