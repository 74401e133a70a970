"""One request of a client and what became of it.

Filled in along the line that ``core.dispatch`` draws, read once at its end by the log, the metrics
and the explanation of the request. Holds no contents and no secrets.
"""

from __future__ import annotations

from msgspec import Struct, field

from gemproxy.pool.outcome import Charge, Outcome, Verdict
from gemproxy.pool.status import SkippedKey
from gemproxy.translate.shared.usage import TokenUsage

_UNDECIDED = Outcome(Verdict.CLIENT_GONE)


class AttemptRecord(Struct):
    """One attempt: with which key, what came of it, and who paid.

    ``started`` is monotonic time, ``seconds`` how long the attempt took. An attempt that never came
    to an outcome was cancelled, because the client had left.
    """

    key_id: str
    key_name: str
    started: float
    outcome: Outcome = _UNDECIDED
    seconds: float = 0.0
    charge: Charge = Charge.NOBODY
    #: Keys that were not eligible when this one was chosen.
    skipped_keys: list[SkippedKey] = field(default_factory=list)
    #: How much of ``seconds`` was spent waiting for the upstream.
    waited: float = 0.0
    _waits_since: float | None = None

    def begin_waiting(self, now: float) -> None:
        """The upstream has been asked."""
        self._waits_since = now

    def end_waiting(self, now: float) -> None:
        """The upstream's answer is complete, or will not be."""
        if self._waits_since is not None:
            self.waited += now - self._waits_since
            self._waits_since = None

    def end(self, now: float) -> None:
        """The attempt is over, however it ended."""
        self.seconds = now - self.started
        if self._waits_since is not None:
            self.end_waiting(now)


class Refusal(Struct, frozen=True):
    """No key was left; ``outcome`` is the word of the pool's error."""

    outcome: str
    skipped_keys: list[SkippedKey]


class Exchange(Struct):
    """The story of one request. Times are monotonic; ``started_at`` is the epoch second."""

    id: str
    route: str
    started: float
    #: The upstream's name of the model; ``None`` until the request was understood.
    model: str | None = None
    stream: bool = False
    attempts: list[AttemptRecord] = field(default_factory=list)
    #: Where the request ended because no key was left for it, or for another attempt.
    refused: Refusal | None = None
    #: A short word for how it ended: a verdict, or the code of the error that the client saw.
    outcome: str = ""
    #: When the first byte of the answer's body went to the client.
    first_byte: float | None = None
    usage: TokenUsage | None = None
    #: Whether its head was enough to refuse it: nothing was read or tried.
    turned_away: bool = False
    #: What is to be added to the times here for epoch seconds, by the wall clock of now.
    epoch_offset: float = 0.0

    @property
    def started_at(self) -> float:
        """When the request came, in epoch seconds. What every request needs adds by itself."""
        return self.started + self.epoch_offset

    @property
    def key_name(self) -> str | None:
        """The key of the last attempt."""
        return self.attempts[-1].key_name if self.attempts else None
