"""Everything that may go wrong, as one tree: whose fault it was is the type.

::

    GemproxyError
    ├── ConfigError             the operator's: a file, option or variable is wrong
    ├── UpstreamFailed          the network's: no usable HTTP answer came; never shown as it is
    ├── UnusableAnswer          the model's: HTTP 200 with nothing in it that could be an answer
    │   └── GarbledAnswer       the network's: HTTP 200 whose body is not Gemini's
    ├── StorageError            the disk's: the state cannot be read or written; nobody's request
    │   ├── StorageUnavailable  not now: locked, full, read-only, forbidden; tried again
    │   ├── StorageCorrupt      the file is damaged; it is moved aside
    │   └── SchemaTooNew        a newer program wrote the file; it is not touched
    └── ProxyError              what a client may see, with status and OpenAI error fields
        ├── InvalidRequest      400, the client's: names the field
        │   └── ContextTooLong  400, the prompt is larger than the model or the quota admits
        ├── RequestTooLarge     413
        ├── Unauthorized        401, the client's token for this proxy
        ├── Forbidden           403, a page of another site asks where no token is needed
        ├── MisdirectedRequest  421, made for a host that the listener does not answer for
        ├── LockedOut           429, the address brought too many wrong tokens
        ├── UnknownURL          404
        ├── NotFound            404, the route exists, the key or request that it names does not
        ├── MethodNotAllowed    405
        ├── ModelNotFound       404
        ├── TooManyInFlight     429, this proxy's concurrency limit
        ├── Overloaded          503, this proxy holds as many bytes of bodies as it may
        ├── UpstreamRejected    Google refused this very request, same status
        ├── QuotaExhausted      429, every key that could serve is out of quota
        ├── NoHealthyKeys       503, every key is disabled or its breaker is open
        ├── ModelUnavailable    503, the model's own breaker is open
        ├── UpstreamUnavailable 5xx, Google or the way to it is out of order
        ├── StreamIncomplete    a stream that had begun stopped without a finish reason
        ├── Draining            503, this process is about to stop
        ├── ConfigurationInvalid  503, the files have mistakes and nothing is served until then
        └── InternalError       500, a defect of this program

A :class:`ProxyError` carries everything that its envelope and headers need; the web asks the
exception and not a ladder of ifs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

#: Seconds of a ``Retry-After`` that openai-node still obeys; it ignores longer ones and asks again
#: at once. (openai-python gives up above 120 seconds.)
LONGEST_RETRY_AFTER = 60.0


class GemproxyError(Exception):
    """Root of the tree."""


@dataclass(frozen=True)
class Fault:
    """One mistake in a configuration file, with its place.

    ``line`` counts from 1; 0 where there is no line (a missing file, an option).
    """

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"

    def told(self) -> str:
        """The line as a process tells it that goes on without the file."""
        return str(self)


class FixedFault(Fault):
    """A mistake in what a process is given once, when it starts: a credential, a variable.

    Where it is not to be mended in the file, only a restart mends it.
    """

    def told(self) -> str:
        """See :meth:`Fault.told`."""
        return f"{self} (needs a restart, unless the file itself is to be changed)"


class ConfigError(GemproxyError):
    """The configuration cannot be used; ``faults`` holds every mistake that was found."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


class StartRefused(SystemExit):
    """A start that cannot go on, for a reason that is no mistake in a file; ``reason`` is one line.

    Ends the process with ``status``, unless somebody catches it who can wait for better times.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status)
        self.reason = reason


class FailureKind(Enum):
    """How an exchange with the upstream failed below HTTP."""

    REFUSED = "connection refused"
    UNREACHABLE = "host unreachable"
    DNS = "name not resolved"
    TLS = "TLS failed"
    RESET = "connection reset"
    VANISHED = "connection died in silence"
    EXHAUSTED = "this host is out of resources"
    CONNECT_TIMEOUT = "connect timed out"
    FIRST_BYTE_TIMEOUT = "no answer in time"
    IDLE_TIMEOUT = "answer stalled"
    DEADLINE = "request deadline passed"
    GARBAGE = "answer is not HTTP, or not Gemini's"
    CODING = "answer has a content coding that nobody asked for"
    TRUNCATED = "answer ended early"
    TOO_LARGE = "answer is too large"

    @property
    def is_timeout(self) -> bool:
        """Whether time ran out, as opposed to somebody closing or refusing."""
        return self in _TIMEOUTS


_TIMEOUTS = frozenset(
    {
        FailureKind.CONNECT_TIMEOUT,
        FailureKind.FIRST_BYTE_TIMEOUT,
        FailureKind.IDLE_TIMEOUT,
        FailureKind.DEADLINE,
        FailureKind.VANISHED,
    }
)


class UpstreamFailed(GemproxyError):
    """No usable HTTP answer. ``setting`` names the timeout that struck, or the way barred.

    ``detail`` is the cause in words, for the operator: it may quote others and is to be scrubbed.
    ``spares_key`` tells that it says nothing against the key, whoever serves the request later: the
    upstream was not reached, or something that stands before it spoke.
    """

    def __init__(
        self,
        kind: FailureKind,
        setting: str | None = None,
        *,
        detail: str = "",
        spares_key: bool = False,
    ) -> None:
        super().__init__(f"{kind.value} (upstream.{setting})" if setting else kind.value)
        self.kind = kind
        self.setting = setting
        self.detail = detail
        self.spares_key = spares_key


class UnusableAnswer(GemproxyError):
    """An HTTP 200 that holds no answer: not JSON, no candidates, a malformed function call.

    It may be retried, and it is charged to nobody. ``reason`` is a short phrase for the log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class GarbledAnswer(UnusableAnswer):
    """An HTTP 200 whose body is not Gemini's: not JSON, or without candidates and a block.

    Whatever sent it, it counts as if the network had failed.
    """


