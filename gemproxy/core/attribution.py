"""Decide who is charged for the failures of one request, once all its attempts are known.

A 503 or a reset connection does not say what failed. If another key then served the same model at
the same time, the model was up and the key had the problem. If every key failed alike, the model
had it: opening the keys' breakers one after the other would turn a minute's outage of Google's into
an outage of ours. So these failures are charged at the end of the request.
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
    """One attempt of a request: its key and its outcome."""

    @property
    def key_id(self) -> str:
        """The id of the key."""

    @property
    def outcome(self) -> Outcome:
        """The outcome of the attempt."""


class Attribution(Struct, frozen=True):
    """Who is charged for each attempt of a request, and what the request says about its model.

    ``model_served`` is ``False`` if the model is charged, once for all attempts, and ``None`` if
    the request says nothing about the model.
    """

    charges: tuple[Charge, ...]
    model_served: bool | None


def attribute(attempts: Sequence[PastAttempt]) -> Attribution:
    """Who is charged for each of a request's ``attempts``, which are in order of time.

    A success, a used-up quota, a rejected key and a key that is forbidden a model are charged to
    the key. So is a stream that broke off after its first event, when no other key could be tried:
    a key that does this every time would otherwise look like an outage of its model, or remain
    unnoticed.

    A failure of the service or of the network is charged to the key if *another* key then served.
    If the *same* key then served it is charged to nobody, since both the key and the model work.
    Otherwise it is charged to the model.

    An outcome with ``spares_key`` is never charged to a key, because the attempt did not reach
    Google. Everything else (a mistake of the client, a refused region, a model denied to the
    project, an empty answer) is charged to nobody.
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
        # The client left before another key was tried, so nothing is known.
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


#: For a single attempt whose failure did not reach Google.
_SPARED = Attribution((Charge.NOBODY,), None)
#: For a single attempt, which is nearly every request.
_ALONE = {verdict: _alone(verdict) for verdict in Verdict}
