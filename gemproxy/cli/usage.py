"""``gemproxy usage``: who used what, and what it cost."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec

from gemproxy.cli.admin_address import add_url_argument
from gemproxy.cli.admin_client import UsageAnswer, UsageRowAnswer, connect
from gemproxy.cli.exits import ExitStatus
from gemproxy.cli.tables import show, table

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_DIMENSIONS = ("client", "model", "project", "endpoint", "hour", "day", "month")
_FILTERS = ("client", "model", "project", "endpoint")
_NUMBERS = ("REQUESTS", "FAILED", "INPUT", "CACHED", "OUTPUT", "REASONING", "COST USD")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the time, the dimensions, the filters, and the options of the daemon's address."""
    parser.epilog = (
        "A time is a date, an RFC 3339 time, today, yesterday, or 3h, 7d, 2w for so long ago. The"
        " cost is an estimate; Google's bill decides. '-' is an unknown cost."
    )
    parser.add_argument(
        "--by",
        metavar="DIMENSION,...",
        default="client",
        help=f"some of {', '.join(_DIMENSIONS)}; default: client",
    )
    parser.add_argument("--since", metavar="TIME", default="today", help="default: today")
    parser.add_argument("--until", metavar="TIME", help="default: now")
    for name in _FILTERS:
        parser.add_argument(f"--{name}", metavar="NAME,...", help=f"only of this {name}")
    parser.add_argument("--csv", action="store_true", help="print CSV")
    add_url_argument(parser)


def run(arguments: Namespace) -> int:
    """Show the usage. Raises :class:`Refused` and :class:`ConfigError`."""
    asked = {"by": arguments.by, "from": arguments.since, "to": arguments.until}
    asked |= {name: getattr(arguments, name) for name in _FILTERS}
    given = {name: value for name, value in asked.items() if value is not None}
    client = connect(arguments)
    if arguments.csv:
        sys.stdout.write(client.usage_csv(given))
        return ExitStatus.OK
    answer = client.usage(given)
    if arguments.json:
        show(msgspec.json.encode(answer).decode())
    elif answer.usage:
        show(_table(answer))
    else:
        show("Nothing was used in this time.")
    return ExitStatus.OK


def _table(answer: UsageAnswer) -> str:
    headers = (*(name.upper() for name in answer.by), *_NUMBERS)
    return table(headers, [_row(answer, row) for row in answer.usage], _NUMBERS)


def _row(answer: UsageAnswer, row: UsageRowAnswer) -> tuple[str, ...]:
    failures, tokens = row.failures, row.tokens
    cost = "-" if row.cost_usd is None else f"{row.cost_usd:.4f}"
    return (
        *(getattr(row, name) or "" for name in answer.by),
        str(row.requests),
        str(failures.theirs + failures.ours + failures.upstream),
        str(tokens.input),
        str(tokens.cached),
        str(tokens.output),
        str(tokens.reasoning),
        cost,
    )
