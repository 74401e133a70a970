"""Options that a model refuses, remembered so that not every request is sent twice."""

from __future__ import annotations

#: Seconds after which a model is asked again whether it takes the option.
REMEMBERED = 3600.0
#: Clients may invent names of models.
_MOST = 1000


class RefusedLogprobs:
    """The models that gave no log probabilities lately, apart for whole answers and for streams.

    Most models refuse them, most of the others refuse them in streams, and some clients ask for
    them with every call. May be used from any thread. Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._until: dict[tuple[str, bool], float] = {}

    def add(self, model: str, now: float, *, stream: bool) -> None:
        """The model refused them at ``now``."""
        if len(self._until) >= _MOST:
            self._until.clear()
        self._until[model, stream] = now + REMEMBERED

    def has(self, model: str, now: float, *, stream: bool) -> bool:
        """Whether they are not worth asking for."""
        return now < self._until.get((model, stream), now)
