"""One request, one straight line: the story of the program.

translate -> choose a key -> send -> classify -> record -> translate back -> write

:meth:`Forwarder.forward` is that line, and holds the only loop: another key is tried as long as
the client has seen nothing. Whatever is decided here is decided by pure rooms; whatever is done is
done behind ``interfaces``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from gemproxy.buffer_list import digest
from gemproxy.core.attribution import attribute
from gemproxy.core.call import (
    LOGPROBS_REFUSED,
    SAME_KEY_MAY_SERVE,
    SIGNATURE_REFUSED,
    TOLD_AT_ONCE,
    Call,
    ForwardingSettings,
)
from gemproxy.core.client_errors import error_for
from gemproxy.core.context import AttemptRecord, Exchange, Refusal
from gemproxy.core.continuation import Hops
from gemproxy.core.errors import (
    FailureKind,
    GemproxyError,
    MalformedUpstreamResponse,
    ProxyError,
    StreamIncomplete,
    UnusableAnswer,
    UpstreamFailed,
    UpstreamRejected,
    UpstreamUnavailable,
)
from gemproxy.core.interfaces import ReplyWriter, Upstream, UpstreamRequest, UpstreamResponse
from gemproxy.core.refused_options import RefusedLogprobs
from gemproxy.core.relay import StreamRelay
from gemproxy.pool.models import ModelBreakers
from gemproxy.pool.outcome import SERVED, Charge, Outcome, Verdict
from gemproxy.pool.pool import KeyPool, Lease
from gemproxy.providers.gemini.classify import (
    classify_error_event,
    classify_failure,
    classify_page,
    classify_response,
)
from gemproxy.providers.gemini.wire.answers import (
    NO_ERROR,
    GenerateContentResponse,
    UpstreamErrorEvent,
    decode_answer,
)
from gemproxy.translate.openai_chat__gemini.answer import (
    CompletedAnswer,
    continuation_token,
    hop_fault,
    to_openai,
)
from gemproxy.translate.openai_chat__gemini.request import with_continuation
from gemproxy.translate.openai_chat__gemini.stream import ChatStreamTranslator
from gemproxy.translate.shared.schema_budget import SchemaBudget
from gemproxy.translate.shared.signatures import SignatureStore

#: Google's error bodies are a few KB; a front end's HTML page may be more.
MAX_ERROR_BYTES = 256 * 1024
#: A unary answer with several 4K images stays below it.
MAX_ANSWER_BYTES = 128 * 1024 * 1024
#: A larger one is translated in a thread: log probabilities are millions of small objects, which
#: take seconds.
LARGE_ANSWER_BYTES = 1024 * 1024
#: A Gemini 4 answer of 1,048,576 tokens comes in 32 unary hops.
MAX_HOPS = 40

#: Ends of a stream that say nothing but that it ended.
_JUST_STOPPED = frozenset({FailureKind.TRUNCATED.name.lower(), FailureKind.RESET.name.lower()})
#: What these mean for the client depends on the keys that are left.
_ANSWERED_BY_THE_POOL = frozenset(
    {Verdict.QUOTA_MINUTE, Verdict.QUOTA_DAY, Verdict.KEY, Verdict.FORBIDDEN}
)
#: Looked up once: an Enum takes its time to tell a member, or a member's value.
_KEY = Charge.KEY
_WORDS: dict[Verdict, str] = {verdict: verdict.value for verdict in Verdict}
#: Prepared, because nearly every request ends with it.
_SUCCESS = Outcome(Verdict.SUCCESS, 200)
_BLOCKED = Outcome(Verdict.BLOCKED, 200)


class Forwarder:
    """Carries requests to Gemini with the keys of the pool.

    ``seconds`` gives monotonic time, ``wall`` epoch time (by default the same), ``sleep`` waits,
    ``new_id`` gives a fresh id for a function call, ``in_thread`` does what would hold up other
    requests, ``scrub`` takes secrets out of a text.
    ``settings`` may be replaced between two requests; a request ends with those that it began with.
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
        in_thread: Callable[[Callable[[], None]], Awaitable[None]],
        scrub: Callable[[str], str],
        wall: Callable[[], float] | None = None,
    ) -> None:
        self.settings = settings
        self._pool = pool
        self._models = models
        self._upstream = upstream
        self._signatures = signatures
        self._seconds = seconds
        self._wall = wall or seconds
        self._sleep = sleep
        self._new_id = new_id
        self._in_thread = in_thread
        self._scrub = scrub
        self._no_logprobs = RefusedLogprobs()

    def translate(
        self, body: bytes, exchange: Exchange, writer: ReplyWriter, *, brief: bool = False
    ) -> Call:
        """Read the body of a request and translate it, for :meth:`forward`. Any thread may.

        Raises :class:`ProxyError` for a request that cannot be served as it is; where it is to be
        ``brief``, :class:`~gemproxy.translate.shared.schema_budget.OutOfSteps` for one that
        takes long.
        """
        budget = SchemaBudget(brief=brief)
        return Call(
            self.settings,
            body,
            exchange,
            writer,
            self._signatures,
            self._scrub,
            budget,
            self._no_logprobs,
        )

    async def forward(self, call: Call) -> None:
        """Serve what ``call`` asks for and write the answer.

        Raises :class:`ProxyError` as long as the client has seen nothing of an answer; once its
        writer has started, a failure becomes the stream's last event.
        """
        now = self._seconds()
        call.permit = self._models.acquire(call.model, now)
        try:
            lease = self._choose(call, now)
            # What is refused without a wait was refused by now, with a status of its own.
            if call.translated.stream:
                call.writer.await_stream()
            while True:
                outcome = await self._attempt(call, lease)
                if outcome.verdict in SERVED:
                    if call.left_out_logprobs:
                        # That it was they that were refused is sure only now.
                        stream = call.translated.stream
                        self._no_logprobs.add(call.model, self._seconds(), stream=stream)
                    break
                if call.hops is not None:
                    hop = await self._choose_for_hop(call, outcome)
                    if hop is None:
                        break
                    lease = hop
                elif call.writer.started:
                    self._break_off(call, outcome)
                    break
                else:
                    lease = await self._choose_again(call, outcome)
        except UpstreamUnavailable as error:
            self._settle(call)
            self._advise(call, error)
            raise
        except BaseException:
            self._settle(call)
            raise
        finally:
            # It holds the stream's relay, which holds the call.
            call.hops = None
        self._settle(call)

    # -- choose ----------------------------------------------------------------------------------

    def _choose(self, call: Call, now: float) -> Lease:
        """A key that this request has not tried. Raises :class:`ProxyError` if there is none."""
        try:
            lease = self._pool.acquire(call.model, now, tried=call.tried, tokens=call.tokens)
        except ProxyError as refusal:
            skipped_keys = self._pool.skipped_keys(
                call.model, now, tried=call.tried, tokens=call.tokens
            )
            call.exchange.refused = Refusal(refusal.word, skipped_keys)
            raise
        return self._begin_attempt(call, lease, now)

    def _choose_same(self, call: Call) -> Lease:
        """The last attempt's key once more. Raises :class:`ProxyError` if it may not serve now."""
        now = self._seconds()
        last = call.leases[-1]
        self._pool.release(last, now)
        again = self._pool.acquire_again(last.key.id, call.model, now, tokens=call.tokens)
        return self._begin_attempt(call, again, now)

    async def _choose_again(self, call: Call, failed: Outcome) -> Lease:
        """A key for the next attempt, or the error that the client sees when nothing is left."""
        try:
            if call.should_replace_signatures(failed):
                await self._translate_again(call, SIGNATURE_REFUSED)
                return self._choose_same(call)
            if call.should_leave_out_logprobs(failed):
                await self._translate_again(call, LOGPROBS_REFUSED)
                return self._choose_same_or_other(call)
            now = self._seconds()
            if call.may_try_again(failed, now):
                try:
                    return self._choose(call, now)
                except ProxyError:
                    if failed.verdict not in SAME_KEY_MAY_SERVE:
                        raise
                await self._sleep(call.backoff())
                return self._choose_same(call)
        except ProxyError as refusal:
            raise self._final_error(call, failed) from refusal
        raise self._final_error(call, failed)

    def _choose_same_or_other(self, call: Call) -> Lease:
        """The last attempt's key, or another where its own limit keeps it from serving again."""
        try:
            return self._choose_same(call)
        except ProxyError:
            return self._choose(call, self._seconds())

    async def _choose_for_hop(self, call: Call, failed: Outcome) -> Lease | None:
        """A key that asks for the next hop of a long answer again; ``None`` where the answer ends.

        Only what is not shown yet can be asked for again. Where the hop fails for good the client
        gets what there is, as an answer that was cut at its length.
        """
        hops = call.hops
        if hops is not None and not hops.next_is_shown:
            try:
                return await self._choose_again(call, failed)
            except ProxyError:
                call.exchange.refused = None
        self._cut_off(call, failed)
        return None

    async def _translate_again(self, call: Call, refusal: str) -> None:
        translate = partial(call.translate_again, self._signatures, refusal)
        if call.brief:
            translate()
        else:
            await self._in_thread(translate)

    def _begin_attempt(self, call: Call, lease: Lease, now: float) -> Lease:
        key_id = lease.key.id
        skipped_keys = self._pool.skipped_keys(
            call.model, now, tried=call.tried, tokens=call.tokens, chosen=key_id
        )
        record = AttemptRecord(key_id, lease.key.name, now, skipped_keys=skipped_keys)
        call.begin_attempt(lease, record)
        return lease

    # -- send, classify, record ------------------------------------------------------------------

    async def _attempt(self, call: Call, lease: Lease) -> Outcome:
        record = call.exchange.attempts[-1]
        response: UpstreamResponse | None = None
        try:
            response = await self._send(call, lease)
            if response.status != 200:
                outcome = await self._classify(call, response)
            elif call.translated.stream:
                outcome = await self._serve_stream(call, lease, response)
            elif call.accepts:
                outcome = await self._hand_over(call, response)
            else:
                outcome = await self._serve_whole(call, lease, response)
        except UpstreamFailed as failure:
            outcome = classify_failure(failure)
        except UpstreamErrorEvent as event:
            outcome = classify_error_event(event.payload, now=self._wall())
        except (StreamIncomplete, UnusableAnswer) as answer:
            page = None if response is None else classify_page(response.headers)
            outcome = page or _no_answer(answer)
        except UpstreamRejected as rejected:
            outcome = _missing_signature(rejected)
        finally:
            now = self._seconds()
            record.end(now)
        if outcome.message:
            outcome = replace(outcome, message=self._scrub(outcome.message))
        if outcome.token_quota:
            outcome = call.judge_size(outcome)
        record.outcome = outcome
        if outcome.verdict in TOLD_AT_ONCE:
            self._pool.record(lease, outcome, now, latency=record.seconds)
        return outcome

    def _send(self, call: Call, lease: Lease) -> Awaitable[UpstreamResponse]:
        """Send; from here to the answer's end the time is the upstream's and not ours."""
        body = call.translated.body
        if call.hops is not None:
            body = with_continuation(body, call.hops.token)
        call.exchange.attempts[-1].begin_waiting(self._seconds())
        return self._upstream.send(
            UpstreamRequest(b"POST", call.path, lease.key.secret, body, call.deadline)
        )

    async def _classify(self, call: Call, response: UpstreamResponse) -> Outcome:
        return classify_response(
            response.status,
            response.headers,
            await response.read(MAX_ERROR_BYTES),
            now=self._wall(),
            names_resources=call.translated.names_resources,
        )

    # -- translate back, write -------------------------------------------------------------------

    async def _hand_over(self, call: Call, response: UpstreamResponse) -> Outcome:
        """Read the answer for another endpoint, which knows what it says."""
        body = response.take(MAX_ANSWER_BYTES) or await response.read(MAX_ANSWER_BYTES)
        call.exchange.attempts[-1].end_waiting(self._seconds())
        await call.accept(body)
        return _SUCCESS

    async def _serve_whole(self, call: Call, lease: Lease, response: UpstreamResponse) -> Outcome:
        """Read the answer, hop by hop where it is a long one, and write it."""
        answers: list[GenerateContentResponse] = [] if call.hops is None else call.hops.answers
        size = 0
        while True:
            body = response.take(MAX_ANSWER_BYTES) or await response.read(MAX_ANSWER_BYTES)
            now = self._seconds()
            call.exchange.attempts[-1].end_waiting(now)
            answer = _decoded(body)
            if answers and (fault := hop_fault(answer)) is not None:
                raise UnusableAnswer(fault)
            answers.append(answer)
            size += len(body)
            token = continuation_token(answer)
            if not token or len(answers) == MAX_HOPS:
                break
            call.begin_hop(Hops(token, answers, count=len(answers)), now)
            response = await self._send(call, lease)
            if response.status != 200:
                return await self._classify(call, response)
        # Large ones hold what they were read from.
        del answer, body
        if size <= LARGE_ANSWER_BYTES:
            return self._write_whole(call, self._completed(call, answers))
        made: list[CompletedAnswer] = []
        await self._in_thread(lambda: made.append(self._completed(call, answers)))
        return self._write_whole(call, made.pop())

    def _completed(self, call: Call, answers: list[GenerateContentResponse]) -> CompletedAnswer:
        """What the hops in ``answers`` say together; lets go of them. Any thread may."""
        exchange = call.exchange
        completed = to_openai(
            answers,
            call.translated.context,
            created=int(exchange.started + exchange.epoch_offset),
            new_id=self._new_id,
            signatures=self._signatures,
        )
        answers.clear()
        return completed

    def _write_whole(self, call: Call, completed: CompletedAnswer) -> Outcome:
        """Write what the upstream has answered."""
        if completed.empty and not call.unusable:
            raise UnusableAnswer("empty answer")
        call.exchange.usage = completed.usage
        call.exchange.first_byte = self._seconds()
        call.writer.answer(completed.body)
        return _BLOCKED if completed.blocked else _SUCCESS

    async def _serve_stream(self, call: Call, lease: Lease, response: UpstreamResponse) -> Outcome:
        """Relay the stream as it comes. The first event that says anything commits to this key."""
        hops = call.hops
        earlier = None if hops is None else hops.relay
        relay = earlier if isinstance(earlier, StreamRelay) else self._relay(call)
        translator = relay.translator
        count = 1
        if hops is not None:
            count += hops.count
            relay.begin_hop()
        try:
            while True:
                call.stream_answered = True
                call.writer.attach(response)
                await response.stream(relay.receive)
                now = self._seconds()
                call.exchange.attempts[-1].end_waiting(now)
                relay.end_of_body()
                token = translator.continuation
                if token is None or count == MAX_HOPS:
                    break
                call.begin_hop(Hops(token, [], relay, count), now)
                relay.close_hop()
                response = await self._send(call, lease)
                if response.status != 200:
                    return await self._classify(call, response)
                relay.begin_hop()
                count += 1
            relay.finish()
        finally:
            call.exchange.usage = translator.usage
        return _BLOCKED if translator.blocked else _SUCCESS

    def _relay(self, call: Call) -> StreamRelay:
        translator = ChatStreamTranslator(
            call.translated.context,
            created=int(call.exchange.started_at),
            new_id=self._new_id,
            signatures=self._signatures,
        )
        return StreamRelay(translator, call, self._seconds, lambda: self._prove(call))

    # -- the end ---------------------------------------------------------------------------------

    def _cut_off(self, call: Call, outcome: Outcome) -> None:
        """End a long answer with what there is: its next hop failed for good, with ``outcome``."""
        hops = call.hops
        try:
            if hops is not None and hops.relay is not None:
                hops.relay.cut_off()
            elif hops is not None:
                self._write_whole(call, self._completed(call, hops.answers))
        except GemproxyError as rest:
            if call.writer.started:
                self._break_off(call, outcome)
                return
            raise self._final_error(call, outcome) from rest
        self._note_broken_off(call, outcome)

    def _break_off(self, call: Call, outcome: Outcome) -> None:
        """End a stream that had begun with an event on which the official SDKs raise."""
        error = error_for(outcome)
        if outcome.verdict is Verdict.NETWORK and outcome.reason in _JUST_STOPPED:
            error = StreamIncomplete("The upstream ended the stream before it was complete.")
        call.writer.write_error(error)
        call.writer.finish()
        self._note_broken_off(call, outcome)

    def _note_broken_off(self, call: Call, outcome: Outcome) -> None:
        """The client has the beginning: whose fault the rest was cannot be found out any more."""
        if outcome.verdict in SAME_KEY_MAY_SERVE:
            broken_off = replace(outcome, verdict=Verdict.BROKEN_OFF)
            call.exchange.attempts[-1].outcome = broken_off

    def _prove(self, call: Call) -> None:
        """The upstream has begun to answer: whoever waits for a trial need not wait for its end."""
        self._models.record(call.permit, success=True, now=self._seconds())
        self._pool.mark_serving(call.leases[-1])

    def _final_error(self, call: Call, outcome: Outcome) -> ProxyError:
        """What the client sees of the last outcome, now that nothing is left to try."""
        if outcome.verdict in _ANSWERED_BY_THE_POOL:
            return self._pool.unavailable(call.model, self._seconds(), outcome)
        return error_for(outcome)

    def _advise(self, call: Call, error: UpstreamUnavailable) -> None:
        """Nobody should come back before the model is tried again."""
        delay = self._models.delay(call.model, self._seconds())
        if delay > (error.retry_after or 0.0):
            error.retry_after = delay

    def _settle(self, call: Call) -> None:
        """The request is over and its failures can be attributed: now it is known who pays."""
        now = self._seconds()
        exchange = call.exchange
        attempts = exchange.attempts
        paid = attribute(attempts)
        last = len(attempts) - 1
        for place, lease in enumerate(call.leases):
            record = attempts[place]
            charge = record.charge = paid.charges[place]
            if charge is _KEY:
                # What was used is the last attempt's: it gave the answer, or what there is of it.
                tokens = exchange.usage.total if exchange.usage and place == last else None
                self._pool.record(lease, record.outcome, now, latency=record.seconds, tokens=tokens)
            else:
                self._pool.release(lease, now)
        if paid.model_served is None:
            self._models.release(call.permit, now)
        elif paid.model_served:
            self._models.succeeded(call.permit, now)
        else:
            body = digest(call.translated.body)
            self._models.record(call.permit, success=False, now=now, body=body)
        if attempts:
            exchange.outcome = _WORDS[attempts[-1].outcome.verdict]


def _missing_signature(rejected: UpstreamRejected) -> Outcome:
    """A 200 that says what a 400 would: the history came without a thought signature."""
    return Outcome(
        Verdict.REQUEST, 400, reason=SIGNATURE_REFUSED, message=rejected.message, param="messages"
    )


def _no_answer(said: StreamIncomplete | UnusableAnswer) -> Outcome:
    """A 200 whose body broke off, is not Gemini's, or holds nothing."""
    if isinstance(said, StreamIncomplete):
        return classify_failure(UpstreamFailed(FailureKind.TRUNCATED))
    if isinstance(said, MalformedUpstreamResponse):
        return classify_failure(UpstreamFailed(FailureKind.GARBAGE, detail=said.reason))
    return Outcome(Verdict.UNUSABLE, 200, reason=said.reason)


def _decoded(body: bytes) -> GenerateContentResponse:
    answer = decode_answer(body)
    if answer.error is not NO_ERROR and answer.is_error:
        raise UpstreamErrorEvent(body)
    return answer
