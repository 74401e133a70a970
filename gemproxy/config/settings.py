"""Every setting: its name, default, kind and meaning, in one list.

A field's name is the setting's own in snake case: ``max_payload_size`` is ``maxPayloadSize``.
Times are seconds and floats. The comments of the example files and ``docs/configuration.md``
are rendered from this list, so a setting is described here and nowhere else.
"""

# ruff: noqa: RUF009 - setting() is dataclasses.field with a description; shapes are frozen
from __future__ import annotations

import base64
import dataclasses
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gemproxy.config import endpoints
from gemproxy.config.kinds import (
    AddressRange,
    ExistingFile,
    FilePath,
    Flag,
    Host,
    HostName,
    IntRange,
    ListOf,
    ModelName,
    NeverTrue,
    Nullable,
    Number,
    OneOf,
    Origin,
    ProxyUser,
    ServerEndpoint,
    Shape,
    StoreOfAnswers,
    StrMap,
    TimeZone,
    WebAddress,
)
from gemproxy.core.errors import Fault
from gemproxy.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gemproxy.config.kinds import Network
    from gemproxy.core.client_registry import ClientsFile, FileClient
    from gemproxy.pool.key import Key
    from gemproxy.pricing.prices import Price

_T = TypeVar("_T")

_Seconds = partial(Number, above=True)
_MEGABYTE = 1024 * 1024


class Special:
    """Marks a setting with a special reader: a secret, the TLS files, the tokens."""


@dataclass(frozen=True)
class Description:
    """The description of one setting."""

    shape: Shape | Special
    meaning: str
    unit: str
    restart: bool


def setting(
    default: _T, shape: Shape | Special, meaning: str, unit: str = "", *, restart: bool = False
) -> _T:
    """A dataclass field with its description; ``restart`` marks what a reload cannot change."""
    description = Description(shape, meaning, unit, restart)
    metadata = {"description": description}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata)  # type: ignore[return-value]
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class TLSSettings:
    """Certificate chain and private key of the public listener, as PEM files."""

    cert_file: Path
    key_file: Path


@dataclass(frozen=True)
class AccessToken:
    """One token of a client; ``debug`` lets its answers name the key that served them."""

    name: str
    token: Secret
    debug: bool = False
    #: For a mistake that is found later.
    place: Fault = field(default=Fault("proxy.yaml", 0, "", ""), compare=False)


