"""Google's error bodies, as they are sent.

Every function here returns an :class:`ErrorReply`. Codes, canonical statuses, reasons, quota ids
and message texts are Google's own, since a gateway has to recognise them; project numbers and the
rest are made up. Sources: ai.google.dev pages troubleshooting and rate-limits, and recorded answers
of public test suites.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

SERVICE = "generativelanguage.googleapis.com"
_RPC = "google.ai.generativelanguage.v1beta"
_QUOTA_PAGE = "https://ai.google.dev/gemini-api/docs/rate-limits"
_QUOTA_TEXT = (
    "You exceeded your current quota, please check your plan and billing details. "
    f"For more information on this error, head to: {_QUOTA_PAGE}."
)
_MONITOR_TEXT = " To monitor your current usage, head to: https://ai.dev/rate-limit. "

_STATUS = MappingProxyType(
    {
        400: "INVALID_ARGUMENT",
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        429: "RESOURCE_EXHAUSTED",
        499: "CANCELLED",
        500: "INTERNAL",
        503: "UNAVAILABLE",
        504: "DEADLINE_EXCEEDED",
    }
)

_SERVICE_TEXT = MappingProxyType(
    {
        499: "The operation was cancelled.",
        500: (
            "An internal error has occurred. Please retry or report in "
            "https://developers.generativeai.google/guide/troubleshooting"
        ),
        503: (
            "This model is currently experiencing high demand. Spikes in demand are usually "
            "temporary. Please try again later."
        ),
        504: "Deadline exceeded before the model could finish. Please try again.",
    }
)


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An HTTP status and its ``{"error": …}`` object."""

    status: int
    body: Mapping[str, Any]

    @property
    def message(self) -> str:
        return str(self.body["error"]["message"])


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The values that an error body refers to. ``rpc`` is a method such as ``GenerateContent``."""

    model: str = "gemini-3.8-flash"
    rpc: str = "GenerateContent"
    key: str = ""
    project: str = "0"
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota, as a violation names it; ``limit`` 0 is written as an absent quotaValue."""

    metric: str
    id: str
    limit: int


def error(
    status: int, message: str, *details: Mapping[str, Any], canonical: str | None = None
) -> ErrorReply:
    """The envelope; ``canonical`` is set if it is not the usual one of the status."""
    inner: dict[str, Any] = {
        "code": status,
        "message": message,
        "status": canonical or _STATUS.get(status, "UNKNOWN"),
    }
    if details:
        inner["details"] = list(details)
    return ErrorReply(status, {"error": inner})


def invalid_argument(message: str) -> ErrorReply:
    """A 400 about the request itself."""
    return error(400, message)


def field_violations(violations: list[tuple[str, str]]) -> ErrorReply:
    """A 400 of the JSON front end: ``(field path or "", description)`` for each mistake."""
    listed = [{"field": f, "description": d} if f else {"description": d} for f, d in violations]
    text = "\n".join(description for _, description in violations)
    return error(400, text, _detail("BadRequest", fieldViolations=listed))


def service_error(code: int) -> ErrorReply:
    """A failure of the service: 499, 500, 503 or 504; other codes get the text of 503."""
    return error(code, _SERVICE_TEXT.get(code, _SERVICE_TEXT[503]))


def multiple_credentials() -> ErrorReply:
    """A key is sent in two places, or beside a Bearer token."""
    return error(400, "Multiple authentication credentials received. Please pass only one.")


def unregistered_caller() -> ErrorReply:
    """No credential was sent."""
    return error(
        403,
        "Method doesn't allow unregistered callers (callers without established identity). "
        "Please use API Key or other form of API consumer identity to call this API.",
    )


def unauthenticated(about: Circumstances) -> ErrorReply:
    """The answer to a Bearer token on a native path, and to a truncated Standard key."""
    return error(
        401,
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login "
        "cookie or other valid authentication credential. See "
        "https://developers.google.com/identity/sign-in/web/devconsole-project.",
        _detail(
            "ErrorInfo",
            reason="ACCESS_TOKEN_TYPE_UNSUPPORTED",
            metadata={"service": SERVICE, "method": f"{_RPC}.{_rpc_service(about)}.{about.rpc}"},
        ),
    )


def api_key_invalid(message: str = "API key not valid. Please pass a valid API key.") -> ErrorReply:
    """An invalid key is answered with HTTP 400."""
    return error(400, message, _info("API_KEY_INVALID", service=SERVICE), _localized(message))


def unknown_model(model: str, method: str) -> ErrorReply:
    """``method`` in the REST spelling, such as ``generateContent``."""
    return error(
        404,
        f"models/{model} is not found for API version v1beta, or is not supported for {method}. "
        "Call ModelService.ListModels to see the list of available models and their supported "
        "methods.",
    )


