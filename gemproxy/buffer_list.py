"""Bytes that lie in several places of the memory, and are sent without being brought together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

#: Bytes of a body's beginning, and as many of its end, that tell it from others.
_TOLD_APART_BY = 256 * 1024


class BufferList:
    """As ``bytes``, of which it is one after the other; ``bytes(pieces)`` copies them into one."""

    __slots__ = ("_length", "parts")

    def __init__(self, parts: Sequence[bytes | memoryview]) -> None:
        self.parts = parts
        self._length = sum(map(len, parts))

    def __len__(self) -> int:
        return self._length

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)


def digest(body: bytes | BufferList) -> bytes:
    """A few bytes that tell ``body`` from other bodies, at a cost that is bounded.

    Of a long body the length, the beginning and the end are looked at: half a megabyte of a picture
    and what is asked about it.
    """
    parts = (body,) if isinstance(body, bytes) else body.parts
    whole = [memoryview(part) for part in parts]
    found = blake2b(len(body).to_bytes(8, "big"), digest_size=12)
    for part in _first(whole):
        found.update(part)
    if len(body) > _TOLD_APART_BY:
        for part in _first(part[::-1] for part in reversed(whole)):
            found.update(bytes(part))
    return found.digest()


def _first(parts: Iterable[memoryview]) -> Iterator[memoryview]:
    """The beginning of ``parts``."""
    left = _TOLD_APART_BY
    for part in parts:
        if left <= 0:
            return
        yield part[:left]
        left -= len(part)
