"""``gemproxy keys``: show the live keys, and change one or many."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from gemproxy.cli.admin_address import add_late_options, add_url_argument
from gemproxy.cli.admin_client import connect
from gemproxy.cli.exits import ExitStatus, Refused
from gemproxy.cli.tables import counted, moment, printable, shortened, show, table
from gemproxy.pool.status import STATES, badness, condition_of, is_in, state_named

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterator, Sequence

    from gemproxy.admin.answers import KeyTestAnswer
    from gemproxy.cli.admin_client import AdminClient
    from gemproxy.pool.status import KeyStatus

_ACTIONS = {
    "enable": "let a key serve again",
    "disable": "keep a key from serving until it is enabled again, across restarts and reloads",
    "reset": "close a key's breaker and forget its cooldowns",
    "weight": "weigh a key differently from the file, across restarts and reloads",
    "test": "ask Google about a key with a call that costs nothing; without NAME about each",
}
#: Actions on many keys at once.
_BULK = ("enable", "disable", "reset")
_SORTS: dict[str, Callable[[KeyStatus], Any]] = {
    "state": badness,
    "name": lambda key: key.name,
    "project": lambda key: key.project,
    "health": lambda key: key.health_score,
    "requests": lambda key: -key.requests_total,
    "file": lambda _: 0,
}
_NARROW = ("NAME", "STATE", "HEALTH", "REQUESTS", "WHY")
_WIDE = (
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
#: Characters of STATE, HEALTH, REQUESTS and all blanks of the narrow table, at most.
_MIDDLE_PART = 9 + 8 + 10 + 4 * 2
_SHORTEST_NAME, _LONGEST_NAME = 22, 48
_SHORTEST_WHY = 23
_LIMIT = 100
_COOLDOWNS_SHOWN = 3
_ERROR_WIDTH = 60
_HEAVIEST = 1000
_TESTS_AT_ONCE = 8


def add_arguments(parser: ArgumentParser) -> None:
    """Without arguments the table, else an action and its key."""
    parser.epilog = "Without an action: the table of the live keys. Times are in UTC."
    add_url_argument(parser)
    _add_filters(parser, default=None)
    parser.add_argument(
        "--sort", choices=_SORTS, default="state", help="by what; the worst state first by default"
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=_number,
        default=_LIMIT,
        help=f"show so many; {_LIMIT} by default, 0 for all",
    )
    parser.add_argument("--wide", action="store_true", help="every column, however wide")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions")
    for action, summary in _ACTIONS.items():
        each = actions.add_parser(action, help=summary, description=summary)
        add_late_options(each)
        if action == "weight":
            each.add_argument("name", metavar="NAME", help="the key's name or id")
            each.add_argument(
                "weight",
                metavar="N|default",
                type=_weight,
                help=f"1 to {_HEAVIEST}; default goes back to the file's weight",
            )
            continue
        each.add_argument("name", metavar="NAME", nargs="?", help="the key's name or id")
        _add_filters(each, default=argparse.SUPPRESS)
        if action in _BULK:
            each.add_argument("--all", action="store_true", help="every key, or those of a filter")


def run(arguments: Namespace) -> int:
    """Show or change. Raises :class:`Refused` and :class:`ConfigError`."""
    action = arguments.action
    if action in _BULK:
        return _change(arguments)
    if action == "test":
        return _test(arguments)
    client = connect(arguments)
    if action is None:
        listing = client.keys()
        if arguments.json:
            chosen = _sorted(_filtered(listing.keys, arguments), arguments)
            show(msgspec.json.encode({"keys": chosen}).decode())
        else:
            show(_report(listing.keys, arguments))
        return ExitStatus.OK
    done = client.set_weight(arguments.name, arguments.weight)
    show(msgspec.json.encode(done).decode() if arguments.json else printable(done.message))
    return ExitStatus.OK


def _change(arguments: Namespace) -> int:
    """Enable, disable or reset one key or many."""
    if (arguments.name is not None) is arguments.all:
        _misused(arguments, "give a NAME, or --all for many keys")
    if arguments.name is not None:
        if arguments.state is not None or arguments.project is not None:
            _misused(arguments, "--state and --project go with --all")
        done: Any = connect(arguments).change_key(arguments.name, arguments.action)
    else:
        done = connect(arguments).change_many(arguments.action, arguments.state, arguments.project)
    show(msgspec.json.encode(done).decode() if arguments.json else printable(done.message))
    return ExitStatus.OK


def _misused(arguments: Namespace, why: str) -> None:
    raise Refused(f"keys {arguments.action}: {why}", ExitStatus.USAGE)


# -- asking Google --------------------------------------------------------------------------------


def _test(arguments: Namespace) -> int:
    """Test one key or each; the exit status tells whether one was rejected."""
    client = connect(arguments)
    if arguments.name is None:
        keys = client.keys().keys
        names = [key.id for key in _sorted(_filtered(keys, arguments), arguments)]
    else:
        names = [arguments.name]
    tests = []
    for test in _tested(client, names):
        tests.append(test)
        if not arguments.json:
            show(printable(_verdict(test)))
    if arguments.json:
        show(msgspec.json.encode({"tests": tests}).decode())
    elif len(tests) != 1:
        verdicts = Counter(test.verdict for test in tests)
        counts = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())
        show(f"\n{counted(len(tests), 'key')} tested" + (f": {counts}" if counts else ""))
    rejected = any(test.verdict == "rejected" for test in tests)
    return ExitStatus.FAILED if rejected else ExitStatus.OK


def _tested(client: AdminClient, names: Sequence[str]) -> Iterator[KeyTestAnswer]:
    """The answers in the order of ``names``, as they come; a few are asked for at a time."""
    with ThreadPoolExecutor(_TESTS_AT_ONCE) as pool:
        yield from pool.map(partial(_tested_once, client), names)


def _tested_once(client: AdminClient, name: str) -> KeyTestAnswer:
    return client.test_key(name)


def _verdict(test: KeyTestAnswer) -> str:
    """``primary-key: rejected (expired, 400 INVALID_ARGUMENT API_KEY_INVALID): API key …``."""
    google = [str(test.status or ""), test.google_status, test.google_reason]
    words = " ".join(word for word in google if word)
    parts = ", ".join(word for word in (test.reason, words) if word)
    if test.verdict == "ok":
        return f"{test.name}: ok"
    why = f" ({parts})" if parts else ""
    return f"{test.name}: {test.verdict}{why}" + (f": {test.message}" if test.message else "")


# -- the table ------------------------------------------------------------------------------------


def _filtered(keys: Sequence[KeyStatus], arguments: Namespace) -> list[KeyStatus]:
    state, project = arguments.state, arguments.project
    return [
        key
        for key in keys
        if (state is None or is_in(key, state)) and (project is None or key.project == project)
    ]


def _sorted(keys: list[KeyStatus], arguments: Namespace) -> list[KeyStatus]:
    """In the requested order; equal ones stay in the file's order."""
    if arguments.json and arguments.sort == "state" and arguments.action is None:
        # For scripts: the daemon's order.
        return keys
    return sorted(keys, key=_SORTS[arguments.sort])


