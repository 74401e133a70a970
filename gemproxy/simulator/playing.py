"""Perform a script on a client's connection. Only this module writes to sockets.

Respects back-pressure, stops when the client disconnects, and waits with the reactor's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from gemproxy.simulator.handed_out import reported_usage
from gemproxy.simulator.script import End, Head, Raw, Send, Step, Wait

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure
    from twisted.web.http import Request

    from gemproxy.simulator.recording import Exchange

_SERVER = "gemproxy-simulator"
_PHRASES = {int(status): status.phrase.encode("ascii") for status in HTTPStatus} | {
    499: b"Client Closed Request"
}


@implementer(IPushProducer)
class Player:
    """Performs one script for one request; ``on_end`` is called once, whatever ends it."""

    def __init__(
        self,
        reactor: IReactorTime,
        request: Request,
        exchange: Exchange,
        steps: Iterable[Step],
        on_end: Callable[[Player], None],
    ) -> None:
        self._reactor = reactor
        self._request = request
        self.exchange = exchange
        self._steps: Iterator[Step] = iter(steps)
        self._on_end = on_end
        self._paused = False
        self._ended = False
        self._closing = False
        self._stalled = False
        self._running = False
        self._waiting: IDelayedCall | None = None

    def start(self) -> None:
        """Begin the first step."""
        self._request.notifyFinish().addCallbacks(self._finished, self._lost)
        self._request.registerProducer(self, True)
        self._run()

    def abort(self) -> None:
        """End the script with a reset, because the simulator stops."""
        self._closing = True
        self._reset()

    # ---- IPushProducer -------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """The socket's buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The socket's buffer has room again."""
        self._paused = False
        self._run()

    def stopProducing(self) -> None:
        """The connection is gone; ``notifyFinish`` reports it as well."""
        self._stop_waiting()

    # ---- steps ---------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            while self._may_go_on():
                self._take(next(self._steps))
        finally:
            self._running = False

    def _may_go_on(self) -> bool:
        at_rest = self._paused or self._stalled or self._waiting is not None
        return not (at_rest or self._ended or self._closing)

    def _take(self, step: Step) -> None:
        match step:
            case Head():
                self._head(step)
            case Send(data):
                self._request.write(data)
                self.exchange.reported = reported_usage(data) or self.exchange.reported
            case Raw(data):
                self._transport.write(data)
            case Wait(seconds):
                self._waiting = self._reactor.callLater(seconds, self._go_on)
            case End.STALL:
                self._stalled = True
            case End():
                self._closing = True
                self._end(step)

    def _head(self, head: Head) -> None:
        request = self._request
        self.exchange.status = head.status
        request.setResponseCode(head.status, _PHRASES.get(head.status, b"Unknown"))
        request.setHeader("server", _SERVER)
        request.setHeader("content-type", head.content_type)
        if head.length is not None:
            request.setHeader("content-length", str(head.length))
        for name, value in head.headers.items():
            request.setHeader(name, value)
        # An empty write sends the headers before the first chunk.
        request.write(b"")

    def _end(self, end: End) -> None:
        if end is End.FINISH:
            self._request.unregisterProducer()
            self._request.finish()
        elif end is End.CLOSE:
            self._request.unregisterProducer()
            self._request.channel.loseConnection()
        else:
            self._reset()

    def _reset(self) -> None:
        self._transport.abortConnection()

    def _go_on(self) -> None:
        self._waiting = None
        self._run()

    @property
    def _transport(self) -> Any:
        return self._request.channel.transport

    # ---- the end -------------------------------------------------------------------------------

    def _finished(self, _result: object) -> None:
        self._over(closed_early=False)

    def _lost(self, _reason: Failure) -> None:
        self._over(closed_early=not self._closing)

    def _over(self, *, closed_early: bool) -> None:
        self._ended = True
        self._stop_waiting()
        self.exchange.closed_early = closed_early
        self.exchange.finished = True
        self._on_end(self)

    def _stop_waiting(self) -> None:
        if self._waiting is not None and self._waiting.active():
            self._waiting.cancel()
        self._waiting = None
