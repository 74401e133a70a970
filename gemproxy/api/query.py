"""The query of a request."""

from __future__ import annotations

from urllib.parse import parse_qs

from gemproxy.core.errors import InvalidRequest


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
