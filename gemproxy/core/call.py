"""What one run of the line in ``core.dispatch`` knows of its request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from msgspec import Struct
from msgspec.structs import replace as with_fields

from gemproxy.api.openai.schema.requests import ChatCompletionRequest, decode_chat_completion
from gemproxy.core.context import AttemptRecord, Exchange
from gemproxy.core.continuation import Hops
from gemproxy.core.errors import InvalidRequest, ModelNotFound
from gemproxy.core.interfaces import ReplyWriter
from gemproxy.core.refused_options import RefusedLogprobs
from gemproxy.pool.models import ModelPermit
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import Lease
from gemproxy.providers.gemini.capabilities import Ability, ability_of
from gemproxy.translate.openai_chat__gemini.request import (
    normalize_model,
    to_gemini,
    without_prefixes,
)
from gemproxy.translate.shared.schema_budget import SchemaBudget
from gemproxy.translate.shared.signatures import SignatureStore

#: An HTTP 200 without an answer in it is asked for once more, not as often as there are keys.
MAX_UNUSABLE = 2
#: A connection that dies in silence takes half a minute to be noticed, and one that cannot be made
#: ``upstream.connectTimeoutSeconds``: the client should hear of it before a minute is over.
MAX_LOST_ON_THE_WAY = 2
#: The reason of a refusal that the documented dummy may overcome.
SIGNATURE_REFUSED = "thought_signature"
#: The reason of a refusal of log probabilities, without which the request may be served.
LOGPROBS_REFUSED = "logprobs"
#: Told to the pool at once, so that the next request already knows; the others wait for this
#: request's end, when it is known whose fault they were.
TOLD_AT_ONCE = frozenset(
    {
        Verdict.QUOTA_MINUTE,
        Verdict.QUOTA_DAY,
        Verdict.KEY,
        Verdict.MODEL_DENIED,
        Verdict.FORBIDDEN,
    }
)
#: Nothing speaks against the key itself: where it is the only one it may be tried again.
SAME_KEY_MAY_SERVE = frozenset({Verdict.SERVICE, Verdict.NETWORK, Verdict.UNUSABLE})
_ANOTHER_KEY_MAY_SERVE = TOLD_AT_ONCE | SAME_KEY_MAY_SERVE
#: Clients may invent names; so many are remembered at a time.
_MOST_MODELS = 1000


class UpstreamModel(Struct, frozen=True):
    """A model by the upstream's name, and the paths to ask it by.

    They are for a whole answer, for a stream, and for a batch of embeddings.
    """

    name: str
    whole: bytes
    stream: bytes
    embed: bytes
    #: What the model's name tells that it does; ``None`` where it does not.
    ability: Ability | None

    @classmethod
    def named(cls, name: str) -> UpstreamModel:
        """``name`` is without ``models/``."""
        path = f"/v1beta/models/{name}".encode("ascii")
        return cls(
            name,
            path + b":generateContent",
            path + b":streamGenerateContent?alt=sse",
            path + b":batchEmbedContents",
            ability_of(name),
        )


@dataclass(frozen=True)
class ForwardingSettings:
    """What the operator says of forwarding. Times in seconds."""

    max_attempts: int = 3
    backoff: float = 0.1
    request_timeout: float = 1200.0
    first_chunk_retry: bool = True
    aliases: Mapping[str, str] = field(default_factory=dict)
    allowed_models: frozenset[str] = frozenset()
    _resolved: dict[str, UpstreamModel] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def resolve(self, name: str) -> UpstreamModel:
        """What the client's model ``name`` is upstream.

        Raises :class:`ModelNotFound` where the operator does not allow it, and
        :class:`InvalidRequest` where it cannot be a model's name.
        """
        known = self._resolved.get(name)
        if known is None:
            if len(self._resolved) >= _MOST_MODELS:
                self._resolved.clear()
            known = self._resolved[name] = UpstreamModel.named(self._upstream_name(name))
        return known

    def _upstream_name(self, name: str) -> str:
        bare = without_prefixes(name)
        model = self.aliases.get(name) or self.aliases.get(bare) or normalize_model(name)
        model = self.aliases.get(model, model)
        if self.allowed_models and not self.allowed_models & {name, model}:
            raise ModelNotFound(f"The model '{name}' is not served here.", param="model")
        return model


class Call:
    """What one run of :meth:`Forwarder.forward` knows of its request.

    Making one reads the request's ``body`` and translates it, which may be done in any thread.
    Raises :class:`~gemproxy.core.errors.InvalidRequest` and
    :class:`~gemproxy.core.errors.ModelNotFound`.
    """

    #: Leave to ask for the model.
    permit: ModelPermit
    #: Another endpoint's, which reads an answer by itself: by :meth:`accept`.
    accepts = False
    #: Where the prompt stands in the client's request.
    prompt = "messages"

    def __init__(
        self,
        settings: ForwardingSettings,
        body: bytes,
        exchange: Exchange,
        writer: ReplyWriter,
        signatures: SignatureStore,
        scrub: Callable[[str], str],
        budget: SchemaBudget,
        no_logprobs: RefusedLogprobs,
    ) -> None:
        request = decode_chat_completion(body)
        upstream = settings.resolve(request.model)
        if upstream.ability is Ability.EMBED:
            raise InvalidRequest(
                f"model: '{request.model[:80]}' makes embeddings; use POST /v1/embeddings.",
                param="model",
            )
        self._begin(settings, exchange, writer, upstream.name)
        #: Translating takes so little time that the reactor may do it.
        self.brief = budget.brief
        self._scrub = scrub
        self._replaces_signatures = False
        if request.logprobs:
            stream = request.stream is True
            if no_logprobs.has(upstream.name, exchange.started, stream=stream):
                request = without_logprobs(request)
        self._translate(request, signatures, budget)
        exchange.stream = self.translated.stream
        self.path = upstream.stream if exchange.stream else upstream.whole
        #: For a second translation; where there can be none, its memory is free from here on.
        again = self.translated.signed or request.logprobs
        self._request = (request, budget) if again else None

    def _begin(
        self, settings: ForwardingSettings, exchange: Exchange, writer: ReplyWriter, model: str
    ) -> None:
        self.settings = settings
        self.exchange = exchange
        self.writer = writer
        #: One for each of the exchange's attempts, and the ids of their keys.
        self.leases: list[Lease] = []
        self.tried: list[str] = []
        self.model = exchange.model = model
        #: Of the request, or of the hop of a long answer.
        self.deadline = exchange.started + settings.request_timeout
        self.stream_answered = False
        #: Set from the second hop of a long answer on.
        self.hops: Hops | None = None
        #: The place of the first attempt at this hop.
        self._first = 0
        #: Google refused them, and the request was made once more without.
        self.left_out_logprobs = False

    async def accept(self, body: bytes) -> None:
        """Read the whole body of an answer. Raises what the translation of one raises."""
        raise NotImplementedError

    def translate_again(self, signatures: SignatureStore, refusal: str) -> None:
        """Make the native request without what was refused.

        After :data:`SIGNATURE_REFUSED` it has the documented dummy in place of every signature;
        after :data:`LOGPROBS_REFUSED` it does not ask for log probabilities.
        """
        if self._request is not None:
            request, budget = self._request
            if refusal == SIGNATURE_REFUSED:
                self._replaces_signatures = True
            else:
                request = without_logprobs(request)
                self._request = (request, budget)
                self.left_out_logprobs = True
            self._translate(request, signatures, budget)

    def _translate(
        self, request: ChatCompletionRequest, signatures: SignatureStore, budget: SchemaBudget
    ) -> None:
        self.translated = to_gemini(
            request,
            model=self.model,
            signatures=signatures,
            replace_signatures=self._replaces_signatures,
            scrub=self._scrub,
            budget=budget,
        )
        self.tokens = self.translated.estimated_tokens

    @property
    def unusable(self) -> int:
        """How many attempts at this hop brought an answer with nothing in it."""
        return sum(
            attempt.outcome.verdict is Verdict.UNUSABLE
            for attempt in islice(self.exchange.attempts, self._first, None)
        )

    @property
    def lost_on_the_way(self) -> int:
        """How many attempts waited in vain for a way to the upstream, which all keys share."""
        return sum(
            attempt.outcome.timed_out and attempt.outcome.spares_key
            for attempt in islice(self.exchange.attempts, self._first, None)
        )

    @property
    def tries(self) -> int:
        """How many attempts at this hop there were."""
        return len(self.leases) - self._first

    def begin_hop(self, hops: Hops, now: float) -> None:
        """The next hop of a long answer is to be asked for, with the key that served the last.

        It has as much time, and as many attempts, as a request.
        """
        self.hops = hops
        self.deadline = now + self.settings.request_timeout
        self.stream_answered = False
        self._first = len(self.leases) - 1
        del self.tried[:-1]

    def begin_attempt(self, lease: Lease, record: AttemptRecord) -> None:
        """The next attempt, with the key of ``lease``; ``record`` is to tell of it."""
        self.leases.append(lease)
        self.tried.append(record.key_id)
        self.exchange.attempts.append(record)
        self.exchange.refused = None
        self.stream_answered = False

    def may_try_again(self, failed: Outcome, now: float) -> bool:
        """Whether another attempt is allowed, and has a chance, after ``failed``."""
        return (
            failed.verdict in _ANOTHER_KEY_MAY_SERVE
            and self.tries < self.settings.max_attempts
            and self.unusable < MAX_UNUSABLE
            and self.lost_on_the_way < MAX_LOST_ON_THE_WAY
            and now < self.deadline
            and (self.settings.first_chunk_retry or not self.stream_answered)
        )

    def should_replace_signatures(self, failed: Outcome) -> bool:
        """Whether Google refused a thought signature that it might accept the dummy for."""
        return (
            failed.reason == SIGNATURE_REFUSED
            and not self._replaces_signatures
            and self.translated.signed
            and self._request is not None
            and not self.writer.started
            and self.hops is None
            and len(self.leases) < self.settings.max_attempts
        )

    def should_leave_out_logprobs(self, failed: Outcome) -> bool:
        """Whether Google refused log probabilities, which the request can do without.

        That is no attempt beyond those that are allowed: it is another request.
        """
        return (
            failed.reason == LOGPROBS_REFUSED
            and self.translated.context.logprobs
            and self._request is not None
            and not self.writer.started
        )

    def judge_size(self, outcome: Outcome) -> Outcome:
        """A prompt that alone is larger than a minute's token quota is the request's fault.

        Google answers 429 to it with every key, for ever; cooling key after key for it would take
        the whole pool out (recording: chat real error scenarios, context length).
        """
        if not 0 < (outcome.token_quota or 0) < self.tokens:
            return outcome
        return replace(
            outcome,
            verdict=Verdict.REQUEST,
            status=400,
            code="context_length_exceeded",
            param=self.prompt,
        )

    def backoff(self) -> float:
        """Seconds to wait before the same key is used again; doubles with each attempt."""
        return self.settings.backoff * 2.0 ** (self.tries - 1)


def without_logprobs(request: ChatCompletionRequest) -> ChatCompletionRequest:
    """The same request, which does not ask for log probabilities."""
    return with_fields(request, logprobs=None, top_logprobs=None)
