"""Run the coroutine that serves a request."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from gemproxy.awaited import Awaited


class CoroutineRunner:
    """Starts ``coroutine`` at once; ``over`` tells whether it has ended.

    It replaces ``Deferred.fromCoroutine``, which costs as much as reading a request. It has no
    ``contextvars`` context and no result. The coroutine must handle every exception and await
    nothing but Deferreds.
    """

    __slots__ = ("_awaited", "_coroutine", "_ended", "over")

    def __init__(self, coroutine: Coroutine[Deferred[Any], object, None]) -> None:
        self.over = False
        self._coroutine = coroutine
        self._awaited: Deferred[Any] | None = None
        self._ended: Deferred[None] | None = None
        self._go_on(None)

    def cancel(self) -> None:
        """Raise ``CancelledError`` in the coroutine if it is waiting."""
        if self._awaited is not None:
            self._awaited.cancel()

    def ended(self) -> Deferred[None]:
        """Return a Deferred that fires when the coroutine has ended. Call it once."""
        ended: Deferred[None] = Deferred()
        self._ended = ended
        if self.over:
            ended.callback(None)
        return ended

    def _go_on(self, result: object) -> None:
        self._awaited = None
        try:
            # An awaited Deferred returns its result by itself, but its failure must be thrown in.
            awaited: Deferred[Any] = (
                result.throwExceptionIntoGenerator(self._coroutine)
                if isinstance(result, Failure)
                else self._coroutine.send(None)
            )
        except StopIteration:
            self.over = True
            if self._ended is not None:
                self._ended.callback(None)
        else:
            self._awaited = awaited
            if type(awaited) is Awaited:
                awaited.resume = self._go_on
            else:
                awaited.addBoth(self._go_on)
