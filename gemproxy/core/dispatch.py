"""The loop of one request: choose a key, send, classify, record, try again, relay.

::

    job (api)  ->  models.acquire            may the model be asked?
               ┌─  pool.acquire              a lease on a key
               │   provider.prepare          the request for that key
               │   upstream.send
               │   provider.classify         where the answer is no success
    the loop   │   answer.receive, encode    where it is: back to the client's dialect
               │   pool.record               what must be known at once
               └─  retry.decide              another attempt?
               ->  settle                    who is charged for each attempt

:class:`Dispatcher` knows neither the client's dialect nor the provider: an endpoint makes the job
and converts the answer (``gemproxy.api.base``), a provider makes the requests and classifies errors
(``gemproxy.providers.base``). Another attempt is made only as long as the client has seen nothing.
The outcomes of all attempts are charged when the request is over, because whose fault a failure was
depends on what came after it; what speaks against a key is recorded at once, so that the next
request does not use it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from msgspec import Struct

from gemproxy.api.base import Batches, EncodedAnswer, Job, WholeAnswer
from gemproxy.buffer_list import BufferList, digest
from gemproxy.core.affinity import ResourceLocator
from gemproxy.core.attribution import attribute
from gemproxy.core.batches import CollectedAnswer
from gemproxy.core.client_errors import error_for
from gemproxy.core.context import Attempt, Refusal, RequestContext
from gemproxy.core.errors import (
    ContextTooLong,
    ErrorInAnswer,
    FailureKind,
    GemproxyError,
    MalformedUpstreamResponse,
    ProxyError,
    StreamIncomplete,
    Unavailable,
    UnusableAnswer,
    UpstreamFailed,
    UpstreamRejected,
    UpstreamUnavailable,
)
from gemproxy.core.events import RequestListener
from gemproxy.core.interfaces import ReplyWriter, Upstream, UpstreamResponse
from gemproxy.core.limits import Reservation
from gemproxy.core.relay import StreamRelay
from gemproxy.core.retry import (
    KEYS_FAULT,
    SAME_KEY_MAY_SERVE,
    OtherKey,
    RetrySettings,
    Revision,
    SameKey,
    decide,
    unusable,
)
from gemproxy.core.waiting import RequestQueue
from gemproxy.pool.models import ModelBreakers, ModelPermit
from gemproxy.pool.outcome import QUOTA, SERVED, Charge, Outcome, Verdict
from gemproxy.pool.pool import KeyPool, Lease
from gemproxy.providers.base import PROMPT, NativeCall, Provider, classify_failure
from gemproxy.secret import PieceMask, Secret
from gemproxy.translate.shared.usage import TokenUsage

_T = TypeVar("_T")

#: Error bodies are a few KB; an HTML page of a front end may be longer.
MAX_ERROR_BYTES = 256 * 1024
#: Whole answers with several 4K images are shorter.
MAX_ANSWER_BYTES = 128 * 1024 * 1024

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Reasons which say only that a stream ended.
_JUST_STOPPED = frozenset({FailureKind.TRUNCATED.name.lower(), FailureKind.RESET.name.lower()})
#: For these the error depends on the other keys of the pool.
_ANSWERED_BY_THE_POOL = KEYS_FAULT - {Verdict.MODEL_DENIED}
#: Constants, because access to a member of an Enum, or to its value, is slow.
_KEY = Charge.KEY
_WORDS: dict[Verdict, str] = {verdict: verdict.value for verdict in Verdict}
#: Constants, because nearly every request ends with one of them.
_SUCCESS = Outcome(Verdict.SUCCESS, 200)
_BLOCKED = Outcome(Verdict.BLOCKED, 200)


class _Delivery(Struct):
    """The state of one run of the loop: the job, the writer, and the progress."""

    job: Job
    context: RequestContext
    writer: ReplyWriter
    settings: RetrySettings
    #: The body of the request for the present step.
    body: bytes | BufferList
    #: The permit of the model's breaker, held while attempts are made.
    permit: ModelPermit
    #: Whether the first step is done and a later one is running.
    continued: bool = False
    #: Whether the job was revised.
    revised: bool = False
    #: Whether the upstream began to answer the present attempt with a stream.
    answered: bool = False
    #: The body of the error that the upstream answered the present attempt with.
    error_body: bytes = b""
    #: Seconds that the present step has waited for a key.
    queued: float = 0.0
    #: Whether the writer knows that a stream will come.
    announced: bool = False
    #: Set at the first success: one of the two converts the answer to the client's dialect.
    whole: WholeAnswer | None = None
    relay: StreamRelay | None = None

    def begin_step(self, body: bytes, now: float) -> None:
        self.body = body
        self.continued = True
        self.answered = False
        self.queued = 0.0
        self.context.begin_step(now + self.settings.request_timeout)

    def announce_stream(self) -> None:
        if self.job.stream and not self.announced:
            self.announced = True
            self.writer.await_stream()


class Dispatcher:
    """Sends jobs to a provider with keys of the pool, and returns the answers.

    ``seconds`` gives monotonic time, ``wall`` epoch time (by default the same), ``sleep`` waits,
    ``in_thread`` runs work that would block other requests, ``scrub`` takes secrets out of a text.
    ``events`` is notified of each attempt. ``resources`` finds the project of what a request names;
    without it any key may serve any request. In ``queue`` requests wait while keys are short;
    without it they are refused. ``settings`` may be replaced at any time; a request
    uses those that were set when it began.
    """

    def __init__(
        self,
        settings: RetrySettings,
        *,
        provider: Provider,
        pool: KeyPool,
        models: ModelBreakers,
        upstream: Upstream,
        seconds: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        in_thread: Callable[[Callable[[], None]], Awaitable[None]],
        scrub: Callable[[str], str],
        wall: Callable[[], float] | None = None,
        events: RequestListener | None = None,
        resources: ResourceLocator | None = None,
        queue: RequestQueue | None = None,
    ) -> None:
        self.settings = settings
        self._queue = queue
        #: The models for which requests wait: new ones wait behind them.
        self._short: Mapping[str, object] = {} if queue is None else queue.short
        #: ``None`` if no listener wants more than the end of a request.
        self._events = events if events is not None and events.is_detailed else None
        self._provider = provider
        self._pool = pool
        self._models = models
        self._upstream = upstream
        self._seconds = seconds
        self._wall = wall or seconds
        self._sleep = sleep
        self._in_thread = in_thread
        self._scrub = scrub
        self._resources = resources

    async def dispatch_all(
        self, batches: Batches, context: RequestContext, writer: ReplyWriter
    ) -> None:
        """Serve all jobs of ``batches`` and write one answer. Raises :class:`ProxyError`."""
        usage, answers = TokenUsage(), []
        jobs = deque(batches.jobs)
        # Without a job the answer is known, and it takes no tokens.
        if jobs and context.reservation is not None:
            # It is one request, and so the jobs are dispatched without the reservation.
            self._reserve(context.reservation, jobs[0].model, sum(job.tokens for job in jobs))
        while jobs:
            job = jobs.popleft()
            part = RequestContext(
                context.id,
                context.route,
                context.started,
                context.model,
                client=context.client,
                epoch_offset=context.epoch_offset,
                is_part=True,
                caller=context.caller,
            )
            answer = CollectedAnswer()
            try:
                await self.dispatch(job, part, answer)
            except ContextTooLong:
                smaller = job.split()
                if not smaller:
                    raise
                jobs.extendleft(reversed(smaller))
                continue
            finally:
                context.attempts += part.attempts
                context.refused, context.outcome = part.refused, part.outcome
                context.queued += part.queued
            answers.append(answer.body)
            if part.usage is not None:
                usage += part.usage
                # Now, because what the jobs so far have used is used also if a later one fails.
                context.usage = usage
        context.first_byte = self._seconds()
        if self._events is not None:
            self._events.first_byte(context)
        writer.answer(batches.join(answers, usage))

    async def dispatch(self, job: Job, context: RequestContext, writer: ReplyWriter) -> None:
        """Serve ``job`` and write the answer.

        Raises :class:`ProxyError` as long as nothing of an answer was sent. Once the writer has
        started, a failure becomes the last event of the stream.
        """
        settings = self.settings
        if context.reservation is not None:
            self._reserve(context.reservation, job.model, job.tokens)
        context.deadline = context.started + settings.request_timeout
        if job.resources and self._resources is not None:
            context.affinity = await self._resources.locate(job.resources, context.deadline)
        elif isinstance(job.operation, NativeCall):
            context.affinity = job.operation.affinity
        now = self._seconds()
        permit = self._models.acquire(job.model, now)
        delivery = _Delivery(job, context, writer, settings, job.body, permit)
        try:
            if job.model in self._short:
                lease = await self._wait(delivery, now, None)
            else:
                try:
                    lease = self._choose(delivery, now)
                except Unavailable as refusal:
                    lease = await self._wait(delivery, now, refusal)
            # Refusals without a wait were raised before this point and keep their own status.
            if job.stream:
                delivery.announce_stream()
            while True:
                outcome = await self._attempt(delivery, lease)
                if outcome.verdict in SERVED:
                    if delivery.revised:
                        # Only now it is sure that the upstream refused the omitted option.
                        job.served(self._seconds())
                    break
                if delivery.continued:
                    again = await self._choose_for_step(delivery, outcome)
                    if again is None:
                        break
                    lease = again
                elif writer.started:
                    self._break_off(delivery, outcome)
                    break
                else:
                    lease = await self._choose_again(delivery, outcome)
        except UpstreamUnavailable as error:
            self._settle(delivery)
            self._advise(job.model, error)
            raise
        except BaseException:
            self._settle(delivery)
            raise
        self._settle(delivery)

    def _reserve(self, reservation: Reservation, model: str, tokens: int) -> None:
        """Reserve the estimated tokens of the prompt. Raises :class:`ProxyError`."""
        reservation.reserve(model, tokens, self._seconds(), self._wall())

    # -- choose ----------------------------------------------------------------------------------

    def _choose(self, delivery: _Delivery, now: float) -> Lease:
        """Lease a key that this step has not tried. Raises :class:`ProxyError` if there is none."""
        job, context = delivery.job, delivery.context
        # Nearly every request has tried none.
        tried = context.tried if context.attempts else ()
        reserve = self._left_to_others(context, now) if self._pool.has_limits else 0.0
        try:
            lease = self._pool.acquire(
                job.model,
                now,
                tried=tried,
                tokens=job.tokens,
                affinity=delivery.context.affinity,
                conversation=job.conversation,
                reserve=reserve,
            )
        except ProxyError as refusal:
            self._note_refusal(delivery, refusal, now, tried, reserve)
            raise
        return self._begin_attempt(delivery, lease, now)

    def _left_to_others(self, context: RequestContext, now: float) -> float:
        """The part of a key's own limits that the request may not use."""
        if self._queue is None:
            return 0.0
        return self._queue.reserve(context.client, context.caller.priority, now)

    async def _wait(self, delivery: _Delivery, now: float, refusal: Unavailable | None) -> Lease:
        """Wait in the queue for a key and lease it. Raises :class:`ProxyError` if none is free.

        ``refusal`` is the pool's answer; ``None``: others wait, so it was not asked. A key whose
        quota this request has found used up may serve it later.
        """
        job, context, queue = delivery.job, delivery.context, self._queue
        if queue is None:
            raise refusal or AssertionError("nobody waits without a queue")
        attempts = context.step_attempts
        tried = tuple(
            attempt.key_id for attempt in attempts if attempt.outcome.verdict not in QUOTA
        )
        request = queue.request(
            job,
            context,
            tried,
            min(now + queue.settings.max_wait - delivery.queued, context.deadline),
        )
        try:
            lease = queue.enter(request, now, refusal)
            if lease is None:
                delivery.announce_stream()
                try:
                    lease = await queue.wait(request)
                finally:
                    waited = self._seconds() - now
                    delivery.queued += waited
                    context.queued += waited
        except ProxyError as error:
            if error is not refusal:
                reserve = self._left_to_others(context, now)
                self._note_refusal(delivery, error, self._seconds(), tried, reserve)
            raise
        context.refused = None
        return self._begin_attempt(delivery, lease, self._seconds())

    def _note_refusal(
        self,
        delivery: _Delivery,
        refusal: ProxyError,
        now: float,
        tried: Sequence[str],
        reserve: float,
    ) -> None:
        skipped_keys = self._pool.skipped_keys(
            delivery.job.model,
            now,
            tried=tried,
            tokens=delivery.job.tokens,
            affinity=delivery.context.affinity,
            reserve=reserve,
        )
        delivery.context.refused = Refusal(refusal.word, skipped_keys)

    def _choose_same(self, delivery: _Delivery) -> Lease:
        """Lease the last attempt's key again. Raises :class:`ProxyError` if it is not eligible."""
        now = self._seconds()
        job, last = delivery.job, delivery.context.attempts[-1]
        if last.lease is not None:
            self._pool.release(last.lease, now)
        again = self._pool.acquire_again(
            last.key_id, job.model, now, tokens=job.tokens, affinity=delivery.context.affinity
        )
        return self._begin_attempt(delivery, again, now)

    async def _choose_again(self, delivery: _Delivery, failed: Outcome) -> Lease:
        """Lease a key for the next attempt. Raises the client's error if there is to be none."""
        operation = delivery.job.operation
        source = operation.source if isinstance(operation, NativeCall) else None
        if source is not None and source.begun:
            # The body cannot be sent twice.
            raise self._final_error(delivery, failed)
        now = self._seconds()
        decision = decide(
            failed,
            delivery.context.step_attempts,
            now,
            delivery.settings,
            deadline=delivery.context.deadline,
            answered=delivery.answered,
            revision=None if delivery.continued else delivery.job.revision(failed),
        )
        try:
            if isinstance(decision, SameKey):
                await self._revise(delivery, decision.revision)
                return await self._choose_same_or_other(delivery, decision)
            if isinstance(decision, OtherKey):
                try:
                    return self._choose(delivery, now)
                except Unavailable as refusal:
                    if decision.or_same_after is None:
                        return await self._wait(delivery, now, refusal)
                except ProxyError:
                    if decision.or_same_after is None:
                        raise
                await self._sleep(decision.or_same_after)
                return self._choose_same(delivery)
        except ProxyError as refusal:
            raise self._final_error(delivery, failed) from refusal
        raise self._final_error(delivery, failed)

    async def _choose_same_or_other(self, delivery: _Delivery, decision: SameKey) -> Lease:
        """Lease the last attempt's key, or another one if its own limits refuse it."""
        try:
            return self._choose_same(delivery)
        except ProxyError:
            if not decision.or_other:
                raise
        now = self._seconds()
        try:
            return self._choose(delivery, now)
        except Unavailable as refusal:
            return await self._wait(delivery, now, refusal)

    async def _choose_for_step(self, delivery: _Delivery, failed: Outcome) -> Lease | None:
        """Lease a key to repeat the present step; ``None`` if the answer ends before this step.

        A step can be repeated only as long as the client has received nothing of it. If a step
        fails finally, the client gets what was received before, as an answer that was cut for its
        length.
        """
        if delivery.relay is None or not delivery.relay.flowing:
            try:
                return await self._choose_again(delivery, failed)
            except ProxyError:
                delivery.context.refused = None
        self._cut_off(delivery, failed)
        return None

    async def _revise(self, delivery: _Delivery, revision: Revision) -> None:
        job = delivery.job
        if job.is_brief:
            job.revise(revision)
        else:
            await self._in_thread(partial(job.revise, revision))
        delivery.body, delivery.revised = job.body, True

    def _begin_attempt(self, delivery: _Delivery, lease: Lease, now: float) -> Lease:
        job, context = delivery.job, delivery.context
        if lease.use is not None and self._queue is not None:
            self._queue.count(context.client, now)
        # What Key.id returns, with one call less.
        key_id = lease.key.secret.id
        skipped_keys = self._pool.skipped_keys(
            job.model,
            now,
            tried=context.tried if context.attempts else (),
            tokens=job.tokens,
            chosen=key_id,
            affinity=delivery.context.affinity,
        )
        context.attempts.append(
            Attempt(
                key_id,
                lease.key.name,
                now,
                lease=lease,
                skipped_keys=skipped_keys,
                # It is sent in this turn of the reactor.
                waits_since=now,
                sticky=lease.sticky,
            )
        )
        if len(context.attempts) > 1:  # Else they have these values.
            context.refused = None
            delivery.answered = False
            delivery.error_body = b""
        if self._events is not None:
            self._events.attempt_started(context)
        return lease

    # -- send, classify, record ------------------------------------------------------------------

    async def _attempt(self, delivery: _Delivery, lease: Lease) -> Outcome:
        attempt = delivery.context.attempts[-1]
        response: UpstreamResponse | None = None
        try:
            response = await self._send(delivery, lease)
            operation = delivery.job.operation
            raw = None
            if isinstance(operation, NativeCall):
                raw = operation.raw
                if operation.passed is not None:
                    delivery.writer.upstream_headers = operation.passed(response.header)
            if raw is not None and response.status in _REDIRECTS:
                response = await self._follow(delivery, lease, response)
            if response.status != 200:
                outcome = await self._classify(delivery, response)
            elif delivery.job.stream:
                outcome = await self._serve_stream(delivery, lease, response)
            elif raw is not None:
                outcome = await self._serve_raw(delivery, lease, response, raw(response.headers))
            else:
                outcome = await self._serve_whole(delivery, lease, response)
        except UpstreamFailed as failure:
            outcome = classify_failure(failure)
        except ErrorInAnswer as error:
            delivery.error_body = error.payload
            outcome = self._provider.classify_error(error.payload, now=self._wall())
        except (StreamIncomplete, UnusableAnswer) as answer:
            if isinstance(answer, UnusableAnswer) and isinstance(answer.usage, TokenUsage):
                attempt.usage = answer.usage
            page = None if response is None else self._provider.classify_page(response.headers)
            outcome = page or _no_answer(answer)
        except UpstreamRejected as rejected:
            outcome = _rejected(rejected)
        finally:
            now = self._seconds()
            attempt.end(now)
        if outcome.message:
            outcome = replace(outcome, message=self._scrub(outcome.message))
        if outcome.token_quota:
            outcome = _judge_size(outcome, delivery.job.tokens)
        attempt.outcome = outcome
        if self._events is not None:
            self._events.attempt_ended(delivery.context)
        if outcome.reason == "foreign_resource" and self._resources is not None:
            # It was deleted, or its project is not the one that was thought.
            self._resources.forget(delivery.job.resources)
        if outcome.verdict in KEYS_FAULT:
            self._pool.record(lease, outcome, now, latency=attempt.seconds)
        return outcome

    def _send(self, delivery: _Delivery, lease: Lease) -> Awaitable[UpstreamResponse]:
        """Send the request. The time until the answer's end counts as waiting for the upstream."""
        job, context = delivery.job, delivery.context
        return self._upstream.send(
            self._provider.prepare(
                job.operation, job.model, delivery.body, lease.key.secret, context.deadline
            )
        )

    async def _follow(
        self, delivery: _Delivery, lease: Lease, response: UpstreamResponse
    ) -> UpstreamResponse:
        """Follow a redirect with the same key; what it leads to is what the client asked for."""
        job, deadline = delivery.job, delivery.context.deadline
        operation = job.operation
        following = (
            self._provider.follow(operation, response.headers)
            if isinstance(operation, NativeCall)
            else None
        )
        if following is None:
            return response
        await response.read(MAX_ERROR_BYTES)
        return await self._upstream.send(
            self._provider.prepare(following, job.model, b"", lease.key.secret, deadline)
        )

    async def _classify(self, delivery: _Delivery, response: UpstreamResponse) -> Outcome:
        delivery.error_body = await response.read(MAX_ERROR_BYTES)
        return self._provider.classify(
            response.status,
            response.headers,
            delivery.error_body,
            now=self._wall(),
            names_resources=bool(delivery.job.resources),
        )

    # -- translate back, write -------------------------------------------------------------------

    async def _serve_whole(
        self, delivery: _Delivery, lease: Lease, response: UpstreamResponse
    ) -> Outcome:
        """Read a whole answer, with all its steps, and write it."""
        context, answer = delivery.context, delivery.whole
        if answer is None or not delivery.continued:
            created = int(context.started + context.epoch_offset)
            answer = delivery.whole = delivery.job.whole_answer(created)
        while True:
            body = response.take(MAX_ANSWER_BYTES) or await response.read(MAX_ANSWER_BYTES)
            now = self._seconds()
            context.attempts[-1].end_waiting(now)
            following = answer.receive(body)
            if following is None:
                break
            delivery.begin_step(following, now)
            self._pool.count_step(lease, now)
            context.attempts[-1].waits_since = self._seconds()
            response = await self._send(delivery, lease)
            if response.status != 200:
                return await self._classify(delivery, response)
        # A large answer object refers to the body.
        del body
        if not answer.is_large:
            return self._write_whole(delivery, answer.encode())
        return self._write_whole(delivery, await self._from_thread(answer.encode))

    def _write_whole(self, delivery: _Delivery, encoded: EncodedAnswer) -> Outcome:
        """Write the encoded answer, unless it is empty and may be retried."""
        context = delivery.context
        attempt = context.attempts[-1]
        attempt.usage = encoded.usage
        if encoded.empty and not unusable(context.step_attempts):
            raise UnusableAnswer("empty answer")
        context.usage = attempt.usage
        context.first_byte = self._seconds()
        if self._events is not None and not context.is_part:
            self._events.first_byte(context)
        body: bytes | BufferList = encoded.body
        lease = attempt.lease
        if lease is not None:
            body = _without(lease.key.secret, body)
        delivery.writer.answer(body)
        return _BLOCKED if encoded.blocked else _SUCCESS

    async def _serve_raw(
        self, delivery: _Delivery, lease: Lease, response: UpstreamResponse, headers: bytes
    ) -> Outcome:
        """Pass a body of any type on as it comes."""
        secret = lease.key.secret
        hidden = secret.masked_in
        context, writer = delivery.context, delivery.writer
        length = response.headers.get("content-length", "")
        tap = delivery.job.operation.tap if isinstance(delivery.job.operation, NativeCall) else None
        body = None
        if tap is not None:
            body = hidden(tap(await response.read(MAX_ANSWER_BYTES), response.headers))
            length = str(len(body))
        context.first_byte = self._seconds()
        if self._events is not None:
            self._events.first_byte(context)
        delivery.answered = True
        writer.begin_body(hidden(headers), int(length) if length.isdecimal() else None)
        if body is None:
            writer.attach(response)
            mask = PieceMask(secret)
            await response.stream(lambda data: writer.write(mask.add(data)))
            writer.write(mask.end())
        else:
            writer.write(body)
        context.attempts[-1].end_waiting(self._seconds())
        writer.finish()
        return _SUCCESS

    async def _serve_stream(
        self, delivery: _Delivery, lease: Lease, response: UpstreamResponse
    ) -> Outcome:
        """Relay the stream as it comes. The first event with content commits to this key."""
        context = delivery.context
        if delivery.continued and delivery.relay is not None:
            relay = delivery.relay
            relay.begin_step()
            # The usage of the last attempt includes the steps before it.
            context.attempts[-2].usage = None
        else:
            relay = delivery.relay = self._relay(delivery)
        relay.hide(lease.key.secret)
        answer = relay.answer
        try:
            while True:
                delivery.answered = True
                delivery.writer.attach(response)
                await response.stream(relay.receive)
                now = self._seconds()
                context.attempts[-1].end_waiting(now)
                relay.end_of_body()
                following = answer.next_step()
                if following is None:
                    break
                delivery.begin_step(following, now)
                self._pool.count_step(lease, now)
                relay.close_step()
                context.attempts[-1].waits_since = self._seconds()
                response = await self._send(delivery, lease)
                if response.status != 200:
                    return await self._classify(delivery, response)
                relay.begin_step()
            relay.finish()
        finally:
            context.usage = context.attempts[-1].usage = answer.usage
        return _BLOCKED if answer.blocked else _SUCCESS

    def _relay(self, delivery: _Delivery) -> StreamRelay:
        context = delivery.context
        answer = delivery.job.streamed_answer(int(context.started + context.epoch_offset))
        decoder = partial(self._provider.read_stream, delivery.job.operation)
        return StreamRelay(
            answer,
            decoder,
            context,
            delivery.writer,
            self._seconds,
            partial(self._committed, delivery.permit),
        )

    async def _from_thread(self, make: Callable[[], _T]) -> _T:
        """Run ``make`` in a thread and return its result."""
        made: list[_T] = []
        await self._in_thread(lambda: made.append(make()))
        return made.pop()

    # -- the end ---------------------------------------------------------------------------------

    def _cut_off(self, delivery: _Delivery, outcome: Outcome) -> None:
        """End a long answer before its next step, which failed finally with ``outcome``."""
        try:
            if delivery.relay is not None:
                delivery.relay.cut_off()
            elif delivery.whole is not None:
                self._write_whole(delivery, delivery.whole.encode())
        except GemproxyError as rest:
            if delivery.writer.started:
                self._break_off(delivery, outcome)
                return
            raise self._final_error(delivery, outcome) from rest
        _note_broken_off(delivery.context, outcome)

    def _break_off(self, delivery: _Delivery, outcome: Outcome) -> None:
        """End a stream that had begun with an error event."""
        error = _error_for(outcome, delivery)
        if outcome.verdict is Verdict.NETWORK and outcome.reason in _JUST_STOPPED:
            error = StreamIncomplete("The upstream ended the stream before it was complete.")
        delivery.writer.write_error(error)
        delivery.writer.finish()
        _note_broken_off(delivery.context, outcome)

    def _committed(self, permit: ModelPermit, context: RequestContext) -> None:
        """Record that the upstream has begun to answer: half-open breakers need not wait longer."""
        if self._events is not None:
            self._events.first_byte(context)
        lease = context.attempts[-1].lease
        self._models.record(permit, success=True, now=self._seconds())
        if lease is not None:
            self._pool.mark_serving(lease, self._seconds())

    def _final_error(self, delivery: _Delivery, outcome: Outcome) -> ProxyError:
        """The client's error for the last outcome, when there is no further attempt."""
        if outcome.verdict in _ANSWERED_BY_THE_POOL:
            return self._pool.unavailable(
                delivery.job.model, self._seconds(), outcome, delivery.context.affinity
            )
        return _error_for(outcome, delivery)

    def _advise(self, model: str, error: UpstreamUnavailable) -> None:
        """Set ``retry_after`` to at least the time until the model's breaker allows a trial."""
        delay = self._models.delay(model, self._seconds())
        if delay > (error.retry_after or 0.0):
            error.retry_after = delay

    def _settle(self, delivery: _Delivery) -> None:
        """Charge the outcomes of all attempts and return their leases, at the request's end."""
        now = self._seconds()
        context = delivery.context
        attempts, permit = context.attempts, delivery.permit
        paid = attribute(attempts)
        last = len(attempts) - 1
        for place, attempt in enumerate(attempts):
            lease, attempt.lease = attempt.lease, None
            charge = attempt.charge = paid.charges[place]
            if lease is None:
                continue
            if charge is _KEY:
                # The usage belongs to the last attempt, which gave the answer or its beginning.
                usage = context.usage if place == last else None
                self._pool.record(
                    lease,
                    attempt.outcome,
                    now,
                    latency=attempt.seconds,
                    tokens=usage.total if usage else None,
                    prompt_tokens=usage.input if usage else 0,
                )
            else:
                self._pool.release(lease, now)
        if paid.model_served is None:
            self._models.release(permit, now)
        elif paid.model_served:
            self._models.succeeded(permit, now)
        else:
            body = digest(delivery.job.body)
            self._models.record(permit, success=False, now=now, body=body)
        if attempts:
            context.outcome = _WORDS[attempts[-1].outcome.verdict]


