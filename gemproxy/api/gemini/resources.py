"""Files, caches, batches, file search stores and interactions, passed on as they came.

A resource belongs to the project of the key that made it. A call that names one goes to a key of
its project; one that makes one may go to any key, and the name in the answer is learned. A list is
made of the lists of all projects (``gemproxy.api.gemini.lists``). Refused collections are in
``gemproxy.api.gemini.refused``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol
from urllib.parse import parse_qs

from gemproxy.api.base import Head, Route, StreamedAnswer, WholeAnswer
from gemproxy.api.content_type import check_content_type
from gemproxy.api.gemini.errors import GEMINI
from gemproxy.api.gemini.passing import (
    KEPT,
    Downloads,
    passed_answer_headers,
    passed_headers,
    passed_query,
    telling_headers,
)
from gemproxy.core.clients import require_model
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import Forbidden, InvalidRequest, UnknownURL
from gemproxy.core.retry import Revision
from gemproxy.pool.key import NO_MODEL
from gemproxy.pool.outcome import Outcome
from gemproxy.providers.base import NativeCall
from gemproxy.translate.gemini_native__gemini.requests import (
    NativeBody,
    check_object,
    estimated_tokens,
    interaction_resources,
    named_resources,
    read_body,
    with_models,
)
from gemproxy.translate.gemini_native__gemini.resources import StreamedInteraction, WholeResource
from gemproxy.translate.shared.model_names import ModelNames

#: Collections whose resources can be read, changed and deleted by name.
COLLECTIONS: Final = frozenset(
    {"files", "cachedContents", "batches", "fileSearchStores", "interactions", "operations"}
)
#: Those in which a resource is made by a call with JSON.
_MADE: Final = frozenset({"cachedContents", "fileSearchStores", "interactions"})
_INTERACTIONS: Final = "interactions"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*){0,5}")
_VERBS: Final = frozenset({"cancel", "importFile"})
_TOKENS_OF_OTHERS: Final = "/auth_tokens"


class Learns(Protocol):
    """Notes which project has a resource; see :class:`gemproxy.core.affinity.ResourceLocator`."""

    def learn(self, name: str, project: str, description: bytes = b"") -> None:
        """Note that a key of ``project`` can read ``name``."""

    def forget(self, names: Sequence[str]) -> None:
        """Note that ``names`` were deleted."""


class ResourceJob:
    """A call about a resource; see :class:`gemproxy.api.base.Job`.

    ``origin`` is that for downloads (:class:`~gemproxy.api.gemini.passing.Downloads`). The job is
    ``free`` if it costs nothing by itself. What is started with a model or an agent costs, and only
    an interaction reports its tokens.
    """

    conversation = None
    is_brief = True
    prompt_param = "contents"

    def __init__(
        self,
        call: NativeCall,
        body: bytes,
        context: RequestContext,
        learns: Learns,
        *,
        origin: str = "",
        model: str = NO_MODEL,
        resources: Sequence[str] = (),
        stream: bool = False,
        free: bool = True,
    ) -> None:
        self.operation = call
        self.model = model
        self.body = body
        self.stream = context.stream = stream
        self.resources = resources
        self.tokens = estimated_tokens(body) if model else 0
        context.model = model or None
        self._context = context
        self._learns = learns
        self._origin = origin
        self._free = free

    def revision(self, failed: Outcome) -> Revision | None:
        """``None``: the call is the client's."""
        del failed
        return None

    def revise(self, revision: Revision) -> None:
        """Not used: there is no other form."""

    def served(self, now: float) -> None:
        """See :meth:`gemproxy.api.base.Job.served`."""

    def whole_answer(self, created: int) -> WholeAnswer:
        """See :meth:`gemproxy.api.base.Job.whole_answer`."""
        del created
        return WholeResource(self._learn, self._origin, free=self._free)

    def streamed_answer(self, created: int) -> StreamedAnswer:
        """See :meth:`gemproxy.api.base.Job.streamed_answer`."""
        del created
        return StreamedInteraction(self._learn, self._origin, free=self._free)

    def _learn(self, name: str, description: bytes) -> None:
        lease = self._context.attempts[-1].lease
        if lease is not None and self.operation.method != b"DELETE":
            self._learns.learn(name, lease.key.project, description)


