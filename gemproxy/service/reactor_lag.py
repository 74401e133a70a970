"""How late the reactor comes to its own appointments: what blocks it, everybody waits for."""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime


class ReactorLag(Service):
    """Makes an appointment every ``interval`` seconds and tells ``observe`` how late it was kept.

    A block that falls between two appointments is not seen: with the default one of 50 ms always
    is, and of those of 5 ms every tenth, for 0.05% of a core.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        observe: Callable[[float], None],
        seconds: Callable[[], float] | None = None,
        interval: float = 0.05,
    ) -> None:
        self._reactor = reactor
        self._observe = observe
        self._seconds = seconds or reactor.seconds
        self._interval = interval
        self._due = 0.0
        self._appointment: IDelayedCall | None = None

    def startService(self) -> None:
        super().startService()
        self._make_appointment()

    def stopService(self) -> None:
        super().stopService()
        if self._appointment is not None:
            self._appointment.cancel()
            self._appointment = None

    def _make_appointment(self) -> None:
        self._due = self._seconds() + self._interval
        self._appointment = self._reactor.callLater(self._interval, self._keep_appointment)

    def _keep_appointment(self) -> None:
        self._observe(max(0.0, self._seconds() - self._due))
        self._make_appointment()
