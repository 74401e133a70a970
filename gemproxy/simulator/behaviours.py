"""The behaviours of simulated keys, and which one applies to a request.

The catalogue names every behaviour with its parameters and defaults; ``docs/simulator.md`` explains
them to users. An :class:`Assignment` says when a behaviour applies: for a number of requests, with
a probability, to every n-th request, to some calls or models. A prompt may choose a behaviour for
itself with a trigger such as ``[simulate:truncated chunks=2]``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from types import MappingProxyType
from typing import Any

from gemproxy.core.errors import GemproxyError

Scalar = str | int | float | bool


class BehaviourError(GemproxyError):
    """A behaviour or a parameter does not exist, or a value has the wrong type."""


class Kind(Enum):
    """What a behaviour affects."""

    PLAIN = "answers properly"
    SHAPE = "answers, with something particular in the answer or its timing"
    KEY_FAULT = "the key itself is refused, at every call"
    ERROR = "answers with an HTTP error"
    TRANSPORT = "does not answer in HTTP, or not with Gemini's JSON"
    STREAM = "begins well and ends badly"


class Call(Enum):
    """The calls that a behaviour can be limited to."""

    GENERATE = "generate"
    STREAM = "stream"
    COUNT = "count"
    EMBED = "embed"
    MODELS = "models"
    RESOURCES = "resources"


#: The calls that a behaviour applies to by default; a key fault applies to every call.
WORKING = frozenset({Call.GENERATE, Call.STREAM, Call.EMBED})


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the catalogue: kind, description, parameters with their defaults."""

    kind: Kind
    summary: str
    parameters: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A behaviour of the catalogue with its parameters filled in."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        return CATALOGUE[self.name].kind

    def __getitem__(self, parameter: str) -> Any:
        return self.parameters[parameter]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A behaviour and when it applies.

    ``times`` is the number of requests after which the key is ``ok`` again; None: no end.
    ``probability`` is drawn for each request from the seed; ``every_nth`` (0: off) selects the
    n-th, 2n-th … request instead. Empty ``models`` means every model.
    """

    behaviour: Behaviour
    times: int | None = None
    probability: float = 1.0
    every_nth: int = 0
    calls: frozenset[Call] = WORKING
    models: frozenset[str] = frozenset()


def _entry(kind: Kind, summary: str, **parameters: Scalar) -> Entry:
    return Entry(kind, summary, MappingProxyType(parameters))


_K, _E, _T, _S, _A = Kind.KEY_FAULT, Kind.ERROR, Kind.TRANSPORT, Kind.STREAM, Kind.SHAPE

CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    {
        "ok": _entry(Kind.PLAIN, "answers"),
        "flaky": _entry(
            Kind.PLAIN,
            "answers, or behaves like `failure` with `probability` (or at every n-th request)",
            failure="overloaded",
            probability=0.5,
            everyNth=0,
        ),
        # ---- the key is refused
        "invalid": _entry(_K, "400 API_KEY_INVALID, API key not valid"),
        "key-not-found": _entry(_K, "400 API_KEY_INVALID, API Key not found"),
        "expired": _entry(_K, "400 API_KEY_INVALID, API key expired"),
        "leaked": _entry(_K, "403, the key was reported as leaked, no details"),
        "suspended": _entry(_K, "403 CONSUMER_SUSPENDED; echoes the whole key, as Google does"),
        "service-disabled": _entry(_K, "403 SERVICE_DISABLED, the API is off in the project"),
        "service-blocked": _entry(_K, "403 API_KEY_SERVICE_BLOCKED, the key is restricted"),
        "referrer-blocked": _entry(_K, "403 API_KEY_HTTP_REFERRER_BLOCKED"),
        "unauthenticated": _entry(_K, "401 ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        "forbidden": _entry(_K, "403 The caller does not have permission"),
        "region-refused": _entry(_K, "400 FAILED_PRECONDITION, user location not supported"),
        "billing-required": _entry(_K, "400 FAILED_PRECONDITION, no free tier, enable billing"),
        # ---- quota
        "rate-limited-minute": _entry(
            _E, "429 with a per-minute violation", limit=5, retryDelay=34.0
        ),
        "rate-limited-day": _entry(
            _E,
            "429 with a per-day violation and a misleading retryDelay",
            limit=20,
            retryDelay=37.0,
        ),
        "rate-limited-tokens": _entry(
            _E, "429, input tokens per minute of the paid tier", limit=1000000, retryDelay=26.0
        ),
        "quota-zero": _entry(_E, "429, limit 0: the project has no quota for this model"),
        "rate-limited-bare": _entry(_E, "429 without any details"),
        "rate-limited-help-only": _entry(_E, "429 whose only detail is a Help link"),
        "rate-limited-old-style": _entry(
            _E, "429 with ErrorInfo RATE_LIMIT_EXCEEDED", limit=60, perDay=False
        ),
        "spend-limited": _entry(_E, "429 about the spending cap of the last 10 minutes"),
        # ---- the model or the service
        "closed-model": _entry(_E, "404, the model is no longer available to new users"),
        "gone-model": _entry(_E, "404, the model is no longer available to anybody"),
        "bad-request": _entry(_E, "400 Request contains an invalid argument"),
        "context-too-long": _entry(_E, "400, the input token count exceeds the maximum"),
        "internal-error": _entry(_E, "500 INTERNAL"),
        "overloaded": _entry(_E, "503 UNAVAILABLE, high demand"),
        "model-overloaded": _entry(_E, "503 UNAVAILABLE, the older wording"),
        "deadline-expired": _entry(_E, "503 UNAVAILABLE, Deadline expired"),
        "deadline-exceeded": _entry(_E, "504 DEADLINE_EXCEEDED"),
        "cancelled": _entry(_E, "499 CANCELLED"),
        "bad-gateway": _entry(_T, "an HTML page of the front end", status=502),
        "redirect": _entry(_T, "302 to another place", location="http://127.0.0.1:9/elsewhere"),
        # ---- no HTTP, or no use
        "reset": _entry(_T, "TCP reset before any header"),
        "close": _entry(_T, "the connection closes before any header"),
        "hang": _entry(_T, "never answers"),
        "garbage": _entry(_T, "bytes that are not HTTP"),
        "garbage-json": _entry(
            _T, "200 whose body is not JSON (in a stream: after `chunks`)", chunks=0
        ),
        "empty": _entry(_T, "200 with an empty body"),
        "html-200": _entry(_T, "200 with an HTML page, as a captive portal would"),
        # ---- begins well
        "truncated": _entry(_S, "the stream ends cleanly without a finishReason", chunks=2),
        "cut": _entry(_S, "the connection closes in the middle of an event", chunks=2),
        "reset-mid-stream": _entry(_S, "TCP reset in the middle", chunks=2),
        "stall": _entry(_S, "silence for ever in the middle", chunks=2),
        "error-mid-stream": _entry(_S, "an error as a `data:` event", chunks=2, code=503),
        "error-mid-stream-raw": _entry(_S, "an error as bare JSON lines", chunks=2, code=499),
        # ---- the answer itself
        "slow": _entry(
            _A, "waits before the first byte and between chunks", delay=2.0, chunkDelay=0.2
        ),
        "fragmented": _entry(_A, "sends a stream in pieces of `size` bytes", size=7, delay=0.0),
        "words": _entry(_A, "an answer of about `n` words", n=500),
        "chunks": _entry(_A, "a stream of about `n` text chunks", n=50),
        "echo": _entry(_A, "answers with the prompt's own text and nothing else"),
        "block": _entry(_A, "the prompt is blocked", reason="SAFETY", message=""),
        "safety": _entry(
            _A, "the candidate stops with SAFETY, with a little text or none", text=True
        ),
        "recitation": _entry(_A, "the candidate stops with RECITATION and names its sources"),
        "finish": _entry(_A, "any finishReason", reason="OTHER", message="", text=False),
        "no-candidates": _entry(_A, "200 with usage and no candidates"),
        "empty-text": _entry(_A, "STOP with one empty text part"),
        "transcription": _entry(_A, "an empty text part, then the text as an audioTranscription"),
        "unknown-part": _entry(_A, "STOP with one part, of a kind that no client knows"),
        "no-parts": _entry(_A, "STOP with a content that has no parts"),
        "finish-last": _entry(_A, "finishReason stands in the last content chunk"),
        "finish-extra": _entry(_A, "finishReason stands in an extra chunk with empty text"),
        "finish-no-parts": _entry(_A, "finishReason stands in a chunk whose content has no parts"),
        "finish-no-content": _entry(_A, "finishReason stands in a chunk without content"),
        "finish-twice": _entry(_A, "every chunk of text has a finishReason"),
        "usage-last": _entry(_A, "a chunk with nothing but usage follows the finishReason"),
        "line-separators": _entry(_A, "raw U+0085, U+2028 and U+2029 in the text"),
        "cached": _entry(_A, "usage has implicitly cached tokens", tokens=64),
        "long": _entry(_A, "Gemini 4 only: CONTINUATION hops", hops=2),
        "eager-call": _entry(_A, "a function is called though the prompt mentions none"),
        "text-before-call": _entry(_A, "function calls are preceded by text"),
        "malformed-call": _entry(_A, "MALFORMED_FUNCTION_CALL, no content"),
        "unexpected-call": _entry(_A, "UNEXPECTED_TOOL_CALL of an undeclared function"),
        "fewer-vectors": _entry(_A, "embeddings: the last vector is missing"),
        "same-id": _entry(_A, "function calls have an id that another call had", id="call_883098"),
        "no-signature": _entry(_A, "function calls come without their thoughtSignature"),
    }
)

#: Common misspellings and other names.
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "401": "unauthenticated",
        "403": "forbidden",
        "429": "rate-limited-minute",
        "500": "internal-error",
        "502": "bad-gateway",
        "503": "overloaded",
        "504": "deadline-exceeded",
        "rate-limited": "rate-limited-minute",
        "rpm": "rate-limited-minute",
        "rpd": "rate-limited-day",
        "blocked": "block",
        "bare-429": "rate-limited-bare",
        "error": "internal-error",
        "stall-mid-stream": "stall",
    }
)

_TRIGGER = re.compile(r"\[simulate:([A-Za-z0-9-]+)((?:\s+[A-Za-z]+=[^\s\]]+)*)\s*\]")


def behaviour(name: str, parameters: Mapping[str, object] | None = None) -> Behaviour:
    """The behaviour called ``name``, with ``parameters`` over its defaults.

    Raises BehaviourError, which suggests the most similar name, if there is none.
    """
    known = ALIASES.get(name, name)
    if known not in CATALOGUE:
        raise BehaviourError(f"no behaviour {name!r}{_nearest(name, CATALOGUE)}")
    defaults = CATALOGUE[known].parameters
    given = {
        key: _coerced(known, key, value, defaults) for key, value in (parameters or {}).items()
    }
    return Behaviour(known, MappingProxyType({**defaults, **given}))


def assignment(
    chosen: Behaviour,
    *,
    times: int | None = None,
    probability: float = 1.0,
    every_nth: int = 0,
    calls: frozenset[Call] | None = None,
    models: frozenset[str] = frozenset(),
) -> Assignment:
    """The assignment of ``chosen``; ``flaky`` is replaced by the failure that it stands for."""
    if times is not None and times < 1:
        raise BehaviourError(f"times: expected a whole number of at least 1, got {times!r}")
    if chosen.name == "flaky":
        probability, every_nth = float(chosen["probability"]), int(chosen["everyNth"])
        chosen = behaviour(chosen["failure"])
    if chosen.name == "flaky":
        raise BehaviourError("flaky.failure: flaky cannot fail by being flaky")
    if not 0 <= probability <= 1:
        raise BehaviourError(f"probability: expected 0 to 1, got {probability!r}")
    if every_nth < 0:
        raise BehaviourError(f"everyNth: expected a whole number of at least 0, got {every_nth!r}")
    return Assignment(
        chosen, times, probability, every_nth, calls or _default_calls(chosen), models
    )


def triggers(text: str) -> list[Behaviour]:
    """The behaviours that a prompt asks for, in order. Raises BehaviourError for an unknown one."""
    return [
        behaviour(name, dict(pair.split("=", 1) for pair in pairs.split()))
        for name, pairs in _TRIGGER.findall(text)
    ]


def without_triggers(text: str) -> str:
    """``text`` without its triggers, so that the answer does not repeat them."""
    return _TRIGGER.sub("", text).strip()


OK = behaviour("ok")


def _default_calls(chosen: Behaviour) -> frozenset[Call]:
    return frozenset(Call) if chosen.kind is Kind.KEY_FAULT else WORKING


def _nearest(name: str, known: Mapping[str, object]) -> str:
    matches = get_close_matches(name, list(known), 1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _coerced(name: str, key: str, value: object, defaults: Mapping[str, Scalar]) -> Scalar:
    """``value`` in the type of the parameter's default. In a trigger all values are text."""
    if key not in defaults:
        raise BehaviourError(f"{name} has no parameter {key!r}{_nearest(key, defaults)}")
    kind = type(defaults[key])
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise TypeError  # noqa: TRY301 - told as one message with the two below
        return kind(value)
    except (KeyError, TypeError, ValueError):
        raise BehaviourError(f"{name}.{key}: expected {kind.__name__}, got {value!r}") from None
