"""Remove live secrets from text, by value.

No pattern recognises a secret, so the scrubber knows each one, in every form that text may contain:
as it is, in upper or lower case, escaped as JSON, as a Python literal, as HTML or percent-encoded,
in hexadecimal digits, in Base32, and within Base64. Numeric escapes of characters (``%41``,
``&#65;``, backslash and ``u0041``) are decoded.

It finds these and replaces them by the secret's mask:

- a form of twelve characters or more, anywhere, also within a longer word;
- twelve or more characters of the secret itself, if the rest was cut off; of another form its first
  twelve or more. Twelve, since a mask shows eight, and fewer match by chance the words that a token
  consists of;
- a shorter secret that is a whole word: ``hunter2`` in ``key=hunter2``, not in ``hunter2000``.
  Otherwise one careless token of three letters would garble every log line.

The tokens of clients that are made at run time are not kept, only their digests. They have a form
of their own (:data:`MADE_TOKEN`), by which they are found and replaced whole.

Text without secrets, which is nearly all text, costs one to a few microseconds for 400 bytes. The
eight bytes at every fourth offset are looked up, as a number, in a set of all such numbers of each
secret and of the beginning of each other form; any run of twelve characters covers one such window
whole. With short text and up to a few hundred secrets a coarser check comes first, with half as
many numbers: the four bytes at every eighth offset, which such a run covers as well.
"""

from __future__ import annotations

import base64
import html
import json
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from struct import Struct
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gemproxy.secret import Secret

#: A run of this length always contains a whole window of eight bytes at a multiple of four.
_PART = 12
_WINDOW = 8
_STRIDE = 4
#: The coarser check: finds every such run too, with more false alarms.
_COARSE_WINDOW = 4
_COARSE_STRIDE = 8
#: Longer text skips the coarse check.
_COARSE_TEXT = 2048
#: With more forms the coarse check would need much memory and give a false alarm in most lines.
_COARSE_FORMS = 8000
#: Removed secrets may still occur in text; beyond this many the oldest is forgotten.
_RETIRED_KEPT = 1000
#: Up to this many short secrets a search for each is cheaper than a search for all words.
_FEW = 16

#: The most digits in a part that is matched by its shape.
_MANY_DIGITS = 4
#: Levels of nested escapes that are decoded: ``%2541``.
_SPELLINGS = 3
_SPELLED = re.compile(
    rb"%([0-9A-Fa-f]{2})|\\u\{?([0-9A-Fa-f]{4})\}?|\\x([0-9A-Fa-f]{2})"
    rb"|&#[xX]0{0,6}([0-9A-Fa-f]{1,6});?|&#0{0,6}([0-9]{1,7});?"
)
# ``in`` is ten times as fast for an int as for bytes.
_PERCENT, _BACKSLASH, _AND = b"%\\&"
_BASES = (16, 16, 16, 16, 10)

#: A token that ``POST /admin/clients`` has made, and how it is shown.
MADE_TOKEN = re.compile(rb"gpx_[A-Za-z0-9_-]{43}")
_MADE, _MADE_MASK = b"gpx_", "gpx_…".encode()

