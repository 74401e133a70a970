"""The wiring: read from top to bottom, this is the plan of the daemon.

The only module that knows every class.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    serverFromString,
)
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.internet.task import deferLater

from gemproxy import __version__
from gemproxy.catalogue import ModelCatalogue
from gemproxy.config.settings import ProxySettings, Settings
from gemproxy.dialects.translation.signatures import SignatureStore
from gemproxy.forwarding import Forwarder, ForwardingSettings
from gemproxy.keys.models import ModelBreakers
from gemproxy.keys.pool import KeyPool, PoolSettings
from gemproxy.observability import logs
from gemproxy.observability.requests import RequestLog
from gemproxy.observability.scrubbing import Scrubber
from gemproxy.services.lifetimes import FrozenStart, GracefulExit, Lifetime
from gemproxy.services.listening import Draining, Listener
from gemproxy.services.sequence import ServiceSequence
from gemproxy.upstream.client import TreqUpstream
from gemproxy.web.api import ModelNames, OpenAIAPI
from gemproxy.web.auth import TokenAuth
from gemproxy.web.entrance import Entrance, EntranceSettings
from gemproxy.web.site import ProxySite
from gemproxy.web.tls import tls_factory

_BACKLOG = 1024


@dataclass(frozen=True)
class Daemon:
    """The daemon, and the part of it that tells where it listens."""

    service: logs.LoggedServices
    listener: Listener


def make_daemon(reactor: Any, settings: Settings, underneath: Sequence[Service] = ()) -> Daemon:
    """All parts, wired. What is ``underneath`` starts before them and stops after them."""
    scrubber = Scrubber(settings.secrets())
    service = logs.LoggedServices(logs.install(settings.logging, scrubber, sys.stdout))

    request_log = RequestLog()
    pool = KeyPool(settings.keys, pool_settings(settings), request_log.breaker_changed)
    upstream = TreqUpstream(reactor, settings.upstream, f"gemproxy/{__version__}")
    forwarder = Forwarder(
        forwarding_settings(settings),
        pool=pool,
        models=ModelBreakers(settings.monitoring.failure_threshold),
        upstream=upstream,
        signatures=SignatureStore(),
        seconds=reactor.seconds,
        sleep=_sleeper(reactor),
        new_id=new_call_id,
        scrub=scrubber.scrub,
    )
    catalogue = ModelCatalogue(
        pool,
        upstream,
        cache_seconds=settings.models.cache_seconds,
        request_timeout=settings.upstream.request_timeout_seconds,
        seconds=reactor.seconds,
        scrub=scrubber.scrub,
    )
    entrance = Entrance(
        reactor,
        EntranceSettings(
            max_in_flight=settings.proxy.max_concurrent_requests,
            heartbeat=settings.streaming.heartbeat_seconds,
            cors_origins=frozenset(settings.proxy.cors_origins),
        ),
        TokenAuth(
            settings.proxy.access_tokens,
            settings.proxy.admin_token,
            anonymous=settings.proxy.anonymous_allowed,
            admin_open=settings.proxy.admin_auth == "disabled",
        ),
        request_log,
        new_request_id,
    )
    api = OpenAIAPI(
        entrance,
        forwarder,
        catalogue,
        ModelNames(settings.models.aliases, settings.models.allow),
        lambda: pool.can_serve(reactor.seconds()),
    )
    site = ProxySite(
        api.app.resource(),
        reactor,
        max_body_bytes=settings.proxy.max_payload_size,
        refuse=entrance.turn_away,
    )
    site.routes = api.short_ways()
    listener = Listener(
        reactor,
        server_endpoint(reactor, settings.proxy),
        with_tls(site, settings.proxy),
        settings.proxy.endpoint or f"{settings.proxy.host}:{settings.proxy.port}",
    )

    sequence = ServiceSequence()
    sequence.setServiceParent(service)
    for child in (
        *underneath,
        GracefulExit(reactor),
        Lifetime(upstream),
        Draining(reactor, entrance, site.close, lambda: settings.proxy.drain_seconds),
        listener,
        FrozenStart(),
    ):
        child.setServiceParent(sequence)
    return Daemon(service, listener)


def pool_settings(settings: Settings) -> PoolSettings:
    """What the pool takes of the configuration."""
    monitoring = settings.monitoring
    return PoolSettings(
        failure_threshold=monitoring.failure_threshold,
        cooldown=monitoring.cooldown_seconds,
        recovery_time=monitoring.recovery_time,
        window=monitoring.window_seconds,
        minimum_requests=monitoring.minimum_requests,
        health_threshold=monitoring.health_threshold,
    )


def forwarding_settings(settings: Settings) -> ForwardingSettings:
    """What the forwarder takes of the configuration."""
    return ForwardingSettings(
        max_attempts=settings.retry.max_attempts,
        backoff=settings.retry.backoff_seconds,
        request_timeout=settings.upstream.request_timeout_seconds,
        first_chunk_retry=settings.streaming.first_chunk_retry,
        aliases=settings.models.aliases,
        allowed_models=frozenset(settings.models.allow),
    )


def server_endpoint(reactor: Any, proxy: ProxySettings) -> IStreamServerEndpoint:
    """Where the public API listens."""
    if proxy.endpoint is not None:
        named: IStreamServerEndpoint = serverFromString(reactor, proxy.endpoint)
        return named
    kind = TCP6ServerEndpoint if ":" in proxy.host else TCP4ServerEndpoint
    endpoint: IStreamServerEndpoint = kind(reactor, proxy.port, _BACKLOG, proxy.host)
    return endpoint


def with_tls(factory: IProtocolFactory, proxy: ProxySettings) -> IProtocolFactory:
    """``factory`` behind TLS, where the configuration has a certificate."""
    if proxy.tls is None:
        return factory
    return tls_factory(factory, proxy.tls.cert_file, proxy.tls.key_file)


def new_request_id() -> str:
    """As OpenAI's: ``req_`` and 32 hex digits."""
    return f"req_{secrets.token_hex(16)}"


def new_call_id() -> str:
    """As OpenAI's: ``call_`` and 24 letters or digits."""
    return f"call_{secrets.token_hex(12)}"


def _sleeper(reactor: Any) -> Any:
    def sleep(seconds: float) -> Awaitable[None]:
        waited: Deferred[None] = deferLater(reactor, seconds)
        return waited

    return sleep
