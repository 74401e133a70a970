"""Report what happens to a request to listeners: log, metrics, history, ledger, traces.

``http.lifecycle`` reports the beginning and the end of a request, ``core.dispatch`` what happens in
between. A listener gets the request's context as it is then. The attempts of a request of several
jobs are reported with a context for each job (``is_part``), with the same id. A new listener is a
class, and an entry in the list that the assembly gives to :class:`RequestEvents`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gemproxy.core.context import RequestContext


class RequestListener:
    """Is called when something happens to a request. Subclasses override what they need.

    A method must not block, nor change the context; only the first listener prices the request
    (``RequestContext.cost``).
    """

    #: ``False`` if only ``request_ended`` is overridden.
    is_detailed = True

    def request_started(self, context: RequestContext) -> None:
        """The request was admitted, and its body is complete."""

    def attempt_started(self, context: RequestContext) -> None:
        """A key was chosen; the attempt is the last of the context."""

    def attempt_ended(self, context: RequestContext) -> None:
        """The last attempt has its outcome; who is charged for it is not yet decided."""

    def first_byte(self, context: RequestContext) -> None:
        """The first byte of the answer's body is about to go to the client."""

    def request_ended(self, context: RequestContext, status: int, seconds: float) -> None:
        """``status`` is what the client got, 499 if it left first; ``seconds`` the whole time."""


class RequestEvents(RequestListener):
    """Several listeners as one.

    If a listener raises, ``failed`` is called with its method while the exception is handled, and
    the others are still called: a defect of a listener must not stop a request. The loop over the
    ends is written out, since every request passes it.
    """

    def __init__(
        self, listeners: Sequence[RequestListener], failed: Callable[[object], None]
    ) -> None:
        self._failed = failed
        self._ended = tuple(listener.request_ended for listener in listeners)
        self._started = _overridden(listeners, "request_started")
        self._attempt_started = _overridden(listeners, "attempt_started")
        self._attempt_ended = _overridden(listeners, "attempt_ended")
        self._first_byte = _overridden(listeners, "first_byte")
        self.is_detailed = bool(
            self._started or self._attempt_started or self._attempt_ended or self._first_byte
        )

    def request_started(self, context: RequestContext) -> None:
        """See :meth:`RequestListener.request_started`."""
        self._call(self._started, context)

    def attempt_started(self, context: RequestContext) -> None:
        """See :meth:`RequestListener.attempt_started`."""
        self._call(self._attempt_started, context)

    def attempt_ended(self, context: RequestContext) -> None:
        """See :meth:`RequestListener.attempt_ended`."""
        self._call(self._attempt_ended, context)

    def first_byte(self, context: RequestContext) -> None:
        """See :meth:`RequestListener.first_byte`."""
        self._call(self._first_byte, context)

    def request_ended(self, context: RequestContext, status: int, seconds: float) -> None:
        """See :meth:`RequestListener.request_ended`."""
        for listener in self._ended:
            try:
                listener(context, status, seconds)
            except Exception:  # noqa: BLE001 - see the class
                self._failed(listener)

    def _call(
        self, listeners: Sequence[Callable[[RequestContext], None]], context: RequestContext
    ) -> None:
        for listener in listeners:
            try:
                listener(context)
            except Exception:  # noqa: BLE001 - see the class
                self._failed(listener)


def _overridden(
    listeners: Sequence[RequestListener], event: str
) -> tuple[Callable[[RequestContext], None], ...]:
    """The methods for ``event`` of those listeners that override it."""
    ignored = getattr(RequestListener, event)
    return tuple(
        getattr(listener, event)
        for listener in listeners
        if getattr(type(listener), event) is not ignored
    )
