"""Work that would hold up the reactor, in a thread of its pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

_T = TypeVar("_T")


def in_thread(reactor: Any, work: Callable[[], _T]) -> Deferred[_T]:
    """Do ``work`` in a thread, as soon as one is free.

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

    done: Deferred[_T] = deferToThreadPool(reactor, reactor.getThreadPool(), run)
    return done.addErrback(left)
