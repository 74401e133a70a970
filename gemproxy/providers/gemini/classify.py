"""Classify Gemini's responses: whose fault, whether another key may work, which cooldown.

Sources: Google's pages "Troubleshooting" and "Rate limits" at ai.google.dev, google.rpc's
``error_details.proto``, and recordings. The pool decides what an outcome causes.

Status codes alone mislead: a bad key is a 400, a passed daily quota is a 429 that says "retry in 37
seconds", a 404 may depend on the project. So each status has a function of its own, which reads the
typed details first and the text last. Texts that decide about a key are compared from their start,
since other texts may quote parts of the request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from functools import cached_property

from gemproxy.pool.cooldowns import next_pacific_midnight
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.quota_ledger import ExceededQuota
from gemproxy.providers.gemini.quota import QuotaEvidence, read_quota
from gemproxy.providers.gemini.wire.errors import GeminiError, decode_error

_LONGEST_MESSAGE = 2000
_WORD = re.compile(r"[A-Za-z0-9_./:-]{1,120}")
# Google's own client gives up on longer waits; daily limits are recognised by their ids.
_SHORTEST_WAIT, _LONGEST_WAIT = 1.0, 120.0
# ai.google.dev "Billing": spending is limited in a rolling window of ten minutes.
_SPENDING_WINDOW = 600.0


@dataclass(frozen=True)
class _Evidence:
    status: int
    error: GeminiError
    now: float
    names_resources: bool
    #: Seconds of a Retry-After header. Gemini sends none, but a gateway on the way may.
    retry_after: float | None = None

    @property
    def text(self) -> str:
        return self.error.message

    @cached_property
    def quota(self) -> QuotaEvidence:
        """Of a 429."""
        return read_quota(self.error)


def classify_response(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    names_resources: bool = False,
) -> Outcome:
    """Return the outcome of a response that is not 2xx.

    ``names_resources`` tells that the request refers to uploaded files or cached contents, which
    only keys of the same project can read. ``now`` is epoch seconds. Never raises, whatever the
    body is.
    """
    named = {name.lower(): value for name, value in headers.items()}
    error = decode_error(body)
    evidence = _Evidence(
        status,
        error or GeminiError(),
        now,
        names_resources,
        _retry_after(named.get("retry-after", ""), now),
    )
    if (stranger := _stranger(evidence, named, body)) is not None:
        return replace(stranger, status=status)
    if error is None and _is_page(named, body):
        outcome = _front_end(evidence)
    else:
        outcome = _judge_of(status)(evidence)
    message = (
        evidence.text or f"The upstream answered with HTTP status {status} and no explanation."
    )
    said = evidence.error
    quota = evidence.quota if status == 429 else None
    return replace(
        outcome,
        status=status,
        message=message[:_LONGEST_MESSAGE],
        google_status=_word(said.status),
        google_reason=_word(next(iter(said.reasons), "")),
        quota_id=_word(quota.id) if quota is not None else "",
        quotas=_exceeded(quota) if quota is not None else (),
    )


def _exceeded(quota: QuotaEvidence) -> tuple[ExceededQuota, ...]:
    return tuple(ExceededQuota(*limit) for limit in quota.known)


def _word(text: str) -> str:
    """``name`` if it looks like one of Google's canonical names, else ``""``."""
    return text if _WORD.fullmatch(text) else ""


def classify_error_event(payload: bytes, *, now: float) -> Outcome:
    """Return the outcome of an error inside a stream, after HTTP 200.

    ``payload`` is the JSON of the event, or of a line in the place of one. The outcome has the
    status that the error would have had as a response of its own.
    """
    error = decode_error(payload) or GeminiError()
    status = error.code if 400 <= error.code <= 599 else _HTTP_STATUS.get(error.status, 502)
    return classify_response(status, {}, payload, now=now)


