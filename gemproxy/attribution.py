"""Whose fault the failures of one request were, now that all its attempts are known.

A 503 or a reset connection says nothing of whom to blame. If another key then served the same model
in the same moment, the model was up and the key had the problem. If every key failed alike, the
model has it, and opening the keys' breakers one after the other would turn a minute of Google's
into an outage of ours. So these failures wait for the request's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Literal, Protocol

from gemproxy.keys.outcome import Charge, Outcome, Verdict

_SERVED = frozenset({Verdict.SUCCESS, Verdict.BLOCKED})
_AMBIGUOUS = frozenset({Verdict.SERVICE, Verdict.NETWORK})
_THE_KEYS = _SERVED | {
    Verdict.QUOTA_MINUTE,
    Verdict.QUOTA_DAY,
    Verdict.KEY,
    Verdict.BROKEN_OFF,
}

#: Who pays for the only attempt of a request.
_ALONE = {
    verdict: Charge.KEY
    if verdict in _THE_KEYS
    else Charge.MODEL
    if verdict in _AMBIGUOUS
    else Charge.NOBODY
    for verdict in Verdict
}


class Attempt(Protocol):
    """One attempt of a request: with which key, and what came of it."""

    @property
    def key_id(self) -> str:
        """The key's."""

    @property
    def outcome(self) -> Outcome:
        """The judgement on it."""


def attribute(attempts: Sequence[Attempt]) -> tuple[Charge, ...]:
    """Who pays for each of a request's ``attempts``, which are in the order of time.

    Successes, used-up quotas and rejected keys are the key's own. So is a stream that broke off
    after its beginning, where no other key could be tried: a key that does so every time would
    else look like an outage of its model, or like nothing at all. A failure of the service or of
    the network is the key's if *another* key then served; if the *same* key then served it was
    nobody's, since neither the key nor the model was out of order; otherwise it is the model's.
    Everything else (the client's request, a refused model or region, an empty answer) is nobody's.
    """
    if len(attempts) == 1:
        return (_ALONE[attempts[0].outcome.verdict],)
    served_by = {attempt.key_id for attempt in attempts if attempt.outcome.verdict in _SERVED}
    charges = tuple([_charge(attempt, served_by) for attempt in attempts])
    if attempts and attempts[-1].outcome.verdict is Verdict.CLIENT_GONE:
        # The client left before it was known whether another key would have served.
        return tuple(Charge.NOBODY if charge is Charge.MODEL else charge for charge in charges)
    return charges


def model_verdict(attempts: Sequence[Attempt]) -> Literal["success", "failure"] | None:
    """What the request says of its model, once per request; ``None`` where it says nothing.

    ``failure`` exactly where :func:`attribute` charges the model.
    """
    for attempt in attempts:
        if attempt.outcome.verdict in _SERVED:
            return "success"
    return "failure" if Charge.MODEL in attribute(attempts) else None


def _charge(attempt: Attempt, served_by: AbstractSet[str]) -> Charge:
    verdict = attempt.outcome.verdict
    if verdict in _THE_KEYS:
        return Charge.KEY
    if verdict not in _AMBIGUOUS:
        return Charge.NOBODY
    if not served_by:
        return Charge.MODEL
    return Charge.NOBODY if served_by == {attempt.key_id} else Charge.KEY
