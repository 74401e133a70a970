"""``gemproxy reload``: make the running daemon read its files again."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import msgspec

from gemproxy.cli.admin_address import add_url_argument
from gemproxy.cli.admin_client import AdminError, connect
from gemproxy.cli.exits import ExitStatus
from gemproxy.cli.tables import counted, printable, show

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from gemproxy.admin.answers import ChangesAnswer


def add_arguments(parser: ArgumentParser) -> None:
    """Where the daemon is."""
    parser.epilog = (
        "The daemon reads the files that it was started with. Where one of them has a mistake"
        f" nothing is changed, and the exit status is {ExitStatus.CONFIG}."
    )
    add_url_argument(parser)


def run(arguments: Namespace) -> int:
    """Reload, and print what changed. Raises :class:`Refused` and :class:`ConfigError`."""
    client = connect(arguments)
    try:
        reloaded = client.reload()
    except AdminError as error:
        if error.code != "invalid_configuration":
            raise
        return _show_faults(error.daemon_message, as_json=arguments.json)
    config = client.health().config
    if arguments.json:
        answer = {**msgspec.to_builtins(reloaded), "generation": config.generation}
        print(json.dumps(answer))
        return ExitStatus.OK
    for line in _change_lines(reloaded.changes):
        show(printable(line))
    print(f"the daemon runs generation {config.generation}")
    return ExitStatus.OK


def _show_faults(message: str, *, as_json: bool) -> int:
    """``message`` is the daemon's: a sentence, then a line for each mistake."""
    faults = message.splitlines()[1:] or [message]
    if as_json:
        print(json.dumps({"success": False, "faults": faults}))
    else:
        print("\n".join(faults), file=sys.stderr)
    return ExitStatus.CONFIG


def _change_lines(changes: ChangesAnswer) -> Iterator[str]:
    numbers = {
        "added": changes.keys_added,
        "removed": changes.keys_removed,
        "updated": changes.keys_updated,
    }
    keys = [f"{counted(number, 'key')} {verb}" for verb, number in numbers.items() if number]
    numbers = {
        "added": changes.clients_added,
        "removed": changes.clients_removed,
        "updated": changes.clients_updated,
    }
    keys += [f"{counted(number, 'client')} {verb}" for verb, number in numbers.items() if number]
    taken = [path for path in changes.settings if path not in changes.restart_required]
    if not keys and not changes.settings:
        yield "nothing has changed"
    if keys:
        yield ", ".join(keys)
    if taken:
        yield f"settings changed: {', '.join(taken)}"
    if changes.restart_required:
        yield f"wait for a restart: {', '.join(changes.restart_required)}"
