"""All errors as one tree. The type says who has to act or who is at fault.

::

    GemproxyError
    ├── ConfigError             the operator's: a file, option or variable is wrong
    ├── UpstreamFailed          the network's: no usable HTTP answer; never shown to a client
    ├── UnusableAnswer          the model's: HTTP 200 without an answer in it
    │   └── MalformedUpstreamResponse       the network's: HTTP 200 whose body is not Gemini's
    ├── ErrorInAnswer           the upstream's: HTTP 200 with an error in it
    ├── StorageError            the disk's: the state cannot be read or written; fails no request
    │   ├── StorageUnavailable  locked, full, read-only, forbidden; tried again later
    │   ├── StorageCorrupt      the file is damaged; it is moved aside
    │   └── SchemaTooNew        a newer program wrote the file; it is not touched
    └── ProxyError              what a client may see
        ├── InvalidRequest      the client's: names the field
        │   └── ContextTooLong  the prompt is larger than the model or the quota allows
        ├── RequestTooLarge     the body is larger than the operator allows
        ├── Unauthorized        the client's token for this proxy
        ├── Forbidden           a client, or a page of another site, may not ask for this
        ├── MisdirectedRequest  the Host header names a host that the listener does not serve
        ├── LockedOut           the address brought too many wrong tokens
        ├── UnknownURL          no such route
        ├── NotFound            the route exists, the key or request in its path does not
        ├── Conflict            what the request names exists, and cannot be used as things are
        ├── MethodNotAllowed    the route exists, for other methods
        ├── ModelNotFound       the model does not exist, or no key may use it
        ├── TooManyInFlight     this proxy's concurrency limit
        ├── Overloaded          this proxy's limit for the bytes of all request bodies
        ├── ClientLimitReached  a limit that the operator set for this client
        │   └── BudgetSpent     the same, for the money that its requests may cost
        ├── UpstreamRejected    the upstream refused this request
        ├── Unavailable         no key can serve the request now
        │   ├── QuotaExhausted  every key that could serve is out of quota
        │   │   └── DailyQuotaExhausted  the same, until the day is over
        │   ├── NoHealthyKeys   every key is disabled or its breaker is open
        │   └── ModelUnavailable  the model's own breaker is open
        ├── UpstreamUnavailable the upstream, or the network in front of it, failed
        ├── StreamIncomplete    a stream that had begun stopped without a finish reason
        ├── Draining            this process is about to stop
        ├── ConfigurationInvalid  the files have mistakes, and nothing is served
        └── InternalError       a defect of this program

A :class:`ProxyError` knows neither HTTP nor a dialect: status, headers and body are made from it
by the :class:`~gemproxy.api.dialects.Dialect` of the request, such as
``gemproxy.api.openai.errors``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class GemproxyError(Exception):
    """Root of the tree."""


@dataclass(frozen=True)
class Fault:
    """One mistake in a configuration file, with its place.

    ``line`` counts from 1; 0 if there is no line (a missing file, an option).
    """

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"

    def told(self) -> str:
        """The line that a running process logs if it cannot use the file."""
        return str(self)


class FixedFault(Fault):
    """A mistake in what a process reads only when it starts: a credential, a variable.

    Correcting the configuration file does not help; the process has to be restarted.
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
    """The start fails for a reason outside the files; ``reason`` is one line.

    Ends the process with ``status``, unless a caller catches it and waits.
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
        """Whether a time limit was reached, as opposed to a closed or refused connection."""
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
    """No usable HTTP answer. ``setting`` names the time limit, or the setting of the refused way.

    ``detail`` is the cause in words, for the operator; it may quote others, so scrub it.
    ``spares_key`` says that the key is not to blame, even if another key serves the request later:
    the upstream was not reached, or something in front of it answered.
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
    ``usage`` are the tokens that it reports all the same (a ``TokenUsage``), if they are known.
    """

    def __init__(self, reason: str, usage: object = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.usage = usage


class MalformedUpstreamResponse(UnusableAnswer):
    """An HTTP 200 whose body is not Gemini's: not JSON, or without candidates and a block.

    It counts as a failure of the network.
    """


class ErrorInAnswer(GemproxyError):
    """An HTTP 200, or an event of a stream, that is an error object; ``payload`` is its JSON.

    The provider classifies it.
    """

    def __init__(self, payload: bytes) -> None:
        super().__init__("an error object in place of an answer")
        self.payload = payload


class StorageError(GemproxyError):
    """The state cannot be read or written. The message names the file. Serving goes on."""


class StorageUnavailable(StorageError):
    """Not at present: the file is locked, the disk is full, the folder read-only. May pass."""


class StorageCorrupt(StorageError):
    """The file is damaged, or its contents make no sense."""


class SchemaTooNew(StorageError):
    """A newer program wrote the file. Reading it could misread, writing it could lose data."""


class ProxyError(GemproxyError):
    """An error that a client may see. Its endpoint's dialect decides how it is encoded.

    ``kind`` is its word in logs and metrics. ``reason`` is a fixed word that is more precise than
    the type; if it is set, it is used instead of ``kind``. ``param`` is the path of the field at
    fault. ``retry_after`` is in seconds. ``should_retry`` is ``None`` if the type decides it.
    """

    kind = "server_error"
    #: The body of the provider's error that this one repeats, for clients of its own dialect.
    upstream_body = b""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        reason: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.reason = reason
        self.retry_after = retry_after
        self.should_retry = should_retry

    @property
    def word(self) -> str:
        """The word for the error in logs and metrics."""
        return self.reason or self.kind


class InvalidRequest(ProxyError):
    """The client's request cannot be served as it stands; ``param`` is the field's path."""

    kind = "invalid_request_error"


class ContextTooLong(InvalidRequest):
    """The prompt is larger than the model, or than a minute's token quota, can ever take."""

    kind = "context_length_exceeded"


