"""What the connections of clients may take."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network


@dataclass(frozen=True)
class ConnectionLimits:
    """What clients' connections may take.

    ``minimum_upload_rate`` is in bytes/s and holds for bodies; a client that takes nothing of its
    answer for ``slow_reader_seconds`` is closed. ``keepalive_seconds`` is the silence after which
    TCP asks whether the client lives. ``shared_addresses`` are of reverse proxies, whose
    connections are many clients': ``max_per_address`` does not hold for them.
    """

    max_connections: int = 8192
    max_per_address: int | None = None
    shared_addresses: tuple[IPv4Network | IPv6Network, ...] = ()
    minimum_upload_rate: float = 1024.0
    slow_reader_seconds: float = 60.0
    keepalive_seconds: float = 20.0
