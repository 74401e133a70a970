"""The state in a SQLite database.

Each :meth:`SQLiteStateStore.save` writes the changes since the one before in one transaction. Then
it deletes some old rows and returns some free pages to the disk (``PRAGMA incremental_vacuum``), in
steps so small that no save takes long and no full ``VACUUM`` is ever needed.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from gemproxy.state.files import move_aside, storage_errors
from gemproxy.state.kinds import CLIENTS, Retention
from gemproxy.state.model import RecordRow, State, UsageRow
from gemproxy.state.record_query import FoundRecords, RecordQuery
from gemproxy.state.sqlite.database import (
    Database,
    is_about_schema,
    unreadable,
)
from gemproxy.state.sqlite.instance_lock import InstanceLock
from gemproxy.state.sqlite.migrations import migrations, refuse_foreign
from gemproxy.state.sqlite.records import find_records, search_records
from gemproxy.state.sqlite.retention import RecordCounter, SettledClock, prune
from gemproxy.state.sqlite.tables import check_tables, clear, read_state, write_state
from gemproxy.state.sqlite.usage import read_usage
from gemproxy.state.usage_query import UsageQuery

#: Bytes that a record takes with its indices, unless it failed several times.
RECORD_BYTES = 600

_T = TypeVar("_T")


class SQLiteStateStore:
    """See the module. Opens its database at the first use, and again after a failure.

    ``busy_timeout`` is in seconds; ``seconds`` gives monotonic time. Implements
    :class:`~gemproxy.core.interfaces.StateStore`.
    """

    name = "sqlite"

    def __init__(
        self,
        path: Path,
        retention: Retention | None = None,
        busy_timeout: float = 2.0,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        #: May be replaced between two calls.
        self.retention = retention or Retention()
        self._busy_timeout = busy_timeout
        self._clock = SettledClock(seconds)
        self._lock = InstanceLock(path)
        self._database: Database | None = None
        #: The state that is known to be in the database; ``None`` if unknown.
        self._saved: State | None = None
        self._checked = False
        self._records = RecordCounter()

    def load(self, now: float | None = None) -> State | None:
        """See :class:`~gemproxy.core.interfaces.StateStore`. The first load checks the file."""
        with storage_errors(self.path):
            try:
                database = self._open_checked()
                with database.transaction(reading=True) as connection:
                    state = _read(connection, now)
                # Reading creates the log file if there is none.
                database.seal()
            except BaseException:
                self._disconnect()
                raise
            else:
                return state

    def load_read_only(self) -> State | None:
        """The last state that the owner of the file saved. Raises as :meth:`load`.

        Uses a read transaction, which blocks no writer.
        """
        with storage_errors(self.path):
            address = f"{self.path.resolve().as_uri()}?mode=ro"
            with closing(
                sqlite3.connect(address, uri=True, isolation_level=None, timeout=self._busy_timeout)
            ) as connection:
                refuse_foreign(connection, migrations())
                connection.execute("BEGIN")
                return _read(connection, None)

    def save(self, state: State) -> None:
        """See :class:`~gemproxy.core.interfaces.StateStore`.

        The file is checked if another process has written to it.
        """
        with storage_errors(self.path):
            try:
                database = self._open_checked()
                database.bound_log()
                saved = () if self._saved is None else self._saved.clients
                # No power cut may bring a revoked token back.
                durable = bool(CLIENTS.changed(saved, state.clients))
                with database.transaction(durable=durable) as connection:
                    write_state(connection, self._saved, state)
                self._saved = state
                self._tidy_up(database, state.taken_at)
                database.seal()
            except BaseException as error:
                self._disconnect()
                if is_about_schema(error):
                    self._checked = False
                raise

    def usage(self, query: UsageQuery, excluded: Iterable[tuple[int, int]]) -> list[UsageRow]:
        """See :func:`gemproxy.state.sqlite.usage.read_usage`. Raises :class:`StorageError`."""
        return self._query(lambda connection: read_usage(connection, query, excluded))

    def search(self, query: RecordQuery) -> FoundRecords:
        """Search the recorded requests. Raises :class:`StorageError`."""
        return self._query(lambda connection: search_records(connection, query))

    def find(self, digest: int) -> list[RecordRow]:
        """The recorded requests of an id. Raises :class:`StorageError`."""
        return self._query(lambda connection: find_records(connection, digest))

    def replace(self, state: State) -> None:
        """Save ``state`` and remove everything else."""
        with storage_errors(self.path):
            try:
                database = self._open()
                with database.transaction() as connection:
                    clear(connection)
                    write_state(connection, None, state)
                self._saved = state
                database.seal()
            except BaseException:
                self._disconnect()
                raise

    def move_aside(self, now: float) -> Path:
        """Move the damaged file away and return its new path."""
        self._disconnect()
        with storage_errors(self.path):
            self._lock.acquire()
            return move_aside(self.path, now)

    def close(self) -> None:
        """Close the database and release the lock."""
        self._disconnect()
        self._lock.release()

    def _query(self, read: Callable[[sqlite3.Connection], _T]) -> _T:
        with storage_errors(self.path):
            try:
                database = self._open_checked()
                with database.transaction(reading=True) as connection, unreadable():
                    found = read(connection)
                database.seal()
            except BaseException:
                self._disconnect()
                raise
            else:
                return found

    def _open_checked(self) -> Database:
        database = self._open()
        if not self._checked:
            database.check()
            with database.transaction(reading=True) as connection, unreadable():
                check_tables(connection)
            self._checked = True
        return database

    def _open(self) -> Database:
        if self._database is not None and not self._is_untouched(self._database):
            self._disconnect()
            self._checked = False
        if self._database is None:
            self._lock.acquire()
            self._database = Database(self.path, self._busy_timeout)
        return self._database

    def _is_untouched(self, database: Database) -> bool:
        return database.is_in_place() and database.is_sealed()

    def _disconnect(self) -> None:
        """Close after a failure; the lock is kept."""
        database, self._database = self._database, None
        self._saved = None
        if database is not None:
            database.close()

    def _tidy_up(self, database: Database, now: float) -> None:
        settled = self._clock.is_settled(now, self.retention.settle)
        retention = self.retention
        crowded = database.used_bytes() > retention.bytes + retention.records * RECORD_BYTES
        with database.transaction() as connection:
            prune(connection, retention, now, crowded=crowded, settled=settled)
            # While there is no room, records go first.
            self._records.prune(connection, 0 if crowded else retention.records)
        database.give_back_space()


def _read(connection: sqlite3.Connection, now: float | None) -> State | None:
    with unreadable():
        return read_state(connection, now)
