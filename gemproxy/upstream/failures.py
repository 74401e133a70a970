"""Translate Twisted's exceptions into :class:`UpstreamFailed` with a kind and a cause in words.

No module outside ``upstream`` knows Twisted's exceptions.
"""

from __future__ import annotations

import errno
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import (
    ConnectError,
    ConnectionClosed,
    ConnectionDone,
    ConnectionRefusedError,  # noqa: A004
    DNSLookupError,
    TCPTimedOutError,
    TimeoutError,  # noqa: A004
)
from twisted.python.failure import Failure
from twisted.web._newclient import ParseError

from gemproxy.core.errors import FailureKind, UpstreamFailed
from gemproxy.upstream.content_coding import UnknownCoding
from gemproxy.upstream.dialing import AllAddressesFailed
from gemproxy.upstream.exhaustion import Exhausted, exhaustion_of
from gemproxy.upstream.resolver import NameLookupFailed
from gemproxy.upstream.tls_faults import TlsFailed
from gemproxy.upstream.tunnel import TunnelLost, TunnelRefused

FIRST_BYTE = (FailureKind.FIRST_BYTE_TIMEOUT, "firstByteTimeoutSeconds")
IDLE = (FailureKind.IDLE_TIMEOUT, "idleTimeoutSeconds")
DEADLINE = (FailureKind.DEADLINE, "requestTimeoutSeconds")

#: The first class that matches the exception, or one of the reasons that it wraps, decides.
_KINDS: tuple[tuple[type[BaseException], FailureKind], ...] = (
    (Exhausted, FailureKind.EXHAUSTED),
    (ConnectionRefusedError, FailureKind.REFUSED),
    (DNSLookupError, FailureKind.DNS),
    (TCPTimedOutError, FailureKind.CONNECT_TIMEOUT),
    (TimeoutError, FailureKind.CONNECT_TIMEOUT),
    (SSL.Error, FailureKind.TLS),
    (UnknownCoding, FailureKind.CODING),
    (ParseError, FailureKind.GARBAGE),
    (ConnectionClosed, FailureKind.RESET),
    (ValueError, FailureKind.GARBAGE),
)
#: Exceptions whose text was written by this program.
_OWN_TEXT = (Exhausted, AllAddressesFailed, NameLookupFailed, TlsFailed, TunnelRefused, TunnelLost)
_UNREACHABLE = frozenset(
    {
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENETDOWN,
        errno.EADDRNOTAVAIL,
        # From a firewall on this host.
        errno.EPERM,
        errno.EACCES,
    }
)
#: Characters; the text may quote what others have sent.
_LONGEST_DETAIL = 240


def upstream_failure(
    failure: Failure, *, answered: bool, reached: bool = True, silent: float = 0.0
) -> UpstreamFailed:
    """Return the error for an exchange that ended with ``failure``.

    ``answered`` tells whether the head of the response had been received.

    ``reached`` tells whether there was a connection to write the request to. ``silent`` is the
    number of seconds without received bytes if TCP gives up a peer after that time, else 0.
    """
    error: Any = failure.value
    if isinstance(error, UpstreamFailed):
        if not reached:
            error.spares_key = True
        return error
    kind, setting = _kind(failure, answered=answered, silent=silent)
    detail = _detail(error, kind, silent)
    spares_key = not reached or kind in _KEY_INDEPENDENT
    failed = UpstreamFailed(kind, setting, detail=detail, spares_key=spares_key)
    failed.__cause__ = error
    return failed


#: Failures that are independent of the key.
_KEY_INDEPENDENT = frozenset({FailureKind.VANISHED, FailureKind.CODING, FailureKind.EXHAUSTED})


def _kind(failure: Failure, *, answered: bool, silent: float) -> tuple[FailureKind, str | None]:
    error = failure.value
    if isinstance(error, TunnelRefused | TunnelLost):
        return FailureKind.REFUSED, "httpProxy"
    causes = _causes(failure)
    if any(type(cause).__module__.startswith("service_identity") for cause in causes):
        return FailureKind.TLS, None
    kind = _kind_of(causes)
    if kind is FailureKind.CONNECT_TIMEOUT:
        return kind, "connectTimeoutSeconds"
    if kind is FailureKind.RESET:
        if silent and not any(isinstance(cause, ConnectionDone) for cause in causes):
            return FailureKind.VANISHED, None
        if answered:
            return FailureKind.TRUNCATED, None
    return kind, None


def _kind_of(causes: list[BaseException]) -> FailureKind:
    for kind_of, kind in _KINDS:
        if any(isinstance(cause, kind_of) for cause in causes):
            return kind
    if any(getattr(cause, "osError", None) in _UNREACHABLE for cause in causes):
        return FailureKind.UNREACHABLE
    if any(exhaustion_of(cause) for cause in causes if isinstance(cause, ConnectError)):
        return FailureKind.EXHAUSTED
    return FailureKind.RESET


def _detail(error: BaseException, kind: FailureKind, silent: float) -> str:
    """The cause in words, if there is more to say than the kind does."""
    if kind is FailureKind.VANISHED:
        text = f"nothing was heard or acknowledged for {silent:.0f} s"
    elif isinstance(error, TimeoutError) and error.args:
        text = " ".join(map(str, error.args))
    elif isinstance(error, _OWN_TEXT):
        text = _text_of(error)
    elif kind is FailureKind.EXHAUSTED and (exhausted := exhaustion_of(error)) is not None:
        text = _text_of(exhausted)
    elif isinstance(error, UnknownCoding | ParseError):
        text = str(error.args[0]) if error.args else ""
    elif isinstance(error, ConnectionDone) and kind is FailureKind.RESET:
        text = "closed before an answer"
    else:
        text = ""
    return "".join(filter(str.isprintable, text))[:_LONGEST_DETAIL]


def _text_of(error: BaseException) -> str:
    """The text without the prefix of Twisted's classes."""
    return str(error) if isinstance(error, NameLookupFailed) else " ".join(map(str, error.args))


def _causes(failure: Failure) -> list[BaseException]:
    """The exception and all reasons that Twisted has wrapped in it."""
    causes: list[Any] = [failure.value]
    for cause in causes:
        causes.extend(reason.value for reason in getattr(cause, "reasons", ()))
    return causes
