"""Reading a request's body: UTF-8 is checked, then msgspec decodes and validates."""

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
        # The decoder does not look into values that it skips.
        _check_utf8(body)
    return decoder.decode(body)


def _check_utf8(body: bytes) -> None:
    """Raise :exc:`UnicodeDecodeError` for anything but UTF-8.

    By pieces: a string of the whole body may take four times the body's memory.
    """
    decoder = getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(body), _PIECE):
            decoder.decode(body[start : start + _PIECE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        body.decode()  # raises it once more, with the place in the whole body
