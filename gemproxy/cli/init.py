"""``gemproxy init``: write both example files, with a random admin token."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from gemproxy.cli.exits import ExitStatus, Refused
from gemproxy.config.loading import LOCAL_FOLDER
from gemproxy.config.reference import keys_example, proxy_example

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_TOKEN_BYTES = 32


def add_arguments(parser: ArgumentParser) -> None:
    """Has no options."""
    parser.epilog = "Nothing is ever overwritten."


def run(arguments: Namespace) -> int:
    """Write both files, readable by their owner alone. Raises :class:`Refused` if one exists."""
    proxy = _place(arguments.config, "GEMPROXY_CONFIG", "proxy.yaml")
    keys = _place(arguments.keys, "GEMPROXY_KEYS", "keys.yaml")
    there = [str(path) for path in (proxy, keys) if os.path.lexists(path)]
    if there:
        verb = "exists" if len(there) == 1 else "exist"
        raise Refused(f"{' and '.join(there)} {verb}; nothing was written")
    _write(proxy, proxy_example(secrets.token_urlsafe(_TOKEN_BYTES)))
    _write(keys, keys_example())
    print(f"wrote {proxy} with a fresh admin token, and {keys}")
    print(f"next: put your keys in {keys} (or one in GEMINI_API_KEY), then run `gemproxy check`")
    return ExitStatus.OK


def _place(option: str | None, variable: str, name: str) -> Path:
    return Path(option or os.environ.get(variable) or LOCAL_FOLDER / name)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # O_EXCL follows no link and never replaces a file.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Refused(f"cannot write {path}: {error.strerror}", ExitStatus.CANNOT_CREATE) from None
