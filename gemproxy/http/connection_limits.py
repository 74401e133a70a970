"""How many connections there may be, and from whom.

At the limit the connection is closed that has been idle for longest, so that whoever opens
connections and says nothing keeps nobody out. Where none is idle the new one is refused. Clients
of one address are told apart no further; of IPv6 a network of 64 bits counts as one address, since
that is what one customer gets.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

    from twisted.internet.interfaces import IAddress

    from gemproxy.http.connection import ClientConnection

#: Why a connection was refused, as a label of the metrics.
REASONS = ("limit", "address", "descriptors")
#: Seconds until the idle ones are looked for again, where few were found: to find them among many
#: thousands takes milliseconds.
_LOOK_SECONDS = 1.0


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


class OpenConnections:
    """The open connections, as one set: ``channels``.

    :meth:`refusal` is asked before there is another one. ``refused`` counts by reason.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.channels: set[ClientConnection] = set()
        self.refused = dict.fromkeys(REASONS, 0)
        self._by_address: Counter[str] = Counter()
        #: Those that were idle when somebody looked, the longest first.
        self._idle: deque[ClientConnection] = deque()
        self._looked_at = -_LOOK_SECONDS
        self._found = 0

    def apply(self, limits: ConnectionLimits) -> None:
        """Take over other limits; connections that are open stay."""
        self.limits = limits
        self._by_address.clear()
        for channel in self.channels:
            channel.address = self._address(channel.getPeer())
            self._by_address[channel.address] += 1

    def add(self, channel: ClientConnection) -> None:
        """``channel`` is open."""
        self.channels.add(channel)
        channel.address = self._address(channel.getPeer())
        self._by_address[channel.address] += 1

    def remove(self, channel: ClientConnection) -> None:
        """``channel`` is closed. May be told twice."""
        if channel in self.channels:
            self.channels.remove(channel)
            self._by_address[channel.address] -= 1
            if not self._by_address[channel.address]:
                del self._by_address[channel.address]

    def refusal(self, peer: IAddress | None, now: float) -> str | None:
        """Why no connection from ``peer`` may be added now; makes room where it can."""
        limits = self.limits
        address = self._address(peer)
        if address and self._by_address[address] >= (limits.max_per_address or 0):
            reason = "address"
        elif len(self.channels) < limits.max_connections or self._close_idle(now):
            return None
        else:
            reason = "limit"
        self.refuse(reason)
        return reason

    def refuse(self, reason: str, count: int = 1) -> None:
        """``count`` connections were refused for ``reason``."""
        self.refused[reason] += count

    def count_by_state(self) -> dict[str, int]:
        """How many are in the middle of a request (``active``), and how many are not."""
        idle = sum(channel.is_idle for channel in self.channels)
        return {"active": len(self.channels) - idle, "idle": idle}

    def _address(self, peer: IAddress | None) -> str:
        """What is counted together; empty where it is not counted."""
        host = getattr(peer, "host", None)
        if self.limits.max_per_address is None or host is None:
            return ""
        address = ip_address(host.partition("%")[0])
        if isinstance(address, IPv6Address):
            if address.ipv4_mapped is None:
                network = int(address) >> 64 << 64
                return "" if self._is_shared(address) else str(IPv6Address(network))
            address = address.ipv4_mapped
        return "" if self._is_shared(address) else str(address)

    def _is_shared(self, address: object) -> bool:
        return any(address in network for network in self.limits.shared_addresses)

    def _close_idle(self, now: float) -> bool:
        if not self._idle and (
            now - self._looked_at >= _LOOK_SECONDS or self._found * 4 >= len(self.channels)
        ):
            self._looked_at = now
            idle = [channel for channel in self.channels if channel.is_idle]
            self._idle.extend(sorted(idle, key=lambda channel: channel.deadline))
            self._found = len(idle)
        while self._idle:
            channel = self._idle.popleft()
            if channel.is_idle:
                channel.close_idle()
                return True
        return False
