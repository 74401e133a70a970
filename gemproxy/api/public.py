"""The public API: connects the endpoints of all dialects to the table of routes.

Theory of operation. An endpoint decodes a request to a job, and the dispatcher serves the job. Most
bodies are decoded in the reactor's thread, with a small budget of steps for schemas. A body of
:data:`LARGE_BODY` or more, and one that exceeds the small budget, is decoded in a worker thread
with the full budget, so that no request keeps the others waiting. Local endpoints answer without
the dispatcher.

The body of an upload is not collected. Its head is checked first: the size of the file, the client
that began the upload, the limits. Then the body goes to the upstream as it arrives, and the reactor
reads more from the client only while the upstream accepts it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Protocol, TypeVar

from gemproxy.api.base import Batches, Endpoint, Head, Job, LocalEndpoint, Route
from gemproxy.api.content_type import check_content_type
from gemproxy.core.clients import Client
from gemproxy.core.context import RequestContext
from gemproxy.core.dispatch import Dispatcher
from gemproxy.core.errors import RequestTooLarge
from gemproxy.core.interfaces import BodySource
from gemproxy.http.coroutine_runner import CoroutineRunner
from gemproxy.http.lifecycle import RequestLifecycle
from gemproxy.http.request import ProxyRequest
from gemproxy.http.response_writer import RequestWriter
from gemproxy.http.routes import Row
from gemproxy.translate.shared.schema_budget import OutOfSteps

#: Bytes. Translating a longer body may take more than 5 ms: 300 KB of tool calls do.
LARGE_BODY = 256 * 1024

#: The size of a whole file, in the request that begins its upload.
_SIZE_OF_UPLOAD = b"x-goog-upload-header-content-length"


_T = TypeVar("_T")


class InThread(Protocol):
    """Runs blocking work in a thread."""

    def __call__(self, work: Callable[[], _T], /) -> Awaitable[_T]:
        """Run ``work`` and return its result."""


class UploadEndpoint(Protocol):
    """One route of uploads, whose bodies are passed on as they come."""

    @property
    def route(self) -> Route:
        """Path, methods, and how errors are encoded."""

    def progress_of(self, head: Head) -> tuple[object, int] | None:
        """The client that began the upload of the request, and the bytes before it.

        ``None`` if it begins one. Raises :class:`~gemproxy.core.errors.Forbidden` for an upload
        that is not known, :class:`InvalidRequest` for a request that is no part of it.
        """

    def is_streamed(self, head: Head) -> bool:
        """Whether the body is a part of a file."""

    def decode(
        self,
        body: bytes,
        source: BodySource | None,
        head: Head,
        context: RequestContext,
        owner: object,
    ) -> Job:
        """The job of a request of ``owner``, whose body is ``body`` or comes from ``source``."""


class PublicAPI:
    """The routes of clients.

    ``dispatcher`` serves the jobs of ``endpoints``; ``local_endpoints`` answer themselves.
    ``in_thread`` runs work that would block the reactor. Of two endpoints with the same path and
    dialect the first is used.
    """

    def __init__(
        self,
        lifecycle: RequestLifecycle,
        dispatcher: Dispatcher,
        endpoints: Sequence[Endpoint],
        local_endpoints: Sequence[LocalEndpoint],
        in_thread: InThread,
        uploads: Sequence[UploadEndpoint] = (),
    ) -> None:
        self._uploads = uploads
        self._lifecycle = lifecycle
        self._dispatcher = dispatcher
        self._endpoints = endpoints
        self._local_endpoints = local_endpoints
        self._in_thread = in_thread

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the table of routes."""
        check = self._lifecycle.check_head
        for each in self._endpoints:
            yield Row(each.route, check, partial(self._serve, each), fast=True)
        for local in self._local_endpoints:
            yield Row(local.route, check, partial(self._serve_local, local), fast=True)
        for upload in self._uploads:
            yield Row(
                upload.route,
                partial(self._check_upload, upload),
                partial(self._serve_upload, upload),
                fast=True,
            )

    def _serve(self, endpoint: Endpoint, request: ProxyRequest) -> CoroutineRunner:
        def serve(context: RequestContext, writer: RequestWriter) -> Awaitable[None]:
            body = request.body()
            if (body or request.method == b"POST") and endpoint.route.checks_type:
                check_content_type(request)
            if len(body) < LARGE_BODY:
                try:
                    job = endpoint.decode(body, request, context, brief=True)
                except OutOfSteps:
                    pass  # Start again in a thread, with the larger budget.
                else:
                    if not isinstance(job, Batches):
                        # Nearly every request: without the call of _dispatch.
                        return self._dispatcher.dispatch(job, context, writer)
                    return self._dispatch(job, context, writer)
            decode = partial(endpoint.decode, body, request, context, brief=False)
            return self._serve_large(decode, context, writer)

        return self._lifecycle.handle(request, endpoint.route.template, serve)

    def _check_upload(self, endpoint: UploadEndpoint, request: ProxyRequest, route: Route) -> None:
        size = request.header(_SIZE_OF_UPLOAD) or b""
        largest = self._lifecycle.settings.limits.max_upload
        if size.isdigit() and int(size.lstrip(b"0")[:20] or 0) > largest:
            raise RequestTooLarge(f"The file is larger than the limit of {largest} bytes.")
        owner, before = endpoint.progress_of(request) or (None, 0)
        self._lifecycle.check_upload(
            request,
            route,
            owner if isinstance(owner, Client) else None,
            streamed=endpoint.is_streamed(request),
            before=before,
        )

    def _serve_upload(self, endpoint: UploadEndpoint, request: ProxyRequest) -> CoroutineRunner:
        def serve(context: RequestContext, writer: RequestWriter) -> Awaitable[None]:
            stream = request.stream
            body = b"" if stream is not None else request.body()
            job = endpoint.decode(body, stream, request, context, request.caller)
            return self._dispatcher.dispatch(job, context, writer)

        return self._lifecycle.handle(request, endpoint.route.template, serve)

    def _serve_local(self, endpoint: LocalEndpoint, request: ProxyRequest) -> CoroutineRunner:
        async def serve(context: RequestContext, writer: RequestWriter) -> None:
            # None of these endpoints reads the body, so its type is not checked.
            writer.answer(await endpoint.answer(request, context))
            context.outcome = "success"

        return self._lifecycle.handle(request, endpoint.route.template, serve)

    async def _serve_large(
        self, decode: Callable[[], Job | Batches], context: RequestContext, writer: RequestWriter
    ) -> None:
        decoded = self._in_thread(decode)
        # Drop the last reference to the body: the answer may take minutes.
        del decode
        await self._dispatch(await decoded, context, writer)

    def _dispatch(
        self, job: Job | Batches, context: RequestContext, writer: RequestWriter
    ) -> Awaitable[None]:
        if isinstance(job, Batches):
            return self._dispatcher.dispatch_all(job, context, writer)
        return self._dispatcher.dispatch(job, context, writer)
