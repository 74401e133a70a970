"""Whose fault the failures of one request were, now that all its attempts are known.

A 503 or a reset connection says nothing of whom to blame. If another key then served the same model
in the same moment, the model was up and the key had the problem. If every key failed alike, the
model has it, and opening the keys' breakers one after the other would turn a minute of Google's
into an outage of ours. So these failures wait for the request's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from msgspec import Struct

from gemproxy.pool.outcome import SERVED, Charge, Outcome, Verdict

_AMBIGUOUS = frozenset({Verdict.SERVICE, Verdict.NETWORK})
_THE_KEYS = SERVED | {
    Verdict.QUOTA_MINUTE,
    Verdict.QUOTA_DAY,
    Verdict.KEY,
    Verdict.FORBIDDEN,
    Verdict.BROKEN_OFF,
}


class PastAttempt(Protocol):
    """One attempt of a request: with which key, and what came of it."""

    @property
    def key_id(self) -> str:
        """The key's."""

    @property
    def outcome(self) -> Outcome:
        """The judgement on it."""


class Attribution(Struct, frozen=True):
    """Who pays for each attempt of a request, and what the request says of its model.

    ``model_served`` is ``False`` exactly where the model is charged, once for all attempts, and
    ``None`` where nothing is said of it.
    """

    charges: tuple[Charge, ...]
    model_served: bool | None


def attribute(attempts: Sequence[PastAttempt]) -> Attribution:
    """Who pays for each of a request's ``attempts``, which are in the order of time.

    Successes, used-up quotas and keys that are rejected, or refused a model, are the key's own. So
    is a stream that broke off
    after its beginning, where no other key could be tried: a key that does so every time would
    else look like an outage of its model, or like nothing at all. A failure of the service or of
    the network is the key's if *another* key then served; if the *same* key then served it was
    nobody's, since neither the key nor the model was out of order; otherwise it is the model's.
    An outcome that spares the key is never charged to one: it did not get as far as Google.
    Everything else (the client's request, a refused model or region, an empty answer) is nobody's.
    """
    if len(attempts) == 1:
        only = attempts[0].outcome
        alone = _ALONE[only.verdict]
        return _SPARED if only.spares_key and alone.charges[0] is Charge.KEY else alone
    served_by = {attempt.key_id for attempt in attempts if attempt.outcome.verdict in SERVED}
    charges = [_charge(each.outcome.verdict, each.key_id, served_by) for each in attempts]
    charges = [
        Charge.NOBODY if charge is Charge.KEY and each.outcome.spares_key else charge
        for charge, each in zip(charges, attempts, strict=True)
    ]
    if attempts and attempts[-1].outcome.verdict is Verdict.CLIENT_GONE:
        # The client left before it was known whether another key would have served.
        charges = [Charge.NOBODY if charge is Charge.MODEL else charge for charge in charges]
    return _attribution(charges, served_by)


def _attribution(charges: Sequence[Charge], served_by: AbstractSet[str]) -> Attribution:
    if served_by:
        return Attribution(tuple(charges), model_served=True)
    return Attribution(tuple(charges), False if Charge.MODEL in charges else None)


def _charge(verdict: Verdict, key_id: str, served_by: AbstractSet[str]) -> Charge:
    if verdict in _THE_KEYS:
        return Charge.KEY
    if verdict not in _AMBIGUOUS:
        return Charge.NOBODY
    if not served_by:
        return Charge.MODEL
    return Charge.NOBODY if served_by == {key_id} else Charge.KEY


def _alone(verdict: Verdict) -> Attribution:
    served_by = frozenset({""} if verdict in SERVED else ())
    return _attribution([_charge(verdict, "", served_by)], served_by)


#: Of an only attempt whose key would pay for what was on the way.
_SPARED = Attribution((Charge.NOBODY,), None)
#: Of the only attempt of a request, as nearly all are.
_ALONE = {verdict: _alone(verdict) for verdict in Verdict}
