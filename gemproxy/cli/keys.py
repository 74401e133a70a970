"""``gemproxy keys``: how the live keys stand, and what an operator changes on one."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from gemproxy.cli.admin_address import add_url_argument
from gemproxy.cli.admin_client import connect
from gemproxy.cli.exits import ExitStatus
from gemproxy.cli.tables import counted, moment, printable, shortened, show, table

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from gemproxy.web.admin_answers import KeyAnswer

_ACTIONS = {
    "enable": "let a key serve again",
    "disable": "let a key rest until it is enabled again, across restarts and reloads",
    "reset": "close a key's breaker and forget its cooldowns",
    "weight": "weigh a key differently from the file, across restarts and reloads",
}
_HEADERS = (
    "NAME",
    "KEY",
    "STATUS",
    "ENABLED",
    "WEIGHT",
    "EFFECTIVE",
    "HEALTH",
    "REQUESTS",
    "COOLDOWNS",
    "NEXT RETRY",
    "LAST ERROR",
)
_NUMBERS = ("WEIGHT", "EFFECTIVE", "HEALTH", "REQUESTS")
_COOLDOWNS_SHOWN = 3
_ERROR_WIDTH = 60
_HEAVIEST = 1000


def add_arguments(parser: ArgumentParser) -> None:
    """Nothing for the table, or what to do with which key."""
    parser.epilog = "Without an action: the table of the live keys. Times are in UTC."
    add_url_argument(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions")
    for action, summary in _ACTIONS.items():
        each = actions.add_parser(action, help=summary, description=summary)
        _add_common_options(each)
        each.add_argument("name", metavar="NAME", help="the key's name or id")
        if action == "weight":
            each.add_argument(
                "weight",
                metavar="N|default",
                type=_weight,
                help=f"1 to {_HEAVIEST}; default goes back to the file's weight",
            )


def run(arguments: Namespace) -> int:
    """Show or change. Raises :class:`Refused` and :class:`ConfigError`."""
    client = connect(arguments)
    if arguments.action is None:
        listing = client.keys()
        show(msgspec.json.encode(listing).decode() if arguments.json else _told(listing.keys))
        return ExitStatus.OK
    if arguments.action == "weight":
        done = client.set_weight(arguments.name, arguments.weight)
    else:
        done = client.change_key(arguments.name, arguments.action)
    show(msgspec.json.encode(done).decode() if arguments.json else printable(done.message))
    return ExitStatus.OK


def _add_common_options(parser: ArgumentParser) -> None:
    """The options may stand behind the action as well; what stood before it is not forgotten."""
    later = argparse.SUPPRESS
    parser.add_argument("--json", action="store_true", default=later, help=later)
    parser.add_argument("--config", metavar="FILE", default=later, help=later)
    add_url_argument(parser, default=later)


def _weight(text: str) -> int | None:
    if text == "default":
        return None
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _HEAVIEST:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {_HEAVIEST}, or default")


def _told(keys: Sequence[KeyAnswer]) -> str:
    statuses = Counter(key.status for key in keys)
    counts = ", ".join(f"{number} {status}" for status, number in statuses.items())
    return f"{table(_HEADERS, [_row(key) for key in keys], _NUMBERS)}\n\n" + printable(
        f"{counted(len(keys), 'key')}: {counts}"
    )


def _row(key: KeyAnswer) -> tuple[str, ...]:
    status = key.status
    if key.needs_attention:
        status += f"\nneeds attention: {key.needs_attention}"
    return (
        key.name,
        key.masked,
        status,
        "yes" if key.enabled else "no",
        str(key.weight),
        f"{key.effective_weight:.3g}",
        f"{key.health_score:.0%}",
        str(key.requests_total),
        _cooldowns(key),
        moment(key.next_retry),
        _last_error(key),
    )


def _cooldowns(key: KeyAnswer) -> str:
    lines = [
        f"{rest.model} until {moment(rest.until)} ({rest.reason})"
        for rest in key.cooldowns[:_COOLDOWNS_SHOWN]
    ]
    left = len(key.cooldowns) - len(lines)
    return "\n".join([*lines, f"and {left} more"] if left else lines)


def _last_error(key: KeyAnswer) -> str:
    error = key.last_error
    if error is None:
        return ""
    status = f" {error.status}" if error.status is not None else ""
    head = f"{moment(error.at)} {error.outcome}{status}"
    return "\n".join(filter(None, (head, shortened(error.message, _ERROR_WIDTH))))
