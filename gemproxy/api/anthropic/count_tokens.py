"""``POST /v1/messages/count_tokens``: the tokens of a prompt, estimated or counted by Google.

Claude Code asks some thirty times at once, and each count by Google takes a request of a key's
quota. So the count is an estimate unless the operator wants it exact.
"""

from __future__ import annotations

from typing import Final

from gemproxy.api.anthropic.errors import ANTHROPIC
from gemproxy.api.anthropic.schema.answers import TokenCount, encode_count
from gemproxy.api.anthropic.schema.requests import decode_count_tokens
from gemproxy.api.base import Batches, Head, Route
from gemproxy.api.counting import CountJob
from gemproxy.buffer_list import BufferList
from gemproxy.core.clients import require_model
from gemproxy.core.context import RequestContext
from gemproxy.translate.anthropic_messages__gemini.counting import count
from gemproxy.translate.anthropic_messages__gemini.request import Options
from gemproxy.translate.shared.model_names import ModelNames
from gemproxy.translate.shared.schema_budget import SchemaBudget
from gemproxy.translate.shared.signatures import SignatureStore

COUNT_TOKENS: Final = "/v1/messages/count_tokens"
EXACT: Final = "exact"


class CountTokensEndpoint:
    """Makes jobs of counts; see :class:`gemproxy.api.base.Endpoint`.

    ``names`` and ``exact`` may be replaced between two requests.
    """

    route: Final = Route(COUNT_TOKENS, (b"POST",), ANTHROPIC)

    def __init__(self, names: ModelNames, signatures: SignatureStore, *, exact: bool) -> None:
        self.names = names
        self.exact = exact
        self._signatures = signatures

    def decode(
        self, body: bytes, head: Head, context: RequestContext, *, brief: bool
    ) -> CountJob | Batches:
        """See :meth:`gemproxy.api.base.Endpoint.decode`."""
        del head
        request, aside = decode_count_tokens(body)
        model = context.model = self.names.generating(request.model)
        if context.caller.models:
            require_model(context.caller, request.model, model)
        budget = SchemaBudget(brief=brief)
        prompt = count(request, Options(model, self._signatures, budget, aside=aside))
        if self.exact:
            return CountJob(
                model,
                prompt.body,
                prompt.resources,
                encode=_encode,
                prompt_param="messages",
                brief=brief,
            )
        # No job at all: the answer is known.
        context.outcome = "success"
        answer = BufferList([_encode(prompt.estimate)])
        return Batches((), lambda _answers, _usage: answer)


def _encode(tokens: int) -> bytes:
    return encode_count(TokenCount(tokens))
