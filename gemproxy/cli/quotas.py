"""``gemproxy quotas``: how much is left of the quotas that are known."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from gemproxy.cli.admin_address import add_url_argument
from gemproxy.cli.admin_client import connect
from gemproxy.cli.exits import ExitStatus
from gemproxy.cli.tables import moment, show, table

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from gemproxy.pool.quotas import QuotaStatus

_FILTERS = ("project", "model", "dimension", "source")
_HEADERS = (
    "PROJECT",
    "MODEL",
    "QUOTA",
    "LIMIT",
    "USED",
    "LEFT",
    "ENDS",
    "USED UP",
    "SOURCE",
)
_NUMBERS = ("LIMIT", "USED", "LEFT")
_NEVER = datetime.max.replace(tzinfo=UTC)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the filters, and the options of the daemon's address."""
    parser.epilog = (
        "rpm and rpd are requests a minute and a day, tpm and tpd input tokens. USED UP is when"
        " nothing is left at the pace of the last hour; empty if that is not before ENDS. SOURCE is"
        " learned, or the key whose limit it is."
    )
    for name in _FILTERS:
        parser.add_argument(f"--{name}", metavar="NAME", help=f"only of this {name}")
    add_url_argument(parser)


def run(arguments: Namespace) -> int:
    """Show the quotas, the first to be used up first. Raises :class:`Refused`."""
    asked = {name: getattr(arguments, name) for name in _FILTERS}
    found = connect(arguments).quotas({n: value for n, value in asked.items() if value is not None})
    if arguments.json:
        show(msgspec.json.encode(found).decode())
    elif found:
        show(table(_HEADERS, [_row(each) for each in sorted(found, key=_order)], _NUMBERS))
    else:
        show("No quota is known: Google has named none in the last days, and no key has limits.")
    return ExitStatus.OK


def _order(quota: QuotaStatus) -> tuple[datetime, str, str, str]:
    return quota.exhausted_at or _NEVER, quota.project, quota.model, quota.dimension


def _row(quota: QuotaStatus) -> tuple[str, ...]:
    return (
        quota.project,
        quota.model,
        quota.dimension,
        str(quota.limit),
        str(quota.used),
        str(quota.remaining),
        moment(quota.ends),
        moment(quota.exhausted_at),
        quota.key or quota.source,
    )
