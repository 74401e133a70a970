"""``GET /admin/usage``: the question in its query, and the answer as JSON or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import msgspec

from gemproxy.admin.auth_gate import Page
from gemproxy.core.errors import InvalidRequest
from gemproxy.state.usage_query import DIMENSIONS, MAX_ROWS
from gemproxy.telemetry.usage_reports import (
    TIMES,
    TooManyRows,
    Usage,
    UsageRange,
    UsageReport,
    UsageReports,
)

_CSV = b"text/csv; charset=utf-8"
_DURATION = re.compile(r"([0-9]{1,6})([hdw])")
_DAYS_AGO = re.compile(r"today-([0-9]{1,5})d")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
#: Times outside of these are mistakes, and some are in no calendar.
_FIRST_YEAR, _LAST_YEAR = 1970, 9000
#: Values of one filter.
_MOST_VALUES = 100
#: Rows in one piece of an answer, which is scrubbed in one turn of the reactor.
_ROWS_AT_ONCE = 50
_NAMES = ("from", "to", "by", "format", *DIMENSIONS)


@dataclass(frozen=True)
class UsageQuestion:
    """What is asked for, and in which form."""

    range: UsageRange
    by: tuple[str, ...]
    filters: Mapping[str, tuple[str, ...]]
    csv: bool


async def answer_usage(
    reports: UsageReports, query: Mapping[bytes, list[bytes]], accept: str
) -> Page:
    """The answer to a query. Raises :class:`InvalidRequest`."""
    given = text_values(query)
    for name in given:
        if name not in _NAMES:
            raise InvalidRequest(f"{name[:100]}: unknown parameter.", param=name[:100])
    asked = _question(reports, given, accept)
    try:
        report = await reports.report(asked.range, asked.by, asked.filters)
    except TooManyRows:
        raise InvalidRequest(
            f"The answer would have more than {MAX_ROWS} rows; ask for a shorter time, fewer"
            " dimensions in by, or one client or model.",
            param="by",
        ) from None
    return Page(_csv(report), _CSV) if asked.csv else Page(_json(report))


def read_moment(text: str, now: datetime) -> tuple[datetime, bool]:
    """The time in ``text``, and whether it is a whole day.

    ``now`` is in the time zone of days. Raises :class:`ValueError`.
    """
    if text in ("today", "yesterday"):
        return now - timedelta(days=text == "yesterday"), True
    if days := _DAYS_AGO.fullmatch(text):
        return now - timedelta(days=int(days[1])), True
    if ago := _DURATION.fullmatch(text):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}), False
    if _DATE.fullmatch(text):
        return datetime.fromisoformat(text).replace(tzinfo=now.tzinfo), True
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo), False


def time_range(reports: UsageReports, given: Mapping[str, str]) -> UsageRange:
    """The range of ``from`` and ``to``: today, if they are left out."""
    now = reports.now()
    begin, begins_day = moment_of(given, "from", now) or (now, True)
    # The present second is included.
    end, ends_day = moment_of(given, "to", now) or (now + timedelta(seconds=1), begins_day)
    whole_days = begins_day and ends_day
    first = reports.days(begin, begin).begin if begins_day else begin.timestamp()
    last = reports.days(end, end).end if ends_day else end.timestamp()
    if last <= first:
        raise InvalidRequest("to: expected a time after from.", param="to")
    return UsageRange(first, last, whole_days)


def moment_of(given: Mapping[str, str], name: str, now: datetime) -> tuple[datetime, bool] | None:
    """The time of a parameter, and whether it is a whole day; ``None`` if it is left out.

    Raises :class:`InvalidRequest`.
    """
    if name not in given:
        return None
    try:
        found = read_moment(given[name], now)
    except (ValueError, OverflowError):
        found = None
    if found is None or not _FIRST_YEAR < found[0].year < _LAST_YEAR:
        raise InvalidRequest(
            f"{name}: expected a date such as 2026-11-30, a time such as 2026-11-30T09:00:00Z,"
            " today, yesterday, today-6d, or 3h, 7d or 2w for so long ago.",
            param=name,
        )
    return found


def text_values(query: Mapping[bytes, list[bytes]]) -> dict[str, str]:
    """The last value of each name."""
    return {
        name.decode("utf-8", "replace"): values[-1].decode("utf-8", "replace")
        for name, values in query.items()
    }


def _question(reports: UsageReports, given: Mapping[str, str], accept: str) -> UsageQuestion:
    by = tuple(dict.fromkeys(filter(None, given.get("by", "").split(","))))
    for name in by:
        if name not in (*DIMENSIONS, *TIMES):
            words = ", ".join((*DIMENSIONS, *TIMES))
            raise InvalidRequest(f"by: expected some of {words}.", param="by")
    if len([name for name in by if name in TIMES]) > 1:
        raise InvalidRequest("by: expected one of hour, day and month.", param="by")
    form = given.get("format", "csv" if "text/csv" in accept.lower() else "json")
    if form not in ("json", "csv"):
        raise InvalidRequest("format: expected json or csv.", param="format")
    filters = {name: tuple(given[name].split(",")) for name in DIMENSIONS if name in given}
    for name, values in filters.items():
        if len(values) > _MOST_VALUES:
            raise InvalidRequest(f"{name}: at most {_MOST_VALUES} values.", param=name)
    return UsageQuestion(time_range(reports, given), by, filters, form == "csv")


def _json(report: UsageReport) -> Iterator[bytes]:
    begin, end = (_rfc3339(at) for at in (report.range.begin, report.range.end))
    head = msgspec.json.encode({"from": begin, "to": end, "by": report.by})
    yield head[:-1] + b',"usage":['
    comma = b""
    for some in _pieces(report):
        rows = [
            dict(zip(report.by, key, strict=True)) | msgspec.structs.asdict(usage)
            for key, usage in some
        ]
        yield comma + msgspec.json.encode(rows)[1:-1]
        comma = b","
    yield b"]}"


def _csv(report: UsageReport) -> Iterator[bytes]:
    names = _flat(_plain(Usage()))
    yield _lines([[*report.by, *(name for name, _ in names)]])
    for some in _pieces(report):
        yield _lines(
            [*map(_cell, key), *(value for _, value in _flat(_plain(usage)))] for key, usage in some
        )


def _pieces(report: UsageReport) -> Iterator[list[tuple[tuple[str, ...], Usage]]]:
    rows = report.take()
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        yield some


def _lines(rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, object]]:
    """The leaves with their names: ``tokens_by_modality_input_text``."""
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{before}{name}_")
        else:
            yield before + name, inner


def _cell(text: str) -> str:
    """A name that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _rfc3339(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _plain(usage: msgspec.Struct) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(usage)
    return plain
