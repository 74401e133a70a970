"""``gemproxy check``: read the files as the daemon does, and report what it would report."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import sys
from typing import TYPE_CHECKING

from gemproxy.cli import service
from gemproxy.cli.exits import ExitStatus, Refused
from gemproxy.config import rules
from gemproxy.config.loading import SYSTEM_FOLDER, load, locate_clients, locate_files
from gemproxy.core.errors import ConfigError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator
    from pathlib import Path

    from gemproxy.config.settings import Settings


def add_arguments(parser: ArgumentParser) -> None:
    """Whose files."""
    parser.add_argument(
        "--service",
        nargs="?",
        const=service.UNIT,
        metavar="UNIT",
        help="the files of the installed service, with its credentials and variables, whatever this"
        " shell says; asks systemd, as root",
    )
    parser.epilog = f"Exit status {ExitStatus.CONFIG} where there is a mistake."


def run(arguments: Namespace) -> int:
    """Validate the files. Raises :class:`ConfigError`, unless JSON is wanted."""
    try:
        if arguments.service is not None:
            _refuse_files_beside(arguments)
            return service.check(arguments.service, as_json=bool(arguments.json))
        paths = locate_files(arguments.config, arguments.keys, os.environ)
        clients = locate_clients(arguments.clients, paths[0], os.environ)
        settings = load(*paths, os.environ, clients)
    except ConfigError as error:
        if not arguments.json:
            raise
        faults = [dataclasses.asdict(fault) for fault in error.faults]
        print(json.dumps({"ok": False, "faults": faults, "warnings": []}, ensure_ascii=False))
        return ExitStatus.CONFIG
    warnings = [
        *rules.warnings(settings),
        *_readable_by_others((*paths, *((clients,) if clients else ())), settings),
        *_passed_over(paths, (arguments.config, arguments.keys)),
    ]
    if arguments.json:
        print(json.dumps({"ok": True, "faults": [], "warnings": warnings}, ensure_ascii=False))
        return ExitStatus.OK
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    named = f"{paths[0]} and {paths[1]}"
    if clients is not None:
        named = f"{paths[0]}, {paths[1]} and {clients}"
    print(f"{named} are good: {_counts(settings)}")
    return ExitStatus.OK


def _counts(settings: Settings) -> str:
    proxy = settings.proxy
    enabled = sum(key.enabled for key in settings.keys)
    projects = len({key.project for key in settings.keys})
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    tokens = _count(len(proxy.access_tokens), "access token")
    if settings.clients is not None:
        tokens += f", {_count(len(settings.clients.clients), 'client')}"
    return (
        f"{_count(len(settings.keys), 'key')} ({enabled} enabled) in "
        f"{_count(projects, 'project')}, {tokens}, "
        f"listening on {proxy.endpoint or f'{host}:{proxy.port}'}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _refuse_files_beside(arguments: Namespace) -> None:
    for name in ("config", "keys", "clients"):
        if getattr(arguments, name) is not None:
            raise Refused(f"--service and --{name} cannot stand together", ExitStatus.USAGE)


def _passed_over(paths: tuple[Path, Path], options: tuple[str | None, str | None]) -> Iterator[str]:
    """A variable or the working folder may select other files than those of the service."""
    for path, option, name in zip(paths, options, ("proxy.yaml", "keys.yaml"), strict=True):
        installed = SYSTEM_FOLDER / name
        if option is None and installed.is_file() and not path.samefile(installed):
            yield f"{path} was looked at and not {installed}; for the service's say --service"


def _readable_by_others(paths: tuple[Path, ...], settings: Settings) -> Iterator[str]:
    secrets = [secret.reveal().encode() for secret in settings.secrets()]
    for path in paths:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH)):
            continue
        content = path.read_bytes()
        if any(secret in content for secret in secrets):
            yield f"{path} holds secrets and others can read it; chmod 600 {path}"
