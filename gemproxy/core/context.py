"""One request of a client and what became of it.

``http`` makes a :class:`RequestContext` when a request's head has come. The endpoint notes what is
asked for, ``core.dispatch`` each attempt, and at the end log, metrics and history read it. While an
attempt is open it holds its lease; afterwards nothing here holds contents or secrets, so that the
latest requests can be kept in memory for the operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from msgspec import Struct, field

from gemproxy.pool.models import ModelPermit
from gemproxy.pool.outcome import Charge, Outcome, Verdict
from gemproxy.pool.state import Lease
from gemproxy.pool.status import SkippedKey
from gemproxy.translate.shared.usage import TokenUsage

_UNDECIDED = Outcome(Verdict.CLIENT_GONE)


class Attempt(Struct):
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
    #: Until the request's end, when it is settled.
    lease: Lease | None = None
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


class RequestContext(Struct):
    """The story of one request. Times are monotonic; ``started_at`` is the epoch second."""

    id: str
    #: The template of the endpoint's path.
    route: str
    started: float
    #: The upstream's name of the model; ``None`` until the request was understood.
    model: str | None = None
    stream: bool = False
    #: The name of the client's token.
    client: str | None = None
    #: When the request's time is over, or that of the present step of a long answer.
    deadline: float = inf
    #: Leave to ask for the model, while attempts are made.
    permit: ModelPermit | None = None
    attempts: list[Attempt] = field(default_factory=list)
    #: The place of the first attempt at the present step.
    first_of_step: int = 0
    #: Where the request ended because no key was left for it, or for another attempt.
    refused: Refusal | None = None
    #: A short word for how it ended: a verdict, or that of the error that the client saw.
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

    @property
    def step_attempts(self) -> list[Attempt]:
        """The attempts at the present step."""
        return self.attempts[self.first_of_step :]

    @property
    def tried(self) -> Sequence[str]:
        """The ids of the keys that were tried for the present step."""
        return [attempt.key_id for attempt in self.step_attempts]

    def begin_step(self, deadline: float) -> None:
        """The next step is to be asked for, with the key that served the last.

        It has as much time, and as many attempts, as a request.
        """
        self.deadline = deadline
        self.first_of_step = len(self.attempts) - 1
