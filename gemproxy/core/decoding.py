"""Decode a request body: check UTF-8, then let msgspec decode and validate."""

from __future__ import annotations

from codecs import getincrementaldecoder
from typing import TypeVar

import msgspec

_T = TypeVar("_T")

#: What :func:`decode_json` raises; ``decode_errors.malformed`` makes the client's error of it.
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_PIECE = 64 * 1024


def decode_json(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    """The value that ``body`` holds. Raises one of :data:`DECODE_ERRORS`."""
    if not body.isascii():
        # msgspec does not check skipped values.
        _check_utf8(body)
    return decoder.decode(body)


def _check_utf8(body: bytes) -> None:
    """Raise :exc:`UnicodeDecodeError` for anything but UTF-8.

    In pieces: a string of the whole body may take four times its memory.
    """
    decoder = getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(body), _PIECE):
            decoder.decode(body[start : start + _PIECE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        body.decode()  # Raises it again, with the position in the whole body.
