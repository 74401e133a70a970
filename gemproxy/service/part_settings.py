"""The settings of each part of the daemon, made of those of the files."""

from __future__ import annotations

from collections.abc import Callable

from gemproxy.config.settings import ResponsesSettings, Settings
from gemproxy.core.admission import AdmissionLimits
from gemproxy.core.retry import RetrySettings
from gemproxy.core.stored_answers import AnswerStore
from gemproxy.core.waiting import QueueSettings
from gemproxy.http.connection_limits import ConnectionLimits
from gemproxy.http.lifecycle import LifecycleSettings
from gemproxy.pool.pool import PoolSettings
from gemproxy.pricing.prices import PriceList
from gemproxy.service.open_files import connections_within_limit
from gemproxy.state.kinds import Retention
from gemproxy.state.sqlite.retention import SETTLE_SECONDS
from gemproxy.translate.shared.model_names import ModelNames


def pool(settings: Settings) -> PoolSettings:
    """The part of the configuration that the pool needs."""
    monitoring = settings.monitoring
    return PoolSettings(
        failure_threshold=monitoring.failure_threshold,
        cooldown=monitoring.cooldown_seconds,
        recovery_time=monitoring.recovery_time,
        window=monitoring.window_seconds,
        minimum_requests=monitoring.minimum_requests,
        health_threshold=monitoring.health_threshold,
        probe=monitoring.probe,
        stickiness_share=(
            None if settings.pool.stickiness == "off" else settings.pool.stickiness_share
        ),
    )


def retry(settings: Settings) -> RetrySettings:
    """The part of the configuration that the dispatcher needs."""
    return RetrySettings(
        max_attempts=settings.retry.max_attempts,
        backoff=settings.retry.backoff_seconds,
        request_timeout=settings.upstream.request_timeout_seconds,
        first_chunk_retry=settings.streaming.first_chunk_retry,
    )


def queue(settings: Settings) -> QueueSettings:
    """The part of the configuration that the queue needs."""
    admission = settings.admission
    return QueueSettings(admission.max_wait_seconds, admission.max_queued)


def lifecycle(settings: Settings) -> LifecycleSettings:
    """The part of the configuration that the request lifecycle needs."""
    return LifecycleSettings(
        AdmissionLimits(
            max_in_flight=settings.proxy.max_concurrent_requests,
            max_body=settings.proxy.max_payload_size,
            max_upload=settings.proxy.max_upload_size,
            max_buffered=settings.proxy.max_buffered_bytes,
        ),
        heartbeat=settings.streaming.heartbeat_seconds,
        headers_after=settings.streaming.headers_after_seconds,
        cors_origins=frozenset(settings.proxy.cors_origins),
    )


def connection_limits(settings: Settings) -> ConnectionLimits:
    """Limits of client connections. Warns if there are too few descriptors."""
    proxy, upstream = settings.proxy, settings.upstream
    most = max(proxy.max_concurrent_requests, upstream.max_connections_per_host)
    return ConnectionLimits(
        max_connections=connections_within_limit(proxy.max_connections, most),
        max_per_address=proxy.max_connections_per_address,
        shared_addresses=proxy.trusted_proxies,
        minimum_upload_rate=proxy.minimum_upload_rate,
        slow_reader_seconds=proxy.slow_reader_seconds,
        keepalive_seconds=upstream.keepalive_seconds,
    )


def model_names(settings: Settings) -> ModelNames:
    """The model aliases."""
    return ModelNames(settings.models.aliases, settings.models.allow)


def retention(settings: Settings) -> Retention:
    """How long the store keeps rows."""
    return Retention(
        days=settings.persistence.metrics_retention_days,
        usage_days=settings.persistence.usage_retention_days,
        record_days=settings.records.retention_days,
        records=settings.records.max_rows,
        settle=SETTLE_SECONDS,
    )


def unpriced_check(settings: Settings, prices: PriceList) -> Callable[[str], bool] | None:
    """What tells the models that clients with a budget may not ask; ``None``: they may ask all."""
    if settings.budget.unpriced == "allow":
        return None
    return lambda model: not prices.knows(model)


def projects(settings: Settings) -> dict[str, str]:
    """The projects of the keys, by the key's id."""
    return {key.id: key.project for key in settings.keys}


def configure_answers(answers: AnswerStore, responses: ResponsesSettings) -> None:
    """Set the limits of stored answers."""
    answers.configure(
        responses.max_items,
        responses.max_bytes,
        responses.lifetime_seconds,
        enabled=responses.store != "none",
        persists=responses.store == "state",
    )
