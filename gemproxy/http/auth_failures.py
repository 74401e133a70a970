"""Wrong tokens by client address.

The public API and the admin API count together, because the admin token can be tried at either.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

from twisted.logger import Logger

from gemproxy.core.errors import LockedOut
from gemproxy.http.client_address import client_address, network_of

if TYPE_CHECKING:
    from gemproxy.http.request import ProxyRequest


class AuthFailures:
    """Counts wrong tokens by address. ``trusted_proxies`` may be replaced at any time."""

    _log = Logger()

    def __init__(self, trusted_proxies: Sequence[IPv4Network | IPv6Network] = ()) -> None:
        self.trusted_proxies = trusted_proxies
        self._lockout = Lockout()

    def address_of(self, request: ProxyRequest) -> str:
        """Return the address of the client of ``request``."""
        peer = getattr(request.getClientAddress(), "host", None)
        return client_address(peer, request.fields, self.trusted_proxies)

    def check(self, request: ProxyRequest, now: float) -> None:
        """Raise :class:`LockedOut` after too many wrong tokens. ``now`` is monotonic."""
        wait = self._lockout.wait(network_of(self.address_of(request)), now)
        if wait:
            raise LockedOut(
                "Too many wrong tokens came from this address; only the right one is let in.",
                retry_after=wait,
                # A retry with the same token would fail again.
                should_retry=False,
            )

    def count(self, request: ProxyRequest, now: float) -> None:
        """Count the wrong token of ``request``."""
        address = self.address_of(request)
        network = network_of(address)
        was_locked = self._lockout.wait(network, now)
        self._lockout.count(network, now)
        if not was_locked and self._lockout.wait(network, now):
            self._log.warn("an address is locked out for wrong tokens", address=address)


WRONG_TOKENS = 10
WINDOW_SECONDS = 60.0
MOST_ADDRESSES = 4096


class Lockout:
    """Locks out an address that sent ``limit`` wrong tokens within ``window`` seconds.

    It stays locked until the first of these is older than ``window``. Attempts in the meantime are
    not counted, so that the announced time is right. Beyond ``capacity`` addresses the one with the
    oldest attempt is forgotten. ``now`` is monotonic.
    """

    def __init__(
        self,
        limit: int = WRONG_TOKENS,
        window: float = WINDOW_SECONDS,
        capacity: int = MOST_ADDRESSES,
    ) -> None:
        self._limit = limit
        self._window = window
        self._capacity = capacity
        #: Times of the last wrong tokens; the address with the latest one stands last.
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, address: str, now: float) -> float:
        """Return for how many more seconds ``address`` is locked out, 0 if it is not."""
        times = self._wrong.get(address)
        if times is None or len(times) < self._limit:
            return 0.0
        return max(0.0, self._window - (now - times[0]))

    def count(self, address: str, now: float) -> None:
        """Count a wrong token from ``address``, unless it is locked out."""
        times = self._wrong.setdefault(address, deque(maxlen=self._limit))
        if not self.wait(address, now):
            times.append(now)
        self._wrong.move_to_end(address)
        if len(self._wrong) > self._capacity:
            self._wrong.popitem(last=False)

    def __len__(self) -> int:
        return len(self._wrong)
