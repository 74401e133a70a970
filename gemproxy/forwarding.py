"""One request, one straight line: the story of the program.

translate -> choose a key -> send -> classify -> record -> translate back -> write

:meth:`Forwarder.forward` is that line, and holds the only loop: another key is tried as long as
the client has seen nothing. Whatever is decided here is decided by pure rooms; whatever is done is
done behind ``interfaces``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from gemproxy.attribution import Attempt, attribute, model_verdict
from gemproxy.classification import (
    classify_error_event,
    classify_failure,
    classify_response,
    error_for,
)
from gemproxy.dialects.gemini.answers import (
    GenerateContentResponse,
    UpstreamErrorEvent,
    decode_answer,
)
from gemproxy.dialects.openai.errors import encode_error_event
from gemproxy.dialects.openai.requests import ChatCompletionRequest
from gemproxy.dialects.sse import EventStreamDecoder
from gemproxy.dialects.translation.answer import continuation_token, to_openai
from gemproxy.dialects.translation.request import (
    normalize_model,
    to_gemini,
    with_continuation,
)
from gemproxy.dialects.translation.signatures import SignatureStore
from gemproxy.dialects.translation.stream import ChatStreamTranslator
from gemproxy.errors import (
    FailureKind,
    GarbledAnswer,
    ModelNotFound,
    ProxyError,
    StreamIncomplete,
    UnusableAnswer,
    UpstreamFailed,
    UpstreamRejected,
)
from gemproxy.exchange import AttemptRecord, Exchange, Refusal
from gemproxy.interfaces import ReplyWriter, Upstream, UpstreamRequest, UpstreamResponse
from gemproxy.keys.models import ModelBreakers, ModelPermit
from gemproxy.keys.outcome import Charge, Outcome, Verdict
from gemproxy.keys.pool import KeyPool, Lease, PassedOver

#: Google's error bodies are a few KB; a front end's HTML page may be more.
MAX_ERROR_BYTES = 256 * 1024
#: A unary answer with several 4K images stays below it.
MAX_ANSWER_BYTES = 128 * 1024 * 1024
#: A Gemini 4 answer of 1,048,576 tokens comes in 32 unary hops.
MAX_HOPS = 40
#: An HTTP 200 without an answer in it is asked for once more, not as often as there are keys.
MAX_UNUSABLE = 2

_SERVED = frozenset({Verdict.SUCCESS, Verdict.BLOCKED})
#: Told to the pool at once, so that the next request already knows; the others wait for this
#: request's end, when it is known whose fault they were.
_TOLD_AT_ONCE = frozenset(
    {Verdict.QUOTA_MINUTE, Verdict.QUOTA_DAY, Verdict.KEY, Verdict.MODEL_DENIED}
)
#: Nothing speaks against the key itself: where it is the only one it may be tried again.
_SAME_KEY_MAY_SERVE = frozenset({Verdict.SERVICE, Verdict.NETWORK, Verdict.UNUSABLE})
_ANOTHER_KEY_MAY_SERVE = _TOLD_AT_ONCE | _SAME_KEY_MAY_SERVE
#: Ends of a stream that say nothing but that it ended.
_JUST_STOPPED = frozenset({FailureKind.TRUNCATED.name.lower(), FailureKind.RESET.name.lower()})
#: What these mean for the client depends on the keys that are left.
_ANSWERED_BY_THE_POOL = frozenset({Verdict.QUOTA_MINUTE, Verdict.QUOTA_DAY, Verdict.KEY})


#: The reason of a refusal that the documented dummy may overcome.
SIGNATURE_REFUSED = "thought_signature"
_T = TypeVar("_T")


@dataclass(frozen=True)
class ForwardingSettings:
    """What the operator says of forwarding. Times in seconds."""

    max_attempts: int = 3
    backoff: float = 0.1
    request_timeout: float = 1200.0
    first_chunk_retry: bool = True
    aliases: Mapping[str, str] = field(default_factory=dict)
    allowed_models: frozenset[str] = frozenset()

    def resolve(self, name: str) -> str:
        """The upstream's name of the client's model ``name``.

        Raises :class:`ModelNotFound` where the operator does not allow it, and
        :class:`InvalidRequest` where it cannot be a model's name.
        """
        model = self.aliases.get(name) or normalize_model(name)
        model = self.aliases.get(model, model)
        if self.allowed_models and not self.allowed_models & {name, model}:
            raise ModelNotFound(f"The model '{name}' is not served here.", param="model")
        return model


class Forwarder:
    """Carries requests to Gemini with the keys of the pool.

    ``seconds`` gives epoch time, ``sleep`` waits, ``new_id`` gives a fresh id for a function call,
    ``scrub`` takes secrets out of a text. ``settings`` may be replaced between two requests; a
    request ends with those that it began with.
    """

    def __init__(
        self,
        settings: ForwardingSettings,
        *,
        pool: KeyPool,
        models: ModelBreakers,
        upstream: Upstream,
        signatures: SignatureStore,
        seconds: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        new_id: Callable[[], str],
        scrub: Callable[[str], str],
    ) -> None:
        self.settings = settings
        self._pool = pool
        self._models = models
        self._upstream = upstream
        self._signatures = signatures
        self._seconds = seconds
        self._sleep = sleep
        self._new_id = new_id
        self._scrub = scrub

    async def forward(
        self, request: ChatCompletionRequest, exchange: Exchange, writer: ReplyWriter
    ) -> None:
        """Serve ``request`` and write the answer.

        Raises :class:`ProxyError` as long as the client has seen nothing; once ``writer`` has
        started, a failure becomes the stream's last event.
        """
        call = _Call(self.settings, request, exchange, writer, self._signatures, self._scrub)
        permit = self._models.acquire(call.model, self._seconds())
        call.proven = lambda: self._prove(call, permit)
        try:
            lease = self._choose(call)
            while True:
                outcome = await self._attempt(call, lease)
                if outcome.verdict in _SERVED:
                    return
                if writer.started:
                    self._break_off(call, outcome)
                    return
                lease = await self._choose_again(call, outcome)
        finally:
            self._settle(call, permit)

    # -- choose ----------------------------------------------------------------------------------

    def _choose(self, call: _Call) -> Lease:
        """A key that this request has not tried. Raises :class:`ProxyError` if there is none."""
        now = self._seconds()
        try:
            lease = self._pool.acquire(call.model, now, tried=call.tried, tokens=call.tokens)
        except ProxyError as refusal:
            word = refusal.code or refusal.type
            call.exchange.refused = Refusal(word, self._passed_over(call, now))
            raise
        return self._begin_attempt(call, lease, now)

    def _choose_same(self, call: _Call) -> Lease:
        """The last attempt's key once more. Raises :class:`ProxyError` if it may not serve now."""
        now = self._seconds()
        last = call.leases[-1]
        self._pool.release(last, now)
        again = self._pool.acquire_again(last.key.id, call.model, now, tokens=call.tokens)
        return self._begin_attempt(call, again, now)

    async def _choose_again(self, call: _Call, failed: Outcome) -> Lease:
        """A key for the next attempt, or the error that the client sees when nothing is left."""
        try:
            if call.should_distrust_signatures(failed):
                call.translate(self._signatures, distrust_signatures=True)
                return self._choose_same(call)
            if call.may_try_again(failed, self._seconds()):
                try:
                    return self._choose(call)
                except ProxyError:
                    if failed.verdict not in _SAME_KEY_MAY_SERVE:
                        raise
                await self._sleep(call.backoff())
                return self._choose_same(call)
        except ProxyError as refusal:
            raise self._final_error(call, failed) from refusal
        raise self._final_error(call, failed)

    def _begin_attempt(self, call: _Call, lease: Lease, now: float) -> Lease:
        return call.begin_attempt(lease, now, self._passed_over(call, now, lease.key.id))

    def _passed_over(self, call: _Call, now: float, chosen: str | None = None) -> list[PassedOver]:
        return self._pool.hindered(
            call.model, now, tried=call.tried, tokens=call.tokens, chosen=chosen
        )

    # -- send, classify, record ------------------------------------------------------------------

    async def _attempt(self, call: _Call, lease: Lease) -> Outcome:
        record = call.exchange.attempts[-1]
        try:
            outcome = await self._serve(call, lease)
        except UpstreamFailed as failure:
            outcome = classify_failure(failure)
        except UpstreamErrorEvent as event:
            outcome = classify_error_event(event.payload, now=self._seconds())
        except StreamIncomplete:
            outcome = classify_failure(UpstreamFailed(FailureKind.TRUNCATED))
        except GarbledAnswer:
            outcome = classify_failure(UpstreamFailed(FailureKind.GARBAGE))
        except UnusableAnswer as answer:
            outcome = Outcome(Verdict.UNUSABLE, 200, reason=answer.reason)
        except UpstreamRejected as rejected:
            outcome = _missing_signature(rejected)
        finally:
            now = self._seconds()
            record.seconds = now - record.started
        if outcome.message:
            outcome = replace(outcome, message=self._scrub(outcome.message))
        record.outcome = outcome = call.judge_size(outcome)
        if outcome.verdict in _TOLD_AT_ONCE:
            self._pool.record(lease, outcome, now, latency=record.seconds)
        return outcome

    async def _serve(self, call: _Call, lease: Lease) -> Outcome:
        response = await self._send(call, lease)
        if response.status != 200:
            return await self._classify(call, response)
        if call.translated.stream:
            return await self._serve_stream(call, lease, response)
        return await self._serve_whole(call, lease, response)

    async def _send(self, call: _Call, lease: Lease, continuation: str = "") -> UpstreamResponse:
        body = call.translated.body
        if continuation:
            body = with_continuation(body, continuation)
        request = UpstreamRequest(b"POST", call.path, lease.key.secret, body, call.deadline)
        return await self._waiting(call, self._upstream.send(request))

    async def _waiting(self, call: _Call, upstream: Awaitable[_T]) -> _T:
        """What ``upstream`` gives; the time until then is the upstream's and not ours."""
        began = self._seconds()
        try:
            return await upstream
        finally:
            call.exchange.attempts[-1].waited += self._seconds() - began

    async def _classify(self, call: _Call, response: UpstreamResponse) -> Outcome:
        return classify_response(
            response.status,
            response.headers,
            await self._waiting(call, response.read(MAX_ERROR_BYTES)),
            now=self._seconds(),
            names_resources=call.translated.names_resources,
        )

    # -- translate back, write -------------------------------------------------------------------

    async def _serve_whole(self, call: _Call, lease: Lease, response: UpstreamResponse) -> Outcome:
        """Read the answer, hop by hop where it is a long one, and write it."""
        answers = [await self._read_answer(call, response)]
        while (token := continuation_token(answers[-1])) and len(answers) < MAX_HOPS:
            response = await self._send(call, lease, token)
            if response.status != 200:
                return await self._classify(call, response)
            answers.append(await self._read_answer(call, response))
        completed = to_openai(
            answers,
            call.translated.context,
            created=int(call.exchange.started),
            new_id=self._new_id,
            signatures=self._signatures,
        )
        if completed.empty and not call.unusable:
            raise UnusableAnswer("empty answer")
        call.exchange.usage = completed.usage
        call.exchange.first_byte = self._seconds()
        call.writer.answer(completed.body)
        return Outcome(Verdict.BLOCKED if completed.blocked else Verdict.SUCCESS, 200)

    async def _read_answer(
        self, call: _Call, response: UpstreamResponse
    ) -> GenerateContentResponse:
        body = await self._waiting(call, response.read(MAX_ANSWER_BYTES))
        answer = decode_answer(body)
        if answer.is_error:
            raise UpstreamErrorEvent(body)
        return answer

    async def _serve_stream(self, call: _Call, lease: Lease, response: UpstreamResponse) -> Outcome:
        """Relay the stream as it comes. The first event that says anything commits to this key."""
        call.stream_answered = True
        translator = ChatStreamTranslator(
            call.translated.context,
            created=int(call.exchange.started),
            new_id=self._new_id,
            signatures=self._signatures,
        )
        relay = _StreamRelay(translator, call, self._seconds)
        try:
            for _ in range(MAX_HOPS):
                call.writer.attach(response)
                await self._waiting(call, response.stream(relay.receive))
                relay.end_of_body()
                if translator.continuation is None:
                    break
                response = await self._send(call, lease, translator.continuation)
                if response.status != 200:
                    return await self._classify(call, response)
                translator.resume()
            relay.finish()
        finally:
            call.exchange.usage = translator.usage
        return Outcome(Verdict.BLOCKED if translator.blocked else Verdict.SUCCESS, 200)

    # -- the end ---------------------------------------------------------------------------------

    def _break_off(self, call: _Call, outcome: Outcome) -> None:
        """End a stream that had begun with an event on which the official SDKs raise."""
        error = error_for(outcome)
        if outcome.verdict is Verdict.NETWORK and outcome.reason in _JUST_STOPPED:
            error = StreamIncomplete("The upstream ended the stream before it was complete.")
        call.writer.write(encode_error_event(error))
        call.writer.finish()
        if outcome.verdict in _SAME_KEY_MAY_SERVE:
            broken_off = replace(outcome, verdict=Verdict.BROKEN_OFF)
            call.exchange.attempts[-1].outcome = broken_off

    def _prove(self, call: _Call, permit: ModelPermit) -> None:
        """The upstream has begun to answer: whoever waits for a trial need not wait for its end."""
        self._models.record(permit, success=True, now=self._seconds())
        self._pool.proven(call.leases[-1])

    def _final_error(self, call: _Call, outcome: Outcome) -> ProxyError:
        """What the client sees of the last outcome, now that nothing is left to try."""
        if outcome.verdict in _ANSWERED_BY_THE_POOL:
            return self._pool.refusal(call.model, self._seconds(), outcome)
        return error_for(outcome)

    def _settle(self, call: _Call, permit: ModelPermit) -> None:
        """The request is over and its failures can be attributed: now it is known who pays."""
        now = self._seconds()
        exchange = call.exchange
        attempts = [Attempt(record.key_id, record.outcome) for record in exchange.attempts]
        charges = attribute(attempts)
        for record, lease, charge in zip(exchange.attempts, call.leases, charges, strict=True):
            record.charge = charge
            if charge is Charge.KEY:
                tokens = exchange.usage.total if exchange.usage else None
                self._pool.record(lease, record.outcome, now, latency=record.seconds, tokens=tokens)
            else:
                self._pool.release(lease, now)
        verdict = model_verdict(attempts)
        if verdict is None:
            self._models.release(permit, now)
        else:
            self._models.record(permit, verdict == "success", now)
        if exchange.attempts:
            exchange.outcome = exchange.attempts[-1].outcome.verdict.value


