"""Work that would hold up the reactor, in threads."""

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

    Only one thread computes at a time, the reactor's included: each further one takes a share of
    the time away from the clients whose requests are short, and from the reactor.
    """

    def __init__(self, reactor: Any, number: int, name: str) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(1, number, name)

    def startService(self) -> None:
        """Start the threads."""
        super().startService()
        self._pool.start()

    def stopService(self) -> None:
        """Stop them, when they have done what they are at."""
        super().stopService()
        self._pool.stop()

    def do(self, work: Callable[[], _T]) -> Deferred[_T]:
        """Do ``work`` as :func:`in_thread` does."""
        return in_thread(self._reactor, work, self._pool)


def in_thread(
    reactor: Any, work: Callable[[], _T], threads: ThreadPool | None = None
) -> Deferred[_T]:
    """Do ``work`` in one of the ``threads``, or else of the reactor's, as soon as one is free.

    Work that nobody waits for any more when its turn comes is not done, and what it holds is let go
    of when the Deferred is cancelled: else clients that come and leave would fill the queue.
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
