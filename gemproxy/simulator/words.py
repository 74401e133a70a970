"""Text from a seed, its tokens, and other contents of answers: images and sound.

Nothing here is random by itself: for variety pass a random source made by :func:`dice_for`.
"""

from __future__ import annotations

import base64
import hashlib
import random
import re
import struct
import zlib

import msgspec

# A token is a word or a part of one, with the space before it; all tokens joined are the text.
_TOKEN = re.compile(r"\s?\w{1,8}|\s?[^\w\s]|\s+")
_LONG_TEXT = 20_000
_BYTES_PER_TOKEN = 4

# Some words are outside ASCII on purpose, to reveal code that splits UTF-8 characters.
_WORDS = (  # noqa: SIM905 - a list of fifty quoted words reads worse
    "river stone garden lamp winter bridge letter copper window harvest signal mountain violet "
    "paper engine island forest market candle meadow silver thunder harbour kitchen orchard "
    "café naïve über façade jalapeño smörgås żubr Δ 東京 море → 🙂 "
    "gathers follows remembers crosses answers carries measures opens repeats becomes keeps "
    "slowly often never twice together before after beneath between without quietly again "
    "the a this every another"
).split()

SAMPLE_RATE = 24_000


def dice_for(*seeds: object) -> random.Random:
    """A random source that gives the same numbers for the same seeds, in every process."""
    return random.Random("|".join(map(str, seeds)))  # noqa: S311 - reproducible, not secret


def digest(*parts: object) -> str:
    """A short digest of JSON values; the order of keys does not matter."""
    encoded = msgspec.json.encode(parts, order="sorted")
    return hashlib.blake2b(encoded, digest_size=12).hexdigest()


def sentences(dice: random.Random, count: int) -> str:
    """About ``count`` words in sentences."""
    text: list[str] = []
    while count > 0:
        length = min(count, dice.randint(5, 11))
        words = [dice.choice(_WORDS) for _ in range(length)]
        text.append(" ".join(words).capitalize() + ".")
        count -= length
    return " ".join(text)


def tokens(text: str) -> list[str]:
    """The tokens of ``text``; joined they are the text."""
    return _TOKEN.findall(text)


def token_count(text: str) -> int:
    """The number of tokens; for long texts an estimate that does not block the reactor."""
    if len(text) > _LONG_TEXT:
        return len(text) // _BYTES_PER_TOKEN
    return len(_TOKEN.findall(text))


def excerpt(text: str, length: int = 200) -> str:
    """The beginning of ``text`` on one line."""
    line = " ".join(text[: length * 2].split())
    return line if len(line) <= length else line[:length] + "…"


def picture(dice: random.Random, side: int = 16) -> str:
    """A valid PNG of one colour, base64; W3C PNG specification, sections 5 and 11."""
    row = b"\x00" + bytes(dice.randrange(256) for _ in range(3)) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    png = (
        b"\x89PNG\r\n\x1a\n"
        + _png_chunk(b"IHDR", header)
        + _png_chunk(b"IDAT", zlib.compress(row * side))
        + _png_chunk(b"IEND", b"")
    )
    return base64.b64encode(png).decode("ascii")


def sound(seconds: float = 0.1) -> str:
    """Silence as signed 16-bit little-endian mono samples at 24 kHz, base64."""
    return base64.b64encode(bytes(2 * int(SAMPLE_RATE * seconds))).decode("ascii")


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
