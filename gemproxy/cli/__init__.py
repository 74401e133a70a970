"""The operator's program: ``gemproxy COMMAND``.

Each command is a module with ``add_arguments(parser)`` and ``run(arguments) -> int``, imported only
when it is used, so that ``gemproxy check`` does not load Twisted. ``run`` may
raise :class:`ConfigError` or :class:`Refused`; both become lines on standard error here.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from gemproxy import __version__
from gemproxy.cli.exits import ExitStatus, Refused
from gemproxy.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

__all__ = ["main"]


@dataclass(frozen=True)
class Command:
    """One command: its module, its summary, the common options that it takes."""

    module: str
    summary: str
    options: tuple[str, ...] = ()


COMMANDS = {
    "check": Command(
        "gemproxy.cli.check",
        "validate the files and say where each mistake is",
        ("config", "keys", "clients", "json"),
    ),
    "init": Command(
        "gemproxy.cli.init",
        "write both example files with a fresh random admin token",
        ("config", "keys"),
    ),
    "plan": Command(
        "gemproxy.cli.plan",
        "show what a reload would change, without doing it",
        ("config", "keys", "clients", "json"),
    ),
    "keys": Command(
        "gemproxy.cli.keys",
        "show the live keys; keys enable|disable|reset NAME|--all, keys test [NAME],"
        " keys weight NAME N|default",
        ("config", "json"),
    ),
    "clients": Command(
        "gemproxy.cli.clients",
        "show who may ask; clients list|add|show|change|rotate|revoke NAME",
        ("config", "json"),
    ),
    "explain": Command(
        "gemproxy.cli.explain",
        "explain one request: attempts, keys, outcomes, who was charged",
        ("config", "json"),
    ),
    "requests": Command(
        "gemproxy.cli.requests",
        "show the latest requests, or older ones with --since and filters",
        ("config", "json"),
    ),
    "usage": Command(
        "gemproxy.cli.usage",
        "show who used what, and what it cost",
        ("config", "json"),
    ),
    "quotas": Command(
        "gemproxy.cli.quotas",
        "show the quotas that are known, what is used of them, and when they are used up",
        ("config", "json"),
    ),
    "reload": Command(
        "gemproxy.cli.reload",
        "make the running daemon read its files again",
        ("config", "json"),
    ),
    "serve": Command(
        "gemproxy.cli.serve",
        "run the daemon here, until Ctrl-C; --demo needs neither key nor files",
        ("config", "keys", "clients"),
    ),
    "simulate": Command("gemproxy.simulator.main", "run the simulator of the Gemini API alone"),
    "state": Command(
        "gemproxy.cli.state",
        "export the state to a JSON file, or import one while the daemon is stopped",
        ("config", "keys", "clients", "json"),
    ),
    "version": Command("gemproxy.cli.version", "print the version", ("json",)),
}

_OPTIONS = {
    "config": ("FILE", "proxy.yaml; also GEMPROXY_CONFIG"),
    "keys": ("FILE", "keys.yaml; also GEMPROXY_KEYS"),
    "clients": ("FILE", "clients.yaml; also GEMPROXY_CLIENTS, or beside proxy.yaml"),
    "json": (None, "print JSON, for scripts"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is one of :class:`ExitStatus`."""
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except ConfigError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return ExitStatus.CONFIG
    except Refused as refused:
        print(f"gemproxy: {refused}", file=sys.stderr)
        return refused.status
    except BrokenPipeError:
        # The reader closed the pipe. Without this, Python prints another error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.OK
    except OSError as error:
        print(f"gemproxy: {error}", file=sys.stderr)
        return ExitStatus.FAILED
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    return status


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(ExitStatus.USAGE, f"{self.prog}: {message}\n")


def _run(argv: Sequence[str]) -> int:
    try:
        common = _common_parser().parse_args(argv)
        command = COMMANDS[common.command]
        module = import_module(command.module)
        arguments = _command_parser(common, command, module).parse_args(common.arguments)
    except SystemExit as end:
        return int(end.code or 0)
    status: int = module.run(arguments)
    return status


def _common_parser() -> _Parser:
    width = max(map(len, COMMANDS))
    parser = _Parser(
        prog="gemproxy",
        description="The operator's program of the gemproxy daemon.",
        epilog="commands:\n"
        + "\n".join(f"  {name:<{width}}  {c.summary}" for name, c in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gemproxy {__version__}")
    for name in _OPTIONS:
        _add_option(parser, name, default=None)
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="...", help=argparse.SUPPRESS
    )
    return parser


def _command_parser(
    common: argparse.Namespace, command: Command, module: ModuleType
) -> argparse.ArgumentParser:
    parser = _Parser(prog=f"gemproxy {common.command}", description=command.summary)
    for name in _OPTIONS:
        given = getattr(common, name)
        if name in command.options:
            _add_option(parser, name, default=given)
        elif given is not None:
            parser.error(f"--{name} means nothing to this command")
    module.add_arguments(parser)
    return parser


def _add_option(parser: argparse.ArgumentParser, name: str, *, default: object) -> None:
    metavar, meaning = _OPTIONS[name]
    if metavar is None:
        parser.add_argument(f"--{name}", action="store_true", default=default, help=meaning)
    else:
        parser.add_argument(f"--{name}", metavar=metavar, default=default, help=meaning)
