"""Apply a changed configuration between two requests.

A changed file, SIGHUP or the operator asks for a reload. All files are read and checked whole in a
thread. All changes are applied in one turn of the reactor; a mistake in any file changes
nothing. Reloads never overlap.

A changed file is tried once its content has been stable for a second, so a half-written file is not
tried, and a file with mistakes is tried once.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from gemproxy.clock import wall_clock
from gemproxy.config.changes import SettingsChange, compare, with_kept_keys
from gemproxy.config.settings import Settings
from gemproxy.core.errors import ConfigError
from gemproxy.service.periodic import PeriodicService

#: Seconds between two looks. A change is applied when two further looks find it unchanged.
LOOK_SECONDS = 0.5
_STEADY_LOOKS = 2
#: Mistakes in one log line and on the health page.
_FAULTS_TOLD = 20

T = TypeVar("T")


class SettingsSource(Protocol):
    """Where settings come from. Both methods may block; see ``config_files``."""

    def read_over(self, running: Settings) -> tuple[Settings, Settings]:
        """The settings in the files, and those that a process with ``running`` can apply."""

    def fingerprint(self) -> bytes:
        """Changes when the files change."""


class InThread(Protocol):
    """Runs blocking work in a thread: ``twisted.internet.threads.deferToThread``."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """Fires with what ``work`` returns, or fails with what it raises."""


@dataclass(frozen=True)
class Reloaded:
    """A successful reload with its ``changes``; ``at`` is epoch time."""

    changes: SettingsChange
    generation: int
    at: float


@dataclass(frozen=True)
class ReloadStatus:
    """The configuration's history, for the health page and the metrics. Times are epoch seconds.

    ``generation`` counts the applied configurations, beginning with 1 at the start. A reload
    without a change leaves it and ``loaded_at`` as they are. ``last_error`` is the message of the
    latest reload if that failed.
    """

    loaded_at: float
    generation: int = 1
    successes: int = 0
    failures: int = 0
    last_reload_at: float | None = None
    last_error: str | None = None
    #: Settings of the files that wait for a restart.
    restart_required: tuple[str, ...] = ()


class ConfigReload(Service):
    """Keeps the running settings equal to the files.

    ``seen`` is the source's fingerprint from before ``settings`` were read. ``apply`` gets the new
    settings and their changes in the reactor's thread; it may raise :class:`ConfigError` as long as
    it has changed nothing. ``prepare`` gets them before that in a thread, for slow work that is
    harmless if the reload fails later: the scrubber learns the new secrets. ``begun`` and ``ended``
    are called around each reload; ``ended`` gets its result.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        source: SettingsSource,
        settings: Settings,
        seen: bytes,
        apply: Callable[[Settings, SettingsChange], None],
        *,
        in_thread: InThread,
        prepare: Callable[[Settings], None] = lambda _: None,
        begun: Callable[[], None] = lambda: None,
        ended: Callable[[ReloadStatus], None] = lambda _: None,
    ) -> None:
        self._reactor = reactor
        self._source = source
        #: The settings in force.
        self.settings = settings
        self._wall = wall_clock(reactor)
        self.status = ReloadStatus(loaded_at=self._wall())
        self._apply = apply
        self._in_thread = in_thread
        self._prepare = prepare
        self._begun = begun
        self._ended = ended
        self._lock = DeferredLock()
        self._watch = Watch(seen)
        self._looks = PeriodicService(reactor, LOOK_SECONDS, self._look, "watching the files")

    def startService(self) -> None:
        """Watch the files and handle SIGHUP."""
        super().startService()
        signal.signal(signal.SIGHUP, self._hung_up)
        self._looks.startService()

    def stopService(self) -> None:
        """Stop watching. A later SIGHUP does nothing."""
        super().stopService()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # Do not wait for the thread: a hanging file system must not delay the stop.
        self._looks.stopService()

    def reload(self) -> Deferred[Reloaded]:
        """Read the files and apply their changes. Cancelling the Deferred does not stop the reload.

        Fails with :class:`ConfigError`, which holds every mistake; then nothing has changed.
        """
        # Without a canceller: cancelling ends the wait, not the reload.
        told: Deferred[Reloaded] = Deferred()
        Deferred.fromCoroutine(self._serialised()).addCallbacks(told.callback, told.errback)
        return told

    # -- one reload ------------------------------------------------------------------------------

    async def _serialised(self) -> Reloaded:
        await self._lock.acquire()
        self._begun()
        try:
            return await self._reload()
        except ConfigError as error:
            self._failed(_told(error))
            self._log_faults(error)
            raise
        except Exception:
            self._failed("an internal error; the log has its traceback")
            self._log.failure("a reload failed")
            raise
        finally:
            self._ended(self.status)
            self._lock.release()

    async def _reload(self) -> Reloaded:
        running = self.settings
        # Taken before the files are read, so that the next look finds later changes.
        self._watch.trying(await self._in_thread(self._source.fingerprint))
        applicable, changes = await self._in_thread(lambda: self._read(running))
        if applicable is not None:
            self._apply(applicable, changes)
            self.settings = applicable
        return self._succeeded(changes, applied=applicable is not None)

    def _read(self, running: Settings) -> tuple[Settings | None, SettingsChange]:
        """The settings to apply (``None``: no change) and those of the files. Runs in a thread."""
        written, applicable = self._source.read_over(running)
        changes = compare(running, written)
        if applicable == running:
            return None, changes
        self._prepare(applicable)
        return with_kept_keys(applicable, running), changes

    def _succeeded(self, changes: SettingsChange, *, applied: bool) -> Reloaded:
        now, before = self._wall(), self.status
        self.status = replace(
            before,
            generation=before.generation + applied,
            loaded_at=now if applied else before.loaded_at,
            successes=before.successes + 1,
            last_reload_at=now,
            last_error=None,
            restart_required=changes.restart_required,
        )
        self._log_success(changes, applied=applied)
        return Reloaded(changes, self.status.generation, now)

    def _failed(self, reason: str) -> None:
        self.status = replace(
            self.status,
            failures=self.status.failures + 1,
            last_reload_at=self._wall(),
            last_error=reason,
        )

    def _log_success(self, changes: SettingsChange, *, applied: bool) -> None:
        if applied:
            self._log.info(
                "configuration applied",
                generation=self.status.generation,
                keys_added=changes.keys_added,
                keys_removed=changes.keys_removed,
                keys_updated=[update.name for update in changes.keys_updated],
                settings=changes.settings,
                clients_added=changes.clients_added,
                clients_removed=changes.clients_removed,
                clients_updated=changes.clients_updated,
            )
        else:
            self._log.info("configuration read again, nothing to apply")
        if changes.restart_required:
            self._log.warn("settings wait for a restart", settings=changes.restart_required)

    def _log_faults(self, error: ConfigError) -> None:
        faults = [fault.told() for fault in error.faults]
        for begin in range(0, len(faults), _FAULTS_TOLD):
            self._log.error(
                "configuration not applied, the running one stays",
                mistakes=len(faults),
                faults=faults[begin : begin + _FAULTS_TOLD],
            )

    # -- what asks for one -----------------------------------------------------------------------

    async def _look(self) -> None:
        seen = await self._in_thread(self._source.fingerprint)
        if not self._lock.locked and self.running and self._watch.is_due(seen):
            await self._attempt()

    def _hung_up(self, _number: int, _frame: object) -> None:
        """Signal handler: only schedule the work."""
        self._reactor.callFromThread(self._reload_by_signal)

    def _reload_by_signal(self) -> None:
        # A reload that is queued already will read the current files.
        if not self._lock.waiting:
            Deferred.fromCoroutine(self._attempt())

    async def _attempt(self) -> None:
        # The failure was logged and counted; nobody waits for the result.
        with suppress(Exception):
            await self._serialised()


class Watch:
    """Decides when to try the files; ``tried`` is their fingerprint at the last try."""

    def __init__(self, tried: bytes) -> None:
        self.trying(tried)

    def trying(self, seen: bytes) -> None:
        """The files are read as ``seen`` now; a later change has to be stable first."""
        self._tried = self._candidate = seen
        self._looks = 0

    def is_due(self, seen: bytes) -> bool:
        """Whether the content ``seen`` is new and has been stable long enough."""
        if seen != self._candidate:
            self._candidate, self._looks = seen, 0
        else:
            self._looks += 1
        return seen != self._tried and self._looks >= _STEADY_LOOKS


def _told(error: ConfigError) -> str:
    lines = [fault.told() for fault in error.faults[:_FAULTS_TOLD]]
    left = len(error.faults) - len(lines)
    return "\n".join([*lines, f"and {left} more"] if left else lines)
