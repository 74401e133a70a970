"""What a round of health work consists of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from twisted.logger import Logger


class HealthRound:
    """One round: each piece of ``work`` after the other, by name.

    What fails is logged under its name, and the rest is done all the same. Windows, cooldowns and
    breakers need no round: they are looked at with the time of the look.
    """

    _log = Logger()

    def __init__(self, work: Mapping[str, Callable[[], Awaitable[object]]]) -> None:
        self._work = work

    async def __call__(self) -> None:
        """Do the round."""
        for name, act in self._work.items():
            try:
                await act()
            except Exception:  # noqa: BLE001 - one failed piece must not keep the others from theirs
                self._log.failure("health work failed: {work}", work=name)