_DIGITS = re.compile(rb"[0-9]+")
_WORD = re.compile(rb"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class _Form:
    """One way to write one secret; ``mask`` is written the same way."""

    value: bytes
    mask: bytes
    #: Whether parts of it are searched too; forms that are never cut off do not need it.
    has_parts: bool = False


class Scrubber:
    """Replaces every known secret by its mask. May be used from any thread."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._live: dict[str, Secret] = {}
        self._retired: dict[str, Secret] = {}
        self._index = _Index(())
        #: Grows when the known secrets change, so that callers can repeat a search.
        self.generation = 0
        self.replace(secrets)

    def replace(self, secrets: Iterable[Secret]) -> None:
        """Set the live secrets. Former ones stay known for a long time.

        Takes about 50 microseconds for each new secret; call it in a thread for thousands.
        """
        live = {secret.id: secret for secret in secrets}
        retired = {**self._retired, **self._live}
        # All just removed secrets stay known: requests in flight still use them.
        most = max(_RETIRED_KEPT, len(self._live))
        kept = [(i, secret) for i, secret in retired.items() if i not in live][-most:]
        known = set(self._live) | set(self._retired)
        self._live, self._retired = live, dict(kept)
        if set(live) - known or known - set(live) - set(self._retired):
            self._index = _Index((*live.values(), *self._retired.values()))
            self.generation += 1

    def finds(self, data: bytes) -> bool:
        """Whether ``data`` may contain a secret: ``False`` is certain, ``True`` needs a scrub."""
        return _MADE in data or self._index.suspects(data)

    def finds_in_shape(self, data: bytes) -> bool:
        """As :meth:`finds`, for all texts that differ from ``data`` only in their digits.

        Takes half a millisecond for 200 bytes.
        """
        return _MADE in data or self._index.suspects_shape(data)

    def scrub(self, text: str) -> str:
        """``text`` with every secret masked; the same object if there is none."""
        data = text.encode("utf-8", "surrogatepass")
        scrubbed = self.scrub_bytes(data)
        return text if scrubbed is data else scrubbed.decode("utf-8", "surrogatepass")

    def scrub_bytes(self, data: bytes) -> bytes:
        """``data`` with every secret masked; the same object if there is none."""
        index = self._index
        if index.suspects(data):
            data = index.replaced(data)
        return MADE_TOKEN.sub(_MADE_MASK, data) if _MADE in data else data


class _Index:
    """All forms of all secrets, arranged so that a negative answer is fast."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._windows: set[int] = set()
        self._heads: dict[bytes, list[_Form]] = {}
        self._whole: list[_Form] = []  # whose parts are searched
        self._words: dict[bytes, bytes] = {}
        odd: dict[bytes, bytes] = {}
        for secret in secrets:
            for form in _forms(secret):
                if len(form.value) >= _PART:
                    self._add(form)
                elif _WORD.fullmatch(form.value):
                    self._words[form.value] = form.mask
                else:
                    odd[form.value] = form.mask
        self._odd = odd
        self._has_short = bool(odd or self._words)
        self._odd_pattern = _alternatives(odd)
        self._coarse = self._coarse_windows()
        pieces = chain(self._shaping_heads(), self._parts_with_digits(), self._words, odd)
        self._shapes = {_shape(piece) for piece in pieces}

    def suspects(self, data: bytes) -> bool:
        """Whether a full search is needed."""
        length = len(data)
        if length >= _PART and self._windows:
            coarse = self._coarse
            if (
                coarse is None
                or length > _COARSE_TEXT
                or not coarse.isdisjoint(_coarsely(length)(data))
            ) and self._suspects_long(data):
                return True
            if (_PERCENT in data or _BACKSLASH in data or _AND in data) and (
                self._suspects_spelled(data)
            ):
                return True
        return self._has_short and self._suspects_short(data)

    def suspects_shape(self, data: bytes) -> bool:
        """Whether text with other runs of digits may need a full search.

        If one text contains another, its shape contains the other's shape.
        """
        shape = _shape(data)
        return any(
            shape[begin : begin + size] in self._shapes
            for begin in range(len(shape))
            for size in range(1, _PART + 1)
        )

    def replaced(self, data: bytes) -> bytes:
        """``data`` with all matches replaced."""
        data = _with_masks(data, self._all_spans(data))
        if self._words:
            data = _WORD.sub(lambda word: self._words.get(word[0], word[0]), data)
        if self._odd_pattern is not None:
            data = self._odd_pattern.sub(lambda match: self._odd[match[0]], data)
        return data

    def _suspects_long(self, data: bytes) -> bool:
        length, view, seen = len(data), memoryview(data), self._windows
        even = view[: length & -_WINDOW].cast("Q").tolist()
        odd = view[_STRIDE : _STRIDE + (length - _STRIDE & -_WINDOW)].cast("Q").tolist()
        return not (seen.isdisjoint(even) and seen.isdisjoint(odd))

    def _suspects_short(self, data: bytes) -> bool:
        if self._odd_pattern is not None and self._odd_pattern.search(data):
            return True
        if len(self._words) > _FEW:
            return not self._words.keys().isdisjoint(_WORD.findall(data))
        for word in self._words:  # noqa: SIM110 - any() would take twice as long
            if word in data:
                return True
        return False

    def _add(self, form: _Form) -> None:
        value, length = form.value, len(form.value)
        self._heads.setdefault(value[:_PART], []).append(form)
        self._watch(value, range(_STRIDE))
        if form.has_parts:
            self._whole.append(form)
            self._watch(value, range(length - _WINDOW + 1))

    def _watch(self, value: bytes, offsets: range) -> None:
        self._windows.update(int.from_bytes(value[i : i + _WINDOW], sys.byteorder) for i in offsets)

    def _coarse_windows(self) -> frozenset[int] | None:
        """The numbers of the coarse check; ``None`` with too many forms for it."""
        if len(self._heads) > _COARSE_FORMS:
            return None
        pieces = chain((head[: _PART - 1] for head in self._heads), (f.value for f in self._whole))
        return frozenset(
            int.from_bytes(piece[i : i + _COARSE_WINDOW], sys.byteorder)
            for piece in pieces
            for i in range(len(piece) - _COARSE_WINDOW + 1)
        )

    def _shaping_heads(self) -> Iterator[bytes]:
        """The beginnings of forms, without all-digit ones of the hexadecimal form.

        Every number has their shape, no number in a line is as long as such a form, and about every
        second secret has one.
        """
        for head, forms in self._heads.items():
            if not head.isdigit() or any(form.has_parts for form in forms):
                yield head

    def _parts_with_digits(self) -> Iterator[bytes]:
        """Middle parts that are matched by shape; parts with few digits are not."""
        for form in self._whole:
            for begin in range(1, len(form.value) - _PART + 1):
                part = form.value[begin : begin + _PART]
                if len(part) - len(part.translate(None, b"0123456789")) >= _MANY_DIGITS:
                    yield part

    def _suspects_spelled(self, data: bytes) -> bool:
        """Whether ``data`` contains a secret in numeric escapes."""
        for _ in range(_SPELLINGS):
            spelled = _SPELLED.sub(_unspelled, data)
            if spelled == data:
                return False
            if len(spelled) >= _PART and self._suspects_long(spelled):
                return True
            data = spelled
        return False

    def _all_spans(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """As :meth:`_spans`, also in decoded escapes. Offsets are those in ``data``."""
        yield from self._spans(data)
        places: Sequence[int] = range(len(data) + 1)
        for _ in range(_SPELLINGS):
            if _SPELLED.search(data) is None:
                return
            data, places = _read(data, places)
            for begin, end, mask in self._spans(data):
                yield places[begin], places[end], mask

    def _spans(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """The matches of long forms and their parts: begin, end and mask, in any order."""
        done = 0
        for place in range(0, len(data) - _WINDOW + 1, _STRIDE):
            window = data[place : place + _WINDOW]
            if int.from_bytes(window, sys.byteorder) not in self._windows:
                continue
            for span in self._heads_near(data, place):
                yield span
                done = max(done, span[1])
            if place + _WINDOW > done:
                for span in self._parts_at(data, place, window):
                    yield span
                    done = max(done, span[1])

    def _heads_near(self, data: bytes, place: int) -> Iterator[tuple[int, int, bytes]]:
        for begin in range(max(0, place - _STRIDE + 1), place + 1):
            for form in self._heads.get(data[begin : begin + _PART], ()):
                length = _common(form.value, data[begin : begin + len(form.value)])
                yield begin, begin + length, form.mask

    def _parts_at(self, data: bytes, place: int, window: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Parts of secrets that contain the ``window`` at ``place``; rare, so all are tried."""
        for form in self._whole:
            value = form.value
            at = value.find(window)
            while at >= 0:
                before = _common(value[:at][::-1], data[max(0, place - at) : place][::-1])
                after = _common(value[at:], data[place : place + len(value) - at])
                if before + after >= _PART:
                    yield place - before, place + after, form.mask
                at = value.find(window, at + 1)


@lru_cache(maxsize=128)
def _coarsely(length: int) -> Callable[[bytes], tuple[int, ...]]:
    """Extracts the coarse numbers from a text of this length, faster than a ``memoryview``."""
    places = (length + _COARSE_STRIDE - _COARSE_WINDOW) // _COARSE_STRIDE
    return Struct("=" + "I4x" * (places - 1) + "I").unpack_from


def _shape(data: bytes) -> bytes:
    """``data`` with each run of digits replaced by a single one."""
    return _DIGITS.sub(b"0", data)


def _unspelled(spelled: re.Match[bytes]) -> bytes:
    """The character of a numeric escape, or the text itself if it is none."""
    both = zip(spelled.groups(), _BASES, strict=True)
    number = next(int(digits, base) for digits, base in both if digits)
    if spelled[0].startswith(b"%"):
        return bytes((number,))
    return chr(number).encode("utf-8", "surrogatepass") if number <= sys.maxunicode else spelled[0]


def _read(data: bytes, places: Sequence[int]) -> tuple[bytes, list[int]]:
    """``data`` with escapes decoded, and the offset of each decoded byte in ``data``."""
    pieces: list[bytes] = []
    found: list[int] = []
    done = 0
    for spelled in _SPELLED.finditer(data):
        begin, character = spelled.start(), _unspelled(spelled)
        pieces += (data[done:begin], character)
        found += places[done:begin]
        found += [places[begin]] * len(character)
        done = spelled.end()
    found += places[done:]
    pieces.append(data[done:])
    return b"".join(pieces), found


def _forms(secret: Secret) -> Iterator[_Form]:
    """All distinct forms of the secret."""
    value, mask = secret.reveal(), secret.masked
    plain = _Form(value.encode(), mask.encode(), has_parts=True)
    written = {plain.value: plain}
    for other in _other_forms(plain.value):
        # A short secret in upper case may be an ordinary word.
        if len(other) >= _PART:
            written.setdefault(other, _Form(other, plain.mask))
    for escape in _ESCAPES:
        form = _Form(escape(value).encode(), escape(mask).encode())
        written.setdefault(form.value, form)
    for escape in _PERCENTS:
        form = _Form(escape(value).encode(), plain.mask)
        written.setdefault(form.value, form)
    for core in _base64_cores(plain.value):
        written.setdefault(core, _Form(core, plain.mask))
    return (form for form in written.values() if form.value)


def _other_forms(value: bytes) -> Iterator[bytes]:
    """Upper case, lower case, hexadecimal digits, and Base32."""
    yield from (value.lower(), value.upper())
    yield from (value.hex().encode(), value.hex().upper().encode())
    # Following text changes the last character.
    base32 = base64.b32encode(value)[: len(value) * 8 // 5]
    yield from (base32, base32.lower())


#: Escapes that the mask needs too, so that the text around it stays well-formed.
_ESCAPES: tuple[Callable[[str], str], ...] = (
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1].replace("/", "\\/"),
    lambda text: repr(text)[1:-1],
    html.escape,
)

_PERCENTS: tuple[Callable[[str], str], ...] = (
    quote,
    lambda text: quote(text, safe=""),
    lambda text: re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), quote(text, safe="")),
)


def _base64_cores(value: bytes) -> Iterator[bytes]:
    """The part of ``value`` in the Base64 of any longer text, for each of three alignments."""
    for before in range(3):
        bits = 8 * (before + len(value))
        core = base64.b64encode(bytes(before) + value)[-(-before * 8 // 6) : bits // 6]
        if len(core) >= _PART:
            yield core
            yield core.translate(_URL_SAFE)


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _alternatives(values: Iterable[bytes]) -> re.Pattern[bytes] | None:
    """A pattern for any of ``values``, the longest first; ``None`` without values."""
    longest_first = sorted(values, key=len, reverse=True)
    return re.compile(b"|".join(map(re.escape, longest_first))) if longest_first else None


def _common(one: bytes, other: bytes) -> int:
    """The length of the common prefix."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _with_masks(data: bytes, spans: Iterable[tuple[int, int, bytes]]) -> bytes:
    """``data`` with each span replaced; spans that overlap become one, under the first's mask."""
    pieces: list[bytes] = []
    done = 0
    for begin, end, mask in sorted(spans, key=lambda span: (span[0], -span[1])):
        if begin >= done:
            pieces += (data[done:begin], mask)
        done = max(done, end)
    return b"".join((*pieces, data[done:])) if pieces else data
