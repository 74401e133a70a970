"""The state in one JSON file: the fallback while SQLite cannot be written, and what is exported.

A new file is written beside the old one, synced and renamed, so there is always a complete file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import GenericAlias
from typing import Any

import msgspec

from gemproxy.config.files import read_regular
from gemproxy.core.errors import SchemaTooNew, StorageCorrupt, StorageError
from gemproxy.state.files import LAST_PLAUSIBLE_VERSION, move_aside, storage_errors
from gemproxy.state.kinds import KINDS, Kind, build_state, check_plausible
from gemproxy.state.model import State

FORMAT = "gemproxy-state"
#: Incremented when an older program could misread the file.
VERSION = 1

#: Largest file that is read, in bytes; twice the limit of the database
#: (:class:`~gemproxy.state.kinds.Retention`).
LARGEST = 512 * 1024 * 1024

#: Values that are encoded at once, during which the interpreter lock is held.
_BATCH = 200


class _Header(msgspec.Struct):
    format: str
    version: int


def _rows_field(kind: Kind[Any]) -> tuple[str, Any]:
    return kind.name, GenericAlias(tuple, (kind.type, ...))


_Document = msgspec.defstruct(
    "_Document",
    [
        ("taken_at", float),
        *(_rows_field(kind) for kind in KINDS if not kind.optional),
        *((*_rows_field(kind), ()) for kind in KINDS if kind.optional),
        ("follows", float | None, None),
    ],
    bases=(_Header,),
)


def encode_state(state: State, follows: float | None = None) -> Iterator[bytes]:
    """``state`` as JSON in pieces, one value in a line.

    ``follows`` is the time of the state that the database held then.
    """
    yield b'{"format":"%b","version":%d,"taken_at":%b,"follows":%b' % (
        FORMAT.encode(),
        VERSION,
        msgspec.json.encode(state.taken_at),
        msgspec.json.encode(follows),
    )
    for kind in KINDS:
        yield b',\n"%b":[' % kind.name.encode()
        yield from _encode_list(map(kind.plain, kind.of(state)))
        yield b"]"
    yield b"}\n"


def decode_state(document: bytes) -> State:
    """Decode the result of :func:`encode_state`.

    Raises :class:`SchemaTooNew`, and :class:`StorageCorrupt` for anything else.
    """
    return _decode(document)[0]


def _decode(document: bytes) -> tuple[State, float | None]:
    """The state and its ``follows``."""
    try:
        header = msgspec.json.decode(document, type=_Header)
        if header.format != FORMAT or not 1 <= header.version <= LAST_PLAUSIBLE_VERSION:
            raise StorageCorrupt("not a state of gemproxy")
        if header.version > VERSION:
            raise SchemaTooNew(
                f"it has version {header.version}, and this program knows versions up to"
                f" {VERSION}; run a newer gemproxy, or move the file away to begin without it"
            )
        found: Any = msgspec.json.decode(document, type=_Document)
    # ValueError includes text that is not UTF-8, RecursionError too deep nesting.
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise StorageCorrupt(f"not a state of gemproxy: {error}") from None
    rows = {kind.name: getattr(found, kind.name) for kind in KINDS}
    return check_plausible(build_state(found.taken_at, rows)), found.follows


def read_state(path: Path) -> State:
    """The state in a file. Raises :class:`StorageError`."""
    with storage_errors(path):
        return decode_state(_read(path))


def write_state(path: Path, state: State, *, overwrite: bool, follows: float | None = None) -> None:
    """Write a file with mode 600; an existing one stays until the new one is complete.

    Raises :class:`StorageError`, also if ``path`` exists and must not be overwritten.
    """
    unfinished = path.with_name(f"{path.name}.tmp")
    with storage_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            _write_through(unfinished, encode_state(state, follows))
            if overwrite:
                unfinished.replace(path)
            else:
                path.hardlink_to(unfinished)
        finally:
            unfinished.unlink(missing_ok=True)
        _sync_folder(path.parent)


class JSONStateStore:
    """The state in the file ``path``. Implements :class:`~gemproxy.core.interfaces.StateStore`.

    Each save replaces the whole file, so older metrics and events are lost.
    """

    name = "json"

    def __init__(self, path: Path) -> None:
        self.path = path
        #: The time of the state that the database held when this snapshot was written.
        self.follows: float | None = None

    def load(self, now: float | None = None) -> State | None:  # noqa: ARG002 - all is in the file
        """See :class:`~gemproxy.core.interfaces.StateStore`."""
        try:
            with storage_errors(self.path):
                state, self.follows = _decode(_read(self.path))
        except StorageError:
            if self.exists():
                raise
            return None
        return state

    def save(self, state: State) -> None:
        """See :class:`~gemproxy.core.interfaces.StateStore`. Writes :attr:`follows` as well."""
        write_state(self.path, state, overwrite=True, follows=self.follows)

    def is_newer(self, snapshot: State, stored: State | None) -> bool:
        """Whether ``snapshot``, which was loaded here, is newer than the state of the database.

        This is so if the database still has the state that the snapshot follows, whatever the times
        say: the clock may have been set back.
        """
        if stored is None or snapshot.taken_at >= stored.taken_at:
            return True
        return self.follows == stored.taken_at

    def move_aside(self, now: float) -> Path:
        """Move a damaged file away and return its new path."""
        with storage_errors(self.path):
            return move_aside(self.path, now)

    def exists(self) -> bool:
        """Whether there is a file."""
        return os.path.lexists(self.path)

    def discard(self) -> None:
        """Remove the file."""
        with storage_errors(self.path):
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """See :class:`~gemproxy.core.interfaces.StateStore`."""


def _read(path: Path) -> bytes:
    """Read a file up to the size limit; a larger one could take all memory."""
    document = read_regular(path, LARGEST + 1)
    if len(document) > LARGEST:
        raise StorageCorrupt(f"larger than {LARGEST} bytes, as no state of gemproxy is")
    return document


def _encode_list(values: Iterable[object]) -> Iterator[bytes]:
    rest = iter(values)
    separator = b"\n"
    while batch := list(islice(rest, _BATCH)):
        yield separator + b",\n".join(map(msgspec.json.encode, batch))
        separator = b",\n"


def _write_through(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a new file and wait until it is on the disk."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Fsync the directory so that the rename is durable, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