class RequestTooLarge(ProxyError):
    """The body is over ``proxy.maxPayloadSize``."""

    kind = "request_too_large"


class Unauthorized(ProxyError):
    """The client's token for this proxy is missing or wrong."""

    kind = "invalid_api_key"


class Forbidden(ProxyError):
    """The sender may not ask for this: a client that is not allowed to, or a page of another site.

    ``reason`` says what the client is not allowed.
    """

    kind = "forbidden"


class MisdirectedRequest(ProxyError):
    """The request was made for a host that this listener does not answer for."""

    kind = "misdirected_request"


class LockedOut(ProxyError):
    """Too many wrong tokens came from this address."""

    kind = "too_many_wrong_tokens"


class UnknownURL(ProxyError):
    """No such route."""

    kind = "unknown_url"


class NotFound(ProxyError):
    """The route exists, but what its path names does not; ``reason`` says what that is."""

    kind = "invalid_request_error"


class Conflict(ProxyError):
    """What the request names exists, and cannot be used as things are; ``reason`` says why."""

    kind = "conflict"


class MethodNotAllowed(ProxyError):
    """The route exists, for the methods in ``allow`` only."""

    kind = "method_not_allowed"

    def __init__(self, message: str, allow: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allow = allow


class ModelNotFound(ProxyError):
    """The model does not exist, or no key may use it."""

    kind = "model_not_found"


class TooManyInFlight(ProxyError):
    """``proxy.maxConcurrentRequests`` is reached."""

    kind = "rate_limit_exceeded"


class Overloaded(ProxyError):
    """``proxy.maxBufferedBytes`` is reached."""

    kind = "overloaded"


class ClientLimitReached(ProxyError):
    """A limit that the operator set for this client; ``limit`` is its name in the settings."""

    kind = "rate_limit_exceeded"

    def __init__(
        self,
        message: str,
        *,
        limit: str = "",
        retry_after: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after, should_retry=should_retry)
        self.limit = limit


class BudgetSpent(ClientLimitReached):
    """The client's budget for the day or the month is spent."""

    kind = "insufficient_quota"


class UpstreamRejected(ProxyError):
    """The upstream refused this request; another key would get the same answer.

    ``upstream_status`` is the HTTP status of its answer; ``None`` if it refused in a 200.
    """

    kind = "invalid_request_error"

    def __init__(
        self,
        message: str,
        *,
        upstream_status: int | None = None,
        param: str | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message, param=param, reason=reason)
        self.upstream_status = upstream_status


class Unavailable(ProxyError):
    """No key can serve the request now.

    ``free_at`` is the first moment at which one can, in monotonic seconds; ``None`` if that is not
    known.
    """

    free_at: float | None = None


class QuotaExhausted(Unavailable):
    """Every key that could serve the model is out of quota for now."""

    kind = "rate_limit_exceeded"


class DailyQuotaExhausted(QuotaExhausted):
    """Every key that could serve the model is out of quota until the day is over."""

    kind = "insufficient_quota"


class NoHealthyKeys(Unavailable):
    """Every key is disabled or its breaker is open; the message counts them by state."""

    kind = "no_healthy_keys"


class ModelUnavailable(Unavailable):
    """The model's own breaker is open: it failed with every key that was tried."""

    kind = "model_unavailable"


class UpstreamTrouble(Enum):
    """How the upstream, or the network in front of it, failed."""

    #: It answered with an error of its own.
    INTERNAL = "internal"
    #: It has no capacity, or this host has no resources to ask it.
    UNAVAILABLE = "unavailable"
    #: Its answer was not usable.
    BAD_ANSWER = "bad answer"
    #: It did not answer in time.
    TIMEOUT = "timeout"


class UpstreamUnavailable(ProxyError):
    """The upstream, or the network in front of it, failed."""

    kind = "upstream_error"

    def __init__(
        self, message: str, trouble: UpstreamTrouble, *, retry_after: float | None = None
    ) -> None:
        timed_out = trouble is UpstreamTrouble.TIMEOUT
        super().__init__(
            message, reason="upstream_timeout" if timed_out else None, retry_after=retry_after
        )
        self.trouble = trouble


class StreamIncomplete(ProxyError):
    """The upstream stopped in the middle of a stream, without a finish reason."""

    kind = "stream_incomplete"


class Draining(ProxyError):
    """This process is about to stop; a retry reaches its successor."""

    kind = "draining"


class ConfigurationInvalid(ProxyError):
    """The files cannot be used; the log and the status line name the mistakes, clients do not."""

    kind = "configuration_invalid"


class InternalError(ProxyError):
    """A defect of this program; the log has the traceback under the request's id."""

    kind = "internal_error"
