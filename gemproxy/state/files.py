"""What all stores share that keep the state in a file: errors that name it, and damaged files."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from gemproxy.core.errors import StorageCorrupt, StorageError, StorageUnavailable

#: Damaged files that are kept beside the good one.
MAX_DAMAGED = 10
#: A greater version means that the number is damaged, not that a newer program wrote it.
LAST_PLAUSIBLE_VERSION = 999

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Convert every error within into a :class:`StorageError` whose message names ``path``."""
    try:
        yield
    except StorageError as error:
        raise type(error)(f"{path}: {error}") from error
    except sqlite3.Error as error:
        kind = StorageCorrupt if error_code(error) in _DAMAGED else StorageUnavailable
        raise kind(f"{path}: {error}") from error
    except UnicodeDecodeError as error:
        # Replaces SQLite's error if that quotes a damaged schema.
        raise StorageCorrupt(f"{path}: damaged: {error}") from error
    except OSError as error:
        raise StorageUnavailable(f"{path}: {error.strerror or error}") from error


def move_aside(path: Path, now: float) -> Path:
    """Rename a damaged file, and the log beside it, so that a new one can be created.

    Returns the new path. Raises :class:`StorageUnavailable` if there are :data:`MAX_DAMAGED`
    already.
    """
    damaged = list(path.parent.glob(f"{path.name}.damaged-*Z"))
    if len(damaged) >= MAX_DAMAGED:
        raise StorageUnavailable(f"damaged, and {len(damaged)} damaged ones lie beside it already")
    try:
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    except (ValueError, OverflowError, OSError):
        stamp = "at-an-unknown-time-Z"
    aside = beside(path, f".damaged-{stamp}")
    # The database first: a log without its database is harmless.
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            beside(path, suffix).replace(beside(aside, suffix))
    return aside


def error_code(error: sqlite3.Error) -> int:
    """SQLite's primary error code; the higher bytes are the extended code."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def beside(path: Path, suffix: str) -> Path:
    """The path with ``suffix`` after its name."""
    return path.with_name(path.name + suffix)
