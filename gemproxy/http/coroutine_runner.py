"""The work that a request makes: a coroutine on its way to its end."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


class CoroutineRunner:
    """Runs ``coroutine``, beginning at once; ``over`` tells whether it has ended.

    As ``Deferred.fromCoroutine`` does, without what makes that cost as much as to read a request:
    there is no context of its own (``contextvars``), and no result for which somebody might wait.
    The coroutine answers itself for whatever is raised in it, and what it awaits are Deferreds.
    """

    __slots__ = ("_awaited", "_coroutine", "_ended", "over")

    def __init__(self, coroutine: Coroutine[Deferred[Any], object, None]) -> None:
        self.over = False
        self._coroutine = coroutine
        self._awaited: Deferred[Any] | None = None
        self._ended: Deferred[None] | None = None
        self._go_on(None)

    def cancel(self) -> None:
        """Raise ``CancelledError`` where the coroutine waits; no matter if it does not."""
        if self._awaited is not None:
            self._awaited.cancel()

    def ended(self) -> Deferred[None]:
        """Fires when the work is over. To be asked for once."""
        ended: Deferred[None] = Deferred()
        self._ended = ended
        if self.over:
            ended.callback(None)
        return ended

    def _go_on(self, result: object) -> None:
        self._awaited = None
        try:
            # A Deferred that is awaited gives its result itself, but not yet its failure.
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
            awaited.addBoth(self._go_on)
