"""``GET /admin/requests``: the question in its query. Unknown parameters are ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gemproxy.admin.usage import moment_of, text_values
from gemproxy.core.errors import InvalidRequest
from gemproxy.state.record_query import COLUMNS, LAST, MICROSECONDS, RecordQuery
from gemproxy.telemetry.usage_reports import UsageReports

MOST_REQUESTS = 500
_DEFAULT_LIMIT = 100
_LIMIT = re.compile(r"[0-9]{1,3}")
_CURSOR = re.compile(r"[0-9]{1,18}")
_STATUS = re.compile(r"([1-5])([0-9]{2}|xx)")
#: Values of one filter.
_MOST_VALUES = 100


def record_query(query: Mapping[bytes, list[bytes]], reports: UsageReports) -> RecordQuery:
    """The question. Raises :class:`InvalidRequest` that names the parameter."""
    given = text_values(query)
    first = _number(given, "from", reports) or 0
    end = _number(given, "to", reports) or LAST
    if "cursor" in given:
        if not _CURSOR.fullmatch(given["cursor"]):
            raise InvalidRequest("cursor: expected the next_cursor of an answer.", param="cursor")
        end = min(end, int(given["cursor"]))
    failed = given.get("failed", "false")
    if failed not in ("true", "false"):
        raise InvalidRequest("failed: expected true or false.", param="failed")
    filters = {name: tuple(given[name].split(",")) for name in COLUMNS if name in given}
    for name, values in filters.items():
        if len(values) > _MOST_VALUES:
            raise InvalidRequest(f"{name}: at most {_MOST_VALUES} values.", param=name)
    return RecordQuery(
        _limit(given), first, end, filters, _statuses(given.get("status", "")), failed == "true"
    )


def _limit(given: Mapping[str, str]) -> int:
    limit = given.get("limit", str(_DEFAULT_LIMIT))
    if not _LIMIT.fullmatch(limit) or not 1 <= int(limit) <= MOST_REQUESTS:
        raise InvalidRequest(
            f"limit: expected a whole number from 1 to {MOST_REQUESTS}.", param="limit"
        )
    return int(limit)


def _number(given: Mapping[str, str], name: str, reports: UsageReports) -> int | None:
    """The number of a request that ends at that time; ``to`` includes the whole day of a date."""
    found = moment_of(given, name, reports.now())
    if found is None:
        return None
    moment, is_day = found
    if is_day:
        day = reports.days(moment, moment)
        return int((day.begin if name == "from" else day.end) * MICROSECONDS)
    return int(moment.timestamp() * MICROSECONDS)


def _statuses(text: str) -> tuple[tuple[int, int], ...]:
    """``503`` or ``5xx``, several with commas."""
    ranges = []
    words = [word for word in text.split(",") if word]
    if len(words) > _MOST_VALUES:
        raise InvalidRequest(f"status: at most {_MOST_VALUES} values.", param="status")
    for word in words:
        found = _STATUS.fullmatch(word)
        if found is None:
            raise InvalidRequest(
                "status: expected a status such as 503, or 5xx; several with commas.",
                param="status",
            )
        first = int(found[1]) * 100
        exact = None if found[2] == "xx" else first + int(found[2])
        ranges.append((first, first + 99) if exact is None else (exact, exact))
    return tuple(ranges)
