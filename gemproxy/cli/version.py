"""``gemproxy version``."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING

from gemproxy import __version__
from gemproxy.cli.exits import ExitStatus

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Has no options."""
    parser.epilog = "With --json also the versions of Python and Twisted."


def run(arguments: Namespace) -> int:
    """Print the version, for bug reports with those of Python and Twisted."""
    if arguments.json:
        versions = {
            "version": __version__,
            "python": platform.python_version(),
            "twisted": version("twisted"),
        }
        print(json.dumps(versions))
    else:
        print(f"gemproxy {__version__}")
    return ExitStatus.OK
