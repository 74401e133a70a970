"""Share one run of some work among all callers that wait for it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


class SharedWork:
    """Work that the first caller starts and later callers join.

    All callers get its result or failure. A caller that cancels affects only itself. When no caller
    waits any more the work is cancelled, and the next caller starts it again.
    """

    def __init__(self) -> None:
        self._run: _Run | None = None

    def join(self, work: Callable[[], Coroutine[Deferred[Any], Any, None]]) -> Deferred[None]:
        """Fires with the result; calls ``work`` if none is running."""
        run = self._run
        if run is not None and run.is_under_way:
            return run.join()
        self._run = run = _Run()
        waiter = run.join()
        run.begin(work)
        return waiter


class _Run:
    """One run and its waiting callers."""

    def __init__(self) -> None:
        self.is_under_way = True
        self._waiting: list[Deferred[None]] = []
        self._work: Deferred[None] | None = None

    def begin(self, work: Callable[[], Coroutine[Deferred[Any], Any, None]]) -> None:
        self._work = Deferred.fromCoroutine(work())
        self._work.addBoth(self._end)

    def join(self) -> Deferred[None]:
        waiter: Deferred[None] = Deferred(self._leave)
        self._waiting.append(waiter)
        return waiter

    def _leave(self, waiter: Deferred[None]) -> None:
        self._waiting.remove(waiter)
        if not self._waiting and self._work is not None:
            self.is_under_way = False
            self._work.cancel()

    def _end(self, result: object) -> None:
        self.is_under_way = False
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if isinstance(result, Failure):
                waiter.errback(result)
            else:
                waiter.callback(None)