def _without(secret: Secret, body: bytes | BufferList) -> bytes | BufferList:
    """Mask the key in an answer: the upstream may repeat what it was asked with.

    The buffers of a list that are no bytes are media.
    """
    if isinstance(body, BufferList):
        parts = [secret.masked_in(part) if isinstance(part, bytes) else part for part in body.parts]
        return BufferList(parts)
    return secret.masked_in(body) if secret.rarest in body else body


def _note_broken_off(context: RequestContext, outcome: Outcome) -> None:
    """Mark the attempt as broken off: no other key can show who is to blame."""
    if outcome.verdict in SAME_KEY_MAY_SERVE:
        context.attempts[-1].outcome = replace(outcome, verdict=Verdict.BROKEN_OFF)


def _error_for(outcome: Outcome, delivery: _Delivery) -> ProxyError:
    """The client's error for ``outcome``, with the name of the field in the client's dialect."""
    error = error_for(outcome)
    error.upstream_body = delivery.error_body
    if error.param == PROMPT:
        error.param = delivery.job.prompt_param
    return error


def _rejected(rejected: UpstreamRejected) -> Outcome:
    """The outcome for a 200 that means what a 400 would."""
    return Outcome(
        Verdict.REQUEST,
        400,
        reason=rejected.reason or "",
        message=rejected.message,
        param=rejected.param,
    )


def _no_answer(said: StreamIncomplete | UnusableAnswer) -> Outcome:
    """The outcome for a 200 whose body broke off, is not the provider's, or is empty."""
    if isinstance(said, StreamIncomplete):
        return classify_failure(UpstreamFailed(FailureKind.TRUNCATED))
    if isinstance(said, MalformedUpstreamResponse):
        return classify_failure(UpstreamFailed(FailureKind.GARBAGE, detail=said.reason))
    return Outcome(Verdict.UNUSABLE, 200, reason=said.reason)


def _judge_size(outcome: Outcome, tokens: int) -> Outcome:
    """Charge a prompt that is larger than a minute's token quota to the request.

    The provider refuses it with every key, at any time. A cooldown for one key after the other
    would make the whole pool unavailable (recording: chat real error scenarios, context length).
    """
    if not 0 < (outcome.token_quota or 0) < tokens:
        return outcome
    return replace(
        outcome,
        verdict=Verdict.REQUEST,
        status=400,
        code="context_length_exceeded",
        param=PROMPT,
    )
