"""What one attempt came to, in the words that the pool understands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """The kinds of outcome; ``docs/architecture.md`` has the table of what each one causes."""

    SUCCESS = "success"
    REQUEST = "request"  # the client's request is at fault: nobody is charged, no retry
    BLOCKED = "blocked"  # a safety block: the key did its work
    QUOTA_MINUTE = "quota_minute"
    QUOTA_DAY = "quota_day"
    KEY = "key"  # invalid, expired, leaked, forbidden
    MODEL_DENIED = "model_denied"  # this key's project may not use this model
    FORBIDDEN = "forbidden"  # this key may not use this model, and Google does not say why
    SERVICE = "service"  # the upstream answered 5xx
    NETWORK = "network"  # the upstream did not answer
    BROKEN_OFF = "broken_off"  # either of the two, after the client had seen the beginning
    REGION = "region"  # this host's address is refused, whatever the key
    UNUSABLE = "unusable"  # HTTP 200 without an answer in it: retried, charged to nobody
    HOST = "host"  # this machine is out of descriptors, ports or threads
    CLIENT_GONE = "client_gone"

    # There is one object for each, and Enum's own hash is Python code: some ten calls a request.
    __hash__ = object.__hash__


SERVED = frozenset({Verdict.SUCCESS, Verdict.BLOCKED})
"""The key did its work, and the client has its answer."""


class Charge(Enum):
    """Who pays for an outcome."""

    KEY = "key"
    MODEL = "model"
    NOBODY = "nobody"

    __hash__ = object.__hash__


@dataclass(frozen=True)
class Outcome:
    """The judgement on one attempt.

    ``status`` is the upstream's, ``None`` where none came. ``retry_after`` is in seconds from the
    outcome, where the upstream named a delay. ``until`` is an epoch time, where the calendar
    decides (a day's quota). ``reason`` is a short fixed word for logs, metrics and
    ``needs_attention`` (``invalid``, ``expired``, ``leaked``, ``suspended``, ``forbidden``,
    ``service_disabled``, ``billing``, ``spend_limit``, ``thought_signature`` …).
    ``message`` is the upstream's own text, for the client; it may echo a secret and goes through
    the scrubber before it goes anywhere. Where it holds what only the operator should see (the
    network's causes), ``public`` is what the client sees in its place.
    """

    verdict: Verdict
    status: int | None = None
    reason: str = ""
    message: str = ""
    retry_after: float | None = None
    until: float | None = None
    #: Cools every model of the project, not only the one asked for (a spend limit).
    all_models: bool = False
    #: The token quota that was passed, where the evidence names one: a prompt may never fit it.
    token_quota: int | None = None
    #: Where the failure was a timeout, so that the client sees 504 and not 502.
    timed_out: bool = False
    #: Says nothing against the key, though another one may serve: the upstream was not reached, or
    #: something that stands before it answered.
    spares_key: bool = False
    public: str = ""
    #: Google's canonical word for the status, ``ErrorInfo.reason`` and the quota that was passed.
    google_status: str = ""
    google_reason: str = ""
    quota_id: str = ""
    #: OpenAI error ``code`` and ``param`` for a refused request, where the evidence tells.
    code: str | None = None
    param: str | None = None
