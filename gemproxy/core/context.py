"""One request of a client and its attempts.

``http`` creates a :class:`RequestContext` when the head of a request has arrived. The endpoint adds
the model, ``core.dispatch`` each attempt; at the end log, metrics and history read it. While an
attempt is open it holds its lease. Afterwards the context holds neither contents nor secrets, so
that the latest requests can be kept in memory for the operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from msgspec import Struct, field

from gemproxy.core.clients import ANONYMOUS, Client
from gemproxy.core.limits import Reservation
from gemproxy.core.owner import Owner
from gemproxy.pool.key import Affinity
from gemproxy.pool.outcome import SERVED, Charge, Outcome, Verdict
from gemproxy.pool.state import Lease
from gemproxy.pool.status import SkippedKey
from gemproxy.translate.shared.usage import TokenUsage

_UNDECIDED = Outcome(Verdict.CLIENT_GONE)


class Attempt(Struct):
    """One attempt: its key, its outcome, and who was charged.

    ``started`` is monotonic time, ``seconds`` is the duration. An attempt without an outcome was
    cancelled, because the client had left.
    """

    key_id: str
    key_name: str
    started: float
    outcome: Outcome = _UNDECIDED
    seconds: float = 0.0
    charge: Charge = Charge.NOBODY
    #: Keys that were not eligible when this one was chosen.
    skipped_keys: list[SkippedKey] = field(default_factory=list)
    #: The part of ``seconds`` that was spent waiting for the upstream.
    waited: float = 0.0
    #: Set until the end of the request, when the lease is settled.
    lease: Lease | None = None
    #: Since when the request waits for the upstream; ``None`` unless it does.
    waits_since: float | None = None
    #: What the upstream reported as used, also if the client did not get the answer.
    usage: TokenUsage | None = None
    #: Whether the key was chosen because its conversation prefers it.
    sticky: bool = False

    def end_waiting(self, now: float) -> None:
        """The upstream's answer is complete, or will not become complete."""
        if self.waits_since is not None:
            self.waited += now - self.waits_since
            self.waits_since = None

    def end(self, now: float) -> None:
        """The attempt has ended, with or without success."""
        self.seconds = now - self.started
        if self.waits_since is not None:
            self.end_waiting(now)


class Refusal(Struct, frozen=True):
    """No key was eligible; ``outcome`` is the ``word`` of the pool's error."""

    outcome: str
    skipped_keys: list[SkippedKey]


class RequestContext(Struct):
    """One request. Times are monotonic seconds, except ``started_at``."""

    id: str
    #: The template of the endpoint's path.
    route: str
    started: float
    #: The upstream's name of the model; ``None`` until the request is decoded.
    model: str | None = None
    stream: bool = False
    #: The name of the client, for logs and usage; ``None`` without a token.
    client: str | None = None
    #: When the request times out; for a later step of a long answer, when that step does.
    deadline: float = inf
    attempts: list[Attempt] = field(default_factory=list)
    #: Index of the first attempt at the present step.
    first_of_step: int = 0
    #: Set if the request ended because no key was eligible.
    refused: Refusal | None = None
    #: How the request ended: a verdict, or the ``word`` of the error that the client got.
    outcome: str = ""
    #: When the first byte of the answer's body went to the client.
    first_byte: float | None = None
    usage: TokenUsage | None = None
    #: How long it waited for a key, in seconds.
    queued: float = 0.0
    #: The estimated cost in US dollars; ``None`` if a price is unknown. Set at the end.
    cost: float | None = 0.0
    #: Whether it was refused before any work was done for it, mostly by its head.
    turned_away: bool = False
    #: The client's own limit that refused it, as in the settings; "" if none did.
    over_limit: str = ""
    #: Its part of the client's own limits, until its end; ``None`` if the client has none.
    reservation: Reservation | None = None
    #: Add this to the times here to get epoch seconds; measured when the request came.
    epoch_offset: float = 0.0
    #: Whether this is about one of several jobs of the request, whose attempts alone it has.
    is_part: bool = False
    #: Set if only the keys of one project can serve it, because of a resource that it names.
    affinity: Affinity | None = None
    #: The client as it was when the request came.
    caller: Client = ANONYMOUS

    @property
    def owner(self) -> Owner:
        """Whose the things are that are kept for the client."""
        return self.caller.owner

    @property
    def started_at(self) -> float:
        """When the request came, in epoch seconds. The hot path adds the two itself."""
        return self.started + self.epoch_offset

    @property
    def key_name(self) -> str | None:
        """The name of the last attempt's key."""
        return self.attempts[-1].key_name if self.attempts else None

    @property
    def chosen_for(self) -> str | None:
        """Why the last attempt's key was chosen out of turn: ``conversation``, or a resource."""
        if self.affinity is not None:
            return self.affinity.resource
        return "conversation" if self.attempts and self.attempts[-1].sticky else None

    @property
    def step_attempts(self) -> list[Attempt]:
        """The attempts at the present step."""
        return self.attempts[self.first_of_step :]

    @property
    def tried(self) -> Sequence[str]:
        """The ids of the keys that were tried in the present step."""
        return [attempt.key_id for attempt in self.step_attempts]

    @property
    def retried(self) -> list[Attempt]:
        """The failed attempts that were followed by another one.

        Successful attempts are followed by the next job of the request.
        """
        return [each for each in self.attempts[:-1] if each.outcome.verdict not in SERVED]

    def begin_step(self, deadline: float) -> None:
        """Begin the next step, with the key that served the last one.

        It has the time and the attempts of a whole request.
        """
        self.deadline = deadline
        self.first_of_step = len(self.attempts) - 1