class DeletingJob(ResourceJob):
    """Deletes a resource, and forgets it when that has succeeded."""

    def whole_answer(self, created: int) -> WholeAnswer:
        """See :meth:`gemproxy.api.base.Job.whole_answer`."""
        self._learns.forget(self.resources)
        return super().whole_answer(created)


class NamedEndpoint:
    """Reads, changes, ends and deletes a resource; see :class:`gemproxy.api.base.Endpoint`."""

    route: Final = Route(
        "/{version}/{collection}/{name}",
        (b"GET", b"POST", b"PATCH", b"DELETE"),
        GEMINI,
        values={"collection": COLLECTIONS},
        checks_type=False,
    )

    def __init__(self, learns: Learns, downloads: Downloads = KEPT) -> None:
        self._learns = learns
        self._downloads = downloads

    def decode(
        self, body: bytes, head: Head, context: RequestContext, *, brief: bool
    ) -> ResourceJob:
        """See :meth:`gemproxy.api.base.Endpoint.decode`; ``brief`` makes no difference."""
        del brief
        collection, name = head.parameters["collection"], head.parameters["name"]
        path, colon, verb = name.partition(":")
        if path.endswith(_TOKENS_OF_OTHERS):
            raise Forbidden(
                "This proxy does not offer auth_tokens of the Gemini API.",
                reason="collection_not_offered",
            )
        if _NAME.fullmatch(path) is None:
            raise InvalidRequest(f"'{name[:80]}' is not the name of a resource.")
        acts = verb in _VERBS if colon else path.endswith("/cancel")
        if (head.method == b"POST") != acts or (colon and not acts):
            shown = f"{head.method.decode('latin-1')} {collection}/{name[:80]}"
            raise UnknownURL(f"Unknown request URL: {shown}.")
        if body:
            # The body is checked after the path: a path that is not offered is 404 with any body.
            # ``cancel`` may have no body, and then needs no content type.
            check_content_type(head)
            check_object(body)
        owner = f"{collection}/{path.removesuffix('/cancel')}"
        return (DeletingJob if head.method == b"DELETE" else ResourceJob)(
            native_call(head, f"{collection}/{path}{colon}{verb}"),
            body,
            context,
            self._learns,
            origin=self._downloads.origin(head),
            resources=(owner, *named_resources(body)),
            stream=parse_qs(head.query).get(b"stream") == [b"true"],
        )


class DownloadEndpoint:
    """Gives the bytes of a file; see :class:`gemproxy.api.base.Endpoint`.

    Google answers with a redirect that repeats the request's headers, the key among them. It is
    followed here, with the same key, and the client gets the file.
    """

    def __init__(self, template: str, learns: Learns) -> None:
        self.route = Route(template, (b"GET",), GEMINI)
        self._learns = learns

    def decode(
        self, body: bytes, head: Head, context: RequestContext, *, brief: bool
    ) -> ResourceJob:
        """See :meth:`gemproxy.api.base.Endpoint.decode`; ``brief`` makes no difference."""
        del brief, body
        name = f"files/{head.parameters['file']}"
        if _NAME.fullmatch(name) is None:
            raise InvalidRequest(f"'{name[:80]}' is not the name of a file.")
        call = replace(native_call(head, f"{name}:download"), raw=passed_answer_headers)
        return ResourceJob(call, b"", context, self._learns, resources=(name,))


def download_endpoints(learns: Learns) -> list[DownloadEndpoint]:
    """The path that clients use, and the one of the addresses in Google's answers."""
    templates = (
        "/{version}/files/{file}:download",
        "/download/{version}/files/{file}:download",
    )
    return [DownloadEndpoint(each, learns) for each in templates]


