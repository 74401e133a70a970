"""One open SQLite database: its files, settings, transactions and size.

Write-ahead log and ``synchronous=NORMAL``: a process that is killed loses nothing that was
committed, a power cut at most the latest commits, and neither damages the file (sqlite.org,
"Write-Ahead Logging"). A durable transaction is synced to the disk by itself.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from gemproxy.core.errors import StorageCorrupt, StorageUnavailable
from gemproxy.state.files import beside, error_code
from gemproxy.state.sqlite.migrations import Migration, migrate, migrations, refuse_foreign

_PAGES_PER_CHECKPOINT = 1000
_MIB = 1024 * 1024
#: The log is truncated to this size whenever it restarts.
_WAL_KEPT = 4 * _MIB
#: From this size on, try to empty the log; a reader may prevent it.
_WAL_LARGE = 16 * _MIB
#: Above this size writing stops: another process has been reading for hours.
_WAL_LARGEST = 64 * _MIB
#: Free pages that stay for reuse, and pages that one step returns to the disk.
_FREE_PAGES = 256
_VACUUM_STEP = 128


class Database:
    """An open database, used in one thread; its owner holds the :class:`InstanceLock`.

    ``busy_timeout`` is in seconds: how long to wait for SQLite's own lock.
    To be used within :func:`~gemproxy.state.files.storage_errors`.
    """

    def __init__(
        self, path: Path, busy_timeout: float, steps: Sequence[Migration] | None = None
    ) -> None:
        self._path = path
        self.connection: sqlite3.Connection | None = None
        try:
            _make_private(path)
            self.connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None)
            steps = steps or migrations()
            refuse_foreign(self.connection, steps)
            _configure(self.connection)
            migrate(self.connection, steps, self._back_up)
            self._identity = _identity(path)
            self._written = self._writings()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def transaction(
        self, *, reading: bool = False, durable: bool = False
    ) -> Iterator[sqlite3.Connection]:
        """Run a transaction; with ``reading``, it does not wait for a writer.

        A ``durable`` one survives a power cut as well.
        """
        connection = self._connected()
        if durable:
            connection.execute("PRAGMA synchronous = FULL").fetchall()
        connection.execute("BEGIN" if reading else "BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            # SQLite rolls back by itself if the disk is full or the file is damaged.
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            raise
        finally:
            if durable:
                with suppress(sqlite3.Error):
                    connection.execute("PRAGMA synchronous = NORMAL").fetchall()

    def is_in_place(self) -> bool:
        """Whether the path still leads to the open file: it may have been removed or replaced."""
        return _identity(self._path) == self._identity

    def seal(self) -> None:
        """Remember the condition of the files after this process's own writes."""
        self._written = self._writings()

    def is_sealed(self) -> bool:
        """Whether no other process has written to the files since :meth:`seal`.

        SQLite itself would not notice: it caches pages and the index of the log.
        """
        return self._writings() == self._written

    def check(self) -> None:
        """Raises :class:`StorageCorrupt` if the file is damaged. Reads all of it."""
        (size,) = self._connected().execute("PRAGMA page_size").fetchone()
        # SQLite reads what is missing of the last page as zeros. While there is a log, the file may
        # have been extended in part.
        if not self._log_bytes() and self._path.stat().st_size % size:
            raise StorageCorrupt("damaged: its last page is cut")
        (verdict,) = self._connected().execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StorageCorrupt(f"damaged: {verdict}")
        # SQLite reads zeros for what is missing of the last page. With a log that page is not used.
        (page,) = self._connected().execute("PRAGMA page_size").fetchone()
        if not self._log_bytes() and self._path.stat().st_size % page:
            raise StorageCorrupt("damaged: its last page is incomplete")

    def used_bytes(self) -> int:
        """The size of the contents without free pages."""
        pages, free, size = (
            self._connected().execute(f"PRAGMA {pragma}").fetchone()[0]
            for pragma in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def give_back_space(self) -> None:
        """Return some free pages to the disk, in a short step."""
        connection = self._connected()
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        if free > _FREE_PAGES:
            step = min(_VACUUM_STEP, free - _FREE_PAGES)
            # Each step of the statement frees one page, and execute() takes a single step where
            # there are no columns to fetch; executescript() goes on to the end.
            connection.executescript(f"PRAGMA incremental_vacuum({step})")

    def bound_log(self) -> None:
        """Empty the write-ahead log if it has grown large.

        Raises :class:`StorageUnavailable` if another process has been reading for too long, so that
        it cannot be emptied.
        """
        if self._log_bytes() > _WAL_LARGE:
            self._connected().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if self._log_bytes() > _WAL_LARGEST:
            raise StorageUnavailable(
                f"its log has {_WAL_LARGEST // _MIB} MiB and cannot be emptied while another"
                " process is reading the database"
            )

    def close(self) -> None:
        """Close the database; its log is written back first."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _connected(self) -> sqlite3.Connection:
        if self.connection is None:
            raise StorageUnavailable("closed")
        return self.connection

    def _writings(self) -> tuple[tuple[int, int] | None, ...]:
        return _writing(self._path), _writing(beside(self._path, "-wal"))

    def _log_bytes(self) -> int:
        try:
            return beside(self._path, "-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def _back_up(self, version: int) -> None:
        """Copy the database before its schema changes, so that an older program can be restored."""
        copy = beside(self._path, f".schema-{version}")
        if copy.exists():
            return
        unfinished = beside(self._path, f".schema-{version}.tmp")
        unfinished.unlink(missing_ok=True)
        _make_private(unfinished)
        with closing(sqlite3.connect(unfinished)) as target:
            self._connected().backup(target)
        unfinished.replace(copy)


@contextmanager
def unreadable() -> Iterator[None]:
    """Convert errors while stored values are decoded into :class:`StorageCorrupt`."""
    try:
        yield
    except sqlite3.OperationalError as error:
        # Also raised, without a separate code, for text that is not UTF-8.
        if is_about_schema(error):
            raise StorageCorrupt(f"damaged: {error}") from error
        raise
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        # Decoders and converters raise one of these.
        raise StorageCorrupt(f"its contents make no sense: {error}") from error


def is_about_schema(error: BaseException) -> bool:
    """Whether a statement failed because tables or columns are missing."""
    return isinstance(error, sqlite3.OperationalError) and error_code(error) == sqlite3.SQLITE_ERROR


def _configure(connection: sqlite3.Connection) -> None:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    if not pages:
        # Must come before the first page is written, which the pragma of the journal does.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        f"wal_autocheckpoint = {_PAGES_PER_CHECKPOINT}",
        f"journal_size_limit = {_WAL_KEPT}",
        "trusted_schema = OFF",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _make_private(path: Path) -> None:
    """Create the file with mode 600; SQLite creates the files beside it with the same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    for each in (path, beside(path, "-wal"), beside(path, "-shm")):
        with suppress(FileNotFoundError):
            if each.stat().st_mode & 0o077:
                each.chmod(0o600)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _writing(path: Path) -> tuple[int, int] | None:
    """A value that changes with every write to the file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns
