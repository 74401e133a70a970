"""Checkpoints: write the state to the disk every few seconds, outside the reactor's thread."""

from __future__ import annotations

import os
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Any, NoReturn, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from gemproxy.clock import epoch_offset, wall_clock
from gemproxy.core.errors import ConfigError, SchemaTooNew, StartRefused
from gemproxy.core.interfaces import ResilientStateStore, StoreStatus
from gemproxy.service.periodic import PeriodicService
from gemproxy.service.state_collector import StateCollector
from gemproxy.state.model import MINUTE, State

_T = TypeVar("_T")


Observer = Callable[[StoreStatus, float], None]
"""Is told of each checkpoint: how the store is after it, and the seconds that it took."""


class _DaemonThread(Thread):
    """A daemon thread: a process whose start fails does not wait for it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options, daemon=True)


class StorageThread(ThreadPool):
    """A pool of one thread: a SQLite connection must stay in the thread that opened it."""

    threadFactory = _DaemonThread

    def __init__(self) -> None:
        super().__init__(1, 1, "storage")


class Checkpoint(Service):
    """Restores ``live`` at the start, saves it every ``interval`` seconds, and at the stop.

    Start it before whatever serves requests, and stop it after. ``threads`` is a pool of one
    thread, which is started and stopped here, with the store. ``restored`` is called after the
    restore; it may raise :class:`~gemproxy.core.errors.ConfigError` to refuse the start.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        interval: float,
        live: StateCollector,
        store: ResilientStateStore,
        observe: Observer | None = None,
        threads: Any = None,
        *,
        restored: Callable[[], None] = lambda: None,
    ) -> None:
        self._reactor = reactor
        self._wall = wall_clock(reactor)
        self._live = live
        self._store = store
        self._observe = observe
        self._restored = restored
        self._lock = DeferredLock()
        #: Whether the latest checkpoint is on the disk, or no store is configured.
        self._is_kept = True
        self._threads = StorageThread() if threads is None else threads
        self._rounds = PeriodicService(reactor, interval, self.save, "checkpoint")
        self._last_logged: tuple[str, str | None] = ("", None)
        self._offset = epoch_offset(reactor.seconds, self._wall)

    @property
    def interval(self) -> float:
        """Seconds between two checkpoints; may be changed at any time."""
        return self._rounds.interval

    @interval.setter
    def interval(self, interval: float) -> None:
        self._rounds.interval = interval

    def startService(self) -> None:
        """Load and restore; blocks, since the reactor does not run yet.

        A store that a newer program wrote ends the process with status 78.
        """
        super().startService()
        self._threads.start()
        now, wall = self._reactor.seconds(), self._wall()
        try:
            state = self._wait_for(lambda: self._store.load(wall))
        except SchemaTooNew as refusal:
            self._refuse(refusal)
        if state is not None:
            self._live.restore(state, now)
            self._log.info(
                "state of {keys} keys restored", keys=len(state.pool.keys), taken_at=state.taken_at
            )
        try:
            self._restored()
        except ConfigError as error:
            self._wait_for(self._store.close)
            self._refuse(error)
        self._tell_changes()
        self._rounds.startService()

    def stopService(self) -> Deferred[None]:
        """Fires when the last checkpoint is written and the store is closed."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def in_store_thread(self, operation: Callable[..., _T], *arguments: Any) -> Deferred[_T]:
        """Run ``operation`` in the thread of the store, after what was asked before."""
        return self._in_thread(operation, *arguments)

    async def save(self) -> None:
        """Write a checkpoint now."""
        await self._lock.run(lambda: Deferred.fromCoroutine(self._save()))

    async def save_durably(self) -> bool:
        """Write a checkpoint now; return whether the state of now is where it is to be kept."""
        await self.save()
        return self._is_kept

    async def _save(self) -> None:
        await self._save_once()
        late = self._store.recovered()
        if late is not None:
            self._log.info("the state of an earlier run can be read now, and is restored")
            self._live.restore_late(late, self._reactor.seconds())
            try:
                self._restored()
            except ConfigError as error:
                self._log.error("the restored state does not fit the files", mistakes=str(error))
            await self._save_once()

    async def _save_once(self) -> None:
        await self._follow_clock()
        for _ in self._live.prepare(self._reactor.seconds()):
            await deferLater(self._reactor, 0)
        state = self._live.take(self._reactor.seconds())
        seconds = await self._in_thread(self._save_timed, state)
        self._tell_changes()
        status = self._store.status()
        self._is_kept = status.backend != "none" or status.degraded_since is None
        if self._observe is not None:
            self._observe(status, seconds)

    async def _follow_clock(self) -> None:
        """Load the counts of the time that the wall clock was set to."""
        offset = epoch_offset(self._reactor.seconds, self._wall)
        step, self._offset = offset - self._offset, offset
        if abs(step) >= MINUTE.seconds:
            counted = await self._in_thread(self._store.counted, self._wall())
            self._live.recall(counted, self._reactor.seconds())

    async def _stop(self) -> None:
        await self._rounds.stopService()
        try:
            await self.save()
        except Exception:  # noqa: BLE001 - the rest of the stop goes on
            self._log.failure("the last checkpoint failed")
        await self._in_thread(self._store.close)
        self._threads.stop()

    def _save_timed(self, state: State) -> float:
        began = perf_counter()
        self._store.save(state)
        return perf_counter() - began

    def _in_thread(self, operation: Callable[..., _T], *arguments: Any) -> Deferred[_T]:
        return deferToThreadPool(self._reactor, self._threads, operation, *arguments)

    def _wait_for(self, operation: Callable[[], _T]) -> _T:
        """Run ``operation`` in the store's thread and block until it is done."""
        results: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
        self._threads.callInThreadWithCallback(lambda *result: results.put(result), operation)
        succeeded, result = results.get()
        if not succeeded:
            failure: Failure = result
            failure.raiseException()
        value: _T = result
        return value

    def _refuse(self, refusal: SchemaTooNew | ConfigError) -> NoReturn:
        self._threads.stop()
        # A restart would not help; the systemd unit does not try one after this status.
        raise StartRefused(os.EX_CONFIG, str(refusal)) from None

    def _tell_changes(self) -> None:
        """Log one line when the backend or the latest failure has changed."""
        status = self._store.status()
        now = (status.backend, status.last_error)
        before, self._last_logged = self._last_logged, now
        if now == before:
            return
        if status.degraded_since is not None:
            self._log.error(
                "the state cannot be kept in SQLite: {reason}; it is kept in: {backend}",
                reason=status.last_error,
                backend=status.backend,
            )
        elif before[0] not in {"", status.backend}:
            self._log.info("the state is kept in SQLite again", backend=status.backend)
        elif status.last_error is not None:
            self._log.warn("the stored state: {reason}", reason=status.last_error)
