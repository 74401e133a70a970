"""Text for people: tables, times, and foreign text without control characters."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tabulate import tabulate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Columns under their headers; those named in ``right`` are numbers. Cells may have lines."""
    return tabulate(
        [[printable(cell) for cell in row] for row in rows],
        headers,
        # A name such as 1e5 or 007 is not a number.
        disable_numparse=True,
        colalign=["right" if header in right else "left" for header in headers] if rows else None,
    )


def printable(text: str) -> str:
    """``text`` without control characters; line breaks stay."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def shortened(text: str, most: int) -> str:
    """One line of at most ``most`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def moment(time: datetime | None) -> str:
    """``2026-11-22 20:00:00Z``; nothing for no time."""
    return f"{time:%Y-%m-%d %H:%M:%S}Z" if time else ""


def counted(number: int, noun: str) -> str:
    """``1 key``, ``2 keys``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def show(text: str) -> None:
    """Print, also if the terminal's encoding lacks a character."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))
