"""Taking live secrets out of text, by value.

No pattern tells a secret, so the scrubber knows each one, in every form in which text may carry
it: as it is, in capitals or small letters, escaped as JSON, as a Python literal, as HTML or
percent-encoded, as hexadecimal digits, in Base32, and within Base64. Text that spells characters by
their numbers (``%41``, ``&#65;``, backslash and ``u0041``) is read as what it spells.

What is found, and replaced by the secret's mask:

- a form of twelve characters or more, anywhere, also within a longer word;
- twelve characters or more of the secret itself, wherever the rest was cut off; of another form its
  first twelve or more. Twelve, since a mask shows eight, and less is met by chance: by words that a
  token is made of;
- a shorter secret, where it stands as a word of its own: ``hunter2`` in ``key=hunter2``, not in
  ``hunter2000``. Otherwise one careless token of three letters would garble every log line.

Text without secrets, which is nearly all there is, costs a microsecond or a few for each 400 bytes.
The eight bytes at every fourth place are looked up, as numbers, in a set that holds all such
numbers of each secret, and the four at the beginning of each other form; any run of twelve
characters covers one of these places whole. Before that, short text and a few hundred secrets meet
a coarser look at half as many numbers: the four bytes at every eighth place, which such a run
covers as well.
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

#: The shortest run that a place of four and a window of eight are sure to meet is eleven.
_PART = 12
_WINDOW = 8
_STRIDE = 4
#: The coarser look: as sure to meet such a run, and wrong more often.
_COARSE_WINDOW = 4
_COARSE_STRIDE = 8
#: Longer text is looked at closely at once.
_COARSE_TEXT = 2048
#: With more forms the coarse numbers would take much memory and be met by chance in most lines.
_COARSE_FORMS = 8000
#: Secrets that left the configuration may still turn up; beyond this many the oldest is forgotten.
_RETIRED_KEPT = 1000
#: Up to this many short secrets a search for each is cheaper than a search for all words.
_FEW = 16

#: Digits of a part that other digits may make of other text.
_MANY_DIGITS = 4
#: How often text is read anew that spells what spells something: ``%2541``.
_SPELLINGS = 3
_SPELLED = re.compile(
    rb"%([0-9A-Fa-f]{2})|\\u\{?([0-9A-Fa-f]{4})\}?|\\x([0-9A-Fa-f]{2})"
    rb"|&#[xX]0{0,6}([0-9A-Fa-f]{1,6});?|&#0{0,6}([0-9]{1,7});?"
)
# ``in`` finds a number among bytes in a tenth of the time that it takes for bytes.
_PERCENT, _BACKSLASH, _AND = b"%\\&"
_BASES = (16, 16, 16, 16, 10)

_DIGITS = re.compile(rb"[0-9]+")
_WORD = re.compile(rb"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class _Form:
    """One way to write one secret; ``mask`` is written the same way."""

    value: bytes
    mask: bytes
    #: Whether parts of it are looked for as well; not worth the room for what no one cuts.
    has_parts: bool = False


class Scrubber:
    """Replaces every known secret by its mask. May be used from any thread."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._live: dict[str, Secret] = {}
        self._retired: dict[str, Secret] = {}
        self._index = _Index(())
        #: Grows when other secrets are known, so that what was looked at may be looked at again.
        self.generation = 0
        self.replace(secrets)

    def replace(self, secrets: Iterable[Secret]) -> None:
        """Take ``secrets`` as the live ones. Those that were live stay known for a long while.

        Takes about 50 microseconds a secret, where one is new; for thousands, call it in a thread.
        """
        live = {secret.id: secret for secret in secrets}
        retired = {**self._retired, **self._live}
        # All that have just left stay known, however many: requests in flight still hold them.
        most = max(_RETIRED_KEPT, len(self._live))
        kept = [(i, secret) for i, secret in retired.items() if i not in live][-most:]
        known = set(self._live) | set(self._retired)
        self._live, self._retired = live, dict(kept)
        if set(live) - known or known - set(live) - set(self._retired):
            self._index = _Index((*live.values(), *self._retired.values()))
            self.generation += 1

    def finds(self, data: bytes) -> bool:
        """Whether ``data`` may hold a secret: ``False`` is certain, ``True`` is worth a scrub."""
        return self._index.suspects(data)

    def finds_in_shape(self, data: bytes) -> bool:
        """As :meth:`finds`, for all text that has other digits, or more of them, where it has any.

        Takes half a millisecond for 200 bytes.
        """
        return self._index.suspects_shape(data)

    def scrub(self, text: str) -> str:
        """``text`` with every secret masked; the same object where there is none."""
        data = text.encode("utf-8", "surrogatepass")
        scrubbed = self.scrub_bytes(data)
        return text if scrubbed is data else scrubbed.decode("utf-8", "surrogatepass")

    def scrub_bytes(self, data: bytes) -> bytes:
        """``data`` with every secret masked; the same object where there is none."""
        index = self._index
        return index.replaced(data) if index.suspects(data) else data


