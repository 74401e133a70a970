"""What is checked of a client with the head of its request, if it is restricted."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from gemproxy.core.clients import Client
from gemproxy.core.endpoint_names import NOT_OFFERED, endpoint_name
from gemproxy.core.errors import Forbidden, Unauthorized
from gemproxy.http.routes import UNKNOWN

#: Open to every client: lists of models, which show what a client may ask, and its own usage.
_OPEN: Final = frozenset(
    {
        "/v1/models",
        "/v1/models/{id}",
        "/{version}/models",
        "/{version}/models/{model}",
        "/v1/usage/me",
        # Is refused in any case.
        UNKNOWN,
    }
)
#: Bits of the part of an IPv6 address that says that the rest is an IPv4 address (RFC 4291, 2.5.5).
_MAPPED: Final = 96


def check_client(client: Client, route: str, now: float, address: str) -> None:
    """Raise :class:`Unauthorized` or :class:`Forbidden` for a request that the client may not make.

    ``route`` is the template of its path, ``now`` epoch time, ``address`` that of the sender.
    """
    if not client.enabled:
        raise Unauthorized(f"The client '{client.name}' is disabled.")
    if client.expires is not None and client.expires.at <= now:
        raise Unauthorized(f"This access token of the client '{client.name}' has expired.")
    name = client.name or "anonymous"
    if client.addresses and not _is_within(address, client.addresses):
        raise Forbidden(
            f"The client '{name}' may not send requests from the address {address}.",
            reason="address_not_allowed",
        )
    if client.endpoints and route not in _OPEN:
        endpoint = endpoint_name(route)
        # Routes that are not offered say so themselves.
        if endpoint != NOT_OFFERED and endpoint not in client.endpoints:
            raise Forbidden(
                f"The client '{name}' may not use the endpoint '{endpoint}'.",
                reason="endpoint_not_allowed",
            )


def _is_within(address: str, networks: tuple[str, ...]) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False  # A Unix socket has no address.
    return any(found in network for network in _networks(networks))


@lru_cache(maxsize=256)
def _networks(texts: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(_unmapped(ip_network(text)) for text in texts)


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """An IPv4 network that is written as IPv6: addresses of clients come as IPv4."""
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED:
        inner = network.network_address.ipv4_mapped
        if inner is not None:
            return IPv4Network((inner, network.prefixlen - _MAPPED))
    return network