@dataclass(frozen=True)
class ProxySettings:
    """The listener and its clients."""

    host: str = setting("127.0.0.1", Host(), "address to listen on", restart=True)
    port: int = setting(
        4806, IntRange(0, 65535), "port to listen on; 0 takes any free one", restart=True
    )
    endpoint: str | None = setting(
        None,
        Nullable(ServerEndpoint()),
        "any Twisted server endpoint string, such as systemd:domain=INET:name=gemproxy or "
        "unix:/run/gemproxy.sock; replaces host and port",
        restart=True,
    )
    tls: TLSSettings | None = setting(
        None,
        Special(),
        "{certFile:, keyFile:}, PEM files that make the listener speak TLS",
        restart=True,
    )
    admin_token: Secret | None = setting(
        None,
        Special(),
        "token of the admin API, at least 16 characters; exactly one of adminToken, "
        "adminTokenEnv (a variable's name) and adminTokenFile",
    )
    admin_auth: str = setting(
        "required",
        OneOf(("required", "disabled")),
        "disabled: the admin API asks for no token; refused where others can reach it",
    )
    admin_endpoint: str | None = setting(
        None,
        Nullable(ServerEndpoint()),
        "endpoint string of a listener of its own for /admin; null: the same port",
        restart=True,
    )
    access_tokens: tuple[AccessToken, ...] = setting(
        (),
        Special(),
        "tokens of clients, sent as Authorization: Bearer, x-api-key, x-goog-api-key or ?key=; "
        "each a string, or {name:, token: | tokenEnv: | tokenFile:, debug: false}",
    )
    allow_anonymous: bool | None = setting(
        None,
        Nullable(Flag()),
        "whether clients need no token; null: only where the listener is on loopback, accessTokens "
        "is empty, and there is no clients.yaml and no client that was made at run time",
    )
    max_payload_size: int = setting(
        10 * _MEGABYTE, IntRange(1, 1024 * _MEGABYTE), "largest body of a request", "bytes"
    )
    max_upload_size: int = setting(
        2048 * _MEGABYTE,
        IntRange(1, 2**44),
        "largest body of an upload, which is streamed through and not held in memory",
        "bytes",
    )
    rewrite_download_uris: bool = setting(
        False,
        Flag(),
        "whether the addresses of downloads that Google gives (downloadUri) lead to this proxy, at "
        "the host that the client has used",
    )
    max_concurrent_requests: int = setting(
        1000,
        IntRange(1, 1_000_000),
        "requests in flight, counted from the head of a request; one more is answered with 429",
    )
    max_connections: int = setting(
        8192,
        IntRange(1, 1_000_000),
        "connections of clients; at the limit the one that is idle longest is closed for a new "
        "one, and a new one is refused where none is idle",
    )
    max_connections_per_address: int | None = setting(
        None,
        Nullable(IntRange(1, 1_000_000)),
        "connections of one client address; null: no limit of its own",
    )
    max_buffered_bytes: int = setting(
        256 * _MEGABYTE,
        IntRange(1, 2**44),
        "bodies of all requests that are incomplete or not yet answered, together; beyond it a "
        "request is answered with 503 before its body is read",
        "bytes",
    )
    minimum_upload_rate: float = setting(
        1024.0,
        Number(most=2**30, noun="a number of bytes a second"),
        "slowest pace of a request's body, over any 30 seconds; a slower client is cut off",
        "bytes/second",
    )
    slow_reader_seconds: float = setting(
        60.0,
        _Seconds(),
        "how long a client may take nothing of an answer that waits for it, before its connection "
        "is closed and its upstream request cancelled",
        "seconds",
    )
    allowed_hosts: tuple[str, ...] = setting(
        (),
        ListOf(HostName()),
        "names and addresses that the Host header may hold on a loopback listener, beside the "
        "listener's own; others are answered with 421",
    )
    trusted_proxies: tuple[Network, ...] = setting(
        (),
        ListOf(AddressRange()),
        "networks, such as 10.0.0.0/8, of reverse proxies whose Forwarded or X-Forwarded-For "
        "header names the client's address, for the addresses of clients.yaml, the log and wrong "
        "tokens",
    )
    drain_seconds: float = setting(
        30.0, Number(most=86400), "how long a stop waits for requests in flight", "seconds"
    )
    lame_duck_seconds: float = setting(
        0.0,
        Number(most=86400),
        "how long a stop goes on serving with /readyz at 503 before it drains, so that load "
        "balancers take the instance out first",
        "seconds",
    )
    cors_origins: tuple[str, ...] = setting(
        (), ListOf(Origin()), "origins whose pages may call from a browser; '*' is every origin"
    )
    timezone: str = setting(
        "UTC",
        TimeZone(),
        "time zone of calendar days and months in usage, limits and expires, such as Europe/Berlin",
    )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the public listener."""
        if self.endpoint is not None:
            return endpoints.is_local(self.endpoint)
        return endpoints.is_loopback(self.host)

    @property
    def has_tls(self) -> bool:
        """Whether the public listener speaks TLS."""
        return self.tls is not None or (
            self.endpoint is not None and endpoints.brings_tls(self.endpoint)
        )

    @property
    def admin_is_local(self) -> bool:
        """Whether only this machine can reach the listener of the admin API."""
        if self.admin_endpoint is not None:
            return endpoints.is_local(self.admin_endpoint)
        return self.is_local


@dataclass(frozen=True)
class AdmissionSettings:
    """Requests that wait while no key is free for their model."""

    max_wait_seconds: float = setting(
        2.0,
        Number(most=600),
        "how long a request may wait for a key; it waits only if one will be free by then, else it "
        "is refused at once; 0: no request waits",
        "seconds",
    )
    max_queued: int = setting(
        200,
        IntRange(0, 100_000),
        "requests that may wait, for all models together; beyond it the client with most of the "
        "lowest priority loses its newest one",
    )


@dataclass(frozen=True)
class UpstreamSettings:
    """The connection to Google."""

    base_url: str = setting(
        "https://generativelanguage.googleapis.com", WebAddress(), "where the Gemini API is"
    )
    ca_file: Path | None = setting(
        None, Nullable(ExistingFile()), "extra trust root (PEM), for a private gateway"
    )
    connect_timeout_seconds: float = setting(
        10.0,
        _Seconds(),
        "longest wait for a connection: look-up of the name, TCP, HTTP proxy and TLS together",
        "seconds",
    )
    first_byte_timeout_seconds: float = setting(
        600.0,
        _Seconds(),
        "longest wait for an answer's first byte: thinking models are silent for minutes, and a "
        "unary answer comes at its end",
        "seconds",
    )
    idle_timeout_seconds: float = setting(
        300.0, _Seconds(), "longest silence between two pieces of an answer", "seconds"
    )
    request_timeout_seconds: float = setting(
        1200.0,
        _Seconds(),
        "longest time for a whole request, retries included; of a long answer, for each hop",
        "seconds",
    )
    max_connections_per_host: int = setting(
        100, IntRange(1, 100_000), "connections to the upstream that are kept for reuse"
    )
    http_proxy: str | None = setting(
        None,
        Nullable(WebAddress(("http",), origin_only=True)),
        "HTTP proxy that the upstream is reached through by CONNECT, such as http://proxy:3128",
    )
    http_proxy_user: str | None = setting(
        None, Nullable(ProxyUser()), "user name for httpProxy (Basic authentication)"
    )
    http_proxy_password: Secret | None = setting(
        None,
        Special(),
        "password for httpProxy; at most one of httpProxyPassword, httpProxyPasswordEnv (a "
        "variable's name) and httpProxyPasswordFile",
    )
    connection_max_age_seconds: float = setting(
        300.0,
        _Seconds(),
        "age at which a kept connection is closed after its request, so that a changed DNS answer "
        "is followed",
        "seconds",
    )
    keepalive_seconds: float = setting(
        20.0,
        Number(1, 3600),
        "silence after which TCP asks whether the peer is still there; one that acknowledges "
        "nothing for 1.75 times as long is given up, on connections to the upstream and to clients",
        "seconds",
    )


@dataclass(frozen=True)
class RetrySettings:
    """What follows a failed attempt."""

    max_attempts: int = setting(
        3, IntRange(1, 100), "different keys for one client request, before its first byte is sent"
    )
    backoff_seconds: float = setting(
        0.1, Number(most=60), "wait before the same key must be used again", "seconds"
    )


@dataclass(frozen=True)
class PoolChoiceSettings:
    """Which key serves a request."""

    stickiness: str = setting(
        "conversation",
        OneOf(("conversation", "off")),
        "conversation: the requests of a conversation prefer the same key, so that Google's "
        "implicit cache has the beginning of their prompts; off: the weights alone decide",
    )
    stickiness_share: float = setting(
        0.25,
        Number(0, 100, noun="a number"),
        "how much more than its share by weight a key may get in a minute for the sake of "
        "conversations; ten requests a minute more are always allowed",
        "share",
    )


@dataclass(frozen=True)
class MonitoringSettings:
    """When a key is not used, and for how long."""

    health_check_interval: float = setting(
        30.0, _Seconds(), "time between two rounds of health work", "seconds"
    )
    failure_threshold: int = setting(
        3, IntRange(1, 10_000), "consecutive failures that open a key's breaker"
    )
    recovery_time: float = setting(
        300.0, _Seconds(), "longest cooldown of an open breaker", "seconds"
    )
    cooldown_seconds: float = setting(
        30.0,
        _Seconds(),
        "first cooldown of an open breaker; doubles at each re-opening up to recoveryTime",
        "seconds",
    )
    window_seconds: float = setting(
        300.0, Number(1, 86400), "window that the health score looks at", "seconds"
    )
    minimum_requests: int = setting(
        10, IntRange(1, 1_000_000), "outcomes in the window before the score is acted upon"
    )
    health_threshold: float = setting(
        0.2,
        Number(0, 1, noun="a number"),
        "score below which a key is skipped while a better one is eligible",
        "0 to 1",
    )
    probe: bool = setting(
        False,
        Flag(),
        "true: half-open keys are tried with a cheap call instead of a client's request",
    )


@dataclass(frozen=True)
class PersistenceSettings:
    """Where the state is stored. Paths are relative to the working directory."""

    path: Path | None = setting(
        Path("state/gemproxy.db"),
        Nullable(FilePath()),
        "SQLite database; null: nothing outlives a restart",
        restart=True,
    )
    fallback_path: Path | None = setting(
        Path("state/gemproxy.json"),
        Nullable(FilePath()),
        "JSON snapshot that is written while SQLite cannot be; null: none",
        restart=True,
    )
    checkpoint_seconds: float = setting(
        5.0, Number(0.1, 3600), "at most this much is lost on a crash", "seconds"
    )
    metrics_retention_days: float = setting(
        7.0,
        Number(most=3650, above=True, noun="a number of days"),
        "how long the metrics of requests are kept",
        "days",
    )
    usage_retention_days: float = setting(
        400.0,
        Number(most=36500, above=True, noun="a number of days"),
        "how long usage is kept by day; by hour it is kept for 35 days",
        "days",
    )


@dataclass(frozen=True)
class LoggingSettings:
    """What is written to standard output."""

    level: str = setting(
        "info",
        OneOf(("debug", "info", "warn", "error", "critical")),
        "least level that is logged",
    )
    format: str = setting(
        "json", OneOf(("json", "text")), "json: one object a line; text: for people"
    )


@dataclass(frozen=True)
class ModelSettings:
    """Which models are offered, and under which names."""

    aliases: Mapping[str, str] = setting(
        {},
        StrMap(ModelName()),
        'other names for models, such as {"gpt-4o": "gemini-2.5-flash"}; a * in a name stands for '
        'any text ("claude-*"), and the longest name that fits counts; resolved once, so an alias '
        "cannot stand for another",
    )
    allow: tuple[str, ...] = setting(
        (), ListOf(ModelName()), "the only models that clients may use; empty: all"
    )
    cache_seconds: float = setting(
        300.0, Number(), "how long the upstream's list of models is kept", "seconds"
    )
    count_tokens: str = setting(
        "estimate",
        OneOf(("estimate", "exact")),
        "how POST /v1/messages/count_tokens counts: estimate: here, from the prompt's length; "
        "exact: Google counts, which takes a key and a request of its quota each time",
    )
    fetch_urls: bool = setting(
        False,
        NeverTrue("this version fetches no address that a client names; Google does it itself"),
        "reserved; only false is accepted, since no address that a client names is fetched",
    )


@dataclass(frozen=True)
class StreamingSettings:
    """How streamed answers behave."""

    heartbeat_seconds: float = setting(
        15.0, Number(), "SSE comment while a stream is silent; 0: none", "seconds"
    )
    headers_after_seconds: float | None = setting(
        20.0,
        Nullable(Number()),
        "a stream that is silent for so long gets its status 200 and heartbeats, so that load "
        "balancers keep it; another key may still be tried, and a failure becomes an error event; "
        "0: at once; null: never",
        "seconds",
    )
    first_chunk_retry: bool = setting(
        True,
        Flag(),
        "a stream that fails before its first chunk is retried on another key",
    )


@dataclass(frozen=True)
class PricingSettings:
    """The prices from which costs are estimated."""

    file: Path | None = setting(
        None,
        Nullable(ExistingFile()),
        "list of prices (YAML) whose entries come before the shipped ones; read again when it "
        "changes",
    )


@dataclass(frozen=True)
class BudgetSettings:
    """The budgets of clients."""

    unpriced: str = setting(
        "allow",
        OneOf(("allow", "refuse")),
        "requests of clients with a budget in US dollars to a model whose price is not known: "
        "allow, without counting them, or refuse",
    )


@dataclass(frozen=True)
class ResponsesSettings:
    """Answers of the Responses API that later requests may name."""

    store: str = setting(
        "memory",
        StoreOfAnswers(),
        "where they are kept: memory, state (the database too, so that they outlive a restart) or "
        "none; a client's store: false keeps its own out of it",
    )
    max_items: int = setting(10_000, IntRange(1, 1_000_000), "answers that are kept")
    max_bytes: int = setting(
        64 * _MEGABYTE,
        IntRange(1, 2**40),
        "bytes of all kept answers and of the conversations before them",
        "bytes",
    )
    lifetime_seconds: float = setting(3600.0, _Seconds(), "how long an answer is kept", "seconds")


@dataclass(frozen=True)
class RecordSettings:
    """Records of finished requests in the state, without their contents."""

    success_share: float = setting(
        1.0,
        Number(0, 1, noun="a number"),
        "part of the successful requests that is recorded; all others are recorded",
        "0 to 1",
    )
    retention_days: float = setting(
        14.0,
        Number(most=3650, above=True, noun="a number of days"),
        "how long records are kept",
        "days",
    )
    max_rows: int = setting(
        1_000_000,
        IntRange(0, 100_000_000),
        "records that are kept, the latest; a record takes about 600 bytes",
    )


@dataclass(frozen=True)
class Settings:
    """Both files, validated. Immutable: a reload makes a new one."""

    keys: tuple[Key, ...]
    proxy: ProxySettings = ProxySettings()
    admission: AdmissionSettings = AdmissionSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    retry: RetrySettings = RetrySettings()
    pool: PoolChoiceSettings = PoolChoiceSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    persistence: PersistenceSettings = PersistenceSettings()
    logging: LoggingSettings = LoggingSettings()
    models: ModelSettings = ModelSettings()
    streaming: StreamingSettings = StreamingSettings()
    responses: ResponsesSettings = ResponsesSettings()
    pricing: PricingSettings = PricingSettings()
    budget: BudgetSettings = BudgetSettings()
    records: RecordSettings = RecordSettings()
    #: The operator's prices and then the shipped ones.
    prices: tuple[Price, ...] = ()
    #: ``clients.yaml``; ``None`` if there is no such file.
    clients: ClientsFile | None = None

    @property
    def anonymous_allowed(self) -> bool:
        """Whether a client without a token is admitted; ``allowAnonymous`` with its default.

        It is not admitted all the same once a client was made at run time, unless
        ``allowAnonymous`` is true.
        """
        proxy = self.proxy
        if proxy.allow_anonymous is not None:
            return proxy.allow_anonymous
        return proxy.is_local and not proxy.access_tokens and self.clients is None

    @property
    def file_clients(self) -> tuple[FileClient, ...]:
        """The clients of ``clients.yaml``, if there is one."""
        return self.clients.clients if self.clients is not None else ()

    def secrets(self) -> Iterator[Secret]:
        """Every secret of the configuration, for the scrubber."""
        for key in self.keys:
            yield key.secret
        if self.proxy.admin_token is not None:
            yield self.proxy.admin_token
        if self.upstream.http_proxy_password is not None:
            yield self.upstream.http_proxy_password
            # In the form that is sent to the proxy (RFC 7617), which may echo it.
            both = f"{self.upstream.http_proxy_user}:{self.upstream.http_proxy_password.reveal()}"
            yield Secret(base64.b64encode(both.encode()).decode())
        for token in self.proxy.access_tokens:
            yield token.token
        for client in self.file_clients:
            if client.token is not None:
                yield client.token


#: The sections of proxy.yaml in its order.
SECTIONS: dict[str, type[Any]] = {
    "proxy": ProxySettings,
    "admission": AdmissionSettings,
    "upstream": UpstreamSettings,
    "retry": RetrySettings,
    "pool": PoolChoiceSettings,
    "monitoring": MonitoringSettings,
    "persistence": PersistenceSettings,
    "logging": LoggingSettings,
    "models": ModelSettings,
    "streaming": StreamingSettings,
    "pricing": PricingSettings,
    "budget": BudgetSettings,
    "records": RecordSettings,
    "responses": ResponsesSettings,
}


def camel(name: str) -> str:
    """The name of a setting in the file: ``max_attempts`` is ``maxAttempts``."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def described_fields(section: type[Any]) -> Iterator[tuple[dataclasses.Field[Any], Description]]:
    """The settings of a section, in order, with their descriptions."""
    for each in dataclasses.fields(section):
        yield each, each.metadata["description"]
