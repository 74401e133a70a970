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
