"""Run work that would block the reactor in threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

_T = TypeVar("_T")


class Threads(Service):
    """A few threads for one kind of work.

    The interpreter runs one thread at a time, the reactor's included. Each further thread takes
    time away from the reactor and from clients with short requests.
    """

    def __init__(self, reactor: Any, number: int, name: str) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(1, number, name)

    def startService(self) -> None:
        """Start the threads."""
        super().startService()
        self._pool.start()

    def stopService(self) -> None:
        """Stop the threads after their current work."""
        super().stopService()
        self._pool.stop()

    def do(self, work: Callable[[], _T]) -> Deferred[_T]:
        """See :func:`in_thread`."""
        return in_thread(self._reactor, work, self._pool)


def in_thread(
    reactor: Any, work: Callable[[], _T], threads: ThreadPool | None = None
) -> Deferred[_T]:
    """Run ``work`` in one of ``threads`` (by default the reactor's) as soon as one is free.

    Cancelling the Deferred drops work that has not started, and what it references at once.
    Otherwise clients that connect and leave would fill the queue.
    """
    waiting = [work]
    del work

    def run() -> Any:
        try:
            begun = waiting.pop()
        except IndexError:
            return None
        return begun()

    def left(failure: Failure) -> Failure:
        waiting.clear()
        return failure

    done: Deferred[_T] = deferToThreadPool(reactor, threads or reactor.getThreadPool(), run)
    return done.addErrback(left)
