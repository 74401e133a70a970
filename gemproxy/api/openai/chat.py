"""``POST /v1/chat/completions``, served by Gemini's ``generateContent``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from gemproxy.api.base import Head, Route, StreamedAnswer, WholeAnswer
from gemproxy.api.openai.errors import OPENAI
from gemproxy.api.openai.refused_options import RefusedLogprobs
from gemproxy.api.openai.schema.requests import ChatCompletionRequest, decode_chat_completion
from gemproxy.api.revisions import REPLACED_SIGNATURES, revision_for
from gemproxy.core.clients import require_model
from gemproxy.core.context import RequestContext
from gemproxy.core.retry import Revision
from gemproxy.pool.outcome import Outcome
from gemproxy.providers.base import Operation
from gemproxy.translate.openai_chat__gemini.answer import WholeChat
from gemproxy.translate.openai_chat__gemini.request import to_gemini
from gemproxy.translate.openai_chat__gemini.stream import ChatStreamTranslator
from gemproxy.translate.shared.conversations import conversation_named, session_of
from gemproxy.translate.shared.model_names import ModelNames
from gemproxy.translate.shared.schema_budget import SchemaBudget
from gemproxy.translate.shared.signatures import SignatureStore

CHAT: Final = "/v1/chat/completions"
#: Constants, because access to a member of an Enum is slow.
_GENERATE: Final = Operation.GENERATE
_GENERATE_STREAM: Final = Operation.GENERATE_STREAM


class ChatEndpoint:
    """Makes jobs of chat completion requests; see :class:`gemproxy.api.base.Endpoint`.

    ``names`` may be replaced between two requests. ``new_id`` gives a fresh id for a function call,
    ``scrub`` takes secrets out of a text.
    """

    route: Final = Route(CHAT, (b"POST",), OPENAI)

    def __init__(
        self,
        names: ModelNames,
        signatures: SignatureStore,
        new_id: Callable[[], str],
        scrub: Callable[[str], str],
    ) -> None:
        self.names = names
        self.signatures = signatures
        self.new_id = new_id
        self.scrub = scrub
        self.refused_logprobs = RefusedLogprobs()

    def decode(self, body: bytes, head: Head, context: RequestContext, *, brief: bool) -> ChatJob:
        """See :meth:`gemproxy.api.base.Endpoint.decode`."""
        request = decode_chat_completion(body)
        model = context.model = self.names.generating(request.model)
        if context.caller.models:
            require_model(context.caller, request.model, model)
        if request.logprobs:
            stream = request.stream is True
            if self.refused_logprobs.has(model, context.started, stream=stream):
                request = _without_logprobs(request)
        session = session_of(head.header)
        job = ChatJob(self, request, model, SchemaBudget(brief=brief), session)
        context.stream = job.stream
        return job


class ChatJob:
    """A translated chat completion; see :class:`gemproxy.api.base.Job`."""

    prompt_param = "messages"

    def __init__(
        self,
        endpoint: ChatEndpoint,
        request: ChatCompletionRequest,
        model: str,
        budget: SchemaBudget,
        session: bytes | None,
    ) -> None:
        self._endpoint = endpoint
        self.model = model
        self.is_brief = budget.brief
        self._replaces_signatures = False
        self._left_out_logprobs = False
        self._translate(request, budget)
        self.conversation = self._translated.conversation
        if session or request.prompt_cache_key or request.session_id:
            named = conversation_named(request.prompt_cache_key, session, request.session_id)
            if named is not None:
                self.conversation = named
        # Kept for a second translation. If none is possible, drop it to free the memory.
        again = self._translated.signed or request.logprobs
        self._request = (request, budget) if again else None

    def _translate(self, request: ChatCompletionRequest, budget: SchemaBudget) -> None:
        endpoint = self._endpoint
        translated = self._translated = to_gemini(
            request,
            model=self.model,
            signatures=endpoint.signatures,
            replace_signatures=self._replaces_signatures,
            scrub=endpoint.scrub,
            budget=budget,
        )
        self.body = translated.body
        self.stream = translated.stream
        self.tokens = translated.estimated_tokens
        self.resources = translated.resources
        self.operation = _GENERATE_STREAM if self.stream else _GENERATE

    def revision(self, failed: Outcome) -> Revision | None:
        """See :meth:`gemproxy.api.base.Job.revision`."""
        if self._request is None:
            return None
        translated = self._translated
        return revision_for(
            failed,
            has_signatures=translated.signed and not self._replaces_signatures,
            has_logprobs=translated.context.logprobs,
        )

    def revise(self, revision: Revision) -> None:
        """See :meth:`gemproxy.api.base.Job.revise`."""
        if self._request is None:
            return
        request, budget = self._request
        if revision is REPLACED_SIGNATURES:
            self._replaces_signatures = True
        else:
            request = _without_logprobs(request)
            self._request = (request, budget)
            self._left_out_logprobs = True
        self._translate(request, budget)

    def served(self, now: float) -> None:
        """See :meth:`gemproxy.api.base.Job.served`."""
        if self._left_out_logprobs:
            self._endpoint.refused_logprobs.add(self.model, now, stream=self.stream)

    def whole_answer(self, created: int) -> WholeAnswer:
        """See :meth:`gemproxy.api.base.Job.whole_answer`."""
        endpoint = self._endpoint
        return WholeChat(self._translated, created, endpoint.new_id, endpoint.signatures)

    def streamed_answer(self, created: int) -> StreamedAnswer:
        """See :meth:`gemproxy.api.base.Job.streamed_answer`."""
        endpoint, translated = self._endpoint, self._translated
        return ChatStreamTranslator(
            translated.context,
            created=created,
            new_id=endpoint.new_id,
            signatures=endpoint.signatures,
            body=translated.body,
        )


def _without_logprobs(request: ChatCompletionRequest) -> ChatCompletionRequest:
    """The same request without log probabilities."""
    return replace(request, logprobs=None, top_logprobs=None)
