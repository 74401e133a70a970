"""Choose the key for the next request.

Quota is counted per project and model, so each model has its own order of keys
(:class:`ModelSchedulers`). With one order for all models, two clients that alternate between two
models would always get the same two keys, and one key would get all requests of one model.

:class:`KeyScheduler` chooses with the model's scheduler, and is the only writer of the index of
:mod:`~gemproxy.pool.eligibility`. Every caller that settles a lease or changes a key reports it
here, and the key is marked ineligible or eligible at once. So a choice rarely has to check a key,
and never thousands.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain, islice

from gemproxy.pool.breaker import BreakerState
from gemproxy.pool.cooldowns import ALL_MODELS
from gemproxy.pool.eligibility import DISABLED, Eligibility, Ineligible, Reason
from gemproxy.pool.key import NO_MODEL
from gemproxy.pool.outcome import QUOTA, Outcome, Verdict
from gemproxy.pool.reload import KeyDiff
from gemproxy.pool.rendezvous import Preferences
from gemproxy.pool.state import KeyState, Lease
from gemproxy.pool.stride import Check, StrideScheduler
from gemproxy.pool.unavailable import AvailabilitySummary

_COOLS_DOWN = QUOTA | {Verdict.MODEL_DENIED}
_FORBIDDEN = Verdict.FORBIDDEN
_OPEN = BreakerState.OPEN
_TRIED = Ineligible(Reason.ALREADY_TRIED)
_CAPACITY = 64
# The bounds of what one call may check, so that it stays short in a large pool.
_MAX_SIBLINGS = 16
_MAX_CHECKED = 500
#: The same for a request that leaves a part of each key's limits to others: twice, 10 us each.
_MAX_NEAR_LIMIT = 200
#: The most that a key owes for requests of its project, in strides, since no other key can serve
#: them.
_MOST_OWED = 64


class ModelSchedulers:
    """A scheduler for each model that is in use, and a default one for all others.

    A model gets its own scheduler when it is served for the first time, or when an allow-list, a
    cooldown or a denial names it. Until then it shares the default one, so that clients who invent
    names cost nothing. At most 64 are kept; the one that was unused for the longest time is
    dropped.
    """

    def __init__(self, keys: Iterable[KeyState]) -> None:
        keys = list(keys)
        self._default = StrideScheduler(key for key in keys if not key.key.models)
        #: By model, the least recently used first.
        self._own: dict[str, StrideScheduler[KeyState]] = {}
        self._used: StrideScheduler[KeyState] | None = None
        #: Keys that have an allow-list, by the models on it.
        self._listed: defaultdict[str, list[KeyState]] = defaultdict(list)
        for key in keys:
            for model in _listed_models(key):
                self._listed[model].append(key)

    def own(self, model: str) -> StrideScheduler[KeyState] | None:
        """The scheduler of ``model`` alone, if it has one."""
        scheduler = self._own.get(model)
        # Most requests are for the same model as the one before.
        if scheduler is not self._used and scheduler is not None:
            self._used = self._own[model] = self._own.pop(model)
        return scheduler

    def of(self, model: str) -> StrideScheduler[KeyState]:
        """The scheduler of a ``model`` without its own one."""
        return self.begin(model) if model in self._listed else self._default

    def begin(self, model: str) -> StrideScheduler[KeyState]:
        """Create a scheduler for ``model``, as a copy of the default one."""
        self._own.pop(model, None)
        scheduler = self._used = self._own[model] = self._default.copy()
        for key in self._listed.get(model, ()):
            scheduler.add(key)
        if len(self._own) > _CAPACITY:
            del self._own[next(iter(self._own))]
        return scheduler

    def listed(self) -> Iterator[KeyState]:
        """The keys that have an allow-list; those with several models on it come several times."""
        return chain.from_iterable(self._listed.values())

    def add(self, key: KeyState) -> None:
        """Add a key to every scheduler whose model it may serve."""
        if not key.key.models:
            self._default.add(key)
        for model in _listed_models(key):
            self._listed[model].append(key)
        for model, scheduler in self._own.items():
            if key.allows(model):
                scheduler.add(key)

    def discard(self, key: KeyState) -> None:
        """Remove a key without an allow-list; with one, all schedulers are created again."""
        for _, scheduler in self.all():
            scheduler.discard(key)

    def mark_eligible(self, key: KeyState) -> None:
        """Note that the key may be eligible again, for any model."""
        self._default.mark_eligible(key)
        for scheduler in self._own.values():
            scheduler.mark_eligible(key)

    def all(self) -> Iterator[tuple[str, StrideScheduler[KeyState]]]:
        """Every scheduler with its model; :data:`ALL_MODELS` is that of the default one."""
        yield ALL_MODELS, self._default
        yield from self._own.items()


def _listed_models(key: KeyState) -> Iterable[str]:
    """The models on the allow-list of a key, if it has one, and what no list forbids."""
    return (*key.key.models, NO_MODEL) if key.key.models else ()


class KeyScheduler:
    """See the module. ``entries`` are the pool's keys by their ids, in the file's order."""

    def __init__(self, entries: Mapping[str, KeyState], eligibility: Eligibility) -> None:
        self._entries = entries
        self._eligibility = eligibility
        self._schedulers = ModelSchedulers(entries.values())
        #: Both are made at the first use.
        self._projects: dict[str, list[KeyState]] | None = None
        self._preferences: Preferences | None = None
        eligibility.restricted.clear()
        for entry in entries.values():
            self._begin_marks(entry)

    # -- choose ----------------------------------------------------------------------------------

    def choose(
        self, model: str, now: float, tried: Collection[str], tokens: int, reserve: float = 0.0
    ) -> KeyState | None:
        """Choose the next eligible key for ``model``; ``None`` if there is none.

        ``tried`` are ids of keys that are excluded, ``tokens`` is the estimated size of the
        request, ``reserve`` the part of a key's limits that it may not use.
        """
        scheduler = self._scheduler_of(model, now)
        entry = scheduler.next(now)
        if entry is not None and not tried and self._eligibility.trivially_eligible(entry, model):
            scheduler.take(entry)
            return entry
        minimum = self._eligibility.settings.minimum_requests
        return scheduler.choose(
            now,
            self._check(model, now, tokens, reserve),
            lambda entry: entry.stride(now, minimum),
            tried,
            _MAX_NEAR_LIMIT if reserve else None,
        )

    def choose_preferred(
        self,
        conversation: int,
        model: str,
        now: float,
        tried: Collection[str],
        tokens: int,
        reserve: float = 0.0,
    ) -> KeyState | None:
        """Choose a key that ``conversation`` prefers, out of turn.

        ``None`` if these keys are ineligible, or the first eligible one would get too much more
        than its share.
        """
        settings = self._eligibility.settings
        share = settings.stickiness_share
        if share is None:
            return None
        if self._preferences is None:
            self._preferences = Preferences(self._entries.values())
        scheduler = self._scheduler_of(model, now)
        check = self._check(model, now, tokens, reserve)
        scheduler.wake(now, check)
        for entry in self._preferences.of(conversation):
            if entry.id in tried or check(entry, False) is not None:
                continue
            stride = entry.stride(now, settings.minimum_requests)
            if not scheduler.may_be_early(entry, stride, now, share):
                return None
            scheduler.take_early(entry, stride)
            return entry
        return None

    def choose_of_project(
        self,
        project: str,
        model: str,
        now: float,
        tried: Collection[str],
        tokens: int,
        reserve: float = 0.0,
    ) -> KeyState | None:
        """Choose a key of ``project``, out of turn; ``None`` if none of them is eligible.

        Of several it is the one that owes least for such choices, so that they alternate.
        """
        scheduler = self._scheduler_of(model, now)
        check = self._check(model, now, tokens, reserve)
        scheduler.wake(now, check)
        for last_resort in (False, True):
            eligible = [
                entry
                for entry in self.of_project(project)[:_MAX_CHECKED]
                if entry.id not in tried and check(entry, last_resort) is None
            ]
            if eligible:
                entry = min(eligible, key=lambda each: _turn(each, scheduler.owed_by(each)))
                minimum = self._eligibility.settings.minimum_requests
                stride = entry.stride(now, minimum)
                full = scheduler.owed_by(entry) >= _MOST_OWED * stride
                scheduler.take_early(entry, 0 if full else stride)
                return entry
        return None

    def of_project(self, project: str) -> list[KeyState]:
        """The keys of a project. The first call after a reload looks at every key."""
        if self._projects is None:
            self._projects = defaultdict(list)
            for each in self._entries.values():
                self._projects[each.key.project].append(each)
        return self._projects.get(project, [])

    def projects(self) -> list[str]:
        """All projects, in the order of the file."""
        self.of_project("")
        return list(self._projects or ())

    def any_eligible(self, model: str, now: float) -> bool:
        """Whether some key is eligible for ``model``. Does not change the order."""
        scheduler = self._scheduler_of(model, now)
        return scheduler.choose(now, self._check(model, now, 0), lambda _: 0) is not None

    # -- keep the index --------------------------------------------------------------------------

    def served(self, lease: Lease, now: float) -> None:
        """Note that a key has served; the model gets its own scheduler if it has none."""
        if lease.model and self._schedulers.own(lease.model) is None:
            self._begin(lease.model, now)
        entry = lease.entry
        if entry in self._eligibility.restricted:
            self._served_restricted(entry, now, trial=lease.permit.trial)

    def failed(self, lease: Lease, outcome: Outcome, now: float) -> None:
        """Note that a lease has ended without an answer; ``outcome`` is applied to the key."""
        entry = lease.entry
        self._eligibility.update(entry)
        if outcome.verdict in _COOLS_DOWN:
            self._cool_down(entry, ALL_MODELS if outcome.all_models else lease.model, now)
            return
        if lease.permit.trial or entry.ledger is not None or outcome.verdict is _FORBIDDEN:
            self._schedulers.mark_eligible(entry)
        self.mark_if_ineligible(entry, now)
        if outcome.verdict is _FORBIDDEN:
            self._mark(entry, now, lease.model)

    def quota_used(self, project: str, model: str, now: float) -> None:
        """Note that more is used of known quotas: mark the project's keys where one is full."""
        for ledger in self._eligibility.quotas.find(project, model):
            if ledger.shortage(now) is not None:
                ledger.marked = True
                names = (ALL_MODELS,) if ledger.model == ALL_MODELS else tuple(ledger.names)
                for key in self.of_project(project)[:_MAX_SIBLINGS]:
                    for name in names:
                        self._mark(key, now, name)

    def quota_settled(self, lease: Lease, now: float) -> None:
        """Note that a lease which counts against known quotas has ended: there may be room again.

        A key is checked when it is next.
        """
        project = lease.key.project
        for use in lease.quota_uses:
            ledger = use.ledger
            if not ledger.marked or ledger.shortage(now) is not None:
                continue
            ledger.marked = False
            for key in self.of_project(project)[:_MAX_SIBLINGS]:
                for model, scheduler in self._schedulers.all():
                    if model in ledger.names or ALL_MODELS in ledger.names:
                        scheduler.mark_eligible(key)

    def rejected(self, entry: KeyState, now: float) -> None:
        """Note that Google has rejected a key outside of any lease."""
        self._eligibility.update(entry)
        self.mark_if_ineligible(entry, now)

    def mark_if_ineligible(self, entry: KeyState, now: float) -> None:
        """Mark a key for all models if its breaker is open or its limits are reached."""
        if entry.breaker.state is _OPEN or (
            entry.ledger is not None and entry.ledger.shortage(now) is not None
        ):
            self._mark(entry, now)

    def mark_eligible(self, entry: KeyState) -> None:
        """Note that the breaker of a key has changed: the key may be eligible again."""
        self._eligibility.update(entry)
        self._schedulers.mark_eligible(entry)

    def mark_project_eligible(self, entry: KeyState) -> None:
        """Note that the cooldowns of a key's project have ended."""
        self._eligibility.update(entry)
        for sibling in self.of_project(entry.key.project):
            self._schedulers.mark_eligible(sibling)

    def reconfigured(self, entry: KeyState) -> None:
        """Note that the file or the operator has changed a key."""
        self._preferences = None
        self._schedulers.mark_eligible(entry)
        self._begin_marks(entry)

    def update(self, entries: Mapping[str, KeyState], diff: KeyDiff) -> None:
        """Apply the changes of a reload; the order of all other keys stays.

        If ``diff`` has allow-lists, a new :class:`KeyScheduler` is needed instead.
        """
        self._entries = entries
        if diff:
            self._projects = self._preferences = None
        for entry in diff.removed:
            self._schedulers.discard(entry)
            self._eligibility.restricted.discard(entry)
        for entry in diff.added:
            self._schedulers.add(entry)
            self._begin_marks(entry)
        for entry, _, _ in diff.updated:
            self.reconfigured(entry)

    # -- who is ineligible -----------------------------------------------------------------------

    def suspects(
        self, model: str, now: float, tried: Collection[str], limit: int
    ) -> Iterable[KeyState]:
        """Keys of a large pool that may be ineligible, each once, at a bounded cost.

        They are the tried ones, those that were suspended, and those with an allow-list.
        """
        known = chain(self._scheduler_of(model, now).suspended(), self._schedulers.listed())
        # Twice as many as are shown, since some may be eligible by now.
        found = chain(map(self._entries.get, tried), islice(known, 2 * limit))
        return dict.fromkeys(entry for entry in found if entry is not None)

    def summary_of_project(
        self, project: str, model: str, now: float, tokens: int, reserve: float = 0.0
    ) -> AvailabilitySummary:
        """The keys of ``project``, after :meth:`choose_of_project` has found none."""
        summary = AvailabilitySummary()
        check = self._eligibility.check
        for entry in self.of_project(project)[:_MAX_CHECKED]:
            ineligible = check(entry, model, now, tokens=tokens, last_resort=True, reserve=reserve)
            summary.add_lasting(ineligible or _TRIED)
        return summary

    def known(self, model: str, now: float) -> AvailabilitySummary:
        """The marked keys."""
        return AvailabilitySummary.of(self._scheduler_of(model, now).marks)

    def untried(self, model: str, now: float) -> tuple[AvailabilitySummary, int]:
        """The ineligible keys, and how many are eligible."""
        scheduler = self._scheduler_of(model, now)
        summary, check, untried = self.known(model, now), self._check(model, now, 0), 0
        for number, entry in enumerate(scheduler.ready()):
            # Nearly all ineligible keys are marked, so the rest of a large pool is not checked.
            ineligible = check(entry, False) if number < _MAX_CHECKED else None
            if ineligible is None:
                untried += 1
            else:
                summary.add(ineligible)
        return summary, untried

    def summary(
        self, model: str, now: float, tokens: int, reserve: float = 0.0
    ) -> AvailabilitySummary:
        """Every key, after :meth:`choose` has found none for a request of ``tokens`` tokens."""
        scheduler = self._scheduler_of(model, now)
        summary = AvailabilitySummary.of(scheduler.marks)
        check = self._check(model, now, tokens, reserve)
        # A key without a mark that was not chosen is ineligible for this request only.
        ready = scheduler.ready()
        for entry in islice(ready, _MAX_NEAR_LIMIT) if reserve else ready:
            summary.add(check(entry, False) or _TRIED)
        if reserve:
            # All keys of a large pool may be near their limits. To find when one is free, the first
            # ones are enough.
            summary.counts[Reason.OVER_LIMIT] += sum(1 for _ in ready)
        outside = len(self._entries) - summary.counts.total()
        if outside > 0 and any(entry.enabled for entry in self._entries.values()):
            summary.counts[Reason.MODEL_NOT_ALLOWED] += outside
        return summary

    # -- small ones ------------------------------------------------------------------------------

    def _scheduler_of(self, model: str, now: float) -> StrideScheduler[KeyState]:
        own = self._schedulers.own(model)
        if own is not None:
            return own
        if self._eligibility.concern(model):
            return self._begin(model, now)
        return self._schedulers.of(model)

    def _begin(self, model: str, now: float) -> StrideScheduler[KeyState]:
        """Begin the model's own scheduler; the copied marks lack the model's own cooldowns."""
        scheduler = self._schedulers.begin(model)
        eligibility = self._eligibility
        if eligibility.concern(model):
            cooling = (key for key in scheduler.marks.members if eligibility.may_cool(key, model))
            for entry in list(islice(cooling, _MAX_CHECKED)):
                ineligible = eligibility.check(entry, model, now, last_resort=True)
                if ineligible is not None:
                    scheduler.mark_ineligible(entry, ineligible)
        return scheduler

    def _check(self, model: str, now: float, tokens: int, reserve: float = 0.0) -> Check[KeyState]:
        check = self._eligibility.check
        return lambda entry, last_resort: check(
            entry, model, now, tokens=tokens, last_resort=last_resort, reserve=reserve
        )

    def _begin_marks(self, entry: KeyState) -> None:
        self._eligibility.update(entry)
        if not entry.enabled:
            for model, scheduler in self._schedulers.all():
                if entry.allows(model):
                    scheduler.mark_ineligible(entry, DISABLED)

    def _mark(self, entry: KeyState, now: float, model: str = ALL_MODELS) -> None:
        """Mark a key if it is ineligible: for ``model``, or for each model."""
        if model != ALL_MODELS:
            own = self._schedulers.own(model)
            concerned = [] if own is None else [(model, own)]
        else:
            concerned = list(self._schedulers.all())
        for name, scheduler in concerned:
            if not entry.allows(name):
                continue
            ineligible = self._eligibility.check(entry, name, now, last_resort=True)
            if ineligible is not None:
                scheduler.mark_ineligible(entry, ineligible)

    def _served_restricted(self, entry: KeyState, now: float, *, trial: bool) -> None:
        self._eligibility.update(entry)
        limited = entry.ledger is not None
        if trial or limited or entry.window.failures:
            self._schedulers.mark_eligible(entry)
            if limited:
                self.mark_if_ineligible(entry, now)

    def _cool_down(self, entry: KeyState, model: str, now: float) -> None:
        """Mark the keys of a project for ``model``, for which a cooldown has begun."""
        # The other keys of a larger project are checked when they are next.
        for key in dict.fromkeys((entry, *self.of_project(entry.key.project)[:_MAX_SIBLINGS])):
            self._schedulers.mark_eligible(key)
            self._mark(key, now, model)


def _turn(entry: KeyState, owed: int) -> tuple[int, float, int]:
    """A sort key for keys that may all serve: by what they owe, then by their latest use."""
    return owed, entry.last_used or 0.0, entry.order
