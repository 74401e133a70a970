"""The dashboard's files, which a browser gets without a token.

They hold no data. The page asks its user for the admin token and sends it to the admin API, so
these files disclose nothing that is not in the published package.

Addresses within the page are relative, so that it works behind a proxy that adds a prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from html import escape
from importlib.metadata import PackageNotFoundError, metadata
from importlib.resources import files

#: Allows only these files and the API of the same origin; scripts may not create markup from text.
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    b" base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    b" require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = (
    # Revalidated each time, so that an old page never meets an upgraded daemon.
    (b"Cache-Control", b"no-cache"),
    (b"Content-Security-Policy", _POLICY),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"X-Content-Type-Options", b"nosniff"),
)
_CONTENT_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
_INDEX = "index.html"
_TOKEN_REQUIRED = b'data-token="required"'
_TOKEN_NEEDLESS = b'data-token="needless"'
_NO_DOCS = b'data-docs=""'
#: The label of the documentation's address in the metadata of the package.
_DOCUMENTATION = "Documentation"


@dataclass(frozen=True)
class Document:
    """A file that is the same for everybody."""

    body: bytes = b""
    content_type: bytes = b"text/plain; charset=utf-8"
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = _HEADERS
    #: The ETag in quotes, as in the header.
    etag: bytes = field(init=False)

    def __post_init__(self) -> None:
        digest = sha256(self.body).hexdigest()[:32]
        object.__setattr__(self, "etag", b'"%b"' % digest.encode("ascii"))

    def is_in(self, if_none_match: bytes | None) -> bool:
        """Whether a browser with this If-None-Match has the file already."""
        return self.status == 200 and is_known(self.etag, if_none_match)


def is_known(etag: bytes, if_none_match: bytes | None) -> bool:
    """Whether ``etag`` is in an If-None-Match (RFC 9110, 13.1.2)."""
    known = {tag.strip().removeprefix(b"W/") for tag in (if_none_match or b"").split(b",")}
    return bool(known & {etag, b"*"})


class Dashboard:
    """The files by their paths."""

    def __init__(self) -> None:
        page = dict(_read_page())
        index = page.pop(_INDEX)
        docs = b'data-docs="%b"' % escape(_docs_address()).encode()
        index = Document(index.body.replace(_NO_DOCS, docs), index.content_type)
        shared = {f"/admin/page/{name}": document for name, document in page.items()}
        shared["/admin"] = Document(status=308, headers=((b"Location", b"admin/"), *_HEADERS))
        open_index = Document(
            index.body.replace(_TOKEN_REQUIRED, _TOKEN_NEEDLESS), index.content_type
        )
        self._closed: Mapping[str, Document] = {**shared, "/admin/": index}
        self._open: Mapping[str, Document] = {**shared, "/admin/": open_index}

    @property
    def paths(self) -> Iterable[str]:
        """The paths of all files."""
        return self._closed

    def find(self, path: str, *, admin_open: bool) -> Document:
        """Return the file at ``path``; the page contains whether the API needs a token."""
        return (self._open if admin_open else self._closed)[path]


def _read_page() -> Iterator[tuple[str, Document]]:
    """The files of the package by name, those of other authors with their folder."""
    page = files("gemproxy.admin") / "page"
    for folder, prefix in ((page, ""), (page / "vendor", "vendor/")):
        for file in folder.iterdir():
            for suffix, content_type in _CONTENT_TYPES.items():
                if file.name.endswith(suffix):
                    yield prefix + file.name, Document(file.read_bytes(), content_type)


def _docs_address() -> str:
    """Where the documentation is, as the package says; ``""`` if it does not say it."""
    try:
        addresses = metadata("gemproxy").get_all("Project-URL") or []
    except PackageNotFoundError:
        return ""
    by_label: dict[str, str] = dict(address.split(", ", 1) for address in addresses)
    return by_label.get(_DOCUMENTATION, "")
