"""Resources that belong to the project of the key that made them, and the protocol of uploads.

Files, cached contents, batches, file search stores and interactions. Keys of other projects get a
403, as at Google. Written from ai.google.dev (files, caching, batch, file search, interactions) and
from recordings of the official clients: of two calls of an upload only the first has a key, and a
download is a redirect that repeats the headers of the request, the key among them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from gemproxy.simulator import errors, script
from gemproxy.simulator.errors import ErrorReply
from gemproxy.simulator.keyring import KeyState
from gemproxy.simulator.recording import Exchange
from gemproxy.simulator.script import JSON_TYPE, End, Head, Send, Step

_HOST = "https://generativelanguage.googleapis.com"
_PATH = re.compile(
    r"(?:/(?P<service>upload|download))?/(?P<version>v1(?:beta|alpha)?)/(?P<rest>.+)"
)
_MODEL_BATCH = re.compile(r"models/([^/:]+):(batchGenerateContent|asyncBatchEmbedContent)")
_COLLECTIONS = ("files", "cachedContents", "batches", "fileSearchStores", "interactions")
_PLURALS = {"batches": "operations"}
_GRANULARITY = 256 * 1024
_DAY = 86_400.0


class _Denied(Exception):
    def __init__(self, reply: ErrorReply) -> None:
        super().__init__(reply.message)
        self.reply = reply


@dataclass(slots=True)
class Resource:
    """One resource. ``content`` are the bytes of a file."""

    project: str
    document: dict[str, Any]
    content: bytes = b""


@dataclass(slots=True)
class _Upload:
    key: KeyState
    document: dict[str, Any]
    mime_type: str
    store: str | None = None
    content: bytearray = field(default_factory=bytearray)


@dataclass
class Resources:
    """All resources; ``wall`` gives epoch seconds."""

    wall: Callable[[], float] = lambda: 0.0
    _made: dict[str, Resource] = field(default_factory=dict)
    _uploads: dict[str, _Upload] = field(default_factory=dict)
    _number: int = 0

    def clear(self) -> None:
        self._made.clear()
        self._uploads.clear()

    def of_upload(self, exchange: Exchange) -> KeyState | None:
        """The key that began the upload of this request, which needs no key itself."""
        upload = self._uploads.get(exchange.query.get("upload_id", ""))
        return upload.key if upload is not None and exchange.path.startswith("/upload/") else None

    def serves(self, path: str) -> bool:
        """Whether ``path`` is about resources."""
        match = _PATH.fullmatch(path)
        return match is not None and (
            match["service"] is not None
            or _MODEL_BATCH.fullmatch(match["rest"]) is not None
            or re.split("[/:]", match["rest"])[0] in _COLLECTIONS
        )

    def respond(self, exchange: Exchange, key: KeyState, body: bytes) -> Iterable[Step]:
        """The answer to a request that :meth:`serves` is true for."""
        match = _PATH.fullmatch(exchange.path)
        if match is None:
            return script.not_found_page()
        exchange.call = f"{exchange.method} {match['rest'].split('/')[0]}"
        try:
            if match["service"] == "upload":
                return self._upload(exchange, key, body, match["rest"])
            if match["service"] == "download":
                return self._bytes(match["rest"].removesuffix(":download"), key)
            return self._call(exchange, key, body, match["rest"])
        except _Denied as denied:
            return script.error_reply(denied.reply)

    def denial(self, key: KeyState, request: Mapping[str, Any]) -> ErrorReply | None:
        """Why ``key`` may not read what a generation names; ``None`` if it may."""
        names = [
            "files/" + str(part["fileData"].get("fileUri")).rpartition("/files/")[2]
            for content in request.get("contents", ())
            for part in content.get("parts", ())
            if _HOST in str(part.get("fileData", {}).get("fileUri"))
        ]
        if "cachedContent" in request:
            names.append(request["cachedContent"])
        for tool in request.get("tools", ()):
            names += tool.get("fileSearch", {}).get("fileSearchStoreNames", ())
        try:
            for name in names:
                self._find(name, key)
        except _Denied as denied:
            return denied.reply
        return None

    # ---- calls ---------------------------------------------------------------------------------

    def _call(self, exchange: Exchange, key: KeyState, body: bytes, rest: str) -> Iterable[Step]:
        document = _json(body)
        exchange.body = document
        path, _, verb = rest.partition(":")
        if (batch := _MODEL_BATCH.fullmatch(rest)) is not None:
            return self._make("batches", key, _batch(batch[1], document, self._time()))
        if exchange.method == "GET" and verb == "download":
            return self._redirect(exchange, path, key)
        if verb in {"cancel", "importFile"} or (verb == "" and path.endswith("/cancel")):
            self._find(path.removesuffix("/cancel"), key)
            return script.json_reply({})
        if exchange.method == "POST" and path in _COLLECTIONS:
            return self._make(path, key, document)
        if exchange.method == "GET" and path in _COLLECTIONS:
            return self._list(path, key, exchange.query)
        resource = self._find(path, key)
        if exchange.method == "DELETE":
            del self._made[path]
            return script.json_reply({})
        if exchange.method == "PATCH":
            resource.document |= {**document, "updateTime": self._time()}
        return script.json_reply(resource.document)

    def _make(self, collection: str, key: KeyState, document: dict[str, Any]) -> Iterable[Step]:
        for name in _named(document):
            self._find(name, key)
        name = self._new_name(collection)
        made: dict[str, Any] = {"name": name, **document}
        if collection == "interactions":
            made = _interaction(name.partition("/")[2], document, self._time())
            if document.get("store") is False:
                return script.json_reply(made)
            name = f"interactions/{made['id']}"
        elif collection == "cachedContents":
            for hidden in ("contents", "systemInstruction", "tools"):
                made.pop(hidden, None)
            made |= {
                "createTime": self._time(),
                "updateTime": self._time(),
                "expireTime": self._time(3600.0),
                "usageMetadata": {"totalTokenCount": 4096},
            }
            made.pop("ttl", None)
        elif collection == "fileSearchStores":
            made |= {"createTime": self._time(), "updateTime": self._time()}
        self._made[name] = Resource(key.project, made)
        return script.json_reply(made)

    def _list(self, collection: str, key: KeyState, query: Mapping[str, str]) -> Iterable[Step]:
        every = [
            resource.document
            for name, resource in self._made.items()
            # A part of a resource, such as an operation of a store, is none of its own.
            if name.rpartition("/")[0] == collection and resource.project == key.project
        ]
        size = int(query.get("pageSize") or 0) or 10
        begin = int(query.get("pageToken") or 0)
        page: dict[str, Any] = {}
        if every[begin : begin + size]:
            page[_PLURALS.get(collection, collection)] = every[begin : begin + size]
        if begin + size < len(every):
            page["nextPageToken"] = str(begin + size)
        return script.json_reply(page)

    def _find(self, name: str, key: KeyState) -> Resource:
        resource = self._made.get("/".join(name.split("/")[:2]))
        if resource is None or resource.project != key.project:
            kind, _, ident = name.partition("/")
            if kind == "files":
                text = f"You do not have permission to access the File {ident} or it may not exist."
            elif kind == "cachedContents":
                text = "CachedContent not found (or permission denied)"
            else:
                text = "The caller does not have permission"
            raise _Denied(errors.error(403, text))
        return self._made.get(name) or resource

    # ---- files ---------------------------------------------------------------------------------

    def _redirect(self, exchange: Exchange, name: str, key: KeyState) -> Iterable[Step]:
        self._find(name, key)
        version = exchange.path.split("/")[1]
        location = f"http://{exchange.headers.get('host', '')}/download/{version}/{name}:download"
        echoed = {**exchange.headers, **dict(exchange.credentials)}
        for dropped in ("host", "content-length", "connection", "content-type"):
            echoed.pop(dropped, None)
        refusal = {"error": {"code": 302, "message": "Unknown Error.", "status": "UNKNOWN"}}
        data = script.pretty(refusal)
        headers = {**echoed, "location": f"{location}?alt=media"}
        return [Head(302, JSON_TYPE, len(data), headers), Send(data), End.FINISH]

    def _bytes(self, name: str, key: KeyState) -> Iterable[Step]:
        resource = self._find(name, key)
        content = resource.content
        return [
            Head(200, resource.document["mimeType"], len(content)),
            *(Send(content[at : at + 65536]) for at in range(0, len(content), 65536)),
            End.FINISH,
        ]

    def _upload(self, exchange: Exchange, key: KeyState, body: bytes, rest: str) -> Iterable[Step]:
        headers = exchange.headers
        protocol = headers.get("x-goog-upload-protocol") or exchange.query.get("uploadType", "")
        upload_id = exchange.query.get("upload_id")
        if upload_id is not None:
            return self._continue_upload(exchange, self._uploads[upload_id], body)
        store = rest.partition(":")[0] if rest.startswith("fileSearchStores/") else None
        if protocol == "resumable":
            upload = _Upload(
                key, _json(body), headers.get("x-goog-upload-header-content-type", ""), store
            )
            self._number += 1
            made = f"upload-{self._number}-of-{key.config.name}"
            self._uploads[made] = upload
            url = f"http://{headers.get('host', '')}{exchange.path}?upload_id={made}"
            headers = {
                "x-goog-upload-status": "active",
                "x-goog-upload-url": f"{url}&upload_protocol=resumable",
                "x-goog-upload-control-url": f"{url}&upload_protocol=resumable",
                "x-goog-upload-chunk-granularity": str(_GRANULARITY),
            }
            return [Head(200, "text/plain; charset=utf-8", 0, headers), End.FINISH]
        if protocol == "multipart":
            document, mime_type, content = _multipart(body, headers.get("content-type", ""))
        else:
            document, mime_type, content = {}, headers.get("content-type", ""), body
        return self._uploaded(_Upload(key, document, mime_type, store, bytearray(content)))

    def _continue_upload(self, exchange: Exchange, upload: _Upload, body: bytes) -> Iterable[Step]:
        commands = re.split(r"\s*,\s*", exchange.headers.get("x-goog-upload-command", ""))
        received = {"x-goog-upload-size-received": str(len(upload.content))}
        if "query" in commands:
            headers = {"x-goog-upload-status": "active", **received}
            return [Head(200, "text/plain; charset=utf-8", 0, headers), End.FINISH]
        if "upload" in commands:
            if int(exchange.headers.get("x-goog-upload-offset", 0)) != len(upload.content):
                raise _Denied(errors.error(400, "Upload offset does not match."))
            upload.content += body
        if "cancel" in commands:
            self._uploads.pop(exchange.query["upload_id"], None)
            headers = {"x-goog-upload-status": "cancelled"}
            return [Head(200, "text/plain; charset=utf-8", 0, headers), End.FINISH]
        if "finalize" in commands:
            self._uploads.pop(exchange.query["upload_id"], None)
            return self._uploaded(upload)
        headers = {"x-goog-upload-status": "active", **received}
        return [Head(200, "text/plain; charset=utf-8", 0, headers), End.FINISH]

    def _uploaded(self, upload: _Upload) -> Iterable[Step]:
        name = self._new_name("files")
        content = bytes(upload.content)
        given = upload.document.get("file", upload.document)
        document = {
            "name": name,
            "mimeType": given.get("mimeType") or upload.mime_type or "application/octet-stream",
            "sizeBytes": str(len(content)),
            "createTime": self._time(),
            "updateTime": self._time(),
            "expirationTime": self._time(2 * _DAY),
            "sha256Hash": base64.b64encode(hashlib.sha256(content).hexdigest().encode()).decode(),
            "uri": f"{_HOST}/v1beta/{name}",
            "downloadUri": f"{_HOST}/download/v1beta/{name}:download?alt=media",
            "state": "ACTIVE",
            "source": "UPLOADED",
        }
        shown = given.get("displayName") or given.get("display_name")
        if shown:
            document["displayName"] = shown
        headers = {"x-goog-upload-status": "final"}
        if upload.store is not None:
            self._find(upload.store, upload.key)
            name = f"{upload.store}/upload/operations/{self._number}"
            operation = {"name": name, "done": True}
            self._made[name] = Resource(upload.key.project, operation)
            return script.json_reply(operation, headers=headers)
        self._made[name] = Resource(upload.key.project, document, content)
        return script.json_reply({"file": document}, headers=headers)

    def _new_name(self, collection: str) -> str:
        self._number += 1
        seed = hashlib.sha256(f"{collection}{self._number}".encode()).hexdigest()[:12]
        return f"{collection}/{seed}"

    def _time(self, later: float = 0.0) -> str:
        moment = datetime.fromtimestamp(self.wall() + later, UTC)
        return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _named(value: object) -> Iterable[str]:
    """The files, caches and earlier interactions that a document names."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name in {"fileUri", "uri"} and isinstance(item, str) and _HOST in item:
                yield "files/" + item.rpartition("/files/")[2]
            elif name == "previous_interaction_id" and item:
                yield f"interactions/{item}"
            else:
                yield from _named(item)
    elif isinstance(value, list):
        for item in value:
            yield from _named(item)


