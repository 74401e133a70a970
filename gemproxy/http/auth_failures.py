"""Wrong tokens by client address.

The public API and the admin API count together, because the admin token can be tried at either.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

from twisted.logger import Logger

from gemproxy.core.errors import LockedOut
from gemproxy.http.client_address import client_address, network_of
from gemproxy.http.lockout import Lockout

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
