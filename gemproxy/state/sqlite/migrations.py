"""The database's schema, one numbered file a version; ``PRAGMA user_version`` is where it stands.

A migration is an SQL file ``schema/NNNN_words.sql``. A file that was released is never changed;
the next change is the next file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import resources
from typing import NamedTuple

from gemproxy.core.errors import SchemaTooNew, StorageCorrupt, StorageUnavailable

#: ``gemp``: tells our databases from other people's.
APPLICATION_ID = 0x67656D70

#: A version beyond this one was not written by a newer program: the number is damaged.
LAST_PLAUSIBLE_VERSION = 999


class Migration(NamedTuple):
    """One step: the version that it leads to, and its SQL."""

    version: int
    sql: str


def migrations() -> list[Migration]:
    """All steps, in order."""
    files = resources.files("gemproxy.state.sqlite").joinpath("schema").iterdir()
    return sorted(
        Migration(int(file.name[:4]), file.read_text("utf-8"))
        for file in files
        if file.name.endswith(".sql")
    )


def refuse_foreign(connection: sqlite3.Connection, steps: Sequence[Migration]) -> None:
    """Look at a database before anything of it is changed.

    Raises :class:`SchemaTooNew`, :class:`StorageCorrupt` for a version that there cannot be, and
    :class:`StorageUnavailable` for somebody else's database.
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
    """Bring a database to the last of ``steps``, each in a transaction of its own.

    ``connection`` is in autocommit mode. Before a database that holds something is changed,
    ``backup`` is called with the version that it has.
    """
    present = _number(connection, "user_version")
    if 0 < present < steps[-1].version:
        backup(present)
    for step in steps:
        if step.version > present:
            _apply(connection, step)


def _apply(connection: sqlite3.Connection, step: Migration) -> None:
    # executescript() ends a transaction that is open, so the script brings its own.
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
