"""``gemproxy plan``: what a reload would change, without doing it.

The admin API lists the running keys by fingerprint, so they are compared with ``keys.yaml``, and
the clients by name. It does not show the other settings, only the time at which they were read.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from gemproxy.cli.admin_address import add_url_argument, find_access
from gemproxy.cli.admin_client import AdminClient
from gemproxy.cli.exits import ExitStatus, Refused
from gemproxy.cli.tables import moment, printable, show
from gemproxy.config.loading import load, locate_clients, locate_files
from gemproxy.core.client_registry import FILE
from gemproxy.core.clients import make_client
from gemproxy.core.errors import ConfigError
from gemproxy.core.owner import NOBODY

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator, Sequence
    from datetime import tzinfo
    from pathlib import Path

    from gemproxy.admin.answers import ConfigAnswer
    from gemproxy.admin.clients import ClientAnswer
    from gemproxy.core.client_registry import ClientsFile
    from gemproxy.core.clients import Client
    from gemproxy.pool.key import Key
    from gemproxy.pool.status import KeyStatus

#: Settings of a key that both the daemon and the file show.
_COMPARED = ("name", "project", "weight", "enabled")
#: Those that an operator may have overridden; a reload keeps overrides.
_BY_HAND = ("weight", "enabled")
#: Settings of a client that are shown as they are.
_CLIENT_COMPARED = ("enabled", "models", "endpoints", "addresses", "limits", "debug")
_NOT_COMPARED = ("cooldownSeconds", "models", "limits")


@dataclass(frozen=True)
class Difference:
    """One setting of a live key that differs in the file."""

    key: str
    setting: str
    running: str | int | bool
    file: str | int | bool
    #: An operator may have overridden it; then it stays.
    may_be_by_hand: bool


@dataclass(frozen=True)
class KeyPlan:
    """What a reload would do to the keys, by their names."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    updated: tuple[Difference, ...]


@dataclass(frozen=True)
class ClientPlan:
    """What a reload would do to the clients of the file, by their names."""

    clients_added: tuple[str, ...] = ()
    clients_removed: tuple[str, ...] = ()
    clients_updated: tuple[str, ...] = ()
    #: Those that were made at run time: the reload would be refused.
    clients_conflicting: tuple[str, ...] = ()


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the daemon's address."""
    parser.epilog = (
        f"The files are validated first; exit status {ExitStatus.CONFIG} where there is a"
        " mistake. Address and token of the daemon are those of the file given with --config."
    )
    add_url_argument(parser)


def run(arguments: Namespace) -> int:
    """Validate, compare, print. Raises :class:`Refused`, and :class:`ConfigError` without JSON."""
    try:
        paths = locate_files(arguments.config, arguments.keys, os.environ)
        clients_path = locate_clients(arguments.clients, paths[0], os.environ)
        settings = load(*paths, os.environ, clients_path)
    except ConfigError as error:
        if not arguments.json:
            raise
        faults = [dataclasses.asdict(fault) for fault in error.faults]
        print(json.dumps({"ok": False, "faults": faults}, ensure_ascii=False))
        return ExitStatus.CONFIG
    try:
        client = AdminClient(find_access(str(paths[0]), arguments.url))
        live, config = client.keys().keys, client.health().config
        clients = None
        if settings.clients is not None:
            zone = ZoneInfo(settings.proxy.timezone)
            clients = compare_clients(client.clients().clients, settings.clients, zone)
    except Refused as refused:
        which = "both" if clients_path is None else "the"
        raise Refused(
            f"{which} files are good, but what a reload would change is not known: {refused}",
            refused.status,
        ) from None
    plan = compare(live, settings.keys)
    if arguments.json:
        changes = {} if clients is None else dataclasses.asdict(clients)
        print(json.dumps({**_as_json(plan, config, paths[0]), **changes}))
        return ExitStatus.OK
    named = f"{paths[0]} and {paths[1]}"
    if clients_path is not None:
        named = f"{paths[0]}, {paths[1]} and {clients_path}"
    print(f"{named} are good.")
    show(f"The daemon at {client.address} runs {_generation(config)}.")
    lines = [*_key_lines(plan), *(_client_lines(clients) if clients is not None else ())]
    for line in (*lines, *_setting_lines(config, paths[0])):
        show(printable(line))
    return ExitStatus.OK


