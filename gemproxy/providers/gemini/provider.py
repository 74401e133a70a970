"""The Gemini API as a provider: its paths and the classification of its responses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import quote, urlsplit

from gemproxy.buffer_list import BufferList
from gemproxy.core.interfaces import UpstreamRequest
from gemproxy.pool.outcome import Outcome
from gemproxy.providers.base import ModelPage, NativeCall, Operation, StreamDecoder
from gemproxy.providers.gemini.classify import (
    classify_error_event,
    classify_page,
    classify_response,
)
from gemproxy.providers.gemini.wire.models import decode_models
from gemproxy.providers.gemini.wire.raw_stream import RawArrayDecoder, RawEventDecoder
from gemproxy.providers.gemini.wire.resources import expiry_of, owner_of
from gemproxy.providers.gemini.wire.sse import EventStreamDecoder
from gemproxy.secret import Secret

#: One page with one model: a free call.
PROBE_PATH: Final = b"/v1beta/models?pageSize=1"
PAGE_SIZE: Final = 1000
_METHODS: Final = {
    Operation.GENERATE: "generateContent",
    Operation.GENERATE_STREAM: "streamGenerateContent?alt=sse",
    Operation.EMBED: "batchEmbedContents",
    Operation.COUNT_TOKENS: "countTokens",
}
_WITH_BODY: Final = frozenset({b"POST", b"PATCH"})
_PATH: Final = re.compile(r"[\x21-\x7e]+")
#: Paths that are kept. Clients choose the names of models, so the number has to be bounded.
_MOST_PATHS: Final = 1000


class GeminiProvider:
    """See :class:`gemproxy.providers.base.Provider`."""

    def __init__(self) -> None:
        self._paths: dict[tuple[Operation, str], bytes] = {}

    def prepare(
        self,
        operation: Operation | NativeCall,
        model: str,
        body: bytes | BufferList,
        key: Secret,
        deadline: float,
    ) -> UpstreamRequest:
        """See :meth:`gemproxy.providers.base.Provider.prepare`."""
        if isinstance(operation, NativeCall):
            return UpstreamRequest(
                operation.method,
                operation.path,
                key,
                body if operation.method in _WITH_BODY else None,
                deadline,
                operation.headers,
                operation.is_prepared,
                operation.source,
            )
        path = self._paths.get((operation, model)) or self._remember_path(operation, model)
        return UpstreamRequest(b"POST", path, key, body, deadline)

    def follow(self, operation: NativeCall, headers: Mapping[str, str]) -> NativeCall | None:
        """See :meth:`gemproxy.providers.base.Provider.follow`.

        The key goes to our own origin only, whatever host the redirect names.
        """
        target = urlsplit(headers.get("location", ""))
        path = f"{target.path}?{target.query}" if target.query else target.path
        if not target.path.startswith("/download/") or not _PATH.fullmatch(path):
            return None
        return replace(operation, path=path.encode("ascii"))

    def read_stream(self, operation: Operation | NativeCall) -> StreamDecoder:
        """See :meth:`gemproxy.providers.base.Provider.read_stream`."""
        if isinstance(operation, NativeCall):
            return RawArrayDecoder() if operation.array else RawEventDecoder()
        return EventStreamDecoder()

    def classify(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        *,
        now: float,
        names_resources: bool = False,
    ) -> Outcome:
        """See :meth:`gemproxy.providers.base.Provider.classify`."""
        return classify_response(status, headers, body, now=now, names_resources=names_resources)

    def classify_error(self, payload: bytes, *, now: float) -> Outcome:
        """See :meth:`gemproxy.providers.base.Provider.classify_error`."""
        return classify_error_event(payload, now=now)

    def classify_page(self, headers: Mapping[str, str]) -> Outcome | None:
        """See :meth:`gemproxy.providers.base.Provider.classify_page`."""
        return classify_page(headers)

    def list_models(self, key: Secret, page_token: str, deadline: float) -> UpstreamRequest:
        """See :meth:`gemproxy.providers.base.Provider.list_models`."""
        token = f"&pageToken={quote(page_token, safe='')}" if page_token else ""
        path = f"/v1beta/models?pageSize={PAGE_SIZE}{token}".encode("ascii")
        return UpstreamRequest(b"GET", path, key, deadline=deadline)

    def read_models(self, body: bytes) -> ModelPage:
        """See :meth:`gemproxy.providers.base.Provider.read_models`."""
        page = decode_models(body)
        return ModelPage(page.models, page.next_page_token)

    def owner_of(self, name: str) -> str | None:
        """See :meth:`gemproxy.providers.base.Provider.owner_of`."""
        return owner_of(name)

    def expiry_of(self, name: str, description: bytes, now: float) -> float:
        """See :meth:`gemproxy.providers.base.Provider.expiry_of`."""
        return expiry_of(name, description, now)

    def describe(self, name: str, key: Secret, deadline: float) -> UpstreamRequest:
        """See :meth:`gemproxy.providers.base.Provider.describe`."""
        path = f"/v1beta/{quote(name)}".encode("ascii")
        return UpstreamRequest(b"GET", path, key, deadline=deadline)

    def probe(self, key: Secret, deadline: float) -> UpstreamRequest:
        """See :meth:`gemproxy.providers.base.Provider.probe`."""
        return UpstreamRequest(b"GET", PROBE_PATH, key, deadline=deadline)

    def _remember_path(self, operation: Operation, model: str) -> bytes:
        if len(self._paths) >= _MOST_PATHS:
            self._paths.clear()
        path = f"/v1beta/models/{model}:{_METHODS[operation]}".encode("ascii")
        self._paths[operation, model] = path
        return path
