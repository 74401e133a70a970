"""The assembly of the daemon; read it from top to bottom.

The only module that knows every class. :class:`Daemon` makes the parts, puts them in the order in
which they start and stop, and hands a changed configuration to each of them.
"""

from __future__ import annotations

import os
import platform
import secrets
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from prometheus_client import CollectorRegistry
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from gemproxy import __version__
from gemproxy.admin.api import AdminAPI, AdminParts
from gemproxy.admin.auth_gate import AdminAuthGate, AdminDependencies
from gemproxy.admin.clients import ClientParts, ClientRoutes
from gemproxy.admin.health import ServiceStatus
from gemproxy.api.anthropic.count_tokens import EXACT, CountTokensEndpoint
from gemproxy.api.anthropic.messages import MessagesEndpoint
from gemproxy.api.gemini.lists import ListEndpoint
from gemproxy.api.gemini.native import NativeEndpoint
from gemproxy.api.gemini.passing import Downloads
from gemproxy.api.gemini.refused import refused_endpoints
from gemproxy.api.gemini.resources import (
    BatchEndpoint,
    CreateEndpoint,
    ModelOperationEndpoint,
    NamedEndpoint,
    download_endpoints,
)
from gemproxy.api.gemini.uploads import Uploads, upload_endpoints
from gemproxy.api.model_lists import model_endpoints
from gemproxy.api.my_usage import MyUsageEndpoint, OwnUsage
from gemproxy.api.offered_dialects import DIALECTS
from gemproxy.api.openai.chat import ChatEndpoint
from gemproxy.api.openai.embeddings import EmbeddingsEndpoint
from gemproxy.api.openai.errors import OPENAI
from gemproxy.api.openai.not_offered import not_offered_endpoints
from gemproxy.api.openai.responses import InputTokensEndpoint, ResponsesEndpoint
from gemproxy.api.openai.stored_responses import StoredResponses
from gemproxy.api.public import PublicAPI
from gemproxy.api.visible_models import VisibleModels
from gemproxy.clock import wall_clock
from gemproxy.config import endpoints, rules
from gemproxy.config.changes import SettingsChange
from gemproxy.config.settings import Settings
from gemproxy.core.affinity import ResourceLocator
from gemproxy.core.catalogue import ModelCatalogue
from gemproxy.core.client_registry import ClientRegistry
from gemproxy.core.clients import Client
from gemproxy.core.context import RequestContext
from gemproxy.core.dispatch import Dispatcher
from gemproxy.core.errors import ConfigError
from gemproxy.core.events import RequestEvents
from gemproxy.core.limits import ClientLimits, Used
from gemproxy.core.stored_answers import AnswerStore
from gemproxy.core.waiting import RequestQueue
from gemproxy.deadlines import Deadlines
from gemproxy.http.auth import TokenAuth
from gemproxy.http.auth_failures import AuthFailures
from gemproxy.http.connection_limits import ConnectionLimits
from gemproxy.http.lifecycle import RequestLifecycle
from gemproxy.http.origins import OriginGuard, OriginSettings
from gemproxy.http.probes import Probes
from gemproxy.http.routed_site import routed_site
from gemproxy.http.site import new_request_id
from gemproxy.pool.models import ModelBreakers
from gemproxy.pool.pool import KeyPool
from gemproxy.pool.resources import ResourceRegistry
from gemproxy.pricing.prices import PriceList
from gemproxy.providers.gemini.provider import GeminiProvider
from gemproxy.service import part_settings
from gemproxy.service.accepting import AcceptGuard
from gemproxy.service.checkpoint import Checkpoint
from gemproxy.service.client_use import SAMPLE_SECONDS, ClientUse
from gemproxy.service.clock_watch import ClockWatch
from gemproxy.service.config_files import ConfigFiles
from gemproxy.service.endpoints import (
    described_endpoint,
    server_endpoint,
    set_reach,
    url_of,
    with_tls,
)
from gemproxy.service.handed_over import HandedOver
from gemproxy.service.lifetimes import GcTuning, GracefulExit, Lifetime, ServiceSequence
from gemproxy.service.listening import Draining, LameDuck, Listener
from gemproxy.service.notifying import SystemdNotifier, status_line
from gemproxy.service.periodic import PeriodicService
from gemproxy.service.probing import ActiveHealthCheck, HealthRound, KeyProbe
from gemproxy.service.reactor_lag import ReactorLag
from gemproxy.service.reload import ConfigReload, ReloadStatus
from gemproxy.service.sharing import SharedWork
from gemproxy.service.state_collector import StateCollector
from gemproxy.service.threads import Threads, in_thread
from gemproxy.state.fallback import FallbackStateStore, state_store
from gemproxy.state.model import MINUTE, AuditTrail
from gemproxy.telemetry import logs
from gemproxy.telemetry.admin_log import AuditLog, OperatorLog
from gemproxy.telemetry.history import RequestHistory
from gemproxy.telemetry.ledger import MetricsLedger
from gemproxy.telemetry.metrics import Metrics
from gemproxy.telemetry.recent import RecentOutcomes
from gemproxy.telemetry.records import RecordBuffer, RequestRecords, StoredRecords
from gemproxy.telemetry.request_log import RequestLog
from gemproxy.telemetry.scrubbing import Scrubber
from gemproxy.telemetry.tallies import Tallies
from gemproxy.telemetry.telemetry import PoolListeners, log_failure
from gemproxy.telemetry.usage import UsageLedger
from gemproxy.telemetry.usage_reports import UsageReports
from gemproxy.translate.shared.signatures import SignatureStore
from gemproxy.upstream.client import GeminiUpstream

