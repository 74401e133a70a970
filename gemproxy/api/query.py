"""The query of a request."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qs, unquote_to_bytes

from gemproxy.core.errors import InvalidRequest


class Pair(NamedTuple):
    """A parameter of a query: its decoded name and value, and how the client has written it."""

    name: bytes
    value: bytes
    written: bytes


def pairs_of(query: bytes) -> list[Pair]:
    """The parameters of ``query`` in order. ``%6Bey`` is the same name as ``key``."""
    pairs = []
    for written in query.split(b"&") if query else ():
        name, _, value = written.partition(b"=")
        pairs.append(Pair(_decoded(name), _decoded(value), written))
    return pairs


def _decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" ")) if b"%" in text or b"+" in text else text


def parameters_of(query: bytes) -> dict[str, list[str]]:
    """The values of each parameter of ``query``, decoded. Raises :class:`InvalidRequest`."""
    try:
        return parse_qs(query.decode("ascii", "replace"), True, max_num_fields=100)
    except ValueError as error:
        raise InvalidRequest("The query has too many parameters.") from error


def whole_number(text: str) -> int | None:
    """The number that ``text`` writes in one to nine ASCII digits; else ``None``.

    ``int`` reads digits of all scripts, spaces and signs, and raises for 5,000 digits.
    """
    return int(text) if len(text) <= 9 and text.isascii() and text.isdecimal() else None
