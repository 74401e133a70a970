"""Which key serves a model next, given which keys are ineligible.

:class:`~gemproxy.pool.model_schedulers.ModelSchedulers` hold the order of the keys and the marks of
ineligible ones. :class:`~gemproxy.pool.eligibility.Eligibility` decides whether a key is eligible
at a moment. :class:`KeyScheduler` keeps the two in step: whoever settles a lease or changes a key
reports it here, and the key is marked ineligible or eligible. So a choice seldom has to check a
key, and never thousands.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import chain, islice

from gemproxy.pool.breaker import State
from gemproxy.pool.cooldowns import ALL_MODELS
from gemproxy.pool.eligibility import DISABLED, Eligibility
from gemproxy.pool.key_diff import KeyDiff
from gemproxy.pool.key_state import KeyState
from gemproxy.pool.lease import Lease
from gemproxy.pool.model_schedulers import ModelSchedulers
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.stride import Ineligible, Judge, Reason, StrideScheduler
from gemproxy.pool.unavailable import AvailabilitySummary

_COOLDOWNS = frozenset({Verdict.QUOTA_MINUTE, Verdict.QUOTA_DAY, Verdict.MODEL_DENIED})
_FORBIDDEN = Verdict.FORBIDDEN
_TRIED = Ineligible(Reason.ALREADY_TRIED)
_FEW_SIBLINGS = 16
_MOST_JUDGED = 500


class KeyScheduler:
    """See the module. ``entries`` are the pool's keys by their ids, in the file's order."""

    def __init__(self, entries: Mapping[str, KeyState], eligibility: Eligibility) -> None:
        self._entries = entries
        self._eligibility = eligibility
        self._schedulers = ModelSchedulers(entries.values())
        #: The keys by their projects, since somebody asked.
        self._projects: dict[str, list[KeyState]] | None = None
        for entry in entries.values():
            self._exclude_disabled(entry)

    # -- whose turn it is ------------------------------------------------------------------------

    def take(self, model: str, now: float, tried: Collection[str], tokens: int) -> KeyState | None:
        """The key whose turn it is, its turn taken; ``None`` where none is fit.

        ``tried`` are ids of keys that are passed over, ``tokens`` is what the request may need.
        """
        scheduler = self._scheduler_of(model, now)
        entry = scheduler.next(now)
        if entry is not None and not tried and self._eligibility.trivially_eligible(entry, model):
            scheduler.take(entry)
            return entry
        return self._choose(scheduler, model, now, tried, tokens)

    def any_fit(self, model: str, now: float) -> bool:
        """Whether some key is fit for ``model``; it keeps its turn."""
        scheduler = self._scheduler_of(model, now)
        return scheduler.choose(now, self._judge(model, now, 0), lambda _: 0) is not None

    # -- what may have begun, ended or changed a ineligible ---------------------------------------

    def served(self, lease: Lease, now: float) -> None:
        """A key has served; its model has turns of its own from now on."""
        if lease.model and self._schedulers.own(lease.model) is None:
            self._begin(lease.model, now)
        entry = lease.entry
        limited = entry.ledger is not None
        if lease.permit.trial or limited or entry.window.failures:
            self._schedulers.mark_eligible(entry)
            if limited:
                self.exclude_unfit(entry, now)

    def failed(self, lease: Lease, outcome: Outcome, now: float) -> None:
        """A lease came to nothing, or to worse: ``outcome`` has had its effect on the key."""
        entry = lease.entry
        if outcome.verdict in _COOLDOWNS:
            self._cool_down(entry, ALL_MODELS if outcome.all_models else lease.model, now)
            return
        if lease.permit.trial or entry.ledger is not None or outcome.verdict is _FORBIDDEN:
            self._schedulers.mark_eligible(entry)
        self.exclude_unfit(entry, now)
        if outcome.verdict is _FORBIDDEN:
            self._schedulers.mark_ineligible(entry, self._ineligible_for(entry, now), lease.model)

    def exclude_unfit(self, entry: KeyState, now: float) -> None:
        """Keep a key out of all turns if its breaker is open or its limits are reached."""
        opened = entry.breaker.state is State.OPEN
        if opened or (entry.ledger is not None and entry.ledger.shortage(now) is not None):
            self._schedulers.mark_ineligible(entry, self._ineligible_for(entry, now))

    def mark_eligible(self, entry: KeyState) -> None:
        """A key's breaker has changed: whatever hindered the key may be over."""
        self._schedulers.mark_eligible(entry)

    def mark_project_eligible(self, entry: KeyState) -> None:
        """The cooldowns of a key's project are over."""
        for sibling in self._siblings(entry):
            self._schedulers.mark_eligible(sibling)

    def reconsider(self, entry: KeyState) -> None:
        """The operator or the file says something else of a key now."""
        self._schedulers.mark_eligible(entry)
        self._exclude_disabled(entry)

    def update(self, entries: Mapping[str, KeyState], diff: KeyDiff) -> None:
        """Change only what a reload changed, so that everybody else's turn stays where it was.

        Where ``diff`` has allow-lists, a new :class:`KeyScheduler` is needed instead.
        """
        self._entries = entries
        if diff:
            self._projects = None
        for entry in diff.removed:
            self._schedulers.discard(entry)
        for entry in diff.added:
            self._schedulers.add(entry)
            self._exclude_disabled(entry)
        for entry, _, _ in diff.updated:
            self.reconsider(entry)

    # -- who is hindered -------------------------------------------------------------------------

    def suspects(
        self, model: str, now: float, tried: Collection[str], limit: int
    ) -> Iterable[KeyState]:
        """Where to look for hindered keys of a large pool without looking at all; each once."""
        scheduler = self._scheduler_of(model, now)
        if not (tried or any(scheduler.counts().values()) or self._schedulers.any_listed):
            return ()
        known = chain(scheduler.suspended(), self._schedulers.listed())
        # Twice as many as are told, since some may be fit again or serve this model after all.
        found = chain(map(self._entries.get, tried), islice(known, 2 * limit))
        return dict.fromkeys(entry for entry in found if entry is not None)

    def known(self, model: str, now: float) -> AvailabilitySummary:
        """The keys that are known to be mark."""
        return AvailabilitySummary.of(self._scheduler_of(model, now))

    def untried(self, model: str, now: float) -> tuple[AvailabilitySummary, int]:
        """The keys that are mark, and how many are not."""
        scheduler = self._scheduler_of(model, now)
        summary, judge, untried = AvailabilitySummary.of(scheduler), self._judge(model, now, 0), 0
        for number, entry in enumerate(scheduler.ready()):
            # Nearly all that are not fit are known, so the others of a large pool go unseen.
            ineligible = judge(entry, False) if number < _MOST_JUDGED else None
            if ineligible is None:
                untried += 1
            else:
                summary.add(ineligible)
        return summary, untried

    def summary(self, model: str, now: float, tokens: int) -> AvailabilitySummary:
        """Every key, after :meth:`take` has found none for a request of ``tokens`` tokens."""
        scheduler = self._scheduler_of(model, now)
        summary = AvailabilitySummary.of(scheduler)
        judge = self._judge(model, now, tokens)
        # Whoever is ready and was not chosen is so for this request only.
        for entry in scheduler.ready():
            summary.add(judge(entry, False) or _TRIED)
        outside = len(self._entries) - summary.counts.total()
        if outside > 0 and any(entry.enabled for entry in self._entries.values()):
            summary.counts[Reason.MODEL_NOT_ALLOWED] += outside
        return summary

    # -- small ones ------------------------------------------------------------------------------

    def _scheduler_of(self, model: str, now: float) -> StrideScheduler[KeyState]:
        own = self._schedulers.own(model)
        if own is not None:
            return own
        if self._cooldowns_concern(model):
            return self._begin(model, now)
        return self._schedulers.of(model)

    def _begin(self, model: str, now: float) -> StrideScheduler[KeyState]:
        """A scheduler of the model's own; the copy lacks the marks of the model's own cooldowns."""
        scheduler = self._schedulers.begin(model)
        if self._cooldowns_concern(model):
            find = self._eligibility.may_cool
            cooling = (entry for entry in scheduler.ineligible() if find(entry, model))
            for entry in list(islice(cooling, _MOST_JUDGED)):
                ineligible = self._ineligible_for(entry, now)(model)
                if ineligible is not None:
                    scheduler.mark_ineligible(entry, ineligible)
        return scheduler

    def _cooldowns_concern(self, model: str) -> bool:
        return self._eligibility.concern(model)

    def _choose(
        self,
        scheduler: StrideScheduler[KeyState],
        model: str,
        now: float,
        tried: Collection[str],
        tokens: int,
    ) -> KeyState | None:
        minimum = self._eligibility.settings.minimum_requests
        return scheduler.choose(
            now, self._judge(model, now, tokens), lambda entry: entry.stride(now, minimum), tried
        )

    def _judge(self, model: str, now: float, tokens: int) -> Judge[KeyState]:
        ineligible = self._eligibility.check
        return lambda entry, last_resort: ineligible(
            entry, model, now, tokens=tokens, last_resort=last_resort
        )

    def _ineligible_for(self, entry: KeyState, now: float) -> Callable[[str], Ineligible | None]:
        """What keeps a key from a model, unless it is only low health."""
        judge = self._eligibility.check
        return lambda model: judge(entry, model, now, last_resort=True)

    def _cool_down(self, entry: KeyState, model: str, now: float) -> None:
        """Keep the keys of a project out of the turns for a ``model`` that it may not use now."""
        # Larger projects learn it when their keys' turns come, to keep this short.
        for key in dict.fromkeys((entry, *self._siblings(entry)[:_FEW_SIBLINGS])):
            self._schedulers.mark_eligible(key)
            self._schedulers.mark_ineligible(key, self._ineligible_for(key, now), model)

    def _siblings(self, entry: KeyState) -> list[KeyState]:
        """The keys of the same project. Looks at every key, the first time after a reload."""
        if self._projects is None:
            self._projects = defaultdict(list)
            for each in self._entries.values():
                self._projects[each.key.project].append(each)
        return self._projects[entry.key.project]

    def _exclude_disabled(self, entry: KeyState) -> None:
        if not entry.enabled:
            self._schedulers.mark_ineligible(entry, lambda _: DISABLED)
