"""Remember options that a model refuses, so that they are omitted from later requests."""

from __future__ import annotations

#: Seconds after which the option is sent to the model again.
REMEMBERED = 3600.0
#: Bounded, since clients may invent model names.
_MOST = 1000


class RefusedLogprobs:
    """Models that recently refused log probabilities, separately for whole answers and streams.

    Most models refuse them, most others refuse them in streams, and some clients ask for them in
    every request. Thread-safe. Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._until: dict[tuple[str, bool], float] = {}

    def add(self, model: str, now: float, *, stream: bool) -> None:
        """Note that the model refused them at ``now``."""
        if len(self._until) >= _MOST:
            self._until.clear()
        self._until[model, stream] = now + REMEMBERED

    def has(self, model: str, now: float, *, stream: bool) -> bool:
        """Whether the model refused them recently."""
        return now < self._until.get((model, stream), now)
