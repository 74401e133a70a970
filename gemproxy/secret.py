"""A value that must never be printed.

Google's keys have several forms (``AIza…``, ``AQ.…``) and may get more, so nothing here depends on
a prefix or a length.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import NoReturn

_MASK_MINIMUM = 20
#: Bytes that text and JSON often hold, the most frequent ones last. All others are more seldom.
_FREQUENT = b'XZJQjqzKYUVGHWxBOPRLDFM98NIEk7TS654vAbC3gw-fyphm_.:u/0{}12lcdsrioatne," '


class Secret:
    """An API key or token: printing it shows the mask, ``reveal`` returns the value."""

    __slots__ = ("_value", "id", "masked", "rarest")

    def __init__(self, value: str) -> None:
        self._value = value
        #: First 12 hex digits of the SHA-256: identifies the secret without revealing it.
        self.id = hashlib.sha256(value.encode()).hexdigest()[:12]
        #: First four and last four characters, for values of 20 characters or more; else ``…``.
        self.masked = f"{value[:4]}…{value[-4:]}" if len(value) >= _MASK_MINIMUM else "…"
        #: The byte of the value that text holds most seldom. Text without it needs no search.
        self.rarest = min(value.encode() or b"\0", key=_FREQUENT.find)

    def reveal(self) -> str:
        """The value itself. Review each call of this with care."""
        return self._value

    def masked_in(self, data: bytes) -> bytes:
        """Return ``data``, as long as before, with every occurrence masked.

        The same object if there is none.
        """
        value = self._value.encode()
        return data.replace(value, b"*" * len(value)) if value else data

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


class PieceMask:
    """Masks a secret in the pieces of a body, also where it is divided between two of them."""

    def __init__(self, secret: Secret) -> None:
        self._masked_in = secret.masked_in
        value = secret.reveal().encode()
        #: The beginnings of the secret, the longest one first.
        self._beginnings = [value[:length] for length in range(len(value) - 1, 0, -1)]
        self._held = b""

    def add(self, piece: bytes) -> bytes:
        """Return what may be sent now. A beginning of the secret at the end is held back."""
        data = self._masked_in(self._held + piece)
        self._held = next((each for each in self._beginnings if data.endswith(each)), b"")
        return data[: len(data) - len(self._held)]

    def end(self) -> bytes:
        """Return the rest of the body, which holds no whole secret."""
        held, self._held = self._held, b""
        return held
