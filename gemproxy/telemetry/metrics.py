"""Prometheus metrics. ``docs/metrics.md`` describes them.

Most are counted once per request, at its end. Gauges of keys are read at a scrape. Every label is
bounded: ``route`` is a template, ``key`` a key that is configured now, and ``model`` one of at most
200 that the upstream knows, or ``other``.
"""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from prometheus_client import CollectorRegistry, Gauge, GCCollector
from twisted.copyright import version as twisted_version

from gemproxy import __version__
from gemproxy.core.clients import Priority
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import LockedOut
from gemproxy.core.interfaces import StoreStatus
from gemproxy.core.waiting import QueueListener
from gemproxy.pool.outcome import Verdict
from gemproxy.pool.status import KeyStatus, PoolListener, Transition
from gemproxy.telemetry.client_metrics import ClientMetrics
from gemproxy.telemetry.exposition import negotiate, pages
from gemproxy.telemetry.key_gauges import KeyGauges
from gemproxy.telemetry.metric_families import (
    Count,
    CounterFamily,
    Distribution,
    Family,
    HistogramFamily,
)
from gemproxy.telemetry.process_gauges import ProcessGauges
from gemproxy.telemetry.quota_gauges import QuotaGauges
from gemproxy.telemetry.service_gauges import ConfigurationStatus, ServiceGauges
from gemproxy.telemetry.tallies import OK, OWN_WORK_BOUNDS, REQUEST_BOUNDS, Tally, TallyListener

#: As long as a request may wait for a key (``admission.maxWaitSeconds``).
_QUEUE = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 5.0, 10.0, 30.0, 60.0)
_REFUSALS = ("full", "evicted", "timeout", "no_key_in_time")
_DIRECTIONS = ("input", "cached", "output", "reasoning")
_CLIENT_GONE = 499
#: Cached series of requests and attempts.
_KINDS_HELD = 16_384

_Kind = TypeVar("_Kind")
_Series = TypeVar("_Series")

#: Outcome of requests from a locked-out address.
_LOCKED_OUT = LockedOut.kind
_SUCCESS = Verdict.SUCCESS.value


