"""A Deferred for the usual case that one coroutine awaits it and nobody else wants its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

_T = TypeVar("_T")


class Awaited(Deferred[_T]):
    """Fires the coroutine runner that awaits it (:attr:`resume`) without the chain of callbacks.

    To add one callback to a chain, run the chain and throw it away costs as much as to read a
    request. For everybody else, and for a failure, it is a Deferred as any other.
    """

    def __init__(self, canceller: Callable[[Deferred[Any]], None]) -> None:
        Deferred.__init__(self, canceller)
        # Deferred has these as attributes of the class; CPython reads those of an instance faster.
        self.called = False
        self.paused = 0
        #: What to call with the result or the failure, before anything else is added.
        self.resume: Callable[[object], None] | None = None

    def callback(self, result: _T | Failure) -> None:
        """See :class:`Deferred`."""
        resume = self.resume
        if resume is None:
            super().callback(result)
            return
        self.resume = None
        self.called = True
        self.result = result
        resume(result)

    def errback(self, fail: Failure | BaseException | None = None) -> None:
        """See :class:`Deferred`."""
        resume, self.resume = self.resume, None
        if resume is not None:
            self.addBoth(resume)
        super().errback(fail)
