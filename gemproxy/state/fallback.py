"""Keep the state in the primary store while that works, else in the fallback.

The daemon serves even if its disk fails. Every save tries the primary store first. While that
fails, the fallback gets everything that the primary store has missed. When the primary store works
again it gets that too, and the fallback is discarded.

After a start both may hold a state. The fallback notes which state the primary store held when it
was written (``follows``), so that the newer one of the two is found even if the clock was set back.

A damaged file is moved aside, and a new one is created. A file that a newer program wrote stops the
start: reading it could misread, writing it could lose data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Protocol, TypeVar

from gemproxy.core.errors import SchemaTooNew, StorageCorrupt, StorageError
from gemproxy.core.interfaces import ResilientStateStore, StateStore, StoreStatus
from gemproxy.state.json.store import JSONStateStore
from gemproxy.state.kinds import METRICS, RECORDS, USAGE, Retention, merge_states
from gemproxy.state.model import MINUTE, USAGE_HOUR, CountedRows, RecordRow, State, UsageRow
from gemproxy.state.record_query import FoundRecords, RecordQuery
from gemproxy.state.sqlite.store import SQLiteStateStore
from gemproxy.state.usage_query import UsageQuery, merged, selected, starts_of, summed

_T = TypeVar("_T")

#: Rows of metrics, and of usage, that are kept in memory for the primary store; above it the oldest
#: are dropped.
MAX_WAITING_ROWS = 100_000
#: The same for the records of requests.
MAX_WAITING_RECORDS = 20_000


def state_store(
    path: Path | None, fallback_path: Path | None, retention: Retention
) -> FallbackStateStore | NullStateStore:
    """The configured store; without ``path`` one that stores nothing."""
    if path is None:
        return NullStateStore()
    snapshot = JSONStateStore(fallback_path) if fallback_path is not None else None
    return FallbackStateStore(SQLiteStateStore(path, retention), snapshot)


class NullStateStore(ResilientStateStore):
    """Stores nothing, if so configured."""

    def load(self, now: float | None = None) -> State | None:  # noqa: ARG002
        """Return ``None``."""
        return None

    def save(self, state: State) -> None:
        """Do nothing."""

    def counted(self, now: float) -> CountedRows:  # noqa: ARG002
        """Return nothing."""
        return CountedRows()

    def usage(self, query: UsageQuery, present: Sequence[UsageRow]) -> list[UsageRow]:
        """The sums of ``present``."""
        return summed(query, selected(query, present))

    def search(self, query: RecordQuery) -> FoundRecords:  # noqa: ARG002
        """Return nothing."""
        return FoundRecords(())

    def find(self, digest: int) -> list[RecordRow]:  # noqa: ARG002
        """Return nothing."""
        return []

    def recovered(self) -> State | None:
        """Return ``None``."""
        return None

    def status(self) -> StoreStatus:
        """No backend, and no failure."""
        return StoreStatus("none")

    def configure(self, retention: Retention) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class PrimaryStore(StateStore, Protocol):
    """A store that is used while it works."""

    #: The name in the status: ``sqlite``.
    name: str
    #: The limits of age and size. May be replaced at any time.
    retention: Retention

    def usage(self, query: UsageQuery, excluded: Iterable[tuple[int, int]]) -> list[UsageRow]:
        """The sums for ``query``, without the ``excluded`` hours and days."""

    def search(self, query: RecordQuery) -> FoundRecords:
        """The records that ``query`` asks for, newest first."""

    def find(self, digest: int) -> list[RecordRow]:
        """The records whose id has ``digest``, newest first."""

    def move_aside(self, now: float) -> Path:
        """Move a damaged file away and return its new path."""


class SnapshotStore(StateStore, Protocol):
    """A store that keeps one whole state while the primary store fails."""

    #: The name in the status: ``json``.
    name: str
    #: The time of the state that the primary store held when this snapshot was written.
    follows: float | None

    def is_newer(self, snapshot: State, stored: State | None) -> bool:
        """Whether ``snapshot``, which was loaded here, is newer than ``stored``."""

    def move_aside(self, now: float) -> Path:
        """See :meth:`PrimaryStore.move_aside`."""

    def exists(self) -> bool:
        """Whether it holds a state."""

    def discard(self) -> None:
        """Remove the state that it holds."""


class FallbackStateStore(ResilientStateStore):
    """See the module. ``snapshot`` is ``None`` if the operator wants no fallback."""

    def __init__(self, primary: PrimaryStore, snapshot: SnapshotStore | None) -> None:
        self._primary = primary
        self._snapshot = snapshot
        self._status = StoreStatus("none")
        #: What the primary store has missed.
        self._waiting: State | None = None
        #: The primary store could not be read at the start; it may have rows that are not in
        #: memory.
        self._unread = False
        self._recovered: State | None = None

    def load(self, now: float | None = None) -> State | None:
        """The newer state of the two stores; see :class:`SnapshotStore`.

        Raises :class:`SchemaTooNew` if either was written by a newer program; every other failure
        only appears in :meth:`status`.
        """
        self._status = replace(self._status, backend=self._primary.name)
        stored, snapshot = self._load_primary(now), self._load_snapshot(now)
        latest = stored
        if (
            snapshot is not None
            and self._snapshot is not None
            and self._snapshot.is_newer(snapshot, stored)
        ):
            self._waiting = snapshot
            latest = merge_states(stored, snapshot) if stored is not None else snapshot
        if self._snapshot is not None and stored is not None:
            self._snapshot.follows = stored.taken_at
        self._status = replace(self._status, last_checkpoint=latest.taken_at if latest else None)
        return latest

    def save(self, state: State) -> None:
        """Keep ``state`` in one of the two stores; never raises."""
        whole = merge_states(self._waiting, state) if self._waiting is not None else state
        if self._save_primary(whole):
            self._waiting = None
            self._settle(self._primary.name, state.taken_at)
            if self._snapshot is not None:
                self._snapshot.follows = state.taken_at
            self._discard_snapshot(state.taken_at)
            return
        self._waiting = _bounded(whole)
        if self._snapshot is not None and self._save_snapshot(self._snapshot, self._waiting):
            self._settle(self._snapshot.name, state.taken_at)
        else:
            self._settle("none", state.taken_at)

    def counted(self, now: float) -> CountedRows:
        """See :class:`~gemproxy.core.interfaces.ResilientStateStore`."""
        waiting, stored = self._waiting, None
        # What could not be read at the start is returned by :meth:`recovered`.
        if not self._unread:
            try:
                stored = self._primary.load(now)
            except Exception as error:  # noqa: BLE001 - the next save finds a way
                self._failed(self._primary.name, error, now)
        if waiting is None or stored is None:
            found = stored or waiting
            return CountedRows() if found is None else CountedRows(found.metrics, found.usage)
        return CountedRows(
            METRICS.merge(stored.metrics, waiting.metrics), USAGE.merge(stored.usage, waiting.usage)
        )

    def usage(self, query: UsageQuery, present: Sequence[UsageRow]) -> list[UsageRow]:
        """See :class:`~gemproxy.core.interfaces.ResilientStateStore`."""
        waiting = self._waiting.usage if self._waiting is not None else ()
        rows = merged(present, waiting)
        none: list[UsageRow] = []
        stored = self._read(lambda: self._primary.usage(query, starts_of(rows)), none)
        return summed(query, chain(stored, selected(query, rows)))

    def search(self, query: RecordQuery) -> FoundRecords:
        """See :class:`~gemproxy.core.interfaces.ResilientStateStore`."""
        found = self._read(lambda: self._primary.search(query), FoundRecords(()))
        waiting = filter(query.admits, self._waiting_records)
        rows = _newest_first(found.rows, waiting)
        if len(rows) <= query.limit:
            return FoundRecords(rows, found.rest)
        return FoundRecords(rows[: query.limit])

    def find(self, digest: int) -> list[RecordRow]:
        """See :class:`~gemproxy.core.interfaces.ResilientStateStore`."""
        none: list[RecordRow] = []
        found = self._read(lambda: self._primary.find(digest), none)
        return _newest_first(found, (r for r in self._waiting_records if r.digest == digest))

    @property
    def _waiting_records(self) -> Sequence[RecordRow]:
        return self._waiting.records if self._waiting is not None else ()

    def _read(self, read: Callable[[], _T], otherwise: _T) -> _T:
        """What the primary store has, or ``otherwise`` while it fails."""
        try:
            return read()
        except Exception as error:  # noqa: BLE001 - the next save finds a way
            self._failed(self._primary.name, error, self._status.last_checkpoint or 0.0)
            return otherwise

    def recovered(self) -> State | None:
        """See :class:`~gemproxy.core.interfaces.ResilientStateStore`."""
        recovered, self._recovered = self._recovered, None
        return recovered

    def status(self) -> StoreStatus:
        """See :class:`~gemproxy.core.interfaces.ResilientStateStore`."""
        return self._status

    def configure(self, retention: Retention) -> None:
        """Set the retention from the next save on. Thread-safe."""
        self._primary.retention = retention

    def close(self) -> None:
        """See :class:`~gemproxy.core.interfaces.StateStore`."""
        self._primary.close()

    # -- the primary store -------------------------------------------------------------------------

    def _load_primary(self, now: float | None) -> State | None:
        try:
            return self._with_whole_file(now or 0.0, lambda: self._primary.load(now))
        except SchemaTooNew:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop the start
            self._unread = True
            self._failed(self._primary.name, error, now or 0.0)
            backend = "none" if self._snapshot is None else self._snapshot.name
            self._settle(backend, now or 0.0, saved=False)
            return None

    def _save_primary(self, state: State) -> bool:
        def save() -> None:
            if self._unread:
                self._recovered = self._primary.load(state.taken_at)
                self._unread = False
            self._primary.save(state)

        try:
            self._with_whole_file(state.taken_at, save)
        except Exception as error:  # noqa: BLE001 - whatever it is, the proxy goes on serving
            self._failed(self._primary.name, error, state.taken_at)
            return False
        return True

    def _with_whole_file(self, now: float, operation: Callable[[], State | None]) -> State | None:
        """Run ``operation``; if the file is damaged, move it aside and run it again."""
        try:
            return operation()
        except StorageCorrupt as damage:
            aside = self._primary.move_aside(now)
            self._unread = False
            self._failed(self._primary.name, f"{damage}; moved to {aside.name}", now)
            return operation()

    # -- the snapshot ------------------------------------------------------------------------------

    def _load_snapshot(self, now: float | None) -> State | None:
        if self._snapshot is None:
            return None
        try:
            return self._snapshot.load(now)
        except StorageCorrupt as damage:
            aside = ""
            with suppress(StorageError):
                aside = f"; moved to {self._snapshot.move_aside(now or 0.0).name}"
            self._failed(self._snapshot.name, f"{damage}{aside}", now or 0.0)
        except SchemaTooNew:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(self._snapshot.name, error, now or 0.0)
        return None

    def _save_snapshot(self, snapshot: SnapshotStore, state: State) -> bool:
        try:
            snapshot.save(state)
        except Exception as error:  # noqa: BLE001 - as above
            reason = f"{self._status.last_error}; {_text(error)}"
            self._failed(snapshot.name, reason, state.taken_at)
            return False
        return True

    def _discard_snapshot(self, now: float) -> None:
        """Remove the snapshot, now out of date. If this fails, the next load ignores it."""
        if self._snapshot is not None and self._snapshot.exists():
            try:
                self._snapshot.discard()
            except StorageError as error:
                self._failed(self._snapshot.name, error, now)

    # -- how it goes -------------------------------------------------------------------------------

    def _failed(self, backend: str, error: Exception | str, now: float) -> None:
        status = self._status
        self._status = replace(
            status,
            last_error=_text(error),
            last_error_at=now,
            errors={**status.errors, backend: status.errors.get(backend, 0) + 1},
        )

    def _settle(self, backend: str, now: float, *, saved: bool = True) -> None:
        status = self._status
        whole = backend == self._primary.name
        self._status = replace(
            status,
            backend=backend,
            last_checkpoint=now if saved and backend != "none" else status.last_checkpoint,
            degraded_since=None if whole else status.degraded_since or now,
        )


def _text(error: Exception | str) -> str:
    if isinstance(error, (str, StorageError)):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _newest_first(stored: Iterable[RecordRow], waiting: Iterable[RecordRow]) -> list[RecordRow]:
    return list(reversed(RECORDS.merge(stored, waiting)))


def _bounded(state: State) -> State:
    """``state`` without the oldest rows beyond :data:`MAX_WAITING_ROWS` of each kind."""
    if len(state.metrics) > MAX_WAITING_ROWS:
        kept = sorted(state.metrics, key=lambda row: (row.period != MINUTE.seconds, row.start))
        state = replace(state, metrics=tuple(kept[-MAX_WAITING_ROWS:]))
    if len(state.usage) > MAX_WAITING_ROWS:
        by_worth = sorted(state.usage, key=lambda row: (row.period != USAGE_HOUR, row.start))
        state = replace(state, usage=tuple(by_worth[-MAX_WAITING_ROWS:]))
    if len(state.records) > MAX_WAITING_RECORDS:
        state = replace(state, records=state.records[-MAX_WAITING_RECORDS:])
    return state