class _Call:
    """What one run of :meth:`Forwarder.forward` knows of its request."""

    def __init__(
        self,
        settings: ForwardingSettings,
        request: ChatCompletionRequest,
        exchange: Exchange,
        writer: ReplyWriter,
        signatures: SignatureStore,
        scrub: Callable[[str], str],
    ) -> None:
        self._scrub = scrub
        self.settings = settings
        self.request = request
        self.exchange = exchange
        self.writer = writer
        self.leases: list[Lease] = []
        #: Called when the upstream has begun to answer.
        self.proven: Callable[[], None] = lambda: None
        self.model = exchange.model = settings.resolve(request.model)
        self.deadline = exchange.started + settings.request_timeout
        self.stream_answered = False
        self._distrusts_signatures = False
        self.translate(signatures)
        exchange.stream = self.translated.stream

    def translate(self, signatures: SignatureStore, *, distrust_signatures: bool = False) -> None:
        self._distrusts_signatures = distrust_signatures
        translated = to_gemini(
            self.request,
            model=self.model,
            signatures=signatures,
            distrust_signatures=distrust_signatures,
        )
        self.translated = replace(
            translated, context=replace(translated.context, scrub=self._scrub)
        )
        method = "streamGenerateContent?alt=sse" if self.translated.stream else "generateContent"
        self.path = f"/v1beta/models/{self.model}:{method}".encode("ascii")

    @property
    def tokens(self) -> int:
        return self.translated.estimated_tokens

    @property
    def tried(self) -> tuple[str, ...]:
        return tuple(attempt.key_id for attempt in self.exchange.attempts)

    @property
    def unusable(self) -> int:
        """How many attempts brought an answer with nothing in it."""
        return sum(
            attempt.outcome.verdict is Verdict.UNUSABLE for attempt in self.exchange.attempts
        )

    def begin_attempt(self, lease: Lease, now: float, passed_over: list[PassedOver]) -> Lease:
        self.leases.append(lease)
        record = AttemptRecord(lease.key.id, lease.key.name, now, passed_over=passed_over)
        self.exchange.attempts.append(record)
        self.exchange.refused = None
        self.stream_answered = False
        return lease

    def may_try_again(self, failed: Outcome, now: float) -> bool:
        return (
            failed.verdict in _ANOTHER_KEY_MAY_SERVE
            and len(self.leases) < self.settings.max_attempts
            and self.unusable < MAX_UNUSABLE
            and now < self.deadline
            and (self.settings.first_chunk_retry or not self.stream_answered)
        )

    def should_distrust_signatures(self, failed: Outcome) -> bool:
        """Whether Google refused a thought signature that it might accept the dummy for."""
        return (
            failed.reason == SIGNATURE_REFUSED
            and not self._distrusts_signatures
            and b'"thoughtSignature"' in self.translated.body
            and not self.writer.started
            and len(self.leases) < self.settings.max_attempts
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
            param="messages",
        )

    def backoff(self) -> float:
        """Seconds to wait before the same key is used again; doubles with each attempt."""
        return self.settings.backoff * 2.0 ** (len(self.leases) - 1)


