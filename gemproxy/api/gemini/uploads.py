"""``/upload/{version}/…``: files on their way to Google, which are not held in memory.

A resumable upload takes several requests. The first one names the file and is answered with the
address of the others, in headers. That address is rewritten to this proxy: else the file would go
past it, and the project of the file would stay unknown. The other requests carry no token with many
clients; the ``upload_id`` in their address admits them, and they go to a key of the project in
which the upload was begun. Uploads in one request (``multipart``, ``raw``) go to any key.

An ``upload_id`` admits nothing but the commands of its own upload at its own path, as long as the
upload is not over and its client is admitted. A token that comes with it has to be that client's.
The bytes of all its requests count together. Google
refuses an offset that is not the end of what it has, so a client cannot count less than it sends.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from gemproxy.api.base import Head, Route
from gemproxy.api.gemini.errors import GEMINI
from gemproxy.api.gemini.passing import Downloads, passed_answer_headers, passed_headers
from gemproxy.api.gemini.resources import Learns, ResourceJob, native_call
from gemproxy.api.query import parameters_of
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import Forbidden, InvalidRequest
from gemproxy.core.interfaces import BodySource
from gemproxy.core.retry import Revision
from gemproxy.pool.key import Affinity
from gemproxy.pool.outcome import Outcome
from gemproxy.translate.gemini_native__gemini.resources import name_in, with_downloads_from

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
_STATUS: Final = "x-goog-upload-status"
_SAFE: Final = re.compile(r"[\x21-\x7e]{1,4000}")
#: Seconds for which an upload is known, and the number of uploads that are.
_LIFETIME: Final = 3600.0
_MOST_UPLOADS: Final = 10_000


#: What a request of an upload that was begun may do, and the protocols that it may name.
_COMMANDS: Final = frozenset({"upload", "query", "finalize", "cancel"})
_PROTOCOL: Final = "resumable"
_PROTOCOLS: Final = ("upload_protocol", "uploadType", "upload_type")
_OVER: Final = frozenset({"final", "cancelled"})
_ENDS: Final = frozenset({"finalize", "cancel"})
#: Statuses of an upload that Google has ended.
_GONE: Final = frozenset({404, 410})
_OFFSET: Final = re.compile(rb"[0-9]{1,15}")


@dataclass(slots=True)
class Upload:
    """An upload that was begun: its path, project and client, and until when it is known."""

    id: str
    path: str
    project: str
    owner: object
    expires: float
    #: The bytes that Google has acknowledged.
    received: int = 0


class Uploads:
    """The uploads that were begun, by their ids. ``seconds`` gives monotonic time."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._known: OrderedDict[str, Upload] = OrderedDict()

    def begin(self, upload_id: str, path: str, project: str, owner: object) -> Upload:
        """Note an upload."""
        expires = self._seconds() + _LIFETIME
        begun = self._known[upload_id] = Upload(upload_id, path, project, owner, expires)
        if len(self._known) > _MOST_UPLOADS:
            self._known.popitem(last=False)
        return begun

    def forget(self, upload_id: str) -> None:
        """Note that an upload is over."""
        self._known.pop(upload_id, None)

    def find(self, head: Head, path: str) -> Upload | None:
        """The upload of a request for ``path``; ``None`` if it belongs to none.

        Raises :class:`Forbidden` for an upload that is not known, :class:`InvalidRequest` for a
        request that is no part of it.
        """
        given = parameters_of(head.query)
        upload_ids = given.get("upload_id")
        if upload_ids is None:
            return None
        if len(upload_ids) > 1:
            raise InvalidRequest("upload_id: one upload only.")
        known = self._known.get(upload_ids[0])
        if known is None or known.expires <= self._seconds() or known.path != path:
            raise Forbidden(
                "This upload is not known here: it is over, older than an hour, or was begun"
                " elsewhere.",
                reason="unknown_upload",
            )
        protocols = [each for name in _PROTOCOLS for each in given.get(name, ())]
        protocols.append(_text(head, b"x-goog-upload-protocol") or _PROTOCOL)
        if any(each != _PROTOCOL for each in protocols):
            raise InvalidRequest("An upload that was begun is resumable: no other protocol.")
        if not _commands(head) <= _COMMANDS:
            raise InvalidRequest(
                "X-Goog-Upload-Command: an upload that was begun takes upload, query, finalize and"
                " cancel."
            )
        return known