class Metrics(TallyListener, PoolListener, QueueListener):
    """All metrics; a ``TallyListener``.

    ``registry`` is separate from the library's global one. ``knows_model`` tells whether the
    upstream lists a model.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        knows_model: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._registry = registry
        self._models = ModelLabels(knows_model)
        # First in the registry: the collectors after it then know which keys are gone.
        self._keys = KeyGauges(registry, self._models.of, self._mark_keys)
        self._make_request_metrics(registry)
        self._make_key_metrics(registry)
        self._make_service_metrics(registry)
        self._known_requests: dict[tuple[str, str | None, int], _RequestSeries] = {}
        self._known_attempts: dict[tuple[str, str, Verdict], _AttemptSeries] = {}
        #: Its ``totals`` must be set.
        self.clients = ClientMetrics(registry)
        #: Empty until its ``watch`` is called.
        self.quotas = QuotaGauges(registry, lambda model: self._models.of(model, served=True))
        self._attempts.dropped = self._upstream.dropped = self._known_attempts.clear
        ProcessGauges(registry)
        GCCollector(registry=registry)

    # -- what is watched -------------------------------------------------------------------------

    def watch_keys(
        self,
        statuses: Callable[[float], Iterable[KeyStatus]],
        seconds: Callable[[], float],
        wall: Callable[[], float] | None = None,
    ) -> None:
        """Read the keys' gauges from ``statuses`` (``KeyPool.each_status``) at each scrape.

        ``seconds`` gives monotonic time, ``wall`` epoch time (by default the same). Series of
        removed keys are dropped then.
        """
        self._keys.watch(statuses, seconds, wall)

    def watch_service(
        self,
        in_flight: Callable[[], int],
        configuration: Callable[[], ConfigurationStatus] | None = None,
        store: Callable[[], StoreStatus] | None = None,
    ) -> None:
        """Read these at each scrape; without a ``store`` the backend is ``none``."""
        self._service.in_flight = in_flight
        self._service.configuration = configuration
        if store is not None:
            self._service.store = store

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Read the number of requests that wait for a key at each scrape."""
        self._service.queue_length = length

    def watch_log(self, lines_dropped: Callable[[], int]) -> None:
        """Read the number of lost log lines at each scrape."""
        self._service.log_lines_dropped = lines_dropped

    def watch_connections(
        self,
        open_now: Callable[[], Mapping[str, int]],
        refused: Callable[[], Mapping[str, int]],
        buffered_bytes: Callable[[], int],
    ) -> None:
        """Read these at each scrape: connections by state, refusals by reason, bytes of bodies."""
        self._service.connections = open_now
        self._service.refused = refused
        self._service.buffered_bytes = buffered_bytes

    # -- what is told ----------------------------------------------------------------------------

    def request_ended(self, context: RequestContext, status: int, seconds: float) -> None:
        """See :meth:`gemproxy.core.events.RequestListener.request_ended`."""
        attempts, usage = context.attempts, context.usage
        # A cached series exists only under the model's label.
        kind = (context.route, context.model, status)
        series = self._known_requests.get(kind) or self._series_of_request(context, status)
        series.requests.value += 1
        series.durations.observe(seconds)
        own_work = seconds - context.queued
        for attempt in attempts:
            own_work -= attempt.waited
            tried = (attempt.key_name, series.model, attempt.outcome.verdict)
            of_attempt = self._known_attempts.get(tried) or self._series_of_attempt(tried)
            of_attempt.attempts.value += 1
            of_attempt.upstream.observe(attempt.seconds)
        series.overheads.observe(own_work if own_work > 0.0 else 0.0)  # noqa: FURB136 - quicker
        if len(attempts) > 1:
            for failed in context.retried:
                self._retries.add((failed.outcome.verdict.value,))
        elif not attempts and (status == 401 or context.outcome == _LOCKED_OUT):
            self.auth_failed("public")
        if context.stream:
            self._count_stream(context, status, series.model)
        if usage is not None:
            prompt, cached, output, reasoning = series.tokens or self._begin_tokens(series)
            prompt.value += usage.input
            output.value += usage.output
            prompts, from_cache = self._sticky if attempts and attempts[-1].sticky else self._loose
            prompts.value += usage.input
            # Most requests have none of these.
            if usage.cached:
                cached.value += usage.cached
                from_cache.value += usage.cached
            if usage.reasoning:
                reasoning.value += usage.reasoning

    def requests_ended(self, tally: Tally) -> None:
        """See :meth:`gemproxy.telemetry.tallies.TallyListener.requests_ended`."""
        number, route, key = tally.requests, tally.route, tally.key_name
        model = self._models.of(tally.model, served=True)
        self._requests.add((route, model, str(OK)), number)
        self._durations.of((route, model)).add(tally.durations, tally.seconds)
        self._overheads.of((route,)).add(tally.overheads, tally.own_seconds)
        self._attempts.add((key, model, _SUCCESS), number)
        self._upstream.of((key,)).add(tally.upstream_durations, tally.upstream_seconds)
        amounts = (tally.input, tally.cached, tally.output, tally.reasoning)
        for direction, amount in zip(_DIRECTIONS, amounts, strict=True):
            self._tokens.add((model, direction), amount)
        prompts, from_cache = self._sticky if tally.sticky else self._loose
        prompts.value += tally.input
        from_cache.value += tally.cached

    def breaker_changed(self, change: Transition) -> None:
        """See :class:`gemproxy.pool.status.PoolListener`."""
        self._transitions.add((change.key, change.before.value, change.after.value))

    def waited(self, priority: Priority, seconds: float) -> None:
        """See :class:`gemproxy.core.waiting.QueueListener`."""
        self._waits.observe((priority.value,), seconds)

    def queue_refused(self, reason: str) -> None:
        """See :class:`gemproxy.core.waiting.QueueListener`."""
        self._queue_refusals.add((reason,))

    def checkpoint_finished(self, store: StoreStatus, seconds: float) -> None:
        """A checkpoint took ``seconds``; ``store`` tells its backend."""
        self._checkpoints.observe((store.backend,), seconds)

    def auth_failed(self, api: str) -> None:
        """A request had no token or a wrong one for ``api``, ``public`` or ``admin``.

        Those of the public API are counted with their requests.
        """
        self._auth_failures.add((api,))

    def request_malformed(self) -> None:
        """A connection was answered with 400 because it did not speak HTTP."""
        self._requests.add(("malformed", self._models.of(None), "400"))

    def reactor_lagged(self, seconds: float) -> None:
        """The reactor's own tick came ``seconds`` late."""
        self._lag.observe((), seconds)

    # -- what is shown ---------------------------------------------------------------------------

    def render(self, accept: str) -> tuple[str, bytes]:
        """Content type and text in the format of the ``Accept`` header."""
        self.settle()
        content_type, encode = negotiate(accept)
        return content_type, b"".join(pages(self._registry, encode))

    async def render_in_turns(
        self, accept: str, pause: Callable[[], Awaitable[None]]
    ) -> tuple[str, bytes]:
        """As :meth:`render`, but awaits ``pause`` after every few milliseconds of work.

        With many keys, rendering takes longer than the reactor may be blocked.
        """
        self.settle()
        content_type, encode = negotiate(accept)
        written = []
        for page in pages(self._registry, encode):
            written.append(page)
            await pause()
        return content_type, b"".join(written)

    # -- small ones ------------------------------------------------------------------------------

    def _count_stream(self, context: RequestContext, status: int, model: str) -> None:
        if context.first_byte is None:
            return
        self._first_chunks.observe((model,), context.first_byte - context.started)
        if status != _CLIENT_GONE and not _served(context):
            self._incomplete.add((model,))

    def _series_of_request(self, context: RequestContext, status: int) -> _RequestSeries:
        route = context.route
        model = self._models.of(context.model, served=_served(context))
        return _remembered(
            self._known_requests,
            (route, model, status),
            lambda: _RequestSeries(
                model,
                self._requests.of((route, model, str(status))),
                self._durations.of((route, model)),
                self._overheads.of((route,)),
            ),
        )

    def _series_of_attempt(self, kind: tuple[str, str, Verdict]) -> _AttemptSeries:
        key, model, verdict = kind
        return _remembered(
            self._known_attempts,
            kind,
            lambda: _AttemptSeries(
                self._attempts.of((key, model, verdict.value)), self._upstream.of((key,))
            ),
        )

    def _begin_tokens(self, series: _RequestSeries) -> tuple[Count, ...]:
        series.tokens = tuple(self._tokens.of((series.model, each)) for each in _DIRECTIONS)
        return series.tokens

    def _mark_keys(self) -> Callable[[Container[str]], None]:
        families: list[Family[Any]] = [self._attempts, self._upstream, self._transitions]
        marked = [(family, family.mark()) for family in families]

        def forget_others(names: Container[str]) -> None:
            for family, mark in marked:
                family.keep("key", names, mark)

        return forget_others

    def _make_request_metrics(self, registry: CollectorRegistry) -> None:
        self._requests = CounterFamily(
            registry,
            "gemproxy_requests_total",
            "Requests by the HTTP status that the client got; 499: it had left",
            ("route", "model", "status"),
        )
        self._durations = HistogramFamily(
            registry,
            "gemproxy_request_duration_seconds",
            "Time from a request's arrival to the end of its answer",
            REQUEST_BOUNDS,
            ("route", "model"),
        )
        self._first_chunks = HistogramFamily(
            registry,
            "gemproxy_time_to_first_chunk_seconds",
            "Time from a request's arrival to the first chunk of its stream",
            REQUEST_BOUNDS,
            ("model",),
        )
        self._overheads = HistogramFamily(
            registry,
            "gemproxy_overhead_seconds",
            "Time of a request less that of its attempts at the upstream and of its wait for a key",
            OWN_WORK_BOUNDS,
            ("route",),
        )
        self._retries = CounterFamily(
            registry,
            "gemproxy_retries_total",
            "Attempts that were followed by another one, by their outcome",
            ("outcome",),
        )
        self._tokens = CounterFamily(
            registry,
            "gemproxy_tokens_total",
            "Tokens as the upstream counts them; input includes cached, output includes reasoning",
            ("model", "direction"),
        )
        by_choice = CounterFamily(
            registry,
            "gemproxy_prompt_tokens_total",
            "Input tokens, and the cached ones of them, by whether the key was chosen because the"
            " conversation prefers it",
            ("sticky", "direction"),
            at_zero=[(sticky, each) for sticky in ("true", "false") for each in _DIRECTIONS[:2]],
        )
        self._sticky, self._loose = (
            (by_choice.of((sticky, "input")), by_choice.of((sticky, "cached")))
            for sticky in ("true", "false")
        )
        self._incomplete = CounterFamily(
            registry,
            "gemproxy_streams_incomplete_total",
            "Streams that began and ended with an error event",
            ("model",),
        )

    def _make_key_metrics(self, registry: CollectorRegistry) -> None:
        self._attempts = CounterFamily(
            registry,
            "gemproxy_upstream_attempts_total",
            "Attempts at the upstream",
            ("key", "model", "outcome"),
        )
        self._upstream = HistogramFamily(
            registry,
            "gemproxy_upstream_duration_seconds",
            "Time of an attempt at the upstream, to the end of its answer",
            REQUEST_BOUNDS,
            ("key",),
        )
        self._transitions = CounterFamily(
            registry,
            "gemproxy_breaker_transitions_total",
            "Changes of a key's circuit breaker: closed, open, half_open",
            ("key", "from", "to"),
        )

    def _make_service_metrics(self, registry: CollectorRegistry) -> None:
        self._service = ServiceGauges(registry)
        self._checkpoints = HistogramFamily(
            registry,
            "gemproxy_checkpoint_duration_seconds",
            "Time to write the state",
            OWN_WORK_BOUNDS,
            ("backend",),
        )
        self._lag = HistogramFamily(
            registry,
            "gemproxy_reactor_lag_seconds",
            "How late the reactor's own clock tick came",
            OWN_WORK_BOUNDS,
        )
        self._waits = HistogramFamily(
            registry,
            "gemproxy_queue_wait_seconds",
            "Time that requests waited for a key, however that ended",
            _QUEUE,
            ("priority",),
        )
        for priority in Priority:
            self._waits.of((priority.value,))
        self._queue_refusals = CounterFamily(
            registry,
            "gemproxy_queue_refused_total",
            "Requests that got no key by waiting: full, evicted, timeout, or no_key_in_time",
            ("reason",),
            at_zero=[(reason,) for reason in _REFUSALS],
        )
        self._auth_failures = CounterFamily(
            registry,
            "gemproxy_auth_failures_total",
            "Requests with no token or a wrong one",
            ("api",),
            at_zero=[("public",), ("admin",)],
        )
        build = Gauge(
            "gemproxy_build_info",
            "Versions, as labels",
            ("version", "python", "twisted"),
            registry=registry,
        )
        build.labels(__version__, platform.python_version(), twisted_version).set(1)