def gone_model(model: str, successor: str) -> ErrorReply:
    """The model was shut down for all projects."""
    return error(
        404,
        f"This model models/{model} is no longer available. Please update your code to use "
        f"models/{successor} for the latest features and improvements.",
    )


def closed_model(model: str) -> ErrorReply:
    """The model is closed to this project; older projects may use it."""
    return error(
        404,
        f"This model models/{model} is no longer available to new users. Please update your code "
        "to use a newer model for the latest features and improvements.",
    )


def quota_exceeded(quotas: list[Quota], model: str, retry_delay: float) -> ErrorReply:
    """A 429 with QuotaFailure, Help and RetryInfo; ``retry_delay`` in seconds."""
    lines = "\n".join(
        f"* Quota exceeded for metric: {quota.metric}, limit: {quota.limit}, model: {model}"
        for quota in quotas
    )
    violations = []
    for quota in quotas:
        violation: dict[str, Any] = {
            "quotaMetric": quota.metric,
            "quotaId": quota.id,
            "quotaDimensions": {"location": "global", "model": model},
        }
        if quota.limit:
            violation["quotaValue"] = str(quota.limit)
        violations.append(violation)
    return error(
        429,
        f"{_QUOTA_TEXT}{_MONITOR_TEXT}\n{lines}\nPlease retry in {retry_delay:.9f}s.",
        _quota_help(),
        _detail("QuotaFailure", violations=violations),
        _detail("RetryInfo", retryDelay=f"{int(retry_delay)}s"),
    )


def of_embeddings(quota: Quota) -> Quota:
    """The same quota for embeddings."""
    return Quota(
        quota.metric.replace("generate_content", "embed_content"),
        quota.id.replace("GenerateContent", "Generate").replace("Generate", "EmbedContent"),
        quota.limit,
    )


def per_minute(limit: int) -> Quota:
    """The free tier's requests a minute."""
    return Quota(
        f"{SERVICE}/generate_content_free_tier_requests",
        "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
        limit,
    )


def per_day(limit: int) -> Quota:
    """The free tier's requests a day."""
    return Quota(
        f"{SERVICE}/generate_content_free_tier_requests",
        "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
        limit,
    )


def tokens_per_minute(limit: int) -> Quota:
    """The paid tier's input tokens a minute."""
    return Quota(
        f"{SERVICE}/generate_content_paid_tier_input_token_count",
        "GenerateContentPaidTierInputTokensPerModelPerMinute",
        limit,
    )


def for_behaviour(name: str, about: Circumstances) -> ErrorReply:
    """The reply of the error behaviour ``name``; KeyError for other kinds of behaviour."""
    return _BY_BEHAVIOUR[name](about)


def _suspended(about: Circumstances) -> ErrorReply:
    # Google really returns the key in clear text; a gateway has to redact it.
    text = f"Permission denied: Consumer 'api_key:{about.key}' has been suspended."
    info = _info(
        "CONSUMER_SUSPENDED",
        consumer=f"projects/{about.project}",
        service=SERVICE,
        containerInfo=f"api_key:{about.key}",
    )
    return error(403, text, info, _localized(text))


def _service_disabled(about: Circumstances) -> ErrorReply:
    page = (
        f"https://console.developers.google.com/apis/api/{SERVICE}/overview?project={about.project}"
    )
    help_links = [{"description": "Google developers console API activation", "url": page}]
    return error(
        403,
        f"Generative Language API has not been used in project {about.project} before or it is "
        f"disabled. Enable it by visiting {page} then retry. If you enabled this API recently, "
        "wait a few minutes for the action to propagate to our systems and retry.",
        _detail("Help", links=help_links),
        _info("SERVICE_DISABLED", service=SERVICE, consumer=f"projects/{about.project}"),
    )


def _service_blocked(about: Circumstances) -> ErrorReply:
    method = f"{_RPC}.{_rpc_service(about)}.{about.rpc}"
    text = f"Requests to this API {SERVICE} method {method} are blocked."
    info = _info(
        "API_KEY_SERVICE_BLOCKED",
        consumer=f"projects/{about.project}",
        service=SERVICE,
        apiName=SERVICE,
        methodName=method,
    )
    return error(403, text, info, _localized(text))


def _referrer_blocked(about: Circumstances) -> ErrorReply:
    text = "Requests from referer <empty> are blocked."
    info = _info(
        "API_KEY_HTTP_REFERRER_BLOCKED",
        consumer=f"projects/{about.project}",
        service=SERVICE,
        httpReferrer="<empty>",
    )
    return error(403, text, info, _localized(text))


def _region_refused(_about: Circumstances) -> ErrorReply:
    text = "User location is not supported for the API use."
    return error(400, text, canonical="FAILED_PRECONDITION")


