"""Long media is taken out of a JSON text before it is read, and put back when it is written again.

An image of five megabytes in base64 would be copied by each step between the client's bytes and
the upstream's: decoded to a string, cut out of its data URL, encoded again. Yet nobody looks into
it, and base64 means the same in every JSON string. So a short mark takes its place, the small rest
goes through the translation, and what comes out gets the bytes back: they are read once, to be
checked, and not copied.

A mark is itself good base64, so that the translation takes it for what it stands for. It cannot be
confused with what a client wrote, since nobody can guess it; a text that holds it all the same, or
spells letters by escapes, takes the long way. An answer takes in texts of the request as well, so
that whether its marks are its own is looked at when it is written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import msgspec

from gemproxy.buffer_list import BufferList

#: A body below this many bytes holds nothing that is worth the trouble.
MIN_BYTES = 128 * 1024

#: Seven digits follow, so that the length is one of base64. It differs with every process, so that
#: nobody can spell it, by whatever detour of escapes, blanks or percent signs that the translation
#: takes out of a text: the one thing here that is drawn and not decided.
PLACEHOLDER = b"M" + os.urandom(6).hex().encode()
_DIGITS = 7
#: How the escapes of letters begin that nobody needs to escape.
_ESCAPES = (rb"\u004", rb"\u006")

#: A string of twice this length is found for sure.
_PROBE = MIN_BYTES // 4
_LONGEST_DATA_URL_HEADER = 512
#: What stands before the value of a field that holds media, in either dialect.
_FIELD = re.compile(rb'"(?:url|image_url|video_url|data|file_data)"\s*:\s*"\Z')
_LONGEST_FIELD = 64

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_PIECE = 64 * 1024


class ExtractedMedia(msgspec.Struct, frozen=True):
    """What was taken out of a text, in its order; each piece is a view of that text."""

    pieces: tuple[memoryview, ...] = ()

    def restore(self, text: bytes) -> bytes | BufferList:
        """``text`` with the media in the place of its marks, where it lay before."""
        if not self.pieces:
            return text
        first, *others = text.split(PLACEHOLDER)
        whole: list[bytes | memoryview] = [first]
        for other in others:
            whole += (self.pieces[int(other[:_DIGITS])], other[_DIGITS:])
        return BufferList(whole)

    def all_in_data_urls(self, text: bytes) -> bool:
        """Whether each mark ends one data URL of ``text``, and stands nowhere else."""
        ends = [each[: _DIGITS + 1] for each in text.split(b";base64," + PLACEHOLDER)[1:]]
        wanted = [b'%0*d"' % (_DIGITS, number) for number in range(len(self.pieces))]
        return sorted(ends) == wanted and text.count(PLACEHOLDER) == len(wanted)

    def size(self, data: str) -> int:
        """The length of ``data``, or of what it is the mark of."""
        return len(self._piece(data) or data)

    def data(self, data: str) -> bytes | memoryview:
        """``data``, or what it is the mark of, as bytes."""
        return self._piece(data) or data.encode("utf-8", "surrogatepass")

    def _piece(self, data: str) -> memoryview | None:
        is_placeholder = self.pieces and data.startswith(PLACEHOLDER.decode())
        return self.pieces[int(data[len(PLACEHOLDER) :])] if is_placeholder else None


NOTHING = ExtractedMedia()


def extract(text: bytes) -> tuple[bytes, ExtractedMedia]:
    """The rest of the JSON ``text``, and what was taken out of it: base64 in fields for media."""
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
    if not pieces or any(map(_could_spell_a_mark, rest[::2])):
        return text, NOTHING
    return b"".join(rest), ExtractedMedia(tuple(pieces))


def is_base64(data: memoryview) -> bool:
    """Whether ``data`` is standard base64 with its padding. Nothing is decoded or copied."""
    if not data or len(data) % 4:
        return False
    body = len(data) - 2
    # By pieces, so that megabytes of media do not ask for megabytes more.
    for start in range(0, body, _PIECE):
        if bytes(data[start : min(start + _PIECE, body)]).translate(None, _ALPHABET):
            return False
    # Padding is all that may be left of the last two characters.
    last = bytes(data[body:])
    rest = last.translate(None, _ALPHABET)
    return rest in (b"", b"==") or (rest == b"=" and last.endswith(b"="))


def _long_strings(text: bytes) -> Iterator[tuple[int, int]]:
    """Where quotes are far apart. A look at every so many bytes finds them, and skips the rest."""
    place = _PROBE
    while (end := text.find(b'"', place)) >= 0:
        if end - place < _PROBE:
            place += _PROBE
            continue
        yield text.rfind(b'"', 0, place) + 1, end
        place = end + 1


def _could_spell_a_mark(text: bytes) -> bool:
    return PLACEHOLDER in text or any(escape in text for escape in _ESCAPES)


def _start_of_base64(text: bytes, start: int) -> int | None:
    """Where the base64 of the string at ``start`` begins; ``None`` if it is not for media."""
    if _FIELD.search(text[max(start - _LONGEST_FIELD, 0) : start]) is None:
        return None
    comma = text.find(b",", start, start + _LONGEST_DATA_URL_HEADER)
    return start if comma < 0 else comma + 1
