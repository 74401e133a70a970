"""Connect by TCP to a host with several addresses, with staggered attempts (RFC 8305)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from gemproxy.batched_writes import ErrorReportingClient
from gemproxy.upstream.exhaustion import exhaustion_of
from gemproxy.upstream.resolver import Address

#: Seconds before the next address is tried in parallel.
STAGGER_SECONDS = 0.3
#: Addresses in the text of an error.
_MAX_LISTED = 3


class AllAddressesFailed(ConnectError):
    """Every address failed. The text has a cause for each; ``reasons`` are the failures."""

    def __init__(self, causes: list[str], reasons: list[Failure]) -> None:
        more = len(causes) - _MAX_LISTED
        super().__init__(
            string="; ".join(causes[:_MAX_LISTED]) + (f"; and {more} more" if more > 0 else "")
        )
        self.reasons = reasons


@implementer(IStreamClientEndpoint)
class AddressesEndpoint:
    """Connects to ``port`` of the first of ``addresses`` that accepts.

    ``connected`` is called when one has accepted. Each attempt has ``timeout`` seconds.
    """

    def __init__(
        self,
        reactor: Any,
        addresses: list[Address],
        port: int,
        timeout: float,
        connected: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._addresses = addresses
        self._port = port
        self._timeout = timeout
        self._connected = connected

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Return a connected protocol.

        Fails with :class:`AllAddressesFailed`, or :class:`~gemproxy.upstream.exhaustion.Exhausted`.
        """
        left = [
            (address, _endpoint(self._reactor, address, self._port, self._timeout))
            for address in self._addresses
        ]
        return _Attempts(self._reactor, left, protocolFactory, self._connected).run()


def _endpoint(reactor: Any, address: Address, port: int, timeout: float) -> IStreamClientEndpoint:
    host = address[1]
    kind = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
    endpoint: IStreamClientEndpoint = kind(_ReportingReactor(reactor), host, port, timeout)
    return endpoint


class _ReportingReactor:
    """The reactor's ``connectTCP``, with transports that report the errno of their end."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float, bindAddress: Any = None
    ) -> tcp.Connector:
        connector = _Connector(host, port, factory, timeout, bindAddress, self._reactor)
        connector.connect()
        return connector


class _Connector(tcp.Connector):
    def _makeTransport(self) -> ErrorReportingClient:
        return ErrorReportingClient(self.host, self.port, self.bindAddress, self, self.reactor)


class _Attempts:
    """The attempts to make one connection."""

    def __init__(
        self,
        reactor: Any,
        left: list[tuple[Address, IStreamClientEndpoint]],
        factory: IProtocolFactory,
        connected: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._left = left
        self._factory = factory
        self._connected = connected
        self._running: list[Deferred[IProtocol]] = []
        self._causes: list[str] = []
        self._reasons: list[Failure] = []
        self._next_call: IDelayedCall | None = None
        self._winner: Deferred[IProtocol] | None = None

    def run(self) -> Deferred[IProtocol]:
        winner: Deferred[IProtocol] = Deferred(self._cancel)
        self._winner = winner
        self._next()
        return winner

    def _next(self) -> None:
        self._next_call = None
        if self._winner is None or not self._left:
            return
        address, endpoint = self._left.pop(0)
        attempt: Deferred[IProtocol] = endpoint.connect(self._factory)
        self._running.append(attempt)
        attempt.addCallbacks(
            self._won, self._failed, callbackArgs=(attempt,), errbackArgs=(attempt, address)
        )
        if self._left and self._winner is not None and self._next_call is None:
            self._next_call = self._reactor.callLater(STAGGER_SECONDS, self._next)

    def _won(self, protocol: IProtocol, attempt: Deferred[IProtocol]) -> None:
        self._running.remove(attempt)
        winner = self._end()
        if winner is not None:
            self._connected()
            winner.callback(protocol)

    def _failed(self, failure: Failure, attempt: Deferred[IProtocol], address: Address) -> None:
        self._running.remove(attempt)
        if self._winner is None:
            return
        error: Any = failure.value
        exhausted = exhaustion_of(error)
        # Without IPv6 on this host, connecting to an IPv6 address fails with EADDRNOTAVAIL.
        if exhausted is not None and not (":" in address[1] and _is_unassigned(error)):
            self._lose(exhausted)
            return
        self._causes.append(f"{address[1]}: {_words(error)}")
        self._reasons.append(failure)
        if self._next_call is not None:
            self._next_call.reset(0)
        elif self._left:
            self._next()
        elif not self._running:
            self._lose(AllAddressesFailed(self._causes, self._reasons))

    def _lose(self, error: Exception) -> None:
        winner = self._end()
        if winner is not None:
            winner.errback(error)

    def _cancel(self, _: Deferred[IProtocol]) -> None:
        self._end()

    def _end(self) -> Deferred[IProtocol] | None:
        winner, self._winner = self._winner, None
        if self._next_call is not None:
            self._next_call.cancel()
            self._next_call = None
        for attempt in tuple(self._running):
            attempt.cancel()
        return winner


def _is_unassigned(error: BaseException) -> bool:
    return getattr(error, "osError", None) == errno.EADDRNOTAVAIL


def _words(error: BaseException) -> str:
    if isinstance(error, CancelledError):
        return "given up"
    number = getattr(error, "osError", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number)
    text = str(error)
    return text[:100] if text else type(error).__name__
