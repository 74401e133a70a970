"""Replace function names that Gemini refuses, and map them back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

#: Google allows 128 characters on newer models and 64 on older ones.
_LONGEST = 64
_LEGAL = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
_ILLEGAL_CHARACTER = re.compile(r"[^A-Za-z0-9_.:-]")


class ToolNames:
    """Gemini's name for each function of a conversation; no two functions share one."""

    def __init__(self, declared: Iterable[str] = ()) -> None:
        self._sent: dict[str, str] = {}
        self._taken: set[str] = set()
        #: The last number appended to a name.
        self._numbers: dict[str, int] = {}
        self._changed: dict[str, str] = {}
        # Valid names stay as they are, so they are assigned first.
        for name in sorted(declared, key=_is_illegal):
            self.sent(name)

    @property
    def changed(self) -> Mapping[str, str]:
        """Gemini's name -> the client's name, for changed names."""
        return self._changed

    def sent(self, name: str) -> str:
        """The name in the request for the client's ``name``."""
        known = self._sent.get(name)
        if known is not None:
            return known
        sent = self._free(name if _LEGAL.fullmatch(name) else _legal(name))
        self._taken.add(sent)
        self._sent[name] = sent
        if sent != name:
            self._changed[sent] = name
        return sent

    def _free(self, wanted: str) -> str:
        name, number = wanted, self._numbers.get(wanted, 1)
        while name in self._taken:
            number += 1
            suffix = f"_{number}"
            name = wanted[: _LONGEST - len(suffix)] + suffix
        # Continue counting: a thousand names may clean to the same one.
        self._numbers[wanted] = number
        return name


def _is_illegal(name: str) -> bool:
    return _LEGAL.fullmatch(name) is None


def _legal(name: str) -> str:
    cleaned = _ILLEGAL_CHARACTER.sub("_", name)[:_LONGEST]
    if not (cleaned[0].isalpha() or cleaned[0] == "_"):
        cleaned = f"_{cleaned}"[:_LONGEST]
    return cleaned