class _Index:
    """All forms of all secrets, arranged for a quick no."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._windows: set[int] = set()
        self._heads: dict[bytes, list[_Form]] = {}
        self._whole: list[_Form] = []  # of which parts are looked for
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
        """Whether a closer look is needed."""
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
        """Whether a closer look may be needed at text that differs in its runs of digits.

        Where one text holds another, the shape of the one holds that of the other.
        """
        shape = _shape(data)
        return any(
            shape[begin : begin + size] in self._shapes
            for begin in range(len(shape))
            for size in range(1, _PART + 1)
        )

    def replaced(self, data: bytes) -> bytes:
        """``data`` with all that is found replaced."""
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
        """The numbers of the coarser look; ``None`` where there are too many forms for it."""
        if len(self._heads) > _COARSE_FORMS:
            return None
        pieces = chain((head[: _PART - 1] for head in self._heads), (f.value for f in self._whole))
        return frozenset(
            int.from_bytes(piece[i : i + _COARSE_WINDOW], sys.byteorder)
            for piece in pieces
            for i in range(len(piece) - _COARSE_WINDOW + 1)
        )

    def _shaping_heads(self) -> Iterator[bytes]:
        """The heads of forms, without those of digits alone that a secret has in hexadecimal only.

        Any number has their shape, while none of a line is as long as such a form, and every
        second secret or so has one of them.
        """
        for head, forms in self._heads.items():
            if not head.isdigit() or any(form.has_parts for form in forms):
                yield head

    def _parts_with_digits(self) -> Iterator[bytes]:
        """Parts from the middle that other digits may make; few digits make no word a secret."""
        for form in self._whole:
            for begin in range(1, len(form.value) - _PART + 1):
                part = form.value[begin : begin + _PART]
                if len(part) - len(part.translate(None, b"0123456789")) >= _MANY_DIGITS:
                    yield part

    def _suspects_spelled(self, data: bytes) -> bool:
        """Whether ``data`` spells characters by their numbers, and a secret with them."""
        for _ in range(_SPELLINGS):
            spelled = _SPELLED.sub(_unspelled, data)
            if spelled == data:
                return False
            if len(spelled) >= _PART and self._suspects_long(spelled):
                return True
            data = spelled
        return False

    def _all_spans(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """What :meth:`_spans` finds, also in what ``data`` spells. Places are those in ``data``."""
        yield from self._spans(data)
        places: Sequence[int] = range(len(data) + 1)
        for _ in range(_SPELLINGS):
            if _SPELLED.search(data) is None:
                return
            data, places = _read(data, places)
            for begin, end, mask in self._spans(data):
                yield places[begin], places[end], mask

    def _spans(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Where the long forms and their parts stand: begin, end and mask, in any order."""
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
        """Parts of secrets that hold the ``window`` at ``place``. Rare, so that all are tried."""
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
    """What takes the coarse numbers out of a text of this length, faster than a ``memoryview``."""
    places = (length + _COARSE_STRIDE - _COARSE_WINDOW) // _COARSE_STRIDE
    return Struct("=" + "I4x" * (places - 1) + "I").unpack_from


def _shape(data: bytes) -> bytes:
    """``data`` with each run of digits replaced by a single one."""
    return _DIGITS.sub(b"0", data)


def _unspelled(spelled: re.Match[bytes]) -> bytes:
    """The character that is spelled by its number, or what was written where there is none."""
    both = zip(spelled.groups(), _BASES, strict=True)
    number = next(int(digits, base) for digits, base in both if digits)
    if spelled[0].startswith(b"%"):
        return bytes((number,))
    return chr(number).encode("utf-8", "surrogatepass") if number <= sys.maxunicode else spelled[0]


def _read(data: bytes, places: Sequence[int]) -> tuple[bytes, list[int]]:
    """What ``data`` spells, and the place of each of its bytes, and of its end, by ``places``."""
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
    """Every way to write the secret that differs from the others."""
    value, mask = secret.reveal(), secret.masked
    plain = _Form(value.encode(), mask.encode(), has_parts=True)
    written = {plain.value: plain}
    for other in _other_forms(plain.value):
        # In capitals a short secret would be a word that nobody meant.
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
    """In capitals, in small letters, as hexadecimal digits, and in Base32."""
    yield from (value.lower(), value.upper())
    yield from (value.hex().encode(), value.hex().upper().encode())
    # What follows in a longer text changes the last character.
    base32 = base64.b32encode(value)[: len(value) * 8 // 5]
    yield from (base32, base32.lower())


#: Escapes under which the mask must be written as well, so that what holds it stays well-formed.
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
    """What Base64 of any longer text holds of ``value``, for each of the three places to begin."""
    for before in range(3):
        bits = 8 * (before + len(value))
        core = base64.b64encode(bytes(before) + value)[-(-before * 8 // 6) : bits // 6]
        if len(core) >= _PART:
            yield core
            yield core.translate(_URL_SAFE)


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _alternatives(values: Iterable[bytes]) -> re.Pattern[bytes] | None:
    """A pattern for any of ``values``, the longest first; ``None`` where there is none."""
    longest_first = sorted(values, key=len, reverse=True)
    return re.compile(b"|".join(map(re.escape, longest_first))) if longest_first else None


def _common(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
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
