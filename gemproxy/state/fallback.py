"""The state wherever it can be kept: in SQLite while that works, else in the JSON snapshot.

A daemon serves whatever its disk does. SQLite is tried again at every save, and gets everything
that it has missed when it works again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from gemproxy.core.errors import SchemaTooNew, StorageCorrupt, StorageError
from gemproxy.core.interfaces import ResilientStateStore, StoreStatus
from gemproxy.state.json_snapshot import JSONStateStore
from gemproxy.state.model import MINUTE, MetricsRow, State, merge_rows
from gemproxy.state.retention import Retention
from gemproxy.state.sqlite import SQLiteStateStore

#: Rows of metrics that wait in memory for SQLite; beyond it the oldest minutes are given up.
MAX_WAITING_ROWS = 100_000


def state_store(
    path: Path | None, fallback_path: Path | None, retention: Retention
) -> FallbackStateStore | NullStateStore:
    """The store that the operator asks for; without ``path`` nothing is kept."""
    if path is None:
        return NullStateStore()
    snapshot = JSONStateStore(fallback_path) if fallback_path is not None else None
    return FallbackStateStore(SQLiteStateStore(path, retention), snapshot)


class NullStateStore(ResilientStateStore):
    """Keeps nothing, as the operator wished."""

    def load(self, now: float | None = None) -> State | None:  # noqa: ARG002
        """Nothing."""
        return None

    def save(self, state: State) -> None:
        """Do nothing."""

    def metrics(self, now: float) -> tuple[MetricsRow, ...]:  # noqa: ARG002
        """Nothing."""
        return ()

    def recovered(self) -> State | None:
        """Nothing."""
        return None

    def status(self) -> StoreStatus:
        """No backend, and no failure."""
        return StoreStatus("none")

    def configure(self, retention: Retention) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class FallbackStateStore(ResilientStateStore):
    """See the module. ``snapshot`` is ``None`` where the operator wants no fallback."""

    def __init__(self, database: SQLiteStateStore, snapshot: JSONStateStore | None) -> None:
        self._database = database
        self._snapshot = snapshot
        self._status = StoreStatus("none")
        #: What SQLite has not got yet.
        self._waiting: State | None = None
        #: The database could not be read at the start; it may hold what nobody knows of.
        self._unread = False
        self._recovered: State | None = None

    def load(self, now: float | None = None) -> State | None:
        """The newer of both; see :meth:`~gemproxy.state.json_snapshot.JSONStateStore.is_newer`.

        Raises :class:`SchemaTooNew` where either was written by a newer program; every other
        failure is only told in :meth:`status`.
        """
        self._status = replace(self._status, backend="sqlite")
        stored, snapshot = self._load_database(now), self._load_snapshot(now)
        latest = stored
        if (
            snapshot is not None
            and self._snapshot is not None
            and self._snapshot.is_newer(snapshot, stored)
        ):
            self._waiting = snapshot
            latest = stored.merged_with(snapshot) if stored is not None else snapshot
        if self._snapshot is not None and stored is not None:
            self._snapshot.follows = stored.taken_at
        self._status = replace(self._status, last_checkpoint=latest.taken_at if latest else None)
        return latest

    def save(self, state: State) -> None:
        """Keep ``state`` in SQLite or else in the snapshot; never raises."""
        whole = self._waiting.merged_with(state) if self._waiting is not None else state
        if self._save_database(whole):
            self._waiting = None
            self._settle("sqlite", state.taken_at)
            if self._snapshot is not None:
                self._snapshot.follows = state.taken_at
            self._discard_snapshot(state.taken_at)
            return
        self._waiting = _bounded(whole)
        if self._save_snapshot(self._waiting):
            self._settle("json", state.taken_at)
        else:
            self._settle("none", state.taken_at)

    def metrics(self, now: float) -> tuple[MetricsRow, ...]:
        """See :class:`~gemproxy.core.interfaces.ResilientStateStore`."""
        waiting = self._waiting.metrics if self._waiting is not None else ()
        stored = None
        # What the database has and could not be read at the start comes by :meth:`recovered`.
        if not self._unread:
            try:
                stored = self._database.load(now)
            except Exception as error:  # noqa: BLE001 - the next save finds a way
                self._failed("sqlite", error, now)
        return merge_rows(stored.metrics if stored is not None else (), waiting)

    def recovered(self) -> State | None:
        """See :class:`~gemproxy.core.interfaces.ResilientStateStore`."""
        recovered, self._recovered = self._recovered, None
        return recovered

    def status(self) -> StoreStatus:
        """See :class:`~gemproxy.core.interfaces.ResilientStateStore`."""
        return self._status

    def configure(self, retention: Retention) -> None:
        """Take another retention, from the next save on. May be called from any thread."""
        self._database.retention = retention

    def close(self) -> None:
        """See :class:`~gemproxy.core.interfaces.StateStore`."""
        self._database.close()

    # -- SQLite ----------------------------------------------------------------------------------

    def _load_database(self, now: float | None) -> State | None:
        try:
            return self._with_whole_database(now or 0.0, lambda: self._database.load(now))
        except SchemaTooNew:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop the start
            self._unread = True
            self._failed("sqlite", error, now or 0.0)
            self._settle("none" if self._snapshot is None else "json", now or 0.0, saved=False)
            return None

    def _save_database(self, state: State) -> bool:
        def save() -> None:
            if self._unread:
                self._recovered = self._database.load(state.taken_at)
                self._unread = False
            self._database.save(state)

        try:
            self._with_whole_database(state.taken_at, save)
        except Exception as error:  # noqa: BLE001 - whatever it is, the proxy goes on serving
            self._failed("sqlite", error, state.taken_at)
            return False
        return True

    def _with_whole_database(
        self, now: float, operation: Callable[[], State | None]
    ) -> State | None:
        """Do it; if the file turns out to be damaged, with a fresh one in its place."""
        try:
            return operation()
        except StorageCorrupt as damage:
            aside = self._database.move_aside(now)
            self._unread = False
            self._failed("sqlite", f"{damage}; moved to {aside.name}", now)
            return operation()

    # -- JSON ------------------------------------------------------------------------------------

    def _load_snapshot(self, now: float | None) -> State | None:
        if self._snapshot is None:
            return None
        try:
            return self._snapshot.load(now)
        except StorageCorrupt as damage:
            aside = ""
            with suppress(StorageError):
                aside = f"; moved to {self._snapshot.move_aside(now or 0.0).name}"
            self._failed("json", f"{damage}{aside}", now or 0.0)
        except SchemaTooNew:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            self._failed("json", error, now or 0.0)
        return None

    def _save_snapshot(self, state: State) -> bool:
        if self._snapshot is None:
            return False
        try:
            self._snapshot.save(state)
        except Exception as error:  # noqa: BLE001 - as above
            reason = f"{self._status.last_error}; {_text(error)}"
            self._failed("json", reason, state.taken_at)
            return False
        return True

    def _discard_snapshot(self, now: float) -> None:
        """What SQLite has got is stale here; should it stay, its time will tell."""
        if self._snapshot is not None and self._snapshot.exists():
            try:
                self._snapshot.discard()
            except StorageError as error:
                self._failed("json", error, now)

    # -- how it goes -----------------------------------------------------------------------------

    def _failed(self, backend: str, error: Exception | str, now: float) -> None:
        status = self._status
        self._status = replace(
            status,
            last_error=_text(error),
            last_error_at=now,
            sqlite_errors=status.sqlite_errors + (backend == "sqlite"),
            json_errors=status.json_errors + (backend == "json"),
        )

    def _settle(self, backend: str, now: float, *, saved: bool = True) -> None:
        status = self._status
        whole = backend == "sqlite"
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


def _bounded(state: State) -> State:
    surplus = len(state.metrics) - MAX_WAITING_ROWS
    if surplus <= 0:
        return state

    def by_worth(row: MetricsRow) -> tuple[bool, int]:
        return row.period != MINUTE.seconds, row.start

    return replace(state, metrics=tuple(sorted(state.metrics, key=by_worth)[surplus:]))
