"""Bodies in a content coding: gzip and zlib are undone piece by piece, whatever we asked for.

Requests say ``Accept-Encoding: identity``. A cache or a proxy on the way may compress all the same
(RFC 9110 section 12.5.3 lets it); what comes out is bounded as if it had come so.
"""

from __future__ import annotations

import zlib
from typing import Any

#: Of what was compressed no more is undone at a time, nor in one turn of the reactor: 64 KB may
#: hold 64 MB.
PIECE_BYTES = 256 * 1024
#: A shorter piece counts as so much: 64 KB may hold 3,000 members with next to nothing in them.
LEAST_PIECE = 4096

#: zlib's window bits for each coding: with a gzip header, or a zlib one.
_WINDOW = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_LONGEST_NAME = 40


class UnknownCoding(Exception):
    """Of the codings that the answer names; the text says which."""


class Compressed(ValueError):
    """What came is not in the coding that it said."""


class Decoder:
    """Undoes the content coding ``name``. Raises :class:`UnknownCoding` for one that it cannot."""

    def __init__(self, name: str) -> None:
        coding = name.strip().lower()
        if coding not in _WINDOW:
            shown = "".join(filter(str.isprintable, name))[:_LONGEST_NAME]
            raise UnknownCoding(f"content coding {shown!r}")
        self._coding = coding
        self._stream: Any = zlib.decompressobj(_WINDOW[coding])
        self._rest = b""
        self._begun = False
        # zlib may have taken all of the input, and still have output that there was no room for.
        self._full = False

    def feed(self, data: bytes) -> None:
        """More has come."""
        self._rest = self._rest + data if self._rest else data

    def take(self) -> bytes:
        """Undo one piece of what is :attr:`pending`; there may be nothing in it.

        Raises :class:`Compressed`.
        """
        if self._stream.eof:
            self._full = False
            if not self._rest:
                return b""
            # Members may follow one another (RFC 1952 section 2.2); nothing else may.
            if self._coding == "deflate" or not self._rest.startswith(b"\x1f"):
                raise Compressed(f"bytes after the end of {self._coding}")
            self._stream = zlib.decompressobj(_WINDOW[self._coding])
        self._begun = True
        try:
            piece: bytes = self._stream.decompress(self._rest, PIECE_BYTES)
        except zlib.error:
            raise Compressed(f"what came is not {self._coding}") from None
        self._rest = self._stream.unused_data or self._stream.unconsumed_tail
        self._full = len(piece) == PIECE_BYTES
        return piece

    @property
    def pending(self) -> bool:
        """Whether something that has come was not undone yet."""
        return bool(self._rest) or self._full

    @property
    def complete(self) -> bool:
        """Whether the coding's own end has come, and nothing is left; nothing at all is whole."""
        return not self.pending and (not self._begun or self._stream.eof)


def decoder_of(coding: bytes | None) -> Decoder | None:
    """What undoes the codings of a Content-Encoding header; ``None`` where there is none.

    Raises :class:`UnknownCoding`.
    """
    name = "" if coding is None else coding.decode("latin-1").strip()
    if not name or name.lower() == "identity":
        return None
    return Decoder(name)