def _missing_signature(rejected: UpstreamRejected) -> Outcome:
    """A 200 that says what a 400 would: the history came without a thought signature."""
    return Outcome(
        Verdict.REQUEST, 400, reason=SIGNATURE_REFUSED, message=rejected.message, param="messages"
    )


class _StreamRelay:
    """Upstream bytes in, client events out; the first event that says anything commits."""

    def __init__(
        self, translator: ChatStreamTranslator, call: _Call, seconds: Callable[[], float]
    ) -> None:
        self._translator = translator
        self._decoder = EventStreamDecoder()
        self._call = call
        self._writer = call.writer
        self._seconds = seconds
        self._held = b""

    def receive(self, data: bytes) -> None:
        self._translate(self._decoder.receive(data))

    def end_of_body(self) -> None:
        """Read what a body without a last blank line left over, and be ready for another body."""
        try:
            self._translate(self._decoder.close())
        except UnusableAnswer as rest:
            raise StreamIncomplete("The upstream stopped within an event.") from rest
        self._decoder = EventStreamDecoder()

    def finish(self) -> None:
        """Write the last events. Raises what makes the end no good end."""
        events = self._translator.finish()
        if self._translator.empty and not self._call.unusable and not self._writer.started:
            raise UnusableAnswer("empty answer")
        self._commit()
        self._writer.write(events)
        self._writer.finish()

    def _translate(self, payloads: list[bytes]) -> None:
        translated: list[bytes] = []
        try:
            translated.extend(map(self._translator.receive, payloads))
        finally:
            # An error event does not take back what came before it in the same read.
            self._write(b"".join(translated))

    def _write(self, events: bytes) -> None:
        if self._writer.started or self._translator.started:
            self._commit()
            self._writer.write(events)
        else:
            self._held += events

    def _commit(self) -> None:
        if not self._writer.started:
            self._call.exchange.first_byte = self._seconds()
            self._writer.begin_stream()
            self._call.proven()
            self._writer.write(self._held)
