"""``gemproxy requests``: the latest requests, and older ones, with filters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gemproxy.cli.admin_address import add_url_argument
from gemproxy.cli.admin_client import connect
from gemproxy.cli.exits import ExitStatus
from gemproxy.cli.tables import moment, shortened, show, table

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from gemproxy.telemetry.history import RequestRecord

_FILTERS = ("client", "model", "endpoint", "key", "status", "outcome")
_HEADERS = (
    *("TIME", "ID", "CLIENT", "ENDPOINT", "MODEL", "STATUS", "OUTCOME", "KEY"),
    *("ATTEMPTS", "MS", "IN", "OUT", "COST USD"),
)
_NUMBERS = ("STATUS", "ATTEMPTS", "MS", "IN", "OUT", "COST USD")
_DEFAULT_LIMIT = 50
#: Requests in one answer of the daemon.
_PAGE = 500
_ID_SHOWN = 40


def add_arguments(parser: ArgumentParser) -> None:
    """Add the time, the filters, and the options of the daemon's address."""
    parser.epilog = (
        "A time is a date, an RFC 3339 time, today, yesterday, or 3h, 7d, 2w for so long ago."
        " Failed is what neither succeeded nor was left by its client. Times are in UTC."
    )
    parser.add_argument("--since", metavar="TIME", help="default: the oldest that are kept")
    parser.add_argument("--until", metavar="TIME", help="default: now")
    parser.add_argument("--failed", action="store_true", help="only those that failed")
    for name in _FILTERS:
        parser.add_argument(f"--{name}", metavar=f"{name.upper()},...", help=f"only of this {name}")
    parser.add_argument(
        "--limit", type=int, default=_DEFAULT_LIMIT, help=f"default: {_DEFAULT_LIMIT}"
    )
    add_url_argument(parser)


def run(arguments: Namespace) -> int:
    """Show requests. Raises :class:`Refused` and :class:`ConfigError`."""
    asked = {"from": arguments.since, "to": arguments.until}
    asked |= {name: getattr(arguments, name) for name in _FILTERS}
    given = {name: value for name, value in asked.items() if value is not None}
    if arguments.failed:
        given["failed"] = "true"
    client, found = connect(arguments), list["RequestRecord"]()
    while len(found) < arguments.limit:
        given["limit"] = str(min(_PAGE, arguments.limit - len(found)))
        page = client.requests(given)
        found += page.requests
        if page.next_cursor is None:
            break
        given["cursor"] = page.next_cursor
    if arguments.json:
        show(msgspec.json.encode({"requests": found}).decode())
    elif found:
        show(table(_HEADERS, list(map(_row, found)), _NUMBERS))
    else:
        show("There is no such request.")
    return ExitStatus.OK


def _row(request: RequestRecord) -> tuple[str, ...]:
    cost = request.cost_usd
    return (
        moment(request.time),
        shortened(request.id, _ID_SHOWN),
        request.client or "",
        request.endpoint,
        request.model or "",
        str(request.status),
        request.outcome,
        request.key or "",
        str(request.attempts),
        f"{request.duration_ms:.0f}",
        "" if request.prompt_tokens is None else str(request.prompt_tokens),
        "" if request.completion_tokens is None else str(request.completion_tokens),
        "-" if cost is None else f"{cost:.6f}",
    )