def classify_page(headers: Mapping[str, str]) -> Outcome | None:
    """Return the outcome of a success with an HTML page, as of a captive portal, else ``None``."""
    if not _is_page(headers, b""):
        return None
    return replace(_foreign(200, ""), status=200)


# -- one function for each status ----------------------------------------------------------------

_KEY_TEXTS = (
    ("api key not valid", "invalid"),
    ("api key not found", "invalid"),
    ("api key expired", "expired"),
    ("your api key was reported as leaked", "leaked"),
)
_KEY_REASONS = {
    "API_KEY_INVALID": "invalid",
    "API_KEY_EXPIRED": "expired",
    "ACCESS_TOKEN_EXPIRED": "expired",
    "ACCESS_TOKEN_TYPE_UNSUPPORTED": "invalid",
    "CONSUMER_INVALID": "invalid",
    "CONSUMER_SUSPENDED": "suspended",
    "SERVICE_DISABLED": "service_disabled",
    "BILLING_DISABLED": "billing",
    "API_KEY_SERVICE_BLOCKED": "blocked",
    "API_KEY_HTTP_REFERRER_BLOCKED": "blocked",
    "API_KEY_IP_ADDRESS_BLOCKED": "blocked",
    "API_KEY_ANDROID_APP_BLOCKED": "blocked",
    "API_KEY_IOS_APP_BLOCKED": "blocked",
}
#: Google adds further ones now and then.
_KEY_REASON_PREFIXES = ("API_KEY_", "CONSUMER_")
_LOCATION = re.compile(r"user location is not supported", re.IGNORECASE)
_BILLING = re.compile(r"free tier is not available|enable billing", re.IGNORECASE)
_SEVERAL_CREDENTIALS = re.compile(r"multiple authentication credentials", re.IGNORECASE)
_SIGNATURE = re.compile(r"thought[ _]?signature", re.IGNORECASE)
_LOGPROBS = re.compile(r"\blog[ _]?prob|responseLogprobs", re.IGNORECASE)
_TOO_LONG = re.compile(r"token count\b.{0,40}\bexceeds the maximum number of tokens", re.IGNORECASE)
_FOREIGN_RESOURCE = re.compile(r"permission to access the (?:file|cached ?content)", re.IGNORECASE)
_NOT_FOR_NEW_USERS = re.compile(r"\bis no longer available to new users\b", re.IGNORECASE)
_NO_SUCH_MODEL = re.compile(
    r"models/\S+ is (?:not found|no longer available|not supported)", re.IGNORECASE
)

_REGION = Outcome(Verdict.REGION, reason="location", code="unsupported_country_region_territory")


def _bad_request(evidence: _Evidence) -> Outcome:
    text = evidence.text
    if (about_key := _about_key(evidence.error)) is not None:
        return about_key
    if _LOCATION.match(text):
        return _REGION
    if evidence.error.status == "FAILED_PRECONDITION":
        if _BILLING.search(text):
            return Outcome(Verdict.KEY, reason="billing")
        return Outcome(Verdict.REQUEST, reason="failed_precondition")
    if _SEVERAL_CREDENTIALS.match(text):
        # Fault of neither key nor client: something between here and Google added a credential.
        return Outcome(Verdict.UNUSABLE, reason="multiple_credentials")
    if _SIGNATURE.search(text):
        return Outcome(Verdict.REQUEST, reason="thought_signature")
    if _LOGPROBS.search(text):
        return Outcome(Verdict.REQUEST, reason="logprobs")
    if _TOO_LONG.search(text):
        return Outcome(
            Verdict.REQUEST,
            reason="context_length",
            code="context_length_exceeded",
            param="prompt",
        )
    return Outcome(Verdict.REQUEST, reason="invalid_argument")


def _unauthenticated(evidence: _Evidence) -> Outcome:
    return _about_key(evidence.error) or Outcome(Verdict.KEY, reason="invalid")


