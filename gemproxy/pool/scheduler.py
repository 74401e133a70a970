"""Whose turn it is for a model, given what hinders whom.

The :class:`~gemproxy.pool.model_schedulers.Rotations` hold the turns, and of an unfit key that it
stands aside. :class:`~gemproxy.pool.eligibility.Eligibility` knows what hinders a key at a moment.
:class:`Turns` keeps the two in step: whoever settles a lease or changes a key says so here, and the
key is taken out of the turns or let back in. So a choice seldom has to judge a key, and never
thousands.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import chain, islice

from gemproxy.pool.breaker import State
from gemproxy.pool.cooldowns import ALL_MODELS
from gemproxy.pool.eligibility import DISABLED, Eligibility
from gemproxy.pool.key_diff import Difference
from gemproxy.pool.key_state import PooledKey
from gemproxy.pool.lease import Lease
from gemproxy.pool.model_schedulers import Rotations
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.stride import Hindrance, Judge, Reason, Rotation
from gemproxy.pool.unavailable import Census

_RESTS = frozenset({Verdict.QUOTA_MINUTE, Verdict.QUOTA_DAY, Verdict.MODEL_DENIED})
_FORBIDDEN = Verdict.FORBIDDEN
_TRIED = Hindrance(Reason.ALREADY_TRIED)
_FEW_SIBLINGS = 16
_MOST_JUDGED = 500


class Turns:
    """See the module. ``entries`` are the pool's keys by their ids, in the file's order."""

    def __init__(self, entries: Mapping[str, PooledKey], eligibility: Eligibility) -> None:
        self._entries = entries
        self._eligibility = eligibility
        self._rotations = Rotations(entries.values())
        #: The keys by their projects, since somebody asked.
        self._projects: dict[str, list[PooledKey]] | None = None
        for entry in entries.values():
            self._exclude_disabled(entry)

    # -- whose turn it is ------------------------------------------------------------------------

    def take(self, model: str, now: float, tried: Collection[str], tokens: int) -> PooledKey | None:
        """The key whose turn it is, its turn taken; ``None`` where none is fit.

        ``tried`` are ids of keys that are passed over, ``tokens`` is what the request may need.
        """
        rotation = self._rotation(model, now)
        entry = rotation.next(now)
        if entry is not None and not tried and self._eligibility.beyond_doubt(entry, model):
            rotation.take(entry)
            return entry
        return self._choose(rotation, model, now, tried, tokens)

    def any_fit(self, model: str, now: float) -> bool:
        """Whether some key is fit for ``model``; it keeps its turn."""
        rotation = self._rotation(model, now)
        return rotation.choose(now, self._judge(model, now, 0), lambda _: 0) is not None

    # -- what may have begun, ended or changed a hindrance ---------------------------------------

    def served(self, lease: Lease, now: float) -> None:
        """A key has served; its model has turns of its own from now on."""
        if lease.model and self._rotations.own(lease.model) is None:
            self._begin(lease.model, now)
        entry = lease.entry
        limited = entry.ledger is not None
        if lease.permit.trial or limited or entry.window.failures:
            self._rotations.free(entry)
            if limited:
                self.exclude_unfit(entry, now)

    def failed(self, lease: Lease, outcome: Outcome, now: float) -> None:
        """A lease came to nothing, or to worse: ``outcome`` has had its effect on the key."""
        entry = lease.entry
        if outcome.verdict in _RESTS:
            self._rest(entry, ALL_MODELS if outcome.all_models else lease.model, now)
            return
        if lease.permit.trial or entry.ledger is not None or outcome.verdict is _FORBIDDEN:
            self._rotations.free(entry)
        self.exclude_unfit(entry, now)
        if outcome.verdict is _FORBIDDEN:
            self._rotations.stand_aside(entry, self._hindrance_of(entry, now), lease.model)

    def exclude_unfit(self, entry: PooledKey, now: float) -> None:
        """Keep a key out of all turns if its breaker is open or its limits are reached."""
        opened = entry.breaker.state is State.OPEN
        if opened or (entry.ledger is not None and entry.ledger.shortage(now) is not None):
            self._rotations.stand_aside(entry, self._hindrance_of(entry, now))

    def free(self, entry: PooledKey) -> None:
        """A key's breaker has changed: whatever hindered the key may be over."""
        self._rotations.free(entry)

    def free_project(self, entry: PooledKey) -> None:
        """The rests of a key's project are over."""
        for sibling in self._siblings(entry):
            self._rotations.free(sibling)

    def reconsider(self, entry: PooledKey) -> None:
        """The operator or the file says something else of a key now."""
        self._rotations.free(entry)
        self._exclude_disabled(entry)

    def update(self, entries: Mapping[str, PooledKey], difference: Difference) -> None:
        """Change only what a reload changed, so that everybody else's turn stays where it was.

        Where ``difference`` has allow-lists all turns have to begin again, with new :class:`Turns`.
        """
        self._entries = entries
        if difference:
            self._projects = None
        for entry in difference.removed:
            self._rotations.discard(entry)
        for entry in difference.added:
            self._rotations.add(entry)
            self._exclude_disabled(entry)
        for entry, _, _ in difference.updated:
            self.reconsider(entry)

    # -- who is hindered -------------------------------------------------------------------------

    def suspects(
        self, model: str, now: float, tried: Collection[str], limit: int
    ) -> Iterable[PooledKey]:
        """Where to look for hindered keys of a large pool without looking at all; each once."""
        rotation = self._rotation(model, now)
        if not (tried or any(rotation.counts().values()) or self._rotations.any_listed):
            return ()
        known = chain(rotation.parked(), self._rotations.listed())
        # Twice as many as are told, since some may be fit again or serve this model after all.
        found = chain(map(self._entries.get, tried), islice(known, 2 * limit))
        return dict.fromkeys(entry for entry in found if entry is not None)

    def known(self, model: str, now: float) -> Census:
        """The keys that are known to be hindered."""
        return Census.of(self._rotation(model, now))

    def untried(self, model: str, now: float) -> tuple[Census, int]:
        """The keys that are hindered, and how many are not."""
        rotation = self._rotation(model, now)
        census, judge, untried = Census.of(rotation), self._judge(model, now, 0), 0
        for number, entry in enumerate(rotation.ready()):
            # Nearly all that are not fit are known, so the others of a large pool go unseen.
            hindrance = judge(entry, False) if number < _MOST_JUDGED else None
            if hindrance is None:
                untried += 1
            else:
                census.add(hindrance)
        return census, untried

    def census(self, model: str, now: float, tokens: int) -> Census:
        """Every key, after :meth:`take` has found none for a request of ``tokens`` tokens."""
        rotation = self._rotation(model, now)
        census = Census.of(rotation)
        judge = self._judge(model, now, tokens)
        # Whoever is ready and was not chosen is so for this request only.
        for entry in rotation.ready():
            census.add(judge(entry, False) or _TRIED)
        outside = len(self._entries) - census.counts.total()
        if outside > 0 and any(entry.enabled for entry in self._entries.values()):
            census.counts[Reason.MODEL_NOT_ALLOWED] += outside
        return census

    # -- small ones ------------------------------------------------------------------------------

    def _rotation(self, model: str, now: float) -> Rotation[PooledKey]:
        own = self._rotations.own(model)
        if own is not None:
            return own
        if self._rests_concern(model):
            return self._begin(model, now)
        return self._rotations.of(model)

    def _begin(self, model: str, now: float) -> Rotation[PooledKey]:
        """A rotation of the model's own: a copy, that knows nothing yet of rests from the model."""
        rotation = self._rotations.begin(model)
        if self._rests_concern(model):
            find = self._eligibility.may_rest
            resting = (entry for entry in rotation.hindered() if find(entry, model))
            for entry in list(islice(resting, _MOST_JUDGED)):
                hindrance = self._hindrance_of(entry, now)(model)
                if hindrance is not None:
                    rotation.stand_aside(entry, hindrance)
        return rotation

    def _rests_concern(self, model: str) -> bool:
        return self._eligibility.concern(model)

    def _choose(
        self,
        rotation: Rotation[PooledKey],
        model: str,
        now: float,
        tried: Collection[str],
        tokens: int,
    ) -> PooledKey | None:
        minimum = self._eligibility.settings.minimum_requests
        return rotation.choose(
            now, self._judge(model, now, tokens), lambda entry: entry.stride(now, minimum), tried
        )

    def _judge(self, model: str, now: float, tokens: int) -> Judge[PooledKey]:
        hindrance = self._eligibility.hindrance
        return lambda entry, last_resort: hindrance(
            entry, model, now, tokens=tokens, last_resort=last_resort
        )

    def _hindrance_of(self, entry: PooledKey, now: float) -> Callable[[str], Hindrance | None]:
        """What keeps a key from a model, unless it is only low health."""
        judge = self._eligibility.hindrance
        return lambda model: judge(entry, model, now, last_resort=True)

    def _rest(self, entry: PooledKey, model: str, now: float) -> None:
        """Keep the keys of a project out of the turns for a ``model`` that it may not use now."""
        # Larger projects learn it when their keys' turns come, to keep this short.
        for key in dict.fromkeys((entry, *self._siblings(entry)[:_FEW_SIBLINGS])):
            self._rotations.free(key)
            self._rotations.stand_aside(key, self._hindrance_of(key, now), model)

    def _siblings(self, entry: PooledKey) -> list[PooledKey]:
        """The keys of the same project. Looks at every key, the first time after a reload."""
        if self._projects is None:
            self._projects = defaultdict(list)
            for each in self._entries.values():
                self._projects[each.key.project].append(each)
        return self._projects[entry.key.project]

    def _exclude_disabled(self, entry: PooledKey) -> None:
        if not entry.enabled:
            self._rotations.stand_aside(entry, lambda _: DISABLED)
