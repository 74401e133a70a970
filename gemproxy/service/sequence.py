"""Services that stop one after the other."""

from __future__ import annotations

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred


class ServiceSequence(MultiService):
    """Starts its children in order, and stops them in reverse order, one at a time.

    ``MultiService`` stops all children at once. Here the drain has to end before the last
    checkpoint, and that before the database closes.
    """

    def stopService(self) -> Deferred[None]:
        """Fires when the last child has stopped."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.running = False
        for child in reversed(list(self)):
            await maybeDeferred(child.stopService)