def _permission_denied(evidence: _Evidence) -> Outcome:
    text = evidence.text
    if (about_key := _about_key(evidence.error)) is not None:
        return about_key
    if _LOCATION.match(text):
        return _REGION
    if _FOREIGN_RESOURCE.search(text):
        return Outcome(Verdict.REQUEST, reason="foreign_resource")
    if evidence.names_resources:
        # Google gives the same error for a file or a cache of another project.
        return Outcome(Verdict.REQUEST, reason="foreign_resource")
    # It need not be about the key as a whole: a project may lack just one model.
    return Outcome(Verdict.FORBIDDEN, reason="forbidden")


def _not_found(evidence: _Evidence) -> Outcome:
    if _NOT_FOR_NEW_USERS.search(evidence.text):
        # It depends on the project: older ones may still use the model. Tried again once a day.
        until = next_pacific_midnight(evidence.now)
        return Outcome(Verdict.MODEL_DENIED, reason="closed_to_new_users", until=until)
    if _NO_SUCH_MODEL.search(evidence.text):
        return Outcome(
            Verdict.REQUEST, reason="unknown_model", code="model_not_found", param="model"
        )
    return Outcome(Verdict.REQUEST, reason="not_found")


def _too_many_requests(evidence: _Evidence) -> Outcome:
    quota = evidence.quota
    if quota.no_capacity:
        return Outcome(Verdict.SERVICE, reason="no_capacity", retry_after=_clamped(quota.delay))
    if quota.per_day or quota.no_quota:
        return Outcome(
            Verdict.QUOTA_DAY,
            reason="per_day" if quota.per_day else "no_quota",
            until=next_pacific_midnight(evidence.now),
            token_quota=quota.token_quota,
        )
    if quota.spending:
        return Outcome(
            Verdict.QUOTA_MINUTE,
            reason="spend_limit",
            retry_after=_SPENDING_WINDOW,
            all_models=True,
        )
    delay = evidence.retry_after if quota.delay is None else quota.delay
    return Outcome(
        Verdict.QUOTA_MINUTE,
        reason="per_minute",
        retry_after=_clamped(delay),
        token_quota=quota.token_quota,
    )


def _service(reason: str) -> Callable[[_Evidence], Outcome]:
    def judge(evidence: _Evidence) -> Outcome:
        return Outcome(
            Verdict.SERVICE,
            reason=reason,
            retry_after=_clamped(evidence.retry_after),
            timed_out=evidence.status == 504,
        )

    return judge


def _request(reason: str, code: str | None = None) -> Callable[[_Evidence], Outcome]:
    return lambda _: Outcome(Verdict.REQUEST, reason=reason, code=code)


def _front_end(evidence: _Evidence) -> Outcome:
    """Classify an HTML page of Google's front end, or of a gateway that cannot reach it.

    The front end refuses malformed HTTP requests. Its other pages are about its own state or this
    host's address ("unusual traffic"), never about a key.
    """
    if evidence.status in _REFUSED_BY_FRONT_END:
        return Outcome(Verdict.REQUEST, reason="front_end")
    return Outcome(
        Verdict.SERVICE,
        reason="front_end",
        retry_after=_clamped(evidence.retry_after),
        timed_out=evidence.status == 504,
        spares_key=True,
    )


_REFUSED_BY_FRONT_END = frozenset({400, 404, 405, 411, 413, 414, 431})


# -- what stands between us and Google -----------------------------------------------------------


def _stranger(evidence: _Evidence, headers: Mapping[str, str], body: bytes) -> Outcome | None:
    """Return the outcome if something between here and Google answered in its place.

    That may be a proxy, a firewall or a captive portal: their 401 and 403 would otherwise look like
    dead keys, one after the other. Google's own have a form that can be recognised.
    """
    status, error = evidence.status, evidence.error
    if status in (401, 403):
        if error.status in _HTTP_STATUS or error.reasons or _about_key(error) is not None:
            return None
    elif status in (400, 404, 405, 411):
        if error.status or not _is_page(headers, body) or _GOOGLES_PAGE.search(body):
            return None
    elif status not in (407, 511) and not 300 <= status <= 399:
        return None
    return _foreign(status, _said(headers, body, error))


