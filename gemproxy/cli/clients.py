"""``gemproxy clients``: show who may ask, and make, change, rotate and revoke clients."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from math import isfinite
from typing import TYPE_CHECKING, Any

import msgspec

from gemproxy.cli.admin_address import add_late_options, add_url_argument
from gemproxy.cli.admin_client import connect
from gemproxy.cli.exits import ExitStatus
from gemproxy.cli.tables import moment, printable, show, table
from gemproxy.core.clients import expiry_of

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from gemproxy.admin.clients import ClientAnswer, TokenAnswer

_ACTIONS = {
    "list": "the table of all clients, which is also shown without an action",
    "show": "everything about one client",
    "add": "make a client and print its token, which is not shown again",
    "change": "change the settings of a client that was made at run time",
    "rotate": "give a client another token",
    "revoke": "delete a client; its usage stays",
}
_COUNTS = ("rpm", "tpm", "rpd", "tpd", "concurrent")
_BUDGETS = {"usd-per-day": "usdPerDay", "usd-per-month": "usdPerMonth"}
_LISTS = ("models", "endpoints", "addresses")
_HEADERS = ("NAME", "FROM", "STATE", "LIMITS", "PRIORITY", "TODAY", "USD TODAY", "LAST SEEN")
_NUMBERS = ("TODAY", "USD TODAY")
#: Where a day ends last.
_LAST_ZONE = timezone(timedelta(hours=-12))
#: Lifts a limit.
_NONE = "none"


def add_arguments(parser: ArgumentParser) -> None:
    """Without arguments the table, else an action and its client."""
    parser.epilog = (
        "Without an action: the table. Clients of clients.yaml are changed there. Times are in UTC,"
        " except the dates of --expires, which end with their day in proxy.timezone."
    )
    add_url_argument(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions")
    for action, summary in _ACTIONS.items():
        each = actions.add_parser(action, help=summary, description=summary)
        add_late_options(each)
        if action != "list":
            each.add_argument("name", metavar="NAME", help="the client's name")
        if action in ("add", "change"):
            _add_settings(each)
        if action == "rotate":
            each.add_argument(
                "--grace",
                metavar="SECONDS",
                type=float,
                default=0.0,
                help="how long the old token stays valid; 0 by default",
            )


def _add_settings(parser: ArgumentParser) -> None:
    for name in _COUNTS:
        parser.add_argument(f"--{name}", metavar="N", help=f"limit {name}; none lifts it")
    for name in _BUDGETS:
        parser.add_argument(f"--{name}", metavar="USD", help="budget; none lifts it")
    for name in _LISTS:
        parser.add_argument(f"--{name}", metavar="A,B,...", help=f"its {name}; '' for all")
    parser.add_argument("--expires", metavar="DATE|TIME", help="when its token ends; none: never")
    parser.add_argument("--priority", choices=("high", "normal", "low"))
    for name in ("enabled", "debug"):
        parser.add_argument(f"--{name}", choices=("true", "false"))


def run(arguments: Namespace) -> int:
    """Show or change. Raises :class:`Refused` and :class:`ConfigError`."""
    client, action = connect(arguments), arguments.action
    done: Any
    if action in (None, "list"):
        done = client.clients()
        words = _listing(done.clients)
    elif action == "show":
        done = client.client(arguments.name)
        words = "\n".join(f"{name:<12}{value}" for name, value in _facts(done))
    elif action == "add":
        done = client.add_client({"name": arguments.name, **_settings(arguments)})
        words = _token(done, f"The client {arguments.name} is made.")
    elif action == "change":
        done = client.change_client(arguments.name, _settings(arguments))
        words = f"The client {arguments.name} is changed."
    elif action == "rotate":
        done = client.rotate_client(arguments.name, arguments.grace)
        old = f"stays valid for {arguments.grace:g} s" if arguments.grace else "is not valid now"
        words = _token(done, f"The client {arguments.name} has a new token; its old one {old}.")
    else:
        done = client.delete_client(arguments.name)
        words = done.message
    show(msgspec.json.encode(done).decode() if arguments.json else printable(words))
    return ExitStatus.OK


def _settings(arguments: Namespace) -> dict[str, Any]:
    """The settings that were given, as the body of a request."""
    given: dict[str, Any] = {}
    limits = {name: getattr(arguments, name) for name in _COUNTS}
    budget = {field: getattr(arguments, name.replace("-", "_")) for name, field in _BUDGETS.items()}
    for place, values, kind in (("limits", limits, int), ("budget", budget, float)):
        found = {name: _number(text, kind) for name, text in values.items() if text is not None}
        if found:
            given[place] = found
    for name in _LISTS:
        text = getattr(arguments, name)
        if text is not None:
            given[name] = [part.strip() for part in text.split(",") if part.strip()]
    if arguments.expires is not None:
        given["expires"] = None if arguments.expires == _NONE else arguments.expires
    if arguments.priority is not None:
        given["priority"] = arguments.priority
    for name in ("enabled", "debug"):
        text = getattr(arguments, name)
        if text is not None:
            given[name] = text == "true"
    return given


def _number(text: str, kind: type[int | float]) -> object:
    """The number; the daemon says what is wrong with any other text."""
    if text == _NONE:
        return None
    try:
        number = kind(text)
        # JSON has no infinity, and would say that there is no limit.
        return number if isfinite(number) else text
    except (ValueError, OverflowError):
        return text


def _token(made: TokenAnswer, words: str) -> str:
    return f"{words} Its token, which is not shown again:\n\n{made.token}\n"


def _listing(clients: tuple[ClientAnswer, ...]) -> str:
    if not clients:
        return "There are no clients; `gemproxy clients add NAME` makes one."
    rows = [
        (
            each.name,
            each.source,
            _state(each),
            " ".join(_limits(each)),
            each.priority,
            str(each.today.requests),
            "-" if each.today.cost_usd is None else f"{each.today.cost_usd:.4f}",
            moment(each.last_seen),
        )
        for each in clients
    ]
    return table(_HEADERS, rows, _NUMBERS)


def _state(client: ClientAnswer) -> str:
    if not client.enabled:
        return "disabled"
    if client.expires is None:
        return "enabled"
    # Of a date it is only sure once it has ended in every time zone: this program may not know that
    # of the daemon.
    over = expiry_of(client.expires, _LAST_ZONE).at <= datetime.now(UTC).timestamp()
    return f"{'expired' if over else 'until'} {client.expires}"


def _limits(client: ClientAnswer) -> Iterator[str]:
    """Its limits and budgets with what is used of them: ``rpm 3/60``."""
    used = client.used
    for name, limit, taken in (
        ("rpm", client.limits.rpm, used.requests_minute),
        ("tpm", client.limits.tpm, used.tokens_minute),
        ("rpd", client.limits.rpd, used.requests_day),
        ("tpd", client.limits.tpd, used.tokens_day),
        ("concurrent", client.limits.concurrent, used.concurrent),
    ):
        if limit is not None:
            yield f"{name} {taken}/{limit}"
    for name, most, spent in (
        ("usd/day", client.budget.usd_per_day, used.usd_day),
        ("usd/month", client.budget.usd_per_month, used.usd_month),
    ):
        if most is not None:
            yield f"{name} {spent:.2f}/{most:g}"


def _facts(client: ClientAnswer) -> Iterator[tuple[str, str]]:
    yield "name", client.name
    yield "from", "clients.yaml" if client.source == "file" else "the admin API"
    yield "state", _state(client)
    for name in _LISTS:
        yield name, ", ".join(getattr(client, name)) or "all"
    yield "limits", ", ".join(_limits(client)) or "none"
    yield "priority", client.priority
    yield "debug", str(client.debug).lower()
    cost = client.today.cost_usd
    tokens = client.today.tokens
    price = "an unknown cost" if cost is None else f"USD {cost:.4f}"
    counts = f"{client.today.requests} requests, {tokens.input} tokens in, {tokens.output} out"
    yield "today", f"{counts}, {price}"
    yield "last seen", moment(client.last_seen) or "never"
