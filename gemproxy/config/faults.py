"""The mistakes of one file, gathered while it is read."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from gemproxy.core.errors import Fault, FixedFault

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST_SHOWN = 19
#: A known secret shorter than this is an ordinary word that a message may need.
_SHORTEST_MASKED = 8


class Faults:
    """A growing list of faults of ``file``; ``found`` gives them by line."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[Fault] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, line: int, path: str, message: str, *, fixed: bool = False) -> None:
        """Note one mistake; ``line`` 0 where there is none. ``fixed``: see :class:`FixedFault`."""
        kind = FixedFault if fixed else Fault
        self._found.append(kind(self.file, line, path, message))

    def found(self, secrets: Iterable[str] = ()) -> list[Fault]:
        """All faults, first line first, with any of the ``secrets`` masked."""
        hidden = sorted((s for s in secrets if len(s) >= _SHORTEST_MASKED), key=len, reverse=True)
        ordered = sorted(self._found, key=lambda fault: fault.line)
        return [
            replace(f, path=_masked(f.path, hidden), message=_masked(f.message, hidden))
            for f in ordered
        ]


def shown_text(text: str) -> str:
    """What a message may repeat of the file's text.

    A secret that slipped into the wrong place is as long as a secret; so long text is cut to the
    four first and four last characters that a masked secret has.
    """
    shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:4]}…{text[-4:]}"
    return shown if shown.isprintable() else ascii(shown)[1:-1]


def suggestion(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'port'?``, or nothing where no known name is near."""
    names = {candidate.lower(): candidate for candidate in known}
    near = get_close_matches(name.lower().replace("_", ""), names, n=1, cutoff=0.6)
    return f"; did you mean '{names[near[0]]}'?" if near else ""


def _masked(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "…")
    return text
