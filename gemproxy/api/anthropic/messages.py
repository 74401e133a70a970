"""``POST /v1/messages``, served by Gemini's ``generateContent``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gemproxy.api.anthropic.errors import ANTHROPIC
from gemproxy.api.anthropic.schema.requests import MessagesRequest, decode_messages
from gemproxy.api.base import Head, Route, StreamedAnswer, WholeAnswer
from gemproxy.api.revisions import revision_for
from gemproxy.core.clients import require_model
from gemproxy.core.context import RequestContext
from gemproxy.core.retry import Revision
from gemproxy.media_bypass import ExtractedMedia
from gemproxy.pool.outcome import Outcome
from gemproxy.providers.base import Operation
from gemproxy.translate.anthropic_messages__gemini.answer import WholeMessage
from gemproxy.translate.anthropic_messages__gemini.request import Options, to_gemini
from gemproxy.translate.anthropic_messages__gemini.stream import MessageStreamTranslator
from gemproxy.translate.shared.conversations import conversation_named, session_of
from gemproxy.translate.shared.model_names import ModelNames
from gemproxy.translate.shared.schema_budget import SchemaBudget
from gemproxy.translate.shared.signatures import SignatureStore

MESSAGES: Final = "/v1/messages"
#: Constants, because access to a member of an Enum is slow.
_GENERATE: Final = Operation.GENERATE
_GENERATE_STREAM: Final = Operation.GENERATE_STREAM


class MessagesEndpoint:
    """Makes jobs of Messages requests; see :class:`gemproxy.api.base.Endpoint`.

    ``names`` may be replaced between two requests. ``new_id`` gives 24 fresh hexadecimal digits,
    ``output_limit`` the most tokens that a model gives, if that is known, ``scrub`` takes secrets
    out of a text.
    """

    route: Final = Route(MESSAGES, (b"POST",), ANTHROPIC)

    def __init__(
        self,
        names: ModelNames,
        signatures: SignatureStore,
        new_id: Callable[[], str],
        output_limit: Callable[[str], int | None],
        scrub: Callable[[str], str],
    ) -> None:
        self.names = names
        self.signatures = signatures
        self.new_id = new_id
        self.output_limit = output_limit
        self.scrub = scrub

    def decode(
        self, body: bytes, head: Head, context: RequestContext, *, brief: bool
    ) -> MessagesJob:
        """See :meth:`gemproxy.api.base.Endpoint.decode`."""
        request, aside = decode_messages(body)
        model = context.model = self.names.generating(request.model)
        if context.caller.models:
            require_model(context.caller, request.model, model)
        job = MessagesJob(self, request, model, aside, SchemaBudget(brief=brief))
        session = conversation_named(session_of(head.header))
        if session is not None:
            job.conversation = session
        context.stream = job.stream
        return job


class MessagesJob:
    """A translated Messages request; see :class:`gemproxy.api.base.Job`."""

    prompt_param = "messages"

    def __init__(
        self,
        endpoint: MessagesEndpoint,
        request: MessagesRequest,
        model: str,
        aside: ExtractedMedia,
        budget: SchemaBudget,
    ) -> None:
        self._endpoint = endpoint
        self.model = model
        self.is_brief = budget.brief
        self._replaces_signatures = False
        self._translate(request, aside, budget)
        self.conversation = self._translated.conversation
        # Kept for a second translation. If none is possible, drop it to free the memory.
        self._request = (request, aside, budget) if self._translated.signed else None

    def _translate(
        self, request: MessagesRequest, aside: ExtractedMedia, budget: SchemaBudget
    ) -> None:
        endpoint = self._endpoint
        options = Options(
            self.model,
            endpoint.signatures,
            budget,
            endpoint.output_limit(self.model),
            self._replaces_signatures,
            endpoint.scrub,
            aside,
        )
        translated = self._translated = to_gemini(request, options)
        self.body = translated.body
        self.stream = translated.stream
        self.tokens = translated.estimated_tokens
        self.resources = translated.resources
        self.operation = _GENERATE_STREAM if self.stream else _GENERATE

    def revision(self, failed: Outcome) -> Revision | None:
        """See :meth:`gemproxy.api.base.Job.revision`."""
        if self._request is None:
            return None
        has_signatures = not self._replaces_signatures
        return revision_for(failed, has_signatures=has_signatures, has_logprobs=False)

    def revise(self, revision: Revision) -> None:
        """See :meth:`gemproxy.api.base.Job.revise`."""
        del revision
        if self._request is not None:
            self._replaces_signatures = True
            self._translate(*self._request)

    def served(self, now: float) -> None:
        """See :meth:`gemproxy.api.base.Job.served`."""

    def whole_answer(self, created: int) -> WholeAnswer:
        """See :meth:`gemproxy.api.base.Job.whole_answer`."""
        del created
        endpoint = self._endpoint
        return WholeMessage(self._translated, endpoint.new_id, endpoint.signatures)

    def streamed_answer(self, created: int) -> StreamedAnswer:
        """See :meth:`gemproxy.api.base.Job.streamed_answer`."""
        del created
        endpoint, translated = self._endpoint, self._translated
        return MessageStreamTranslator(
            translated.context,
            new_id=endpoint.new_id,
            signatures=endpoint.signatures,
            body=translated.body,
        )
