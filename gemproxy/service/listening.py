"""The listener, and the two phases with which it stops: lame duck and drain."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorCore,
    IStreamServerEndpoint,
)
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from gemproxy.core.errors import StartRefused


class Drainable(Protocol):
    """Knows the requests in flight."""

    draining: bool

    @property
    def in_flight(self) -> int:
        """How many requests are in flight."""

    def when_idle(self) -> Deferred[None]:
        """Fires when none is in flight."""

    def abort(self) -> None:
        """Cancel the requests in flight."""


class Listener(Service):
    """Listens at ``endpoint`` for ``factory``; an address in use ends the process.

    Status 1 and one line that names ``address``: a supervisor may try again later.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorCore,
        endpoint: IStreamServerEndpoint,
        factory: IProtocolFactory,
        address: str,
    ) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._factory = factory
        self._address = address
        #: Fires with the port when it listens and the reactor runs.
        self.listening: Deferred[IListeningPort] = Deferred()
        self._port: Any = None

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        failures: list[Failure] = []
        self._endpoint.listen(self._factory).addCallbacks(self._listening, failures.append)
        # Outside the Deferred, which would swallow the SystemExit.
        for failure in failures:
            self._give_up(failure)

    def stopService(self) -> Deferred[None]:
        """Stop accepting; connections that are open stay."""
        super().stopService()
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening) if port is not None else succeed(None)

    def _listening(self, port: IListeningPort) -> None:
        self._port = port
        # Before the reactor runs, no request is served, and SIGTERM still kills the process.
        self._reactor.callWhenRunning(self._announce, port)

    def _announce(self, port: IListeningPort) -> None:
        host: Any = port.getHost()
        address = f"{host.host}:{host.port}" if hasattr(host, "port") else self._address
        self._log.info("listening on {address}", address=address)
        self.listening.callback(port)

    def _give_up(self, failure: Failure) -> NoReturn:
        reason: Any = failure.value
        if isinstance(reason, CannotListenError):
            reason = reason.socketError
        raise StartRefused(1, f"cannot listen on {self._address}: {_in_words(reason)}")


def _in_words(reason: BaseException) -> str:
    """The reason why the address cannot be used, in one line."""
    if isinstance(reason, socket.gaierror):
        # getaddrinfo has its own error numbers; strerror does not know them.
        return f"the name of the host cannot be resolved ({reason.strerror})"
    number = getattr(reason, "errno", None)
    if number in _IN_WORDS:
        return _IN_WORDS[number]
    text = (isinstance(reason, OSError) and reason.strerror) or str(reason)
    return " ".join(text.split())


_IN_WORDS = {
    errno.EADDRINUSE: "another process listens there",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: "no permission; a port below 1024 needs CAP_NET_BIND_SERVICE",
    errno.EPERM: "no permission",
    errno.ENOENT: "there is no such folder",
    errno.ENOTDIR: "a part of the path is no folder",
    errno.EROFS: "the file system is read-only",
    errno.EAFNOSUPPORT: "this machine has no addresses of that kind",
}


class LameDuck(Service):
    """At the stop: go on serving for ``seconds``, but report not ready.

    It is the last service to start, so the listener stops only after it. ``leave`` is called at its
    beginning, also with 0 seconds. Load balancers that ask for readiness remove the instance in
    the meantime; requests are refused only after that.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, leave: Callable[[], None], seconds: Callable[[], float]
    ) -> None:
        self._reactor = reactor
        self._leave = leave
        self._seconds = seconds

    def stopService(self) -> Deferred[None]:
        """Fires after the lame duck time."""
        super().stopService()
        self._leave()
        seconds = self._seconds()
        if not seconds:
            return succeed(None)
        self._log.info("serving on for {seconds} s before the drain", seconds=seconds)
        over: Deferred[None] = deferLater(self._reactor, seconds)
        return over


class Draining(Service):
    """At the stop: refuse new requests, wait ``seconds`` for those in flight, then cancel them.

    ``close`` closes the connections once nothing is in flight; it fires when all written bytes are
    handed to the kernel.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        requests: Drainable,
        close: Callable[[], Deferred[None]],
        seconds: Callable[[], float],
    ) -> None:
        self._reactor = reactor
        self._requests = requests
        self._close = close
        self._seconds = seconds

    def stopService(self) -> Deferred[None]:
        """Fires when nothing is in flight and every answer is sent."""
        super().stopService()
        self._requests.draining = True
        limit = self._seconds()
        self._log.info(
            "draining {in_flight} requests for at most {seconds} s",
            in_flight=self._requests.in_flight,
            seconds=limit,
        )
        return Deferred.fromCoroutine(self._drain(limit))

    async def _drain(self, limit: float) -> None:
        idle = self._requests.when_idle()
        deadline = self._reactor.callLater(limit, self._cut_off)
        await idle
        if deadline.active():
            deadline.cancel()
        await self._close()

    def _cut_off(self) -> None:
        self._log.warn(
            "cutting off {in_flight} requests that did not end in time",
            in_flight=self._requests.in_flight,
        )
        self._requests.abort()
