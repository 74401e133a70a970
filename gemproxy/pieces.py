"""Bytes that lie in several places of the memory, and are sent without being brought together."""

from __future__ import annotations

from collections.abc import Sequence


class Pieces:
    """As ``bytes``, of which it is one after the other; ``bytes(pieces)`` copies them into one."""

    __slots__ = ("_length", "parts")

    def __init__(self, parts: Sequence[bytes | memoryview]) -> None:
        self.parts = parts
        self._length = sum(map(len, parts))

    def __len__(self) -> int:
        return self._length

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)