class _RequestSeries(msgspec.Struct, gc=False):
    """The series of one route, model and status."""

    #: As the label has it.
    model: str
    requests: Count
    durations: Distribution
    overheads: Distribution
    #: In the order of ``_DIRECTIONS``; empty until the first tokens are counted.
    tokens: tuple[Count, ...] = ()


class _AttemptSeries(msgspec.Struct, gc=False):
    """The series of one key, model and verdict."""

    attempts: Count
    upstream: Distribution


def _remembered(known: dict[_Kind, _Series], kind: _Kind, make: Callable[[], _Series]) -> _Series:
    found = known.get(kind)
    if found is None:
        if len(known) >= _KINDS_HELD:
            known.clear()
        found = known[kind] = make()
    return found


def _served(context: RequestContext) -> bool:
    """Whether the upstream has answered."""
    if not context.attempts:
        return False
    verdict = context.attempts[-1].outcome.verdict
    return verdict is Verdict.SUCCESS or verdict is Verdict.BLOCKED


OTHER = "other"
"""The label of requests for all other models, and of those for none."""


class ModelLabels:
    """Labels that invented model names cannot multiply.

    A model gets its own label once it has served or if ``is_known`` says so (the upstream lists
    it). Beyond ``capacity`` labels, further models are ``other``.
    """

    def __init__(self, is_known: Callable[[str], bool], capacity: int = 200) -> None:
        self._is_known = is_known
        self._capacity = capacity
        self._labels: set[str] = set()

    def of(self, model: str | None, *, served: bool = False) -> str:
        """The label of ``model``; ``served``: the upstream has just answered for it."""
        if model in self._labels:
            return model
        if model is None or len(self._labels) >= self._capacity:
            return OTHER
        if not served and not self._is_known(model):
            return OTHER
        self._labels.add(model)
        return model