def _report(keys: Sequence[KeyStatus], arguments: Namespace) -> str:
    """Counts first, then the keys."""
    chosen = _sorted(_filtered(keys, arguments), arguments)
    shown = chosen[: arguments.limit or None]
    width = shutil.get_terminal_size((80, 24)).columns
    parts = [textwrap.fill(printable(_counts(keys)), max(width, 40))]
    if shown and arguments.wide:
        parts.append(table(_WIDE, list(map(_wide_row, shown)), _NUMBERS))
    elif shown:
        parts.append(table(_NARROW, _narrow_rows(shown, width), _NUMBERS))
    elif keys:
        parts.append("No key matches.")
    if len(chosen) > len(shown):
        parts.append(f"and {counted(len(chosen) - len(shown), 'more key')}: --limit 0 shows all")
    return "\n\n".join(parts)


def _counts(keys: Sequence[KeyStatus]) -> str:
    """``500 keys: 40 active, 455 attention (452 expired, 3 leaked), 5 disabled``."""
    conditions = Counter(map(condition_of, keys))
    reasons = Counter(key.needs_attention for key in keys if condition_of(key) == "attention")
    parts = []
    for state in STATES:
        if number := conditions[state]:
            why = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())
            parts.append(f"{number} {state}" + (f" ({why})" if state == "attention" else ""))
    return counted(len(keys), "key") + (f": {', '.join(parts)}" if parts else "")


