"""Bytes in several buffers, which are sent without being copied into one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

#: Bytes at the beginning of a body, and at its end, that its digest covers.
_DIGESTED = 256 * 1024


class BufferList:
    """The concatenation of ``parts``, with the length of ``bytes``; ``bytes(self)`` copies."""

    __slots__ = ("_length", "parts")

    def __init__(self, parts: Sequence[bytes | memoryview]) -> None:
        self.parts = parts
        self._length = sum(map(len, parts))

    def __len__(self) -> int:
        return self._length

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)


def digest(body: bytes | BufferList) -> bytes:
    """Return 12 bytes that identify ``body``, at a bounded cost.

    Of a long body only the length, the beginning and the end are digested: half a megabyte of an
    image, and the question about it.
    """
    parts = (body,) if isinstance(body, bytes) else body.parts
    whole = [memoryview(part) for part in parts]
    found = blake2b(len(body).to_bytes(8, "big"), digest_size=12)
    for part in _first(whole):
        found.update(part)
    if len(body) > _DIGESTED:
        for part in _first(part[::-1] for part in reversed(whole)):
            found.update(bytes(part))
    return found.digest()


def _first(parts: Iterable[memoryview]) -> Iterator[memoryview]:
    """Yield the beginning of ``parts``."""
    left = _DIGESTED
    for part in parts:
        if left <= 0:
            return
        yield part[:left]
        left -= len(part)