def _foreign(status: int, said: str) -> Outcome:
    return Outcome(
        Verdict.NETWORK,
        reason="middlebox",
        message=f"answered {status} not in Google's form" + (f": {said}" if said else ""),
        public=f"Something between this proxy and the upstream answered with status {status}.",
        spares_key=True,
    )


def _said(headers: Mapping[str, str], body: bytes, error: GeminiError) -> str:
    """The redirect target, or one line of the page's or body's text."""
    if location := headers.get("location", ""):
        said = f"redirects to {location.partition('?')[0]}"
    elif title := _TITLE.search(body):
        said = title[1].decode("utf-8", "replace")
    else:
        said = error.message or _TAGS.sub(b" ", body[:4096]).decode("utf-8", "replace")
    return "".join(filter(str.isprintable, " ".join(said.split())))[:_LONGEST_SAYING]


_LONGEST_SAYING = 200
_TITLE = re.compile(rb"<title[^>]{0,100}>([^<]{1,1000})", re.IGNORECASE)
_TAGS = re.compile(rb"<[^<>]{0,1000}>")
#: Each page of Google's front end has it: "Error 404 (Not Found)!!1".
_GOOGLES_PAGE = re.compile(rb"//www\.google\.com/|<title>Error \d{3} \(", re.IGNORECASE)

# -- the functions by status ---------------------------------------------------------------------

_BY_STATUS: dict[int, Callable[[_Evidence], Outcome]] = {
    400: _bad_request,
    401: _unauthenticated,
    402: lambda _: Outcome(Verdict.KEY, reason="billing"),
    403: _permission_denied,
    404: _not_found,
    408: _service("timeout"),
    409: _service("aborted"),
    413: _request("too_large", "request_too_large"),
    421: _service("misdirected"),
    425: _service("too_early"),
    429: _too_many_requests,
    499: _service("cancelled"),
    500: _service("internal"),
    501: _request("unimplemented"),
    502: _service("bad_gateway"),
    503: _service("unavailable"),
    504: _service("deadline"),
}
# google.rpc.Code, with its mapping to HTTP.
_HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "DATA_LOSS": 500,
    "UNKNOWN": 500,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


def _judge_of(status: int) -> Callable[[_Evidence], Outcome]:
    judge = _BY_STATUS.get(status)
    if judge is not None:
        return judge
    if 200 <= status <= 299:
        return lambda _: Outcome(Verdict.UNUSABLE, reason="unexpected_status")
    if 400 <= status <= 499:
        return _request("rejected")
    return _service("unexpected_status")


def _about_key(error: GeminiError) -> Outcome | None:
    """Return the outcome if the error is about the key itself."""
    text = error.message.lower()
    for beginning, reason in _KEY_TEXTS:
        if text.startswith(beginning):
            return Outcome(Verdict.KEY, reason=reason)
    for reason in error.reasons:
        if reason in _KEY_REASONS:
            return Outcome(Verdict.KEY, reason=_KEY_REASONS[reason])
        if reason.startswith(_KEY_REASON_PREFIXES):
            return Outcome(Verdict.KEY, reason="blocked")
    return None


def _is_page(headers: Mapping[str, str], body: bytes) -> bool:
    return "html" in headers.get("content-type", "").lower() or body.lstrip()[:1] == b"<"


def _retry_after(value: str, now: float) -> float | None:
    """Seconds of a Retry-After header, a number or a date (RFC 9110 section 10.2.3)."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _clamped(delay: float | None) -> float | None:
    return None if delay is None else min(max(delay, _SHORTEST_WAIT), _LONGEST_WAIT)
