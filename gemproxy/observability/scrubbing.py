"""Taking live secrets out of text, by value.

No pattern tells a secret, so the scrubber knows each one, in every form in which text may carry
it: as it is, escaped as JSON, as a Python literal, as HTML or percent-encoded, and within Base64.

What is found, and replaced by the secret's mask:

- a form of twelve characters or more, anywhere, also within a longer word;
- the first or last twelve characters or more of it, where the rest was cut off. A part that is
  cut from the middle, or shorter, is not found;
- a shorter secret, where it stands as a word of its own: ``hunter2`` in ``key=hunter2``, not in
  ``hunter2000``. Otherwise one careless token of three letters would garble every log line.

Text without secrets, which is nearly all there is, costs a microsecond or a few for each 400 bytes.
The eight bytes at every fourth place are looked up, as numbers, in a set that holds the four
numbers at the beginning and at the end of each form; any run of twelve characters covers one of
these places whole. Before that, short text and a few hundred secrets meet a coarser look at half as
many numbers: the four bytes at every eighth place, which such a run covers as well.
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
    from collections.abc import Callable, Iterable, Iterator

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
_COARSE_FORMS = 4000
#: Secrets that left the configuration may still turn up; beyond this many the oldest is forgotten.
_RETIRED_KEPT = 1000
#: Up to this many short secrets a search for each is cheaper than a search for all words.
_FEW = 16

_DIGITS = re.compile(rb"[0-9]+")
_WORD = re.compile(rb"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class _Form:
    """One way to write one secret; ``mask`` is written the same way."""

    value: bytes
    mask: bytes
    #: Whether its end is looked for as well; not worth the room for what no one cuts.
    has_tail: bool = False


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
        self._tails: dict[bytes, list[_Form]] = {}
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
        pieces = chain(self._heads, self._tails, self._words, odd)
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
        data = _with_masks(data, self._spans(data))
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
        if form.has_tail:
            self._tails.setdefault(value[-_PART:], []).append(form)
            self._watch(value, range(length - _PART + 1, length - _WINDOW + 1))

    def _watch(self, value: bytes, offsets: range) -> None:
        self._windows.update(int.from_bytes(value[i : i + _WINDOW], sys.byteorder) for i in offsets)

    def _coarse_windows(self) -> frozenset[int] | None:
        """The numbers of the coarser look; ``None`` where there are too many forms for it."""
        if len(self._heads) > _COARSE_FORMS:
            return None
        ends = chain(
            (head[: _PART - 1] for head in self._heads), (tail[1:] for tail in self._tails)
        )
        return frozenset(
            int.from_bytes(end[i : i + _COARSE_WINDOW], sys.byteorder)
            for end in ends
            for i in range(_COARSE_STRIDE)
        )

    def _spans(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Where the long forms and their parts stand: begin, end and mask, in any order."""
        for place in range(0, len(data) - _WINDOW + 1, _STRIDE):
            window = int.from_bytes(data[place : place + _WINDOW], sys.byteorder)
            if window in self._windows:
                yield from self._spans_near(data, place)

    def _spans_near(self, data: bytes, place: int) -> Iterator[tuple[int, int, bytes]]:
        for begin in range(max(0, place - _STRIDE + 1), place + 1):
            for form in self._heads.get(data[begin : begin + _PART], ()):
                length = _common(form.value, data[begin : begin + len(form.value)])
                yield begin, begin + length, form.mask
        for end in range(place + _WINDOW, place + _WINDOW + _STRIDE):
            for form in self._tails.get(data[max(0, end - _PART) : end], ()):
                before = data[max(0, end - len(form.value)) : end]
                yield end - _common(form.value[::-1], before[::-1]), end, form.mask


@lru_cache(maxsize=128)
def _coarsely(length: int) -> Callable[[bytes], tuple[int, ...]]:
    """What takes the coarse numbers out of a text of this length, faster than a ``memoryview``."""
    places = (length + _COARSE_STRIDE - _COARSE_WINDOW) // _COARSE_STRIDE
    return Struct("=" + "I4x" * (places - 1) + "I").unpack_from


def _shape(data: bytes) -> bytes:
    """``data`` with each run of digits replaced by a single one."""
    return _DIGITS.sub(b"0", data)


def _forms(secret: Secret) -> Iterator[_Form]:
    """Every way to write the secret that differs from the others."""
    value, mask = secret.reveal(), secret.masked
    plain = _Form(value.encode(), mask.encode(), has_tail=True)
    written = {plain.value: plain}
    for escape in _ESCAPES:
        form = _Form(escape(value).encode(), escape(mask).encode())
        written.setdefault(form.value, form)
    for escape in _PERCENT:
        form = _Form(escape(value).encode(), plain.mask)
        written.setdefault(form.value, form)
    for core in _base64_cores(plain.value):
        written.setdefault(core, _Form(core, plain.mask))
    return (form for form in written.values() if form.value)


#: Escapes under which the mask must be written as well, so that what holds it stays well-formed.
_ESCAPES: tuple[Callable[[str], str], ...] = (
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1].replace("/", "\\/"),
    lambda text: repr(text)[1:-1],
    html.escape,
)

_PERCENT: tuple[Callable[[str], str], ...] = (
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
