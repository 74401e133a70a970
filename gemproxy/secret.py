"""A value that must never be printed.

Google's keys come in several forms (``AIza…``, ``AQ.…``) and more may follow, so nothing here
looks at a prefix or assumes a length.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import NoReturn

_MASK_MINIMUM = 20


class Secret:
    """An API key or a token: printing it gives the mask, ``reveal`` the value."""

    __slots__ = ("_value", "id", "masked")

    def __init__(self, value: str) -> None:
        self._value = value
        #: First 12 hex digits of the SHA-256: a name for the secret that says nothing of it.
        self.id = hashlib.sha256(value.encode()).hexdigest()[:12]
        #: First four and last four characters, for values of 20 characters or more; else ``…``.
        self.masked = f"{value[:4]}…{value[-4:]}" if len(value) >= _MASK_MINIMUM else "…"

    def reveal(self) -> str:
        """The value itself. Each call of this is a place to read twice."""
        return self._value

    def matches(self, candidate: bytes) -> bool:
        """Whether ``candidate`` is this secret, compared in constant time."""
        return hmac.compare_digest(self._value.encode(), candidate)

    def __repr__(self) -> str:
        return f"<Secret {self.masked}>"

    def __str__(self) -> str:
        return self.masked

    def __format__(self, spec: str) -> str:
        return format(self.masked, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(
            self._value.encode(), other._value.encode()
        )

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not serialized")