def _batch(model: str, document: dict[str, Any], time: str) -> dict[str, Any]:
    batch = document.get("batch", {})
    return {
        "metadata": {
            "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
            "model": f"models/{model}",
            "displayName": batch.get("displayName") or batch.get("display_name") or "",
            "createTime": time,
            "updateTime": time,
            "state": "BATCH_STATE_PENDING",
        }
    }


def _interaction(ident: str, document: dict[str, Any], time: str) -> dict[str, Any]:
    return {
        "id": ident,
        "object": "interaction",
        "model": document.get("model", ""),
        "status": "completed",
        "created": time,
        "updated": time,
        "role": "model",
        "outputs": [{"type": "text", "text": f"You said: {document.get('input')}"}],
        "usage": {"total_input_tokens": 5, "total_output_tokens": 7, "total_tokens": 12},
    }


def _json(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        text = f"Invalid JSON payload received. {error}"
        raise _Denied(errors.invalid_argument(text)) from error
    return document if isinstance(document, dict) else {}


def _multipart(body: bytes, content_type: str) -> tuple[dict[str, Any], str, bytes]:
    """The document, the type and the bytes of a file in ``multipart/related``."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    parts = body.split(b"--" + boundary[1].encode())[1:-1] if boundary else []
    if len(parts) != 2:
        raise _Denied(errors.invalid_argument("Invalid multipart request."))
    metadata, file = (part.strip(b"\r\n").partition(b"\r\n\r\n") for part in parts)
    named = re.search(rb"(?i)content-type:\s*([^\r\n]+)", file[0])
    return _json(metadata[2]), named[1].decode() if named else "", file[2]