def compare(live: Sequence[KeyStatus], keys: Sequence[Key]) -> KeyPlan:
    """Compare ``keys`` of the file with the ``live`` ones; the secret identifies a key."""
    before = {key.id: key for key in live}
    after = {key.id for key in keys}
    return KeyPlan(
        added=tuple(key.name for key in keys if key.id not in before),
        removed=tuple(key.name for key in live if key.id not in after),
        updated=tuple(
            difference
            for key in keys
            if key.id in before
            for difference in _differences(before[key.id], key)
        ),
    )


def compare_clients(live: Sequence[ClientAnswer], file: ClientsFile, zone: tzinfo) -> ClientPlan:
    """Compare the clients of the file with the ``live`` ones, by their names."""
    before = {client.name: client for client in live if client.source == FILE}
    after = {
        client.name: make_client(
            client.name, FILE, {**file.defaults, **client.settings}, NOBODY, zone
        )
        for client in file.clients
    }
    made = {client.name for client in live if client.source != FILE}
    return ClientPlan(
        clients_added=tuple(name for name in after if name not in before),
        clients_removed=tuple(name for name in before if name not in after),
        clients_updated=tuple(
            name
            for name, client in after.items()
            if name in before and _is_changed(before[name], client)
        ),
        clients_conflicting=tuple(name for name in after if name in made),
    )


def _is_changed(live: ClientAnswer, client: Client) -> bool:
    budget = live.budget.usd_per_day, live.budget.usd_per_month
    return (
        *(getattr(live, name) for name in _CLIENT_COMPARED),
        live.expires,
        live.priority,
        budget,
    ) != (
        *(getattr(client, name) for name in _CLIENT_COMPARED),
        client.expires and client.expires.text,
        client.priority.value,
        (client.budget.usd_per_day, client.budget.usd_per_month),
    )


def _client_lines(plan: ClientPlan) -> Iterator[str]:
    if plan == ClientPlan():
        yield "Its clients are those of the file; their tokens are not compared."
        return
    if plan.clients_conflicting:
        yield (
            "A reload would be refused: these clients were made at run time:"
            f" {', '.join(plan.clients_conflicting)}"
        )
    yield "A reload would change these clients (their tokens are not compared):"
    yield from (f"  + {name}" for name in plan.clients_added)
    yield from (f"  - {name}" for name in plan.clients_removed)
    yield from (f"  ~ {name}" for name in plan.clients_updated)


def _differences(live: KeyStatus, key: Key) -> Iterator[Difference]:
    for setting in _COMPARED:
        running, file = getattr(live, setting), getattr(key, setting)
        if running != file:
            yield Difference(live.name, setting, running, file, setting in _BY_HAND)


def _key_lines(plan: KeyPlan) -> Iterator[str]:
    if plan == KeyPlan((), (), ()):
        yield "Its keys are those of the file."
        return
    yield "A reload would change these keys:"
    yield from (f"  + {name}" for name in plan.added)
    yield from (f"  - {name}" for name in plan.removed)
    for each in plan.updated:
        change = f"  ~ {each.key}: {each.setting} {_shown(each.running)} -> {_shown(each.file)}"
        if each.may_be_by_hand:
            change += f" (stays as it is if set by `gemproxy keys {_command(each)}`)"
        yield change


def _setting_lines(config: ConfigAnswer, path: Path) -> Iterator[str]:
    if config.last_error:
        yield f"The last reload failed: {config.last_error}"
    written = _written(path)
    when = "after" if written > config.loaded_at else "before"
    yield (
        f"The daemon does not show its other settings: {path} was last written at "
        f"{moment(written)}, {when} it was loaded. Nor does it show a key's "
        f"{', '.join(_NOT_COMPARED[:-1])} and {_NOT_COMPARED[-1]}."
    )


def _as_json(plan: KeyPlan, config: ConfigAnswer, path: Path) -> dict[str, object]:
    return {
        "ok": True,
        "generation": config.generation,
        "loaded_at": config.loaded_at.isoformat().replace("+00:00", "Z"),
        "last_error": config.last_error,
        "written_since": _written(path) > config.loaded_at,
        "keys_added": plan.added,
        "keys_removed": plan.removed,
        "keys_updated": [dataclasses.asdict(each) for each in plan.updated],
        "not_compared": ["proxy.yaml", *(f"keys[].{setting}" for setting in _NOT_COMPARED)],
    }


def _generation(config: ConfigAnswer) -> str:
    return f"generation {config.generation}, loaded at {moment(config.loaded_at)}"


def _written(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _command(difference: Difference) -> str:
    if difference.setting == "enabled":
        return "enable" if difference.running else "disable"
    return difference.setting


def _shown(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