#: Seconds between two checks for counts of suppressed log lines.
_SUPPRESSED_SECONDS = 10.0
#: Connections to a separate listener of the admin API; their descriptors are in the reserve.
_OPERATORS = 64
#: Threads that translate large requests.
_TRANSLATING = 2
_T = TypeVar("_T")


class Daemon:
    """All parts of the daemon, connected.

    ``source`` is where ``settings`` came from and ``seen`` its fingerprint from before they were
    read. What is ``underneath`` starts before the parts and stops after them. ``handed`` are the
    sockets of systemd's that endpoints may name; ``sink`` is the log of a process that has one
    already. Run :attr:`service`.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        source: ConfigFiles,
        seen: bytes,
        underneath: Sequence[Service] = (),
        *,
        handed: HandedOver | None = None,
        sink: logs.LogSink | None = None,
    ) -> None:
        self._reactor = reactor
        self._source = source
        self._admin_port: Any = None
        self._handed = handed or HandedOver()
        self._wall = wall_clock(reactor)
        self._started_at = reactor.seconds()
        self._make_observers(settings, sink)
        self._make_core(settings)
        self._make_state(settings)
        self._make_lifecycle(settings)
        self._make_reload(settings, source, seen)
        self._make_endpoints(settings)
        self._make_public_api()
        self._make_site(settings)
        self._watch_parts()
        self.service = logs.LoggedServices(self._sink)
        #: The parts in order, without the log.
        self.parts = self._sequence(settings, underneath)
        self.parts.setServiceParent(self.service)

    def apply(self, settings: Settings, _changes: SettingsChange) -> None:
        """Apply new settings, all of them between two requests.

        Raises :class:`~gemproxy.core.errors.ConfigError` for a trust root that cannot be used, and
        for a client that was made at run time already. This is checked first, so nothing has
        changed then.
        """
        self._refuse_conflicts(settings)
        self._upstream.apply(settings.upstream)
        self._pool.apply(settings.keys, part_settings.pool(settings), self._reactor.seconds())
        self._models.configure(settings.monitoring.failure_threshold)
        self._dispatcher.settings = part_settings.retry(settings)
        self._queue.settings = part_settings.queue(settings)
        self._usage.prices = PriceList(settings.prices)
        self._usage.projects = part_settings.projects(settings)
        self._record_buffer.success_share = settings.records.success_share
        self._usage.zone = self._client_limits.days.zone = ZoneInfo(settings.proxy.timezone)
        self._client_limits.is_unpriced = part_settings.unpriced_check(settings, self._usage.prices)
        self._catalogue.cache_seconds = settings.models.cache_seconds
        self._catalogue.request_timeout = settings.upstream.request_timeout_seconds
        self._lifecycle.settings = part_settings.lifecycle(settings)
        self._configure_clients(settings)
        self._admit_clients(settings)
        self._auth_failures.trusted_proxies = settings.proxy.trusted_proxies
        self._site.connections.apply(part_settings.connection_limits(settings))
        names = part_settings.model_names(settings)
        self._chat.names = self._responses.names = self._embeddings.names = names
        self._native.names = self._model_list.names = names
        self._creation.names = self._batches.names = names
        self._downloads.rewritten = settings.proxy.rewrite_download_uris
        self._messages.names = self._count_tokens.names = names
        self._count_tokens.exact = settings.models.count_tokens == EXACT
        part_settings.configure_answers(self._answers, settings.responses)
        self._checkpoint.interval = settings.persistence.checkpoint_seconds
        self._health.interval = settings.monitoring.health_check_interval
        if isinstance(self._store, FallbackStateStore):
            self._store.configure(part_settings.retention(settings))
        self._sink.apply(settings.logging)
        self._frozen.freeze_again()
        self._warn(settings)

    def abandon(self) -> None:
        """Undo a refused start: close listeners and the notifications to systemd.

        Nothing else has started by then, and the state is untouched.
        """
        for part in self.parts:
            if isinstance(part, Listener | SystemdNotifier):
                part.stopService()

    def show(self, text: str) -> None:
        """Write ``text`` for people among the lines of the log, as it is."""
        self._sink.show(text)

    # -- the parts -------------------------------------------------------------------------------

    def _make_observers(self, settings: Settings, sink: logs.LogSink | None) -> None:
        if sink is None:
            sink = logs.install(settings.logging, Scrubber(settings.secrets()), sys.stdout)
        else:
            sink.scrubber.replace(settings.secrets())
            sink.apply(settings.logging)
        self._sink, self._scrubber = sink, sink.scrubber
        self._request_log = RequestLog(self._sink)
        self._record_buffer = RecordBuffer(self._scrubber.scrub, settings.records.success_share)
        self._history = RequestHistory(keep=self._record_buffer.keep)
        self._recent = RecentOutcomes()
        self._metrics = Metrics(CollectorRegistry(), self._knows_model)
        self._metrics.watch_log(lambda: self._sink.lost)
        self._ledger = MetricsLedger()
        self._usage = UsageLedger(
            PriceList(settings.prices),
            part_settings.projects(settings),
            ZoneInfo(settings.proxy.timezone),
        )
        self._metrics.clients.totals = self._usage.totals
        self._client_limits = ClientLimits(
            ZoneInfo(settings.proxy.timezone),
            part_settings.unpriced_check(settings, self._usage.prices),
        )
        self._metrics.clients.refusals = lambda: self._usage.limit_refusals
        self._metrics.clients.shares = lambda: self._client_limits.shares(
            self._reactor.seconds(), self._wall()
        )
        tallies = Tallies(
            # The first one sets the cost of each request.
            (self._usage, self._metrics, self._ledger, self._recent),
            lambda: self._usage.prices,
            log_failure,
        )
        # After the tallies, since the log and the history read the cost.
        self._events = RequestEvents((tallies, self._request_log, self._history), log_failure)

    def _make_core(self, settings: Settings) -> None:
        self._clients = ClientRegistry(lambda: secrets.token_bytes(16), self._wall)
        self._configure_clients(settings)
        reactor, scrub = self._reactor, self._scrubber.scrub
        self._pool = KeyPool(
            settings.keys,
            part_settings.pool(settings),
            PoolListeners(self._request_log, self._metrics),
        )
        self._clock_watch = ClockWatch(reactor, self._pool.set_wall_clock)
        self._models = ModelBreakers(settings.monitoring.failure_threshold)
        self._signatures = SignatureStore()
        self._answers = AnswerStore()
        part_settings.configure_answers(self._answers, settings.responses)
        self._upstream = GeminiUpstream(reactor, settings.upstream, f"gemproxy/{__version__}")
        self._translation = Threads(reactor, _TRANSLATING, "translation")
        provider = self._provider = GeminiProvider()
        self._resources = ResourceRegistry()
        self._locator = ResourceLocator(
            self._resources,
            provider,
            self._pool,
            self._upstream,
            seconds=reactor.seconds,
            wall=self._wall,
        )
        self._queue = RequestQueue(
            self._pool,
            part_settings.queue(settings),
            seconds=reactor.seconds,
            new_signal=Deferred,
            timer=Deadlines(reactor),
            listener=self._metrics,
        )
        self._queue.shares.configured = self._number_of_clients(settings)
        self._metrics.watch_queue(lambda: len(self._queue))
        self._dispatcher = Dispatcher(
            part_settings.retry(settings),
            provider=provider,
            pool=self._pool,
            models=self._models,
            upstream=self._upstream,
            seconds=reactor.seconds,
            sleep=lambda seconds: deferLater(reactor, seconds),
            in_thread=self._translation.do,
            scrub=scrub,
            wall=self._wall,
            events=self._events,
            resources=self._locator,
            queue=self._queue,
        )
        self._key_probe = KeyProbe(
            provider, self._upstream, seconds=reactor.seconds, scrub=scrub, wall=self._wall
        )
        self._catalogue = ModelCatalogue(
            provider,
            self._pool,
            self._upstream,
            cache_seconds=settings.models.cache_seconds,
            request_timeout=settings.upstream.request_timeout_seconds,
            seconds=reactor.seconds,
            scrub=scrub,
            wall=self._wall,
            share=SharedWork().join,
        )

    def _make_state(self, settings: Settings) -> None:
        self._trail = AuditTrail()
        persistence = settings.persistence
        self._store = state_store(
            persistence.path, persistence.fallback_path, part_settings.retention(settings)
        )
        self._checkpoint = Checkpoint(
            self._reactor,
            persistence.checkpoint_seconds,
            StateCollector(
                self._pool,
                self._signatures,
                self._ledger,
                self._trail,
                self._usage,
                self._record_buffer,
                self._wall,
                self._resources,
                self._answers,
                self._client_limits,
                self._clients,
            ),
            self._store,
            self._metrics.checkpoint_finished,
            restored=self._clients_restored,
        )

        self._records = RequestRecords(
            self._history, StoredRecords(self._checkpoint.in_store_thread, self._store)
        )
        self._usage_reports = UsageReports(
            self._usage,
            partial(self._checkpoint.in_store_thread, self._store.usage),
            self._wall,
            self._pause,
        )
        self._client_use = ClientUse(
            self._client_limits,
            self._usage,
            self._usage_reports,
            self._reactor.seconds,
            self._wall,
            self._pause,
        )

    def _make_lifecycle(self, settings: Settings) -> None:
        reactor = self._reactor
        self._auth_failures = AuthFailures(settings.proxy.trusted_proxies)
        auth = self._token_auth(settings)
        self._lifecycle = RequestLifecycle(
            reactor,
            part_settings.lifecycle(settings),
            auth,
            self._events,
            new_request_id,
            DIALECTS,
            self._scrubber.scrub_bytes,
            self._auth_failures,
            self._client_limits,
        )
        self._gate = AdminAuthGate(
            reactor,
            auth,
            AdminDependencies(
                OperatorLog(self._request_log),
                OPENAI,
                self._scrubber.scrub_bytes,
                new_request_id,
                self._pause,
                lambda: self._metrics.auth_failed("admin"),
            ),
            self._auth_failures,
        )

    def _make_reload(self, settings: Settings, source: ConfigFiles, seen: bytes) -> None:
        reactor = self._reactor
        self._notifier = SystemdNotifier(
            reactor,
            os.environ,
            status=self._status_line,
            drain_seconds=self._stop_seconds,
        )
        self._reload = ConfigReload(
            reactor,
            source,
            settings,
            seen,
            self.apply,
            in_thread=self._in_thread,
            prepare=self._learn_secrets,
            begun=self._notifier.reloading,
            ended=self._reloaded,
        )

    def _make_endpoints(self, settings: Settings) -> None:
        names = part_settings.model_names(settings)
        self._chat = ChatEndpoint(names, self._signatures, new_call_id, self._scrubber.scrub)
        self._embeddings = EmbeddingsEndpoint(names)
        self._messages = MessagesEndpoint(
            names, self._signatures, new_token, self._catalogue.output_limit, self._scrubber.scrub
        )
        self._count_tokens = CountTokensEndpoint(
            names, self._signatures, exact=settings.models.count_tokens == EXACT
        )
        self._native = NativeEndpoint(names)
        self._downloads = Downloads(rewritten=settings.proxy.rewrite_download_uris)
        self._creation = CreateEndpoint(names, self._locator, self._downloads)
        self._batches = BatchEndpoint(names, self._locator)
        self._responses = ResponsesEndpoint(
            names,
            self._signatures,
            self._answers,
            new_id=new_call_id,
            new_base=new_response_base,
            scrub=self._scrubber.scrub,
            wall=self._wall,
        )
        self._model_list = VisibleModels(self._catalogue, names, self._pool.allowed_models)

    def _make_public_api(self) -> None:
        self._api = PublicAPI(
            self._lifecycle,
            self._dispatcher,
            [
                self._chat,
                self._responses,
                InputTokensEndpoint(self._responses),
                self._messages,
                self._count_tokens,
                self._embeddings,
                self._native,
                self._creation,
                self._batches,
                ModelOperationEndpoint(self._locator, self._downloads),
                *download_endpoints(self._locator),
                NamedEndpoint(self._locator, self._downloads),
            ],
            [
                *model_endpoints(self._model_list),
                *StoredResponses(self._answers, self._wall).endpoints(),
                self._resource_lists(),
                MyUsageEndpoint(self._usage_of, self._limits_used),
                *refused_endpoints(),
                *not_offered_endpoints(),
            ],
            self._translation.do,
            upload_endpoints(Uploads(self._reactor.seconds), self._locator, self._downloads),
        )

    def _make_site(self, settings: Settings) -> None:
        reactor = self._reactor
        self._guards: list[OriginGuard] = []
        self._admin = AdminAPI(self._gate, self._admin_parts())
        probes = Probes(self._lifecycle, lambda: self._pool.can_serve(reactor.seconds()), OPENAI)
        admin = None if settings.proxy.admin_endpoint else self._admin
        self._site = routed_site(
            reactor,
            [*self._api.rows(), *probes.rows(), *(admin.rows() if admin else ())],
            self._lifecycle,
            admin,
            DIALECTS,
            self._guard(settings),
            part_settings.connection_limits(settings),
        )
        self._site.malformed = self._metrics.request_malformed

    def _watch_parts(self) -> None:
        """Let the metrics read what the parts know."""
        seconds = self._reactor.seconds
        self._metrics.watch_keys(self._pool.each_status, seconds, self._wall)
        self._metrics.quotas.watch(self._pool.each_quota, seconds, self._wall)
        self._metrics.watch_service(
            lambda: self._lifecycle.in_flight, lambda: self._reload.status, self._store.status
        )
        self._metrics.watch_connections(
            self._site.connections.count_by_state,
            lambda: self._site.connections.refused,
            lambda: self._lifecycle.admission.buffered_bytes,
        )

    def _resource_lists(self) -> ListEndpoint:
        return ListEndpoint(
            self._provider,
            self._pool,
            self._upstream,
            self._locator,
            self._downloads,
            seconds=self._reactor.seconds,
            wall=self._wall,
            scrub=self._scrubber.scrub,
            token_key=secrets.token_bytes(16),
        )

    def _guard(self, settings: Settings) -> OriginGuard:
        guard = OriginGuard(self._origin_settings(settings))
        self._guards.append(guard)
        return guard

    def _configure_clients(self, settings: Settings) -> None:
        names = (token.name for token in settings.proxy.access_tokens)
        self._clients.configure(settings.clients, ZoneInfo(settings.proxy.timezone), names)

    def _refuse_conflicts(self, settings: Settings) -> None:
        """Raise :class:`ConfigError` for clients and access tokens that were made at run time."""
        conflicts = tuple(self._clients.conflicts(settings.clients, settings.proxy.access_tokens))
        if conflicts:
            raise ConfigError(conflicts)

    def _admit_clients(self, settings: Settings) -> None:
        """Let those clients in that there are now; others may need a token from now on."""
        self._lifecycle.auth = self._gate.auth = self._token_auth(settings)
        self._queue.shares.configured = self._number_of_clients(settings)
        for guard in self._guards:
            guard.apply(self._origin_settings(settings))

    def _number_of_clients(self, settings: Settings) -> int:
        return len(settings.proxy.access_tokens) + self._clients.count

    def _token_auth(self, settings: Settings) -> TokenAuth:
        return TokenAuth(
            settings.proxy.access_tokens,
            settings.proxy.admin_token,
            anonymous=self._is_open(settings),
            admin_open=settings.proxy.admin_auth == "disabled",
            registry=self._clients,
        )

    def _origin_settings(self, settings: Settings) -> OriginSettings:
        """Which hosts the listener answers for, and which web pages may call."""
        proxy = settings.proxy
        return OriginSettings(
            allowed_hosts=frozenset(proxy.allowed_hosts),
            cors_origins=frozenset(proxy.cors_origins),
            anonymous=self._is_open(settings),
            admin_open=proxy.admin_auth == "disabled",
        )

    def _is_open(self, settings: Settings) -> bool:
        """Whether clients need no token."""
        by_default = settings.proxy.allow_anonymous is None
        return settings.anonymous_allowed and not (by_default and self._clients.were_made)

    def _clients_restored(self) -> None:
        """After a restore: admit the clients in it, and refuse those of the file that they are.

        Raises :class:`ConfigError`.
        """
        settings = self._reload.settings
        self._admit_clients(settings)
        self._refuse_conflicts(settings)

    def _admin_parts(self) -> AdminParts:
        return AdminParts(
            pool=self._pool,
            models=self._models,
            records=self._records,
            usage=self._usage_reports,
            service=self._service_status,
            render_metrics=lambda accept: self._metrics.render_in_turns(accept, self._pause),
            reload=self._reload.reload,
            audit=AuditLog(self._trail.keep).changed,
            test_key=self._key_probe.ask,
            minute_rows=lambda: self._ledger.rows_of(MINUTE),
            clients=ClientRoutes(
                ClientParts(
                    registry=self._clients,
                    save=self._checkpoint.save_durably,
                    changed=lambda: self._admit_clients(self._reload.settings),
                    audit=AuditLog(self._trail.keep).changed,
                    usage=self._usage_reports,
                    used=self._client_use.used,
                    last_seen=self._usage.seen_at,
                    wall=self._wall,
                    pause=self._pause,
                    scrub=self._scrubber.scrub,
                    has_state=self._reload.settings.persistence.path is not None,
                )
            ),
            seconds=self._reactor.seconds,
            pause=self._pause,
            wall=self._wall,
        )

    # -- their order -----------------------------------------------------------------------------

    def _sequence(self, settings: Settings, underneath: Sequence[Service]) -> ServiceSequence:
        """What starts from top to bottom, and stops from bottom to top."""
        reactor = self._reactor
        check = ActiveHealthCheck(
            self._pool,
            self._key_probe,
            enabled=lambda: self._reload.settings.monitoring.probe,
            seconds=reactor.seconds,
        )
        work = HealthRound({"probes": check.round, "models": self._refresh_models})
        self._health = PeriodicService(
            reactor, settings.monitoring.health_check_interval, work, "health work"
        )
        self.listener = Listener(
            reactor,
            server_endpoint(reactor, settings.proxy, self._handed),
            with_tls(self._site, settings.proxy),
            settings.proxy.endpoint or f"{settings.proxy.host}:{settings.proxy.port}",
        )
        self.listener.listening.addCallback(set_reach, self._site)
        self.listener.listening.addCallback(self._guard_accepting)
        self.listener.listening.addCallback(self._ready)
        self._frozen = GcTuning()
        sequence = ServiceSequence()
        for child in (
            *underneath,
            self._notifier,
            # May refuse the start; the services after it have not started then.
            self._checkpoint,
            GracefulExit(reactor),
            self._clock_watch,
            Lifetime(self._upstream),
            self._translation,
            self._health,
            ReactorLag(reactor, self._metrics.reactor_lagged),
            PeriodicService(reactor, _SUPPRESSED_SECONDS, self._tell_suppressed, "log"),
            PeriodicService(reactor, SAMPLE_SECONDS, self._client_use.sample, "use of clients"),
            # Outlives the drain: the operator needs the admin API most when something is wrong.
            *self._admin_listener(settings),
            Draining(
                reactor,
                self._lifecycle,
                self._site.close,
                lambda: self._reload.settings.proxy.drain_seconds,
            ),
            self._reload,
            self.listener,
            self._frozen,
            LameDuck(
                reactor,
                self._lifecycle.leave,
                lambda: self._reload.settings.proxy.lame_duck_seconds,
            ),
        ):
            child.setServiceParent(sequence)
        return sequence

    def _admin_listener(self, settings: Settings) -> list[Service]:
        proxy = settings.proxy
        if proxy.admin_endpoint is None:
            return []
        site = routed_site(
            self._reactor,
            self._admin.rows(),
            None,
            self._admin,
            OPENAI,
            self._guard(settings),
            ConnectionLimits(max_connections=_OPERATORS),
        )
        site.malformed = self._metrics.request_malformed
        endpoint = described_endpoint(
            self._reactor, proxy.admin_endpoint, "proxy.adminEndpoint", self._handed
        )
        listener = Listener(self._reactor, endpoint, site, proxy.admin_endpoint)
        listener.listening.addCallback(set_reach, site)
        listener.listening.addCallback(self._administered_at)
        return [listener]

    # -- what they ask of one another ------------------------------------------------------------

    async def _tell_suppressed(self) -> None:
        """Log the counts of suppressed lines even if no further line comes."""
        self._sink.tell_suppressed(self._wall())

    def _knows_model(self, name: str) -> bool:
        return self._catalogue.knows(name)

    def _guard_accepting(self, port: Any) -> Any:
        AcceptGuard(port, self._reactor, partial(self._site.connections.refuse, "descriptors"))
        return port

    def _ready(self, port: Any) -> Any:
        self._tell_start(port)
        self._warn(self._reload.settings)
        self._notifier.ready()
        return port

    def _administered_at(self, port: Any) -> Any:
        self._admin_port = port
        return port

    def _tell_start(self, port: Any) -> None:
        """Log one line that says what runs, with which files and keys."""
        proxy = self._reload.settings.proxy
        address = dashboard = url_of(port, "https" if proxy.has_tls else "http")
        if self._admin_port:
            own_tls = endpoints.brings_tls(proxy.admin_endpoint or "")
            dashboard = url_of(self._admin_port, "https" if own_tls else "http")
        number = len(self._reload.settings.keys)
        noun = "key" if number == 1 else "keys"
        config, keys_file = self._source.places
        self._log.info(
            f"gemproxy {{version}} on Python {{python}} serves {{keys}} {noun} at {{address}}",
            version=__version__,
            python=platform.python_version(),
            config=config,
            keys_file=keys_file,
            keys=number,
            address=address,
            dashboard=f"{dashboard}/admin/",
        )

    def _reloaded(self, _status: ReloadStatus) -> None:
        """Runs also without a change: the upstream's name may have moved."""
        self._upstream.refresh_addresses()
        self._notifier.ready()

    def _warn(self, settings: Settings) -> None:
        for warning in rules.warnings(settings):
            self._log.warn("configuration warning", warning=warning)

    def _learn_secrets(self, settings: Settings) -> None:
        """Add new secrets to the scrubber, and keep the old ones: the reload may still fail."""
        running = self._reload.settings
        self._scrubber.replace((*running.secrets(), *settings.secrets()))

    def _in_thread(self, work: Callable[[], _T]) -> Deferred[_T]:
        return in_thread(self._reactor, work)

    def _pause(self) -> Deferred[None]:
        paused: Deferred[None] = deferLater(self._reactor, 0)
        return paused

    async def _usage_of(self, client: str) -> OwnUsage:
        """What a client used today and this month."""
        reports = self._usage_reports
        now = reports.now()
        today = await reports.total(reports.days(now, now), client)
        month = await reports.total(reports.days(now.replace(day=1), now), client)
        return OwnUsage(today, month)

    def _limits_used(self, client: Client) -> Used:
        """What a client has used of its own limits."""
        return self._client_limits.used(client, self._reactor.seconds(), self._wall())

    async def _refresh_models(self) -> None:
        """Refresh the list of models before a client has to wait for it."""
        context = RequestContext("health", "health", self._reactor.seconds())
        await self._catalogue.refresh(context)

    def _stop_seconds(self) -> float:
        proxy = self._reload.settings.proxy
        return proxy.lame_duck_seconds + proxy.drain_seconds

    def _status_line(self) -> str:
        return status_line(
            self._pool.counts(self._reactor.seconds()),
            self._lifecycle.in_flight,
            draining=self._lifecycle.draining,
            leaving=self._lifecycle.leaving,
            reload_failed=self._reload.status.last_error is not None,
        )

    def _service_status(self) -> ServiceStatus:
        return ServiceStatus(
            __version__,
            self._started_at,
            self._lifecycle.draining,
            self._lifecycle.in_flight,
            self._request_log.region_refused(self._reactor.seconds()),
            self._store.status(),
            self._reload.status,
            self._recent.summary(self._reactor.seconds()),
            self._usage.unpriced_models,
            self._pool.quotas_ending_today(self._reactor.seconds()),
        )


def new_response_base() -> str:
    """The id of a response without its prefix: 32 letters or digits."""
    return secrets.token_hex(16)


def new_call_id() -> str:
    """As OpenAI's: ``call_`` and 24 letters or digits."""
    return f"call_{secrets.token_hex(12)}"


def new_token() -> str:
    """24 hexadecimal digits, which other parts of an id may surround."""
    return secrets.token_hex(12)