class StorageError(GemproxyError):
    """The state cannot be read or written. The message names the file; it never stops serving."""


class StorageUnavailable(StorageError):
    """Not now: the file is locked, the disk is full, the folder read-only. May pass by itself."""


class StorageCorrupt(StorageError):
    """The file is damaged, or its contents make no sense."""


class SchemaTooNew(StorageError):
    """A newer program wrote the file: reading it could misread, writing it could lose."""


class ProxyError(GemproxyError):
    """An error that a client sees, in the OpenAI envelope.

    ``retry_after`` is in seconds and becomes a ``Retry-After`` header, rounded up and at least 1.
    ``should_retry`` becomes ``x-should-retry``, which the official SDKs obey; where it is not told
    and ``retry_after`` is more than they wait, it is ``false``.
    """

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code
        self.retry_after = retry_after
        self.should_retry = should_retry

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The response headers that this error asks for, beside the usual ones."""
        headers = []
        if self.retry_after is not None:
            headers.append((b"Retry-After", b"%d" % max(1, math.ceil(self.retry_after))))
        should_retry = self.should_retry
        if should_retry is None and (self.retry_after or 0.0) > LONGEST_RETRY_AFTER:
            should_retry = False
        if should_retry is not None:
            headers.append((b"x-should-retry", b"true" if should_retry else b"false"))
        return headers


class InvalidRequest(ProxyError):
    """The client's request cannot be served as it stands; ``param`` is the field's path."""

    status = 400
    type = "invalid_request_error"


class ContextTooLong(InvalidRequest):
    """The prompt is larger than the model, or than a minute's token quota, can ever take."""

    code = "context_length_exceeded"


class RequestTooLarge(ProxyError):
    """The body is over ``proxy.maxPayloadSize``."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class Unauthorized(ProxyError):
    """The client's token for this proxy is missing or wrong."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"

    def headers(self) -> list[tuple[bytes, bytes]]:
        """See :meth:`ProxyError.headers`."""
        return [*super().headers(), (b"WWW-Authenticate", b"Bearer")]


class Forbidden(ProxyError):
    """Whoever it is, not from there."""

    status = 403
    type = "invalid_request_error"
    code = "forbidden"


class MisdirectedRequest(ProxyError):
    """The request was made for a host that this listener does not answer for."""

    status = 421
    type = "invalid_request_error"
    code = "misdirected_request"


class LockedOut(ProxyError):
    """Too many wrong tokens came from this address."""

    status = 429
    type = "rate_limit_error"
    code = "too_many_wrong_tokens"


class UnknownURL(ProxyError):
    """No such route."""

    status = 404
    type = "invalid_request_error"
    code = "unknown_url"


class NotFound(ProxyError):
    """The route exists; what its path names does not. ``code`` says what that is."""

    status = 404
    type = "invalid_request_error"


class MethodNotAllowed(ProxyError):
    """The route exists, for other methods."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"

    def __init__(self, message: str, allow: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allow = allow

    def headers(self) -> list[tuple[bytes, bytes]]:
        """See :meth:`ProxyError.headers`."""
        return [*super().headers(), (b"Allow", ", ".join(self.allow).encode("ascii"))]


class ModelNotFound(ProxyError):
    """The model does not exist, or no key may use it."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class TooManyInFlight(ProxyError):
    """``proxy.maxConcurrentRequests`` is reached."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class Overloaded(ProxyError):
    """``proxy.maxBufferedBytes`` is reached."""

    status = 503
    type = "server_error"
    code = "overloaded"


class UpstreamRejected(ProxyError):
    """Google refused this request for what it asks; another key would get the same answer."""

    type = "invalid_request_error"

    def __init__(
        self, message: str, *, status: int, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, param=param, code=code)
        self.status = status


class QuotaExhausted(ProxyError):
    """Every key that could serve the model is out of quota for now."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class NoHealthyKeys(ProxyError):
    """Every key is disabled or its breaker is open; the message counts them by state."""

    status = 503
    type = "server_error"
    code = "no_healthy_keys"


class ModelUnavailable(ProxyError):
    """The model's own breaker is open: it failed with every key that was tried."""

    status = 503
    type = "server_error"
    code = "model_unavailable"


class UpstreamUnavailable(ProxyError):
    """Google, or the way to it, is out of order; ``status`` says how."""

    type = "server_error"
    code = "upstream_error"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, code=code, retry_after=retry_after)
        self.status = status


class StreamIncomplete(ProxyError):
    """The upstream stopped in the middle of a stream, without a finish reason."""

    status = 502
    type = "server_error"
    code = "stream_incomplete"


class Draining(ProxyError):
    """This process is about to stop; another try finds its successor."""

    status = 503
    type = "server_error"
    code = "draining"


class ConfigurationInvalid(ProxyError):
    """The files cannot be used; the log and the status line name the mistakes, clients do not."""

    status = 503
    type = "server_error"
    code = "configuration_invalid"


class InternalError(ProxyError):
    """A defect of this program; the log has the traceback under the request's id."""

    status = 500
    type = "server_error"
    code = "internal_error"
