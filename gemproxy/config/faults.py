"""Collect the mistakes of one file while it is read."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from gemproxy.core.errors import Fault, FixedFault

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST_SHOWN = 19
#: A shorter known secret is not masked: messages may need such a word.
_SHORTEST_MASKED = 8


class Faults:
    """The faults of ``file`` so far; ``found`` gives them by line."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[Fault] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, line: int, path: str, message: str, *, fixed: bool = False) -> None:
        """Note one mistake; ``line`` is 0 if there is none. ``fixed``: see :class:`FixedFault`."""
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
    """The part of the file's text that a message may repeat.

    A secret may stand in the wrong place. So long text is masked like a secret: only its first and
    last four characters are shown.
    """
    shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:4]}…{text[-4:]}"
    return shown if shown.isprintable() else ascii(shown)[1:-1]


def suggestion(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'port'?``, or nothing if no known name is similar."""
    names = {candidate.lower(): candidate for candidate in known}
    near = get_close_matches(name.lower().replace("_", ""), names, n=1, cutoff=0.6)
    return f"; did you mean '{names[near[0]]}'?" if near else ""


def _masked(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "…")
    return text
