"""``/{version}/models/{model}:{verb}``: Gemini's own calls of a model, passed on as they came.

Nothing is translated. The job sends the client's body and takes Google's answer byte by byte; it
only looks at both, for what the pool, the metrics and the log have to know
(``gemproxy.translate.gemini_native__gemini``). What changes is the credential, the parameters and
headers that are no client's business, and the name of a model that has an alias.
"""

from __future__ import annotations

from typing import Final

from gemproxy.api.base import Head, Route, StreamedAnswer, WholeAnswer
from gemproxy.api.dialects import asks_for_events
from gemproxy.api.gemini.errors import GEMINI
from gemproxy.api.gemini.passing import passed_headers, passed_query, telling_headers
from gemproxy.core.clients import require_model
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import InvalidRequest
from gemproxy.core.retry import Revision
from gemproxy.pool.outcome import Outcome
from gemproxy.providers.base import NativeCall
from gemproxy.translate.gemini_native__gemini.answers import (
    StreamedGeneration,
    WholeCount,
    WholeGeneration,
)
from gemproxy.translate.gemini_native__gemini.requests import (
    NativeBody,
    conversation_of,
    estimated_tokens,
    named_resources,
    read_prompt,
    with_models,
)
from gemproxy.translate.shared.conversations import conversation_named, session_of
from gemproxy.translate.shared.model_names import ModelNames, NamedModel

CALLS: Final = "/{version}/models/{model}:{verb}"
_GENERATE: Final = frozenset({"generateContent", "streamGenerateContent"})
_EMBED: Final = frozenset({"embedContent", "batchEmbedContents"})
_STREAM: Final = "streamGenerateContent"
_COUNT: Final = "countTokens"
#: Paths that are kept. Clients choose the names of models, so the number has to be bounded.
_MOST_PATHS: Final = 1000
#: A parameter or header that leaves fields out of the answer.
_MASK: Final = b"x-goog-fieldmask"


class NativeEndpoint:
    """Makes jobs of native calls; see :class:`gemproxy.api.base.Endpoint`.

    ``names`` may be replaced between two requests.
    """

    route: Final = Route(
        CALLS, (b"POST",), GEMINI, values={"verb": frozenset({*_GENERATE, *_EMBED, _COUNT})}
    )

    def __init__(self, names: ModelNames) -> None:
        self.names = names
        #: Calls without headers of their own.
        self._calls: dict[tuple[str, str, str, bytes], NativeCall] = {}

    def decode(self, body: bytes, head: Head, context: RequestContext, *, brief: bool) -> NativeJob:
        """See :meth:`gemproxy.api.base.Endpoint.decode`; ``brief`` makes no difference."""
        del brief
        parameters = head.parameters
        asked, verb = parameters["model"], parameters["verb"]
        model = self.names.resolve(asked)
        if context.caller.models:
            require_model(context.caller, asked, model.name)
        if not (model.generates if verb in _GENERATE else model.embeds or verb == _COUNT):
            raise InvalidRequest(_wrong_ability(asked, verb, model), param="model")
        said = read_prompt(body)
        if type(said) is NativeBody:
            body = self._with_models(body, said, model, verb, context)
        call = self._call(parameters["version"], model.name, verb, head.query)
        context.model = model.name
        context.stream = verb == _STREAM
        headers = passed_headers(head)
        partial = False
        if headers:
            call = NativeCall(b"POST", call.path, headers, call.array, passed=telling_headers)
            partial = head.header(_MASK) is not None
        job = NativeJob(call, model.name, verb, body, partial=partial)
        if verb in _GENERATE:
            session = session_of(head.header)
            job.conversation = (
                conversation_named(session) if session else conversation_of(said, job.tokens)
            )
        return job

    def _with_models(
        self, body: bytes, said: NativeBody, model: NamedModel, verb: str, context: RequestContext
    ) -> bytes:
        def named_in_body(name: str) -> str:
            named = self.names.named_in_body(name, model, may_differ=verb == _COUNT)
            if context.caller.models:
                require_model(context.caller, name, named)
            return named

        return with_models(body, said, named_in_body)

    def _call(self, version: str, model: str, verb: str, query: bytes) -> NativeCall:
        known = self._calls.get((version, model, verb, query))
        if known is not None:
            return known
        kept = passed_query(query)
        path = b"%b?%b" % (f"/{version}/models/{model}:{verb}".encode("ascii"), kept)
        array = verb == _STREAM and not asks_for_events(kept)
        call = NativeCall(b"POST", path.removesuffix(b"?"), array=array, passed=telling_headers)
        if len(self._calls) >= _MOST_PATHS:
            self._calls.clear()
        self._calls[version, model, verb, query] = call
        return call


class NativeJob:
    """A native call; see :class:`gemproxy.api.base.Job`. ``partial`` asks for some fields only."""

    is_brief = True
    prompt_param = "contents"

    def __init__(
        self, call: NativeCall, model: str, verb: str, body: bytes, *, partial: bool
    ) -> None:
        self.operation = call
        self.model = model
        self.body = body
        self.stream = verb == _STREAM
        self.tokens = 0 if verb == _COUNT else estimated_tokens(body)
        self.resources = named_resources(body)
        self.conversation: int | None = None
        self._generates = verb in _GENERATE
        self._counts = verb == _COUNT
        self._partial = partial

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
        if self._generates:
            return WholeGeneration(partial=self._partial)
        return WholeCount(None if self._counts else self.tokens)

    def streamed_answer(self, created: int) -> StreamedAnswer:
        """See :meth:`gemproxy.api.base.Job.streamed_answer`."""
        del created
        return StreamedGeneration(array=self.operation.array, partial=self._partial)


def _wrong_ability(asked: str, verb: str, model: NamedModel) -> str:
    """Why a model cannot be called so, and how it can."""
    if model.embeds:
        use = "makes embeddings; use :embedContent or :batchEmbedContents"
    else:
        use = "makes no embeddings; use :generateContent or :streamGenerateContent"
    return f"'{asked[:80]}' cannot be called with :{verb}: it {model.elsewhere or use}."
