"""``gemproxy check``: read both files as the daemon would, and say what it would say."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import sys
from typing import TYPE_CHECKING

from gemproxy.cli.exits import ExitStatus
from gemproxy.config import rules
from gemproxy.config.loading import load, locate_files
from gemproxy.errors import ConfigError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator
    from pathlib import Path

    from gemproxy.config.settings import Settings


def add_arguments(parser: ArgumentParser) -> None:
    """No options of its own."""
    parser.epilog = f"Exit status {ExitStatus.CONFIG} where there is a mistake."


def run(arguments: Namespace) -> int:
    """Validate both files. Raises :class:`ConfigError`, unless JSON is wanted."""
    try:
        paths = locate_files(arguments.config, arguments.keys, os.environ)
        settings = load(*paths, os.environ)
    except ConfigError as error:
        if not arguments.json:
            raise
        faults = [dataclasses.asdict(fault) for fault in error.faults]
        print(json.dumps({"ok": False, "faults": faults, "warnings": []}, ensure_ascii=False))
        return ExitStatus.CONFIG
    warnings = [*rules.warnings(settings), *_readable_by_others(paths)]
    if arguments.json:
        print(json.dumps({"ok": True, "faults": [], "warnings": warnings}, ensure_ascii=False))
        return ExitStatus.OK
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{paths[0]} and {paths[1]} are good: {_counts(settings)}")
    return ExitStatus.OK


def _counts(settings: Settings) -> str:
    proxy = settings.proxy
    enabled = sum(key.enabled for key in settings.keys)
    projects = len({key.project for key in settings.keys})
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    return (
        f"{_count(len(settings.keys), 'key')} ({enabled} enabled) in "
        f"{_count(projects, 'project')}, {_count(len(proxy.access_tokens), 'access token')}, "
        f"listening on {proxy.endpoint or f'{host}:{proxy.port}'}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _readable_by_others(paths: tuple[Path, Path]) -> Iterator[str]:
    for path in paths:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
            yield f"{path} may hold secrets and others can read it; chmod 600 {path}"