def _billing_required(_about: Circumstances) -> ErrorReply:
    text = (
        "Gemini API free tier is not available in your country. Please enable billing on your "
        "project in Google AI Studio."
    )
    return error(400, text, canonical="FAILED_PRECONDITION")


def _limited(quota: Callable[[int], Quota]) -> Callable[[Circumstances], ErrorReply]:
    def reply(about: Circumstances) -> ErrorReply:
        limit, delay = about.parameters["limit"], about.parameters["retryDelay"]
        passed = of_embeddings(quota(limit)) if "Embed" in about.rpc else quota(limit)
        return quota_exceeded([passed], about.model, delay)

    return reply


def _quota_zero(about: Circumstances) -> ErrorReply:
    return quota_exceeded([per_day(0), per_minute(0)], about.model, 10.673410956)


def _old_style(about: Circumstances) -> ErrorReply:
    window = "day" if about.parameters["perDay"] else "minute"
    limit = f"GenerateContentRequestsPer{window.title()}PerProjectPerRegion"
    return error(
        429,
        f"Quota exceeded for quota metric 'Generate Content API requests per {window}' and limit "
        f"'GenerateContent request limit per {window} for a region' of service '{SERVICE}' for "
        f"consumer 'project_number:{about.project}'.",
        _info(
            "RATE_LIMIT_EXCEEDED",
            service=SERVICE,
            consumer=f"projects/{about.project}",
            quota_limit_value=str(about.parameters["limit"]),
            quota_limit=limit,
            quota_location="europe-west1",
            quota_metric=f"{SERVICE}/generate_content_requests",
        ),
    )


def _spend_limited(_about: Circumstances) -> ErrorReply:
    return error(
        429,
        "Your project has exceeded its spending limit for the last 10 minutes. Please try again "
        "later or check your billing tier.",
    )


def _fixed(status: int, message: str) -> Callable[[Circumstances], ErrorReply]:
    return lambda _about: error(status, message)


def _service(code: int) -> Callable[[Circumstances], ErrorReply]:
    return lambda _about: service_error(code)


_BY_BEHAVIOUR: Mapping[str, Callable[[Circumstances], ErrorReply]] = MappingProxyType(
    {
        "invalid": lambda _about: api_key_invalid(),
        "key-not-found": lambda _about: api_key_invalid(
            "API Key not found. Please pass a valid API key."
        ),
        "expired": lambda _about: api_key_invalid("API key expired. Please renew the API key."),
        "leaked": _fixed(403, "Your API key was reported as leaked. Please use another API key."),
        "suspended": _suspended,
        "service-disabled": _service_disabled,
        "service-blocked": _service_blocked,
        "referrer-blocked": _referrer_blocked,
        "unauthenticated": unauthenticated,
        "forbidden": _fixed(403, "The caller does not have permission"),
        "region-refused": _region_refused,
        "billing-required": _billing_required,
        "rate-limited-minute": _limited(per_minute),
        "rate-limited-day": _limited(per_day),
        "rate-limited-tokens": _limited(tokens_per_minute),
        "quota-zero": _quota_zero,
        "rate-limited-bare": _fixed(429, "Resource has been exhausted (e.g. check quota)."),
        "rate-limited-help-only": lambda _about: error(429, _QUOTA_TEXT, _quota_help()),
        "rate-limited-old-style": _old_style,
        "spend-limited": _spend_limited,
        "closed-model": lambda about: closed_model(about.model),
        "gone-model": lambda about: gone_model(about.model, "gemini-3.8-flash"),
        "bad-request": _fixed(400, "Request contains an invalid argument."),
        "context-too-long": _fixed(
            400,
            "The input token count (1234567) exceeds the maximum number of tokens allowed "
            "(1048576).",
        ),
        "internal-error": _service(500),
        "overloaded": _service(503),
        "model-overloaded": _fixed(503, "The model is overloaded. Please try again later."),
        "deadline-expired": _fixed(503, "Deadline expired before operation could complete."),
        "deadline-exceeded": _service(504),
        "cancelled": _service(499),
    }
)


def _detail(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/google.rpc.{kind}", **fields}


def _info(reason: str, **metadata: str) -> dict[str, Any]:
    return _detail("ErrorInfo", reason=reason, domain="googleapis.com", metadata=metadata)


def _localized(message: str) -> dict[str, Any]:
    return _detail("LocalizedMessage", locale="en-US", message=message)


def _quota_help() -> dict[str, Any]:
    link = {"description": "Learn more about Gemini API quotas", "url": _QUOTA_PAGE}
    return _detail("Help", links=[link])


def _rpc_service(about: Circumstances) -> str:
    return "ModelService" if about.rpc in {"ListModels", "GetModel"} else "GenerativeService"
