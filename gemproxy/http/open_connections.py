"""The open connections of a site: how many there may be, in total and from one address.

At the limit the connection that has been idle for longest is closed, so that clients which open
connections and send nothing cannot exclude others. If none is idle the new one is refused. An IPv6
network of 64 bits counts as one address, since one customer gets that much.
"""

from __future__ import annotations

from collections import Counter, deque
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IAddress, ISSLTransport
from twisted.internet.protocol import Protocol

from gemproxy.http.connection import ClientConnection
from gemproxy.http.connection_limits import ConnectionLimits

if TYPE_CHECKING:
    from twisted.internet.tcp import Connection

#: Why a connection was refused, as a label of the metrics.
REASONS = ("limit", "address", "descriptors")
#: Seconds between two searches for idle connections if few are found: a search among many thousands
#: takes milliseconds.
_LOOK_SECONDS = 1.0


class OpenConnections:
    """The open connections, as the set ``channels``. ``refused`` counts by reason."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.channels: set[ClientConnection] = set()
        self.refused = dict.fromkeys(REASONS, 0)
        self._by_address: Counter[str] = Counter()
        #: Connections that were idle at the last search, the longest first.
        self._idle: deque[ClientConnection] = deque()
        self._looked_at = -_LOOK_SECONDS
        self._found = 0

    def apply(self, limits: ConnectionLimits) -> None:
        """Apply other limits; open connections stay open."""
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
        """``channel`` is closed. May be called twice."""
        if channel in self.channels:
            self.channels.remove(channel)
            self._by_address[channel.address] -= 1
            if not self._by_address[channel.address]:
                del self._by_address[channel.address]

    def refusal(self, peer: IAddress | None, now: float) -> str | None:
        """Return why no connection from ``peer`` may be added; may close an idle one first."""
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
        """Count ``count`` connections that were refused for ``reason``."""
        self.refused[reason] += count

    def count_by_state(self) -> dict[str, int]:
        """Return how many are in the middle of a request (``active``), and how many are idle."""
        idle = sum(channel.is_idle for channel in self.channels)
        return {"active": len(self.channels) - idle, "idle": idle}

    def _address(self, peer: IAddress | None) -> str:
        """Return the key that ``peer`` is counted under, "" if it is not counted."""
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


class RefusedConnection(Protocol):
    """The protocol of a connection above the limit: it is closed."""

    transport: Connection

    def connectionMade(self) -> None:
        if ISSLTransport.providedBy(self.transport):
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()
