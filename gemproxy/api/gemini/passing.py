"""Allow-lists for headers and query parameters, to Google and back.

A header or a parameter that is not on a list is dropped: it could carry a credential, or ask Google
for something on behalf of the key's project.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from gemproxy.api.base import Head
from gemproxy.api.query import pairs_of
from gemproxy.core.errors import InvalidRequest

#: Parameters that are passed on. Google's system parameters begin with ``$`` and are not.
_PARAMETERS: Final = frozenset(
    {
        b"alt",
        b"filter",
        b"force",
        b"include_input",
        b"last_event_id",
        b"orderBy",
        b"order_by",
        b"pageSize",
        b"page_size",
        b"pageToken",
        b"page_token",
        b"returnPartialSuccess",
        b"stream",
        b"updateMask",
        b"update_mask",
        b"uploadType",
        b"upload_id",
        b"upload_protocol",
    }
)
#: Forms of an answer that are JSON, events with JSON, or a file.
_FORMS: Final = frozenset({b"json", b"sse", b"media"})
#: Headers of a request that are passed on with every call.
_HEADERS: Final = (
    b"x-goog-api-client",
    b"x-goog-fieldmask",
    b"x-server-timeout",
    b"api-revision",
)
#: Headers of an answer that is no JSON.
_OF_ANSWERS: Final = ("content-type", "x-goog-upload-status", "x-goog-upload-size-received")
#: Headers of every answer, and the forms in which they are passed on. The forms are so narrow that
#: an API key that the upstream repeats in a header does not fit.
_METRIC: Final = r"[A-Za-z0-9_-]{1,16}(?:; ?dur=[0-9.]{1,12})?"
_TELLING: Final = (
    ("x-gemini-service-tier", re.compile(r"[A-Za-z_-]{1,16}")),
    ("server-timing", re.compile(rf"{_METRIC}(?:, ?{_METRIC}){{0,7}}")),
)
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]{1,1000}")


class Downloads:
    """Where the addresses of downloads in answers lead: to Google, or to this proxy.

    ``rewritten`` may be replaced between two requests.
    """

    def __init__(self, *, rewritten: bool = False) -> None:
        self.rewritten = rewritten

    def origin(self, head: Head) -> str:
        """The origin of the addresses of downloads; empty if they are not rewritten."""
        return head.origin if self.rewritten else ""


#: They stay as they are.
KEPT: Final = Downloads()


def passed_query(query: bytes) -> bytes:
    """The parameters of ``query`` that Google gets, encoded as the client has encoded them.

    Raises :class:`InvalidRequest` for a form of the answer that is not supported.
    """
    kept = []
    for name, value, written in pairs_of(query):
        if name not in _PARAMETERS:
            continue
        if name == b"alt" and value not in _FORMS:
            shown = value.decode("latin-1")[:40]
            raise InvalidRequest(f"alt: {shown!r} is not supported; use json, sse or media.")
        kept.append(written)
    return b"&".join(kept)


def passed_headers(head: Head, names: Iterable[bytes] = _HEADERS) -> bytes:
    """The lines of the headers that Google gets, by default those of every call."""
    lines = b""
    for name in names:
        value = head.header(name)
        if value is not None:
            lines += b"%b: %b\r\n" % (name, value)
    return lines


def telling_headers(header: Callable[[str], str | None]) -> bytes:
    """The lines of headers that tell the client how Google has served it."""
    lines = b""
    for name, form in _TELLING:
        value = header(name)
        if value is not None and form.fullmatch(value):
            lines += f"{name}: {value}\r\n".encode("ascii")
    return lines


def passed_answer_headers(headers: Mapping[str, str]) -> bytes:
    """The lines of those headers of an answer that the client gets."""
    lines = b""
    for name in _OF_ANSWERS:
        value = headers.get(name, "")
        if _HEADER_VALUE.fullmatch(value):
            lines += f"{name}: {value}\r\n".encode("ascii")
    return lines