class ModelOperationEndpoint:
    """Reads an operation of a model; see :class:`gemproxy.api.base.Endpoint`."""

    route: Final = Route("/{version}/models/{model}/operations/{operation}", (b"GET",), GEMINI)

    def __init__(self, learns: Learns, downloads: Downloads = KEPT) -> None:
        self._learns = learns
        self._downloads = downloads

    def decode(
        self, body: bytes, head: Head, context: RequestContext, *, brief: bool
    ) -> ResourceJob:
        """See :meth:`gemproxy.api.base.Endpoint.decode`; ``brief`` makes no difference."""
        del brief
        model, operation = head.parameters["model"], head.parameters["operation"]
        name = f"models/{model}/operations/{operation}"
        if _NAME.fullmatch(name) is None:
            raise InvalidRequest(f"'{name[:80]}' is not the name of an operation.")
        return ResourceJob(
            native_call(head, name),
            body,
            context,
            self._learns,
            origin=self._downloads.origin(head),
            resources=(name,),
        )


class CreateEndpoint:
    """Makes a cache, a store or an interaction; see :class:`gemproxy.api.base.Endpoint`.

    ``names`` may be replaced between two requests.
    """

    route: Final = Route(
        "/{version}/{collection}", (b"POST",), GEMINI, values={"collection": _MADE}
    )

    def __init__(self, names: ModelNames, learns: Learns, downloads: Downloads = KEPT) -> None:
        self.names = names
        self._learns = learns
        self._downloads = downloads

    def decode(
        self, body: bytes, head: Head, context: RequestContext, *, brief: bool
    ) -> ResourceJob:
        """See :meth:`gemproxy.api.base.Endpoint.decode`; ``brief`` makes no difference."""
        del brief
        collection = head.parameters["collection"]
        said = read_body(body) if body else NativeBody()
        asked = said.main_model
        model = self._resolve(asked, context) if asked else NO_MODEL
        body = with_models(body, said, lambda name: self._resolve(name, context))
        is_interaction = collection == _INTERACTIONS
        return ResourceJob(
            native_call(head, collection),
            body,
            context,
            self._learns,
            origin=self._downloads.origin(head),
            model=model,
            resources=interaction_resources(body) if is_interaction else named_resources(body),
            stream=is_interaction and said.streams,
            free=not model and not is_interaction,
        )

    def _resolve(self, asked: str, context: RequestContext) -> str:
        model = self.names.resolve(asked).name
        if context.caller.models:
            require_model(context.caller, asked, model)
        return model


class BatchEndpoint:
    """Starts a batch of calls of a model; see :class:`gemproxy.api.base.Endpoint`.

    ``names`` may be replaced between two requests.
    """

    route: Final = Route(
        "/{version}/models/{model}:{verb}",
        (b"POST",),
        GEMINI,
        values={"verb": frozenset({"batchGenerateContent", "asyncBatchEmbedContent"})},
    )

    def __init__(self, names: ModelNames, learns: Learns) -> None:
        self.names = names
        self._learns = learns

    def decode(
        self, body: bytes, head: Head, context: RequestContext, *, brief: bool
    ) -> ResourceJob:
        """See :meth:`gemproxy.api.base.Endpoint.decode`; ``brief`` makes no difference."""
        del brief
        asked, verb = head.parameters["model"], head.parameters["verb"]
        named = self.names.resolve(asked)
        model = named.name
        if context.caller.models:
            require_model(context.caller, asked, model)
        body = with_models(
            body, read_body(body), lambda name: self.names.named_in_body(name, named)
        )
        return ResourceJob(
            native_call(head, f"models/{model}:{verb}"),
            body,
            context,
            self._learns,
            model=model,
            resources=named_resources(body),
            free=False,
        )


def native_call(head: Head, name: str) -> NativeCall:
    """The call for ``name`` in the version and with the parameters of the client's request."""
    kept = passed_query(head.query)
    path = f"/{head.parameters['version']}/{name}".encode("ascii")
    return NativeCall(
        head.method,
        b"%b?%b" % (path, kept) if kept else path,
        passed_headers(head),
        is_prepared=False,
        passed=telling_headers,
    )
