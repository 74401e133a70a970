"""Whether a body is JSON, by what its request says."""

from __future__ import annotations

import re

from gemproxy.api.base import Head
from gemproxy.core.errors import InvalidRequest

_JSON = b"application/json"
#: Media types of JSON, and the charsets that are accepted with it.
_JSON_TYPE = re.compile(rb"application/json|[^/,\s]+/[^/,\s]+\+json")
_UTF_8 = frozenset({b"utf-8", b"utf8", b"us-ascii", b"ascii"})


def check_content_type(head: Head) -> None:
    """Raise :class:`InvalidRequest` unless the body is declared as JSON.

    A web page may send some other types to any address without a preflight (Fetch standard, section
    2.2.2).
    """
    encoding = head.header(b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in (b"identity", b""):
        raise InvalidRequest(
            f"Content-Encoding {encoding.decode('latin-1')[:40]!r} is not supported;"
            " send the JSON as it is."
        )
    content_type = head.header(b"content-type")
    if content_type == _JSON:
        return
    if not content_type:
        raise InvalidRequest("Content-Type is missing; it must be application/json.")
    kind, *parameters = content_type.lower().split(b";")
    if _JSON_TYPE.fullmatch(kind.strip()) is None:
        raise InvalidRequest(
            f"Content-Type must be application/json, not {kind.decode('latin-1')[:100]!r}."
        )
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        # RFC 8259 section 8.1: JSON is UTF-8, of which ASCII is a part.
        if name.strip() == b"charset" and value.strip().strip(b'"') not in _UTF_8:
            raise InvalidRequest(
                f"JSON must be UTF-8, not {value.strip().decode('latin-1')[:100]!r}."
            )
