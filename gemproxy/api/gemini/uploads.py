"""``/upload/{version}/…``: files on their way to Google, which are not held in memory.

A resumable upload takes several requests. The first one names the file and is answered with the
address of the others, in headers. That address is rewritten to this proxy: else the file would go
past it, and the project of the file would stay unknown. The other requests carry no token with many
clients; the ``upload_id`` in their address admits them, and they go to a key of the project in
which the upload was begun. Uploads in one request (``multipart``, ``raw``) go to any key.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import parse_qs, urlsplit

from gemproxy.api.base import Head, Route
from gemproxy.api.gemini.errors import GEMINI
from gemproxy.api.gemini.passing import passed_answer_headers, passed_headers
from gemproxy.api.gemini.resources import Learns, ResourceJob, native_call
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import Forbidden, InvalidRequest
from gemproxy.core.interfaces import BodySource
from gemproxy.pool.key import Affinity
from gemproxy.translate.gemini_native__gemini.resources import name_in

_TEMPLATES: Final = (
    "/upload/{version}/files",
    "/upload/{version}/fileSearchStores/{store}:uploadToFileSearchStore",
)
#: Headers of an upload that are passed on.
_HEADERS: Final = (
    b"content-type",
    b"x-goog-upload-protocol",
    b"x-goog-upload-command",
    b"x-goog-upload-offset",
    b"x-goog-upload-header-content-length",
    b"x-goog-upload-header-content-type",
    b"x-goog-upload-file-name",
    b"x-goog-upload-raw-size",
)
#: Headers of an answer that hold an address for the upload.
_ADDRESSES: Final = ("x-goog-upload-url", "x-goog-upload-control-url")
_GRANULARITY: Final = "x-goog-upload-chunk-granularity"
_SAFE: Final = re.compile(r"[\x21-\x7e]{1,4000}")
#: Seconds for which an upload is known, and the number of uploads that are.
_LIFETIME: Final = 3600.0
_MOST_UPLOADS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that was begun: in which project, by which client, and until when it is known."""

    project: str
    owner: object
    expires: float


class Uploads:
    """The uploads that were begun, by their ids. ``seconds`` gives monotonic time."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._known: OrderedDict[str, Upload] = OrderedDict()

    def begin(self, upload_id: str, project: str, owner: object) -> None:
        """Note an upload."""
        self._known[upload_id] = Upload(project, owner, self._seconds() + _LIFETIME)
        if len(self._known) > _MOST_UPLOADS:
            self._known.popitem(last=False)

    def find(self, query: bytes) -> Upload | None:
        """The upload of a request; ``None`` if it belongs to none.

        Raises :class:`Forbidden` for an upload that is not known.
        """
        upload_id = _upload_id(query.decode("latin-1"))
        if upload_id is None:
            return None
        known = self._known.get(upload_id)
        if known is None or known.expires <= self._seconds():
            raise Forbidden(
                "This upload is not known here: it is over, older than an hour, or was begun"
                " elsewhere.",
                reason="unknown_upload",
            )
        return known


class UploadEndpoint:
    """One path of uploads; see :class:`gemproxy.api.public.UploadEndpoint`."""

    def __init__(self, template: str, uploads: Uploads, learns: Learns) -> None:
        self.route = Route(template, (b"POST", b"PUT"), GEMINI)
        self._uploads = uploads
        self._learns = learns

    def owner_of(self, head: Head) -> object | None:
        """The client that began the upload of this request. Raises :class:`Forbidden`."""
        upload = self._uploads.find(head.query)
        return upload.owner if upload is not None else None

    def is_streamed(self, head: Head) -> bool:
        """Whether the body is a part of a file, and not the JSON that begins an upload."""
        return not _begins(head)

    def decode(
        self,
        body: bytes,
        source: BodySource | None,
        head: Head,
        context: RequestContext,
        owner: object,
    ) -> ResourceJob:
        """The job of a request, whose body is ``body`` or comes from ``source``."""
        upload = self._uploads.find(head.query)
        if upload is None and head.header(b"x-goog-upload-protocol") is None:
            raise InvalidRequest("An upload needs the header X-Goog-Upload-Protocol.")
        path = self.route.template.removeprefix("/upload/{version}/")
        store = head.parameters.get("store")
        if store is not None:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", store):
                raise InvalidRequest(f"'{store[:80]}' is not the name of a store.")
            path = path.replace("{store}", store)
        call = native_call(head, path)

        def tap(answer: bytes, headers: Mapping[str, str]) -> None:
            lease = context.attempts[-1].lease
            if lease is None:
                return
            upload_id = _upload_id(urlsplit(headers.get(_ADDRESSES[0], "")).query)
            if upload_id is not None:
                self._uploads.begin(upload_id, lease.key.project, owner)
            name = name_in(answer)
            if name:
                self._learns.learn(name, lease.key.project, answer)

        call = replace(
            call,
            path=b"/upload%b" % call.path,
            headers=passed_headers(head, _HEADERS) + call.headers,
            raw=lambda headers: _answer_headers(headers, head.origin),
            tap=tap,
            source=source,
            affinity=Affinity(upload.project, "this upload") if upload is not None else None,
        )
        resources = (f"fileSearchStores/{store}",) if store is not None and upload is None else ()
        return ResourceJob(call, body, context, self._learns, resources=resources)


def upload_endpoints(uploads: Uploads, learns: Learns) -> list[UploadEndpoint]:
    """The endpoints of all paths of uploads."""
    return [UploadEndpoint(template, uploads, learns) for template in _TEMPLATES]


def _begins(head: Head) -> bool:
    command = head.header(b"x-goog-upload-command") or b""
    return b"start" in command.lower()


def _upload_id(query: str) -> str | None:
    return parse_qs(query).get("upload_id", [None])[-1]


def _answer_headers(headers: Mapping[str, str], origin: str) -> bytes:
    """The lines for the client, with the addresses at ``origin`` in place of Google's."""
    lines = passed_answer_headers(headers)
    if headers.get(_GRANULARITY, "").isdecimal():
        lines += f"{_GRANULARITY}: {headers[_GRANULARITY]}\r\n".encode("ascii")
    for name in _ADDRESSES:
        target = urlsplit(headers.get(name, ""))
        address = f"{origin}{target.path}?{target.query}"
        if target.path.startswith("/upload/") and _SAFE.fullmatch(address):
            lines += f"{name}: {address}\r\n".encode("ascii")
    return lines
