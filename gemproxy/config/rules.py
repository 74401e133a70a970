"""Rules between settings, each of which is valid by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gemproxy.config import endpoints
from gemproxy.config.guessable import weakness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gemproxy.config.reading import FileReader
    from gemproxy.config.settings import Settings

#: Path and message of a fault.
Finding = tuple[str, str]

_LISTENER = ("proxy.host", "proxy.endpoint")


@dataclass(frozen=True)
class Rule:
    """``find`` is called only if all settings that it reads are valid by themselves."""

    looks_at: tuple[str, ...]
    find: Callable[[Settings], Iterator[Finding]]


def check(settings: Settings, reader: FileReader) -> None:
    """Report every broken rule of proxy.yaml to its reader."""
    for rule in _RULES:
        if reader.is_sound(*rule.looks_at):
            for path, message in rule.find(settings):
                reader.fault(path, message)


def warnings(settings: Settings) -> tuple[str, ...]:
    """Settings that work but are hardly intended, a sentence each."""
    return tuple(_warnings(settings))


def _admin_token_is_there(settings: Settings) -> Iterator[Finding]:
    if settings.proxy.admin_auth == "required" and settings.proxy.admin_token is None:
        message = (
            "the admin API needs a token: give one of adminToken, adminTokenEnv and "
            "adminTokenFile (`gemproxy init` writes a file with a fresh random one)"
        )
        yield "proxy.adminToken", message


def _admin_api_is_guarded(settings: Settings) -> Iterator[Finding]:
    if settings.proxy.admin_auth == "disabled" and not settings.proxy.admin_is_local:
        message = (
            "cannot be disabled where others can reach the admin API: the listener is neither "
            "on loopback nor a Unix socket"
        )
        yield "proxy.adminAuth", message


def _clients_are_known(settings: Settings) -> Iterator[Finding]:
    proxy = settings.proxy
    # A clients.yaml without clients is enough: they may be made at run time.
    if proxy.access_tokens or settings.clients is not None:
        return
    if proxy.allow_anonymous is False:
        yield (
            "proxy.allowAnonymous",
            "false leaves nobody who may call, since there are no accessTokens and no clients.yaml",
        )
    elif proxy.allow_anonymous is None and not proxy.is_local:
        message = (
            "others can reach the listener, so clients need tokens: give accessTokens or a "
            "clients.yaml, or say allowAnonymous: true on purpose"
        )
        yield "proxy.accessTokens", message


def _proxy_credentials_are_whole(settings: Settings) -> Iterator[Finding]:
    upstream = settings.upstream
    if upstream.http_proxy_user is not None and upstream.http_proxy is None:
        yield "upstream.httpProxyUser", "needs httpProxy"
    if upstream.http_proxy_password is not None and upstream.http_proxy_user is None:
        yield "upstream.httpProxyPassword", "needs httpProxyUser"


def _tls_is_spoken_once(settings: Settings) -> Iterator[Finding]:
    endpoint = settings.proxy.endpoint
    if settings.proxy.tls is not None and endpoint and endpoints.brings_tls(endpoint):
        yield "proxy.tls", "cannot stand beside an endpoint that speaks TLS by itself"


def _listeners_differ(settings: Settings) -> Iterator[Finding]:
    proxy = settings.proxy
    if proxy.admin_endpoint is not None and proxy.admin_endpoint == proxy.endpoint:
        yield "proxy.adminEndpoint", "is the same as proxy.endpoint; leave it out to share that"


def _state_files_differ(settings: Settings) -> Iterator[Finding]:
    persistence = settings.persistence
    if persistence.path is not None and persistence.path == persistence.fallback_path:
        yield "persistence.fallbackPath", "is the same file as persistence.path"


def _aliases_end(settings: Settings) -> Iterator[Finding]:
    aliases = settings.models.aliases
    for alias, model in aliases.items():
        if model in aliases:
            yield (
                f"models.aliases.{alias}",
                "stands for another alias; an alias must name a model of the upstream",
            )


_RULES = (
    Rule(
        ("proxy.adminAuth", "proxy.adminToken", "proxy.adminTokenEnv", "proxy.adminTokenFile"),
        _admin_token_is_there,
    ),
    Rule((*_LISTENER, "proxy.adminAuth", "proxy.adminEndpoint"), _admin_api_is_guarded),
    Rule((*_LISTENER, "proxy.accessTokens", "proxy.allowAnonymous"), _clients_are_known),
    Rule(
        (
            "upstream.httpProxy",
            "upstream.httpProxyUser",
            "upstream.httpProxyPassword",
            "upstream.httpProxyPasswordEnv",
            "upstream.httpProxyPasswordFile",
        ),
        _proxy_credentials_are_whole,
    ),
    Rule(("proxy.tls", "proxy.endpoint"), _tls_is_spoken_once),
    Rule(("proxy.endpoint", "proxy.adminEndpoint"), _listeners_differ),
    Rule(("persistence.path", "persistence.fallbackPath"), _state_files_differ),
    Rule(("models.aliases",), _aliases_end),
)


def _warnings(settings: Settings) -> Iterator[str]:
    longest = settings.monitoring.recovery_time
    if not any(key.enabled for key in settings.keys):
        yield "no key is enabled, so no request can be served"
    if settings.monitoring.cooldown_seconds > longest:
        yield "monitoring.cooldownSeconds is longer than monitoring.recoveryTime, which caps it"
    for key in settings.keys:
        if key.cooldown_seconds is not None and key.cooldown_seconds > longest:
            yield f"cooldownSeconds of key {key.name} is longer than monitoring.recoveryTime"
    if settings.proxy.max_payload_size > settings.proxy.max_buffered_bytes:
        yield (
            "proxy.maxPayloadSize is larger than proxy.maxBufferedBytes, so that the largest"
            " requests always get 503"
        )
    yield from _doors(settings)
    if settings.models.allow:
        for alias, model in settings.models.aliases.items():
            if model not in settings.models.allow and alias not in settings.models.allow:
                yield f"the alias {alias} stands for a model that models.allow does not hold"


def _doors(settings: Settings) -> Iterator[str]:
    """Listeners that more clients can reach than it seems."""
    proxy, anonymous = settings.proxy, settings.anonymous_allowed
    if not proxy.is_local and anonymous:
        yield "others can reach the listener, and clients need no token (allowAnonymous: true)"
    if anonymous and "*" in proxy.cors_origins:
        yield (
            "every web page that a browser shows here may spend quota: clients need no token, and"
            " proxy.corsOrigins names every origin"
        )
    if any(network.prefixlen == 0 for network in proxy.trusted_proxies):
        yield "proxy.trustedProxies names every address, so that clients may make up theirs"
    admin = proxy.admin_endpoint
    if admin is not None and proxy.has_tls and endpoints.is_open_and_plain(admin):
        yield (
            "others can reach proxy.adminEndpoint, which has no TLS as the public listener has: the"
            " admin token can be read on the way"
        )
    tokens = [(f"the access token {token.name}", token.token) for token in proxy.access_tokens]
    tokens += [
        (f"the token of the client {client.name}", client.token)
        for client in settings.file_clients
        if client.token is not None
    ]
    if proxy.admin_token is not None:
        tokens.insert(0, ("the admin token", proxy.admin_token))
    for name, token in tokens:
        weak = weakness(token.reveal())
        if weak is not None:
            yield f"{name} {weak}; `openssl rand -base64 24` makes one that nobody guesses"