def _narrow_rows(keys: Sequence[KeyStatus], width: int) -> list[tuple[str, ...]]:
    """Lines of at most ``width`` characters, where that is 80 or more."""
    most = min(max(width - _MIDDLE_PART - _SHORTEST_WHY, _SHORTEST_NAME), _LONGEST_NAME)
    names = [_clipped(key.name, most) for key in keys]
    left = width - _MIDDLE_PART - max(map(len, names))
    return [
        (
            name,
            condition_of(key),
            f"{key.health_score:.0%}",
            str(key.requests_total),
            shortened(_why(key), max(left, _SHORTEST_WHY)),
        )
        for key, name in zip(keys, names, strict=True)
    ]


def _clipped(name: str, most: int) -> str:
    """``name`` without its middle if it is too long; teams number their keys at the end."""
    if len(name) <= most:
        return name
    tail = (most - 1) // 2
    return f"{name[: most - 1 - tail]}…{name[-tail:]}"


def _why(key: KeyStatus) -> str:
    """The reasons for the key's state, in short words."""
    until = f" until {key.next_retry:%H:%M:%SZ}" if key.next_retry else ""
    match condition_of(key):
        case "attention":
            return f"{key.needs_attention}{until}"
        case "open":
            error = key.last_error
            status = f" {error.status}" if error and error.status else ""
            return f"{error.outcome if error else 'failed'}{status}{until}"
        case "half-open":
            return "the next request decides"
        case "cooling":
            first = min(key.cooldowns, key=lambda cooldown: cooldown.until)
            more = f" +{len(key.cooldowns) - 1}" if len(key.cooldowns) > 1 else ""
            model = "all models" if first.model == "*" else first.model
            return f"{first.until:%H:%M:%SZ}{more} {model}"
    return f"not {', '.join(key.denied_models)}" if key.denied_models else ""


def _wide_row(key: KeyStatus) -> tuple[str, ...]:
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


def _cooldowns(key: KeyStatus) -> str:
    lines = [
        f"{cooldown.model} until {moment(cooldown.until)} ({cooldown.reason})"
        for cooldown in key.cooldowns[:_COOLDOWNS_SHOWN]
    ]
    left = len(key.cooldowns) - len(lines)
    return "\n".join([*lines, f"and {left} more"] if left else lines)


def _last_error(key: KeyStatus) -> str:
    error = key.last_error
    if error is None:
        return ""
    status = f" {error.status}" if error.status is not None else ""
    head = f"{moment(error.at)} {error.outcome}{status}"
    return "\n".join(filter(None, (head, shortened(error.message, _ERROR_WIDTH))))


# -- the command line -----------------------------------------------------------------------------


def _add_filters(parser: ArgumentParser, *, default: Any) -> None:
    parser.add_argument(
        "--state",
        metavar="STATE",
        type=_state,
        default=default,
        help=f"only keys in this state: {', '.join(STATES)}",
    )
    parser.add_argument(
        "--project", metavar="PROJECT", default=default, help="only keys of this project"
    )


def _state(text: str) -> str:
    state = state_named(text)
    if state is None:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(STATES)}")
    return state


def _number(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text[:9])
    raise argparse.ArgumentTypeError("expected a whole number of at least 0")


def _weight(text: str) -> int | None:
    if text == "default":
        return None
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _HEAVIEST:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {_HEAVIEST}, or default")
