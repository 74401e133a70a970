"""Errors of the Gemini API: ``google.rpc.Status`` in JSON, with typed details.

Source of the types: google.rpc ``error_details.proto``; AIP-193. The object may be wrapped in an
array (streams without ``alt=sse``, the compatibility endpoint), details may be missing, and the
Interactions API sends a word as ``code``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_MAX_BYTES = 1024 * 1024
_MAX_DETAILS = 64
_MAX_TEXT = 2000
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s")


@dataclass(frozen=True)
class QuotaViolation:
    """One exceeded limit. ``value`` is ``None`` if it is not given."""

    metric: str = ""
    id: str = ""
    value: int | None = None
    model: str = ""


@dataclass(frozen=True)
class GeminiError:
    """A decoded error. Absent parts are empty; ``code`` is 0 if it is not a number."""

    code: int = 0
    message: str = ""
    #: The canonical name, like ``INVALID_ARGUMENT``.
    status: str = ""
    #: ``ErrorInfo.reason`` of each such detail, like ``API_KEY_INVALID``.
    reasons: tuple[str, ...] = ()
    #: ``ErrorInfo.metadata`` of all such details.
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[QuotaViolation, ...] = ()
    #: ``RetryInfo.retryDelay`` in seconds.
    retry_delay: float | None = None
    #: ``BadRequest.fieldViolations`` as (field, description); fields are Gemini's names.
    field_violations: tuple[tuple[str, str], ...] = ()


def decode_error(body: bytes) -> GeminiError | None:
    """Decode the error in ``body``; ``None`` for HTML, other JSON, garbage, and over 1 MiB.

    Never raises, so that no error body can cause a second error.
    """
    if len(body) > _MAX_BYTES:
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(document, list) and document:
        document = document[0]
    error = document.get("error") if isinstance(document, dict) else None
    return _decode(error) if isinstance(error, dict) else None


def _decode(error: dict[str, Any]) -> GeminiError:
    details = [detail for detail in _list(error, "details") if isinstance(detail, dict)]
    infos = list(_of_type(details, "ErrorInfo"))
    delays = [_seconds(detail.get("retryDelay")) for detail in _of_type(details, "RetryInfo")]
    return GeminiError(
        code=_integer(error.get("code")) or 0,
        message=_text(error, "message"),
        status=_text(error, "status"),
        reasons=tuple(reason for info in infos if (reason := _text(info, "reason"))),
        metadata={name: text for info in infos for name, text in _metadata(info)},
        violations=tuple(
            _violation(violation)
            for failure in _of_type(details, "QuotaFailure")
            for violation in _list(failure, "violations")
            if isinstance(violation, dict)
        ),
        retry_delay=max((delay for delay in delays if delay is not None), default=None),
        field_violations=tuple(
            (_text(violation, "field"), _text(violation, "description"))
            for request in _of_type(details, "BadRequest")
            for violation in _list(request, "fieldViolations")
            if isinstance(violation, dict)
        ),
    )


def _violation(violation: dict[str, Any]) -> QuotaViolation:
    dimensions = violation.get("quotaDimensions")
    return QuotaViolation(
        metric=_text(violation, "quotaMetric"),
        id=_text(violation, "quotaId"),
        value=_integer(violation.get("quotaValue")),
        model=_text(dimensions, "model") if isinstance(dimensions, dict) else "",
    )


def _of_type(details: list[dict[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    """Yield the details of one type, compared by the last part of the type's URL."""
    return (detail for detail in details if _text(detail, "@type").rpartition(".")[2] == name)


def _metadata(info: dict[str, Any]) -> Iterator[tuple[str, str]]:
    metadata = info.get("metadata")
    if isinstance(metadata, dict):
        for name in list(metadata)[:_MAX_DETAILS]:
            yield name[:_MAX_TEXT], _text(metadata, name)


def _list(mapping: dict[str, Any], name: str) -> list[Any]:
    value = mapping.get(name)
    return value[:_MAX_DETAILS] if isinstance(value, list) else []


def _text(mapping: dict[str, Any], name: str) -> str:
    value = mapping.get(name)
    if not isinstance(value, str):
        return ""
    # JSON may contain half a surrogate pair, which cannot be encoded as UTF-8.
    return value[:_MAX_TEXT].encode("utf-8", "replace").decode("utf-8")


def _integer(value: object) -> int | None:
    """A JSON number, or the string in which proto3's JSON writes an int64."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return int(number) if math.isfinite(number) else None


def _seconds(value: object) -> float | None:
    """A ``google.protobuf.Duration`` in JSON: decimal seconds and an ``s``."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return float(match[1]) if match else None
