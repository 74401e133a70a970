"""One round of periodic health work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from twisted.logger import Logger


class HealthRound:
    """Runs each piece of ``work`` in order, by name.

    A failure is logged under its name, and the rest still runs. Health windows, cooldowns and
    breakers need no periodic work: they are evaluated with the current time when they are read.
    """

    _log = Logger()

    def __init__(self, work: Mapping[str, Callable[[], Awaitable[object]]]) -> None:
        self._work = work

    async def __call__(self) -> None:
        """Run one round."""
        for name, act in self._work.items():
            try:
                await act()
            except Exception:  # noqa: BLE001 - one failed piece must not keep the others from theirs
                self._log.failure("health work failed: {work}", work=name)
