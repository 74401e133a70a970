"""Take long media out of a JSON text before decoding, and put it back after encoding.

Each step between the client's body and the upstream's would copy an image of five megabytes in
base64: decode it to a string, cut it out of its data URL, encode it again. But no step reads the
image, and base64 needs no escapes in JSON. So :func:`extract` replaces it by a short placeholder,
the small rest goes through the translation, and :func:`restore` puts views of the original bytes
into the result. They are read once, to check that they are base64, and never copied.

A placeholder is valid base64, so the translation treats it as media. A client cannot guess it; a
text that contains it all the same, or that escapes letters, is not changed. A response may repeat
text of the request, so the writer of a response checks that its placeholders are its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import msgspec

from gemproxy.buffer_list import BufferList

#: A smaller body is not searched.
MIN_BYTES = 128 * 1024

#: Seven digits follow, which makes the length valid for base64. The value is random for each
#: process, so that no client can produce it, not even by escapes, blanks or percent signs that the
#: translation removes. It is the only random value in the pure modules.
PLACEHOLDER = b"M" + os.urandom(6).hex().encode()
_DIGITS = 7
#: The first characters of escapes for letters, which need none.
_ESCAPES = (rb"\u004", rb"\u006")

#: A string of twice this length is always found.
_PROBE = MIN_BYTES // 4
_LONGEST_DATA_URL_HEADER = 512
#: The text before the value of a media field, in both dialects.
_FIELD = re.compile(rb'"(?:url|image_url|video_url|data|file_data)"\s*:\s*"\Z')
_LONGEST_FIELD = 64

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_PIECE = 64 * 1024


class ExtractedMedia(msgspec.Struct, frozen=True):
    """The media taken out of a text, in order; each piece is a view of that text."""

    pieces: tuple[memoryview, ...] = ()

    def restore(self, text: bytes) -> bytes | BufferList:
        """Return ``text`` with each placeholder replaced by its media, without a copy."""
        if not self.pieces:
            return text
        first, *others = text.split(PLACEHOLDER)
        whole: list[bytes | memoryview] = [first]
        for other in others:
            whole += (self.pieces[int(other[:_DIGITS])], other[_DIGITS:])
        return BufferList(whole)

    def all_in_data_urls(self, text: bytes) -> bool:
        """Whether each placeholder is the end of a data URL in ``text`` and occurs only there."""
        ends = [each[: _DIGITS + 1] for each in text.split(b";base64," + PLACEHOLDER)[1:]]
        wanted = [b'%0*d"' % (_DIGITS, number) for number in range(len(self.pieces))]
        return sorted(ends) == wanted and text.count(PLACEHOLDER) == len(wanted)

    def size(self, data: str) -> int:
        """The length of ``data``, or of the media if ``data`` is a placeholder."""
        return len(self._piece(data) or data)

    def data(self, data: str) -> bytes | memoryview:
        """``data`` as bytes, or the media if ``data`` is a placeholder."""
        return self._piece(data) or data.encode("utf-8", "surrogatepass")

    def _piece(self, data: str) -> memoryview | None:
        is_placeholder = self.pieces and data.startswith(PLACEHOLDER.decode())
        return self.pieces[int(data[len(PLACEHOLDER) :])] if is_placeholder else None


NOTHING = ExtractedMedia()


def extract(text: bytes) -> tuple[bytes, ExtractedMedia]:
    """Take the base64 of media fields out of the JSON ``text``; return the rest and the media."""
    rest: list[bytes] = []
    pieces: list[memoryview] = []
    done = 0
    for opening, end in _long_strings(text):
        start = _start_of_base64(text, opening)
        if start is not None and is_base64(piece := memoryview(text)[start:end]):
            rest += (text[done:start], b"%b%0*d" % (PLACEHOLDER, _DIGITS, len(pieces)))
            pieces.append(piece)
            done = end
    rest.append(text[done:])
    if not pieces or any(map(_could_contain_placeholder, rest[::2])):
        return text, NOTHING
    return b"".join(rest), ExtractedMedia(tuple(pieces))


def is_base64(data: memoryview) -> bool:
    """Whether ``data`` is standard base64 with padding. Decodes and copies nothing."""
    if not data or len(data) % 4:
        return False
    body = len(data) - 2
    # In pieces, so that the check of megabytes needs little memory.
    for start in range(0, body, _PIECE):
        if bytes(data[start : min(start + _PIECE, body)]).translate(None, _ALPHABET):
            return False
    # The last two characters may be padding, and nothing else may remain.
    last = bytes(data[body:])
    rest = last.translate(None, _ALPHABET)
    return rest in (b"", b"==") or (rest == b"=" and last.endswith(b"="))


def _long_strings(text: bytes) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each long string, found in steps of ``_PROBE`` bytes."""
    place = _PROBE
    while (end := text.find(b'"', place)) >= 0:
        if end - place < _PROBE:
            place += _PROBE
            continue
        yield text.rfind(b'"', 0, place) + 1, end
        place = end + 1


def _could_contain_placeholder(text: bytes) -> bool:
    return PLACEHOLDER in text or any(escape in text for escape in _ESCAPES)


def _start_of_base64(text: bytes, start: int) -> int | None:
    """The begin of the base64 in the string at ``start``; ``None`` if it is no media field."""
    if _FIELD.search(text[max(start - _LONGEST_FIELD, 0) : start]) is None:
        return None
    comma = text.find(b",", start, start + _LONGEST_DATA_URL_HEADER)
    return start if comma < 0 else comma + 1
