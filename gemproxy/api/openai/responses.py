"""``POST /v1/responses``, served by Gemini's ``generateContent``.

Complete responses are stored for a limited time (``core.stored_answers``) unless the client says
``store: false``, so that a later request can go on from one (``previous_response_id``) or name one
of its items (``item_reference``, which the AI SDK does in each tool loop). Both are replaced here
by the items themselves, because Gemini stores nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from gemproxy.api.base import Head, Route, StreamedAnswer, WholeAnswer
from gemproxy.api.counting import CountJob
from gemproxy.api.openai.errors import OPENAI
from gemproxy.api.openai.refused_options import RefusedLogprobs
from gemproxy.api.openai.schema.response_objects import (
    InputTokens,
    ResponseFrame,
    encode_echo,
    encode_object,
)
from gemproxy.api.openai.schema.responses import (
    DecodedRequest,
    Item,
    decode_items,
    decode_responses,
    raw_items,
)
from gemproxy.api.revisions import REPLACED_SIGNATURES, revision_for
from gemproxy.core.clients import require_model
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import InvalidRequest
from gemproxy.core.retry import Revision
from gemproxy.core.stored_answers import AnswerStore, StoredAnswer
from gemproxy.pool.outcome import Outcome
from gemproxy.providers.base import Operation
from gemproxy.translate.openai_responses__gemini.answer import WholeResponse
from gemproxy.translate.openai_responses__gemini.items import PlacedItem
from gemproxy.translate.openai_responses__gemini.request import to_count, to_gemini
from gemproxy.translate.openai_responses__gemini.response import ResponseParts
from gemproxy.translate.openai_responses__gemini.stream import ResponseStream, failed_stream
from gemproxy.translate.shared.conversations import conversation_named, session_of
from gemproxy.translate.shared.model_names import ModelNames
from gemproxy.translate.shared.schema_budget import OutOfSteps, SchemaBudget
from gemproxy.translate.shared.signatures import SignatureStore

RESPONSES: Final = "/v1/responses"
#: Constants, because access to a member of an Enum is slow.
_GENERATE: Final = Operation.GENERATE
_GENERATE_STREAM: Final = Operation.GENERATE_STREAM
_RESPONSE: Final = "resp_"
#: Bytes. Reading a longer conversation takes more than some milliseconds.
_LONG_HISTORY: Final = 256 * 1024
#: Digits at the end of an item's id that count the items of a response.
_COUNTING: Final = 4


class ResponsesEndpoint:
    """Makes jobs of requests of the Responses API; see :class:`gemproxy.api.base.Endpoint`.

    ``names`` may be replaced between two requests. ``new_id`` gives a fresh id for a function call,
    ``new_base`` one for a response, without its prefix. ``scrub`` takes secrets out of a text,
    ``wall`` gives epoch time.
    """

    #: A stream that fails before its first event needs more than the dialect's error event.
    route: Final = Route(RESPONSES, (b"POST",), replace(OPENAI, event=failed_stream))

    def __init__(
        self,
        names: ModelNames,
        signatures: SignatureStore,
        answers: AnswerStore,
        *,
        new_id: Callable[[], str],
        new_base: Callable[[], str],
        scrub: Callable[[str], str],
        wall: Callable[[], float],
    ) -> None:
        self.names = names
        self.signatures = signatures
        self.answers = answers
        self.new_id = new_id
        self.new_base = new_base
        self.scrub = scrub
        self.wall = wall
        self.refused_logprobs = RefusedLogprobs()

    def decode(
        self, body: bytes, head: Head, context: RequestContext, *, brief: bool
    ) -> ResponsesJob:
        """See :meth:`gemproxy.api.base.Endpoint.decode`."""
        conversation = Conversation(
            decode_responses(body), self.answers, context, self.wall(), brief=brief
        )
        request = conversation.decoded.request
        model = context.model = self.names.generating(request.model)
        if context.caller.models:
            require_model(context.caller, request.model, model)
        stream = context.stream = request.stream is True
        logprobs = not (
            request.logprobs and self.refused_logprobs.has(model, context.started, stream=stream)
        )
        job = ResponsesJob(self, conversation, model, SchemaBudget(brief=brief), logprobs=logprobs)
        session = session_of(head.header)
        if session and not request.prompt_cache_key:
            job.conversation = conversation_named(session)
        return job


class InputTokensEndpoint:
    """Makes jobs that count a request's tokens; see :class:`gemproxy.api.base.Endpoint`.

    ``responses`` is the endpoint that would serve the request.
    """

    route: Final = Route(f"{RESPONSES}/input_tokens", (b"POST",), OPENAI)

    def __init__(self, responses: ResponsesEndpoint) -> None:
        self._responses = responses

    def decode(self, body: bytes, head: Head, context: RequestContext, *, brief: bool) -> CountJob:
        """See :meth:`gemproxy.api.base.Endpoint.decode`."""
        del head
        responses = self._responses
        conversation = Conversation(
            decode_responses(body), responses.answers, context, responses.wall(), brief=brief
        )
        decoded = conversation.decoded
        model = context.model = responses.names.generating(decoded.request.model)
        if context.caller.models:
            require_model(context.caller, decoded.request.model, model)
        counted, resources = to_count(
            decoded,
            conversation.items,
            model=model,
            signatures=responses.signatures,
            budget=SchemaBudget(brief=brief),
        )
        return CountJob(model, counted, resources, encode=_count, prompt_param="input", brief=brief)


class Conversation:
    """A decoded request with the items of its whole conversation.

    Raises :class:`InvalidRequest` for an unknown ``previous_response_id`` or item, and with
    ``brief`` :class:`~gemproxy.translate.shared.schema_budget.OutOfSteps` if the conversation so
    far is too long for the reactor.
    """

    def __init__(
        self,
        decoded: DecodedRequest,
        answers: AnswerStore,
        context: RequestContext,
        now: float,
        *,
        brief: bool,
    ) -> None:
        request = decoded.request
        self._brief = brief
        self.decoded = decoded
        self.stores = answers.enabled and request.store is not False
        self._answers = answers
        self._owner = context.owner
        self._now = now
        #: The texts of the items before the answer; kept only to be stored.
        self.history: tuple[bytes, ...] = ()
        self.items: list[PlacedItem] = []
        if request.previous_response_id is not None:
            self._go_on_from(request.previous_response_id)
        if isinstance(request.input, str):
            if self.stores and request.input:
                self.history += (_encode([_message(request.input)]),)
        else:
            self._add(request.input)

    def take_echo(self) -> bytes:
        """What the response repeats of the request, which is dropped."""
        decoded = self.decoded
        del self.decoded, self.items
        return encode_echo(decoded.request, decoded.raw, store=self.stores)

    def keep(self, identity: str, start: bytes, output: bytes, end: bytes) -> None:
        """Store the complete response. Thread-safe."""
        answer = StoredAnswer(
            identity, self._owner.label, self._now, start, output, end, self.history
        )
        self._answers.put(answer, self._now)

    def _go_on_from(self, identity: str) -> None:
        answer = self._answers.get(identity, self._owner, self._now)
        if answer is None:
            raise InvalidRequest(
                f"Previous response with id '{identity[:80]}' not found.",
                param="previous_response_id",
                reason="previous_response_not_found",
            )
        self.history = (*answer.history, answer.output)
        if self._brief and sum(map(len, self.history)) > _LONG_HISTORY:
            raise OutOfSteps("the conversation so far is long")
        for text in self.history:
            self.items += [PlacedItem(item, "previous_response_id") for item in decode_items(text)]

    def _add(self, items: list[Item]) -> None:
        """Add the items of the input, those that it only names included."""
        found: dict[int, bytes | None] = {}
        for index, item in enumerate(items):
            path = f"input[{index}]"
            if not _is_reference(item):
                self.items.append(PlacedItem(item, path))
                continue
            text = found[index] = self._referred(item.id or "", path)
            if text is not None:
                self.items += [PlacedItem(each, path) for each in decode_items(b"[%b]" % text)]
        if self.stores and items:
            self.history += (self._input_text(found),)

    def _input_text(self, found: dict[int, bytes | None]) -> bytes:
        """The text of the input, with the items that it names in their place."""
        written = bytes(self.decoded.raw.input)  # type: ignore[arg-type]
        if not found:
            return written
        texts = [
            found[index] if index in found else bytes(text)
            for index, text in enumerate(raw_items(written))
        ]
        return b"[%b]" % b",".join(text for text in texts if text is not None)

    def _referred(self, identity: str, path: str) -> bytes | None:
        """The text of an item of a stored response; ``None`` for an unknown thought.

        An item's id consists of its response's and a number.
        """
        prefix, _, rest = identity.partition("_")
        answer = self._answers.get(_RESPONSE + rest[:-_COUNTING], self._owner, self._now)
        if answer is not None:
            for text in raw_items(answer.output):
                if _id_decoder.decode(text).id == identity:
                    return bytes(text)
        if prefix == "rs":
            # Only a thought is lost.
            return None
        raise InvalidRequest(
            f"{path}.id: unknown item '{identity[:80]}'; set store to false in the client, then it"
            " sends the items themselves.",
            param=f"{path}.id",
        )


class ResponsesJob:
    """A translated request of the Responses API; see :class:`gemproxy.api.base.Job`."""

    prompt_param = "input"

    def __init__(
        self,
        endpoint: ResponsesEndpoint,
        conversation: Conversation,
        model: str,
        budget: SchemaBudget,
        *,
        logprobs: bool,
    ) -> None:
        self._endpoint = endpoint
        self._conversation = conversation
        self.model = model
        self.is_brief = budget.brief
        self.stream = conversation.decoded.request.stream is True
        self.operation = _GENERATE_STREAM if self.stream else _GENERATE
        self._replaces_signatures = False
        self._logprobs = logprobs
        self._left_out_logprobs = False
        self._translate(conversation.decoded, conversation.items, budget)
        # Kept for a second translation. If none is possible, drop it to free the memory.
        again = self._translated.signed or self._translated.context.logprobs
        self._request = (conversation.decoded, conversation.items, budget) if again else None
        self._echo = conversation.take_echo()

    def _translate(
        self, decoded: DecodedRequest, items: Sequence[PlacedItem], budget: SchemaBudget
    ) -> None:
        endpoint = self._endpoint
        translated = self._translated = to_gemini(
            decoded,
            items,
            model=self.model,
            signatures=endpoint.signatures,
            replace_signatures=self._replaces_signatures,
            logprobs=self._logprobs,
            scrub=endpoint.scrub,
            budget=budget,
        )
        self.body = translated.body
        self.tokens = translated.estimated_tokens
        self.resources = translated.resources
        self.conversation = translated.conversation

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
        if revision is REPLACED_SIGNATURES:
            self._replaces_signatures = True
        else:
            self._logprobs = False
            self._left_out_logprobs = True
        self._translate(*self._request)

    def served(self, now: float) -> None:
        """See :meth:`gemproxy.api.base.Job.served`."""
        if self._left_out_logprobs:
            self._endpoint.refused_logprobs.add(self.model, now, stream=self.stream)

    def whole_answer(self, created: int) -> WholeAnswer:
        """See :meth:`gemproxy.api.base.Job.whole_answer`."""
        return WholeResponse(self._parts(created))

    def streamed_answer(self, created: int) -> StreamedAnswer:
        """See :meth:`gemproxy.api.base.Job.streamed_answer`."""
        return ResponseStream(self._parts(created))

    def _parts(self, created: int) -> ResponseParts:
        endpoint, conversation = self._endpoint, self._conversation
        base = endpoint.new_base()
        return ResponseParts(
            self._translated,
            ResponseFrame(_RESPONSE + base, created, self._echo),
            base,
            endpoint.new_id,
            endpoint.wall,
            endpoint.signatures,
            conversation.keep if conversation.stores else None,
        )


class _Identified(msgspec.Struct):
    id: str | None = None


_id_decoder = msgspec.json.Decoder(_Identified)
_encode = msgspec.json.Encoder().encode


def _count(tokens: int) -> bytes:
    return encode_object(InputTokens(input_tokens=tokens))


def _is_reference(item: Item) -> bool:
    """Whether the item only names another one; the type may be missing."""
    return item.type == "item_reference" or (
        item.type is None and item.role is None and item.id is not None
    )


def _message(text: str) -> dict[str, Any]:
    """The item that a text as the whole input stands for."""
    return {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": text}],
    }