class UploadEndpoint:
    """One path of uploads; see :class:`gemproxy.api.public.UploadEndpoint`."""

    def __init__(
        self, template: str, uploads: Uploads, learns: Learns, downloads: Downloads
    ) -> None:
        self.route = Route(template, (b"POST", b"PUT"), GEMINI)
        self._uploads = uploads
        self._learns = learns
        self._downloads = downloads

    def progress_of(self, head: Head) -> tuple[object, int] | None:
        """See :meth:`gemproxy.api.public.UploadEndpoint.progress_of`."""
        upload = self._uploads.find(head, self._path(head))
        return (upload.owner, _offset(head, upload)) if upload is not None else None

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
        upload = self._uploads.find(head, self._path(head))
        if upload is None and head.header(b"x-goog-upload-protocol") is None:
            raise InvalidRequest("An upload needs the header X-Goog-Upload-Protocol.")
        path = self.route.template.removeprefix("/upload/{version}/")
        store = head.parameters.get("store")
        if store is not None:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", store):
                raise InvalidRequest(f"'{store[:80]}' is not the name of a store.")
            path = path.replace("{store}", store)
        call = native_call(head, path)
        commands = _commands(head)
        before = _offset(head, upload) if upload is not None else 0

        def tap(answer: bytes, headers: Mapping[str, str]) -> bytes:
            lease = context.attempts[-1].lease
            if lease is None:
                return answer
            begun = upload
            if begun is None:
                address = urlsplit(headers.get(_ADDRESSES[0], ""))
                upload_id = _upload_id(address.query)
                if upload_id is not None:
                    path = unquote(address.path)
                    begun = self._uploads.begin(upload_id, path, lease.key.project, owner)
            if begun is not None:
                if "upload" in commands:
                    sent = source.received if source is not None else len(body)
                    begun.received = max(begun.received, before + sent)
                status = headers.get(_STATUS, "")
                if status in _OVER or (status != "active" and commands & _ENDS):
                    self._uploads.forget(begun.id)
            name = name_in(answer)
            if name:
                self._learns.learn(name, lease.key.project, answer)
            return with_downloads_from(self._downloads.origin(head), answer)

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
        job = _UploadJob(call, body, context, self._learns, resources=resources)
        if upload is not None:
            job.is_over = partial(self._uploads.forget, upload.id)
        return job

    def _path(self, head: Head) -> str:
        path = self.route.template
        for name, value in head.parameters.items():
            path = path.replace(f"{{{name}}}", value)
        return path


class _UploadJob(ResourceJob):
    """A request of an upload. ``is_over`` is called if Google does not know it any more."""

    is_over: Callable[[], None] | None = None

    def revision(self, failed: Outcome) -> Revision | None:
        """``None``: the call is the client's."""
        if self.is_over is not None and failed.status in _GONE:
            self.is_over()
        return None


def upload_endpoints(
    uploads: Uploads, learns: Learns, downloads: Downloads
) -> list[UploadEndpoint]:
    """The endpoints of all paths of uploads."""
    return [UploadEndpoint(template, uploads, learns, downloads) for template in _TEMPLATES]


def _begins(head: Head) -> bool:
    return "start" in _commands(head)


def _commands(head: Head) -> set[str]:
    """The commands of a request; there is always one, perhaps ""."""
    return {each.strip() for each in _text(head, b"x-goog-upload-command").split(",")}


def _text(head: Head, name: bytes) -> str:
    return (head.header(name) or b"").decode("latin-1").strip().lower()


def _offset(head: Head, upload: Upload) -> int:
    """The bytes of the file before those of a request. Raises :class:`InvalidRequest`."""
    offset = head.header(b"x-goog-upload-offset") or b"0"
    if _OFFSET.fullmatch(offset) is None:
        raise InvalidRequest("X-Goog-Upload-Offset: expected a number.")
    return max(upload.received, int(offset))


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
