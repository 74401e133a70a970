"""Each failure of an exchange, given a kind: nobody else has heard of Twisted's exceptions."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.error import (
    ConnectionClosed,
    ConnectionRefusedError,  # noqa: A004
    DNSLookupError,
    TCPTimedOutError,
    TimeoutError,  # noqa: A004
)
from twisted.python.failure import Failure
from twisted.web._newclient import ParseError

from gemproxy.errors import FailureKind, UpstreamFailed
from gemproxy.upstream.tunnel import TunnelRefused

FIRST_BYTE = (FailureKind.FIRST_BYTE_TIMEOUT, "firstByteTimeoutSeconds")
IDLE = (FailureKind.IDLE_TIMEOUT, "idleTimeoutSeconds")
DEADLINE = (FailureKind.DEADLINE, "requestTimeoutSeconds")

#: The first class that an exception, or one of the reasons that it wraps, is an instance of.
_KINDS: tuple[tuple[type[BaseException], FailureKind], ...] = (
    (ConnectionRefusedError, FailureKind.REFUSED),
    (DNSLookupError, FailureKind.DNS),
    (TCPTimedOutError, FailureKind.CONNECT_TIMEOUT),
    (TimeoutError, FailureKind.CONNECT_TIMEOUT),
    (SSL.Error, FailureKind.TLS),
    (ParseError, FailureKind.GARBAGE),
    (ConnectionClosed, FailureKind.RESET),
    (ValueError, FailureKind.GARBAGE),
)


def upstream_failure(failure: Failure, *, answered: bool) -> UpstreamFailed:
    """What became of an exchange that ended with ``failure``, after the headers or before."""
    error = failure.value
    if isinstance(error, UpstreamFailed):
        return error
    if isinstance(error, TunnelRefused):
        failed = UpstreamFailed(FailureKind.REFUSED, "httpProxy")
    else:
        kind = _kind(failure)
        if answered and kind is FailureKind.RESET:
            kind = FailureKind.TRUNCATED
        failed = UpstreamFailed(kind)
    failed.__cause__ = error
    return failed


def _kind(failure: Failure) -> FailureKind:
    causes = _causes(failure)
    if any(type(cause).__module__.startswith("service_identity") for cause in causes):
        return FailureKind.TLS
    for kind_of, kind in _KINDS:
        if any(isinstance(cause, kind_of) for cause in causes):
            return kind
    return FailureKind.RESET


def _causes(failure: Failure) -> list[BaseException]:
    """The exception, and all that Twisted has wrapped in it."""
    causes: list[Any] = [failure.value]
    for cause in causes:
        causes.extend(reason.value for reason in getattr(cause, "reasons", ()))
    return causes
