"""Decode bodies in a content coding, gzip or zlib, in pieces of bounded size.

Requests say ``Accept-Encoding: identity``. A cache or a proxy on the way may compress all the same
(RFC 9110 section 12.5.3 allows it). The limits hold for the decoded body.
"""

from __future__ import annotations

import zlib
from typing import Any

#: Limit of decoded bytes for one step, and for one turn of the reactor: 64 KB may expand to 64 MB.
PIECE_BYTES = 256 * 1024
#: A shorter piece counts as this many bytes: 64 KB may hold 3,000 gzip members that are nearly
#: empty.
MIN_PIECE_COST = 4096

#: zlib's window bits for each coding: with a gzip header, or a zlib one.
_WINDOW = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_LONGEST_NAME = 40


class UnknownCoding(Exception):
    """The response has a coding that cannot be decoded; the text names it."""


class CodingError(ValueError):
    """The body is not in the coding that the header names."""


class Decoder:
    """Decodes the content coding ``name``. Raises :class:`UnknownCoding` if that is unknown."""

    def __init__(self, name: str) -> None:
        coding = name.strip().lower()
        if coding not in _WINDOW:
            shown = "".join(filter(str.isprintable, name))[:_LONGEST_NAME]
            raise UnknownCoding(f"content coding {shown!r}")
        self._coding = coding
        self._stream: Any = zlib.decompressobj(_WINDOW[coding])
        self._rest = b""
        self._begun = False
        # zlib may have consumed all input and still hold output that did not fit into the piece.
        self._full = False

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._rest = self._rest + data if self._rest else data

    def take(self) -> bytes:
        """Decode one piece of what is :attr:`pending`; it may be empty.

        Raises :class:`CodingError`.
        """
        if self._stream.eof:
            self._full = False
            if not self._rest:
                return b""
            # Another gzip member may follow (RFC 1952 section 2.2), and nothing else.
            if self._coding == "deflate" or not self._rest.startswith(b"\x1f"):
                raise CodingError(f"bytes after the end of {self._coding}")
            self._stream = zlib.decompressobj(_WINDOW[self._coding])
        self._begun = True
        try:
            piece: bytes = self._stream.decompress(self._rest, PIECE_BYTES)
        except zlib.error:
            raise CodingError(f"what came is not {self._coding}") from None
        self._rest = self._stream.unused_data or self._stream.unconsumed_tail
        self._full = len(piece) == PIECE_BYTES
        return piece

    @property
    def pending(self) -> bool:
        """Whether received bytes are not decoded yet."""
        return bool(self._rest) or self._full

    @property
    def complete(self) -> bool:
        """Whether the coding has reached its end and nothing is left. An empty body is complete."""
        return not self.pending and (not self._begun or self._stream.eof)


def decoder_of(coding: bytes | None) -> Decoder | None:
    """The decoder for a Content-Encoding header; ``None`` if the body is not coded.

    Raises :class:`UnknownCoding`.
    """
    name = "" if coding is None else coding.decode("latin-1").strip()
    if not name or name.lower() == "identity":
        return None
    return Decoder(name)
