"""Small services for what only has to start and stop."""

from __future__ import annotations

import gc
import signal
from typing import Any, Final, Protocol

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred

#: Thresholds of ``gc.set_threshold``.
_THRESHOLDS: Final = (5000, 3, 20)


class Startable(Protocol):
    """Something that is open between ``start`` and ``stop``."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End."""


class Lifetime(Service):
    """Keeps ``subject`` open while the service runs."""

    def __init__(self, subject: Startable) -> None:
        self._subject = subject

    def startService(self) -> None:
        super().startService()
        self._subject.start()

    def stopService(self) -> None:
        super().stopService()
        self._subject.stop()


class GcTuning(Service):
    """Tunes the garbage collector; the last service to start.

    The objects of the start-up live as long as the process. ``gc.freeze`` excludes them from every
    later full collection, which would block the reactor.

    Requests leave no reference cycles, so the collector's counters mostly follow the number of
    requests in flight. With Python's thresholds it ran 200 times a second at 32 clients and took 5%
    of the time; with these it runs once a second. Higher ones would make one run too long: 5,000
    objects take 2 ms to 4 ms, 15,000 take 5 ms, 50,000 took 70 ms.
    """

    def startService(self) -> None:
        super().startService()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_THRESHOLDS)

    def freeze_again(self) -> None:
        """Freeze the objects of a reload as well: 10,000 keys are 160,000 objects.

        Visiting all of them takes 25 ms. This is done once here and not in every later full
        collection. Garbage has to be collected before, since a frozen object is never collected.
        """
        gc.collect()
        gc.freeze()


class GracefulExit(Service):
    """Makes a requested stop an exit with status 0.

    Twisted ends itself with the signal that stopped it, and a supervisor takes that for a failure.
    A second signal during the stop is ignored.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def startService(self) -> None:
        super().startService()
        self._reactor.addSystemEventTrigger("before", "shutdown", self._ignore_signals)
        self._reactor.addSystemEventTrigger("after", "shutdown", self._forget_signal)

    def _ignore_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    def _forget_signal(self) -> None:
        self._reactor._exitSignal = None


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
