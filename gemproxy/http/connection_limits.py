"""Limits of client connections."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of client connections.

    ``minimum_upload_rate`` is in bytes/s and applies to bodies. A client that receives nothing of
    its answer for ``slow_reader_seconds`` is disconnected. After ``keepalive_seconds`` of silence
    TCP probes the client. ``shared_addresses`` are those of reverse proxies, which connect for many
    clients: ``max_per_address`` does not apply to them.
    """

    max_connections: int = 8192
    max_per_address: int | None = None
    shared_addresses: tuple[IPv4Network | IPv6Network, ...] = ()
    minimum_upload_rate: float = 1024.0
    slow_reader_seconds: float = 60.0
    keepalive_seconds: float = 20.0
