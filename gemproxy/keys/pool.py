"""The pool: which key serves next, and what each outcome does to it.

:meth:`KeyPool.acquire` gives a :class:`Lease`, which is settled once, by :meth:`KeyPool.record` or
:meth:`KeyPool.release`. Time is epoch seconds and always an argument.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count, islice

from gemproxy.errors import ProxyError
from gemproxy.keys.breaker import State
from gemproxy.keys.consequences import apply_outcome
from gemproxy.keys.cooldowns import ALL_MODELS
from gemproxy.keys.difference import Difference
from gemproxy.keys.eligibility import DISABLED, Eligibility
from gemproxy.keys.explanations import passed_over, suspects
from gemproxy.keys.key import Key
from gemproxy.keys.lease import Lease, Transition
from gemproxy.keys.outcome import Outcome, Verdict
from gemproxy.keys.pooled import PooledKey, PoolSettings
from gemproxy.keys.refusals import Census, no_healthy_keys, quota_exhausted, refusal
from gemproxy.keys.reports import key_status, pool_counts
from gemproxy.keys.rotations import Rotations
from gemproxy.keys.selection import Hindrance, Judge, Reason, Rotation
from gemproxy.keys.snapshot import KeySnapshot, Override, PoolSnapshot
from gemproxy.keys.status import KeyStatus, PassedOver, PoolChange, PoolCounts

__all__ = [
    "KeyPool",
    "KeyStatus",
    "Lease",
    "PassedOver",
    "PoolChange",
    "PoolCounts",
    "PoolSettings",
    "PoolSnapshot",
    "Reason",
    "Transition",
    "UnknownKey",
]

_SERVED = frozenset({Verdict.SUCCESS, Verdict.BLOCKED})
_QUOTA = frozenset({Verdict.QUOTA_MINUTE, Verdict.QUOTA_DAY})
_RESTS = _QUOTA | {Verdict.MODEL_DENIED}
_NOTHING_LEARNED = Outcome(Verdict.CLIENT_GONE)
_TRIED = Hindrance(Reason.ALREADY_TRIED)
_NO_OVERRIDE = Override()
_MOST_DEPARTED = 10_000
_FEW_SIBLINGS = 16
_MOST_JUDGED = 500


class UnknownKey(LookupError):
    """No key of the pool has this id or name."""


class KeyPool:
    """See the module. ``on_transition`` hears of every change of a key's breaker."""

    def __init__(
        self,
        keys: Sequence[Key],
        settings: PoolSettings | None = None,
        on_transition: Callable[[Transition], None] | None = None,
    ) -> None:
        self._settings = settings or PoolSettings()
        self._on_transition = on_transition
        self._orders = count()
        self._overrides: dict[str, Override] = {}
        #: What was known of keys that have left the file: they may come back.
        self._departed: dict[str, KeySnapshot] = {}
        self._eligibility = Eligibility(self._settings)
        self._entries = {key.id: self._new_entry(key) for key in keys}
        self._renew_rotations()
        #: The keys by their projects, since somebody asked.
        self._projects: dict[str, list[PooledKey]] | None = None
        #: And no project rests. Known since the last look at all; whatever may change it says so.
        self._all_spotless = False

    # -- leases ----------------------------------------------------------------------------------

    def acquire(
        self, model: str, now: float, *, tried: Collection[str] = (), tokens: int = 0
    ) -> Lease:
        """The key whose turn it is for ``model``, for a request of about ``tokens`` tokens.

        ``tried`` are ids of keys that this request has used already. Raises
        :class:`~gemproxy.errors.QuotaExhausted`, :class:`~gemproxy.errors.NoHealthyKeys` or
        :class:`~gemproxy.errors.ModelNotFound`, as if the tried keys did not exist.
        """
        rotation = self._rotation(model, now)
        entry = rotation.next(now)
        if entry is not None and not tried and self._eligibility.beyond_doubt(entry, model):
            rotation.take(entry)
        else:
            entry = self._choose(rotation, model, now, tried, tokens)
        if entry is None:
            raise self._refusal(rotation, model, now, tokens)
        return self._lease(entry, model, now, tokens)

    def acquire_again(self, key_id: str, model: str, now: float, *, tokens: int = 0) -> Lease:
        """This very key, for a second try; its earlier lease has to be settled.

        Raises as :meth:`acquire` where the key may not serve now.
        """
        entry = self._entries.get(key_id)
        census = Census()
        if entry is not None:
            hindrance = self._eligibility.hindrance(
                entry, model, now, tokens=tokens, last_resort=True, probe=True
            )
            if hindrance is None:
                return self._lease(entry, model, now, tokens)
            census.add(hindrance)
        raise refusal(census, model, now, self._settings.cooldown)

    def acquire_probe(self, key_id: str, now: float) -> Lease | None:
        """The one trial of a half-open key, for a call that no model's quota is used for.

        ``None`` where there is none to be had. Its outcome is recorded as any other.
        """
        entry = self._entries.get(key_id)
        if entry is None or not _awaits_trial(entry, now):
            return None
        permit = entry.breaker.try_acquire(now)
        return Lease(entry, entry.key, "", permit, None) if permit is not None else None

    def record(
        self,
        lease: Lease,
        outcome: Outcome,
        now: float,
        *,
        latency: float | None = None,
        tokens: int | None = None,
    ) -> None:
        """Settle a lease with what came of it; a lease that is settled already stays as it is.

        ``latency`` is in seconds, ``tokens`` what the request really took. A failure of the service
        or of the network is recorded only where it is the key's (see ``attribution``), else the
        lease is released.
        """
        if lease.settled:
            return
        lease.settled = True
        entry = lease.entry
        if entry.removed:
            return
        if tokens is not None and lease.use is not None and entry.ledger is not None:
            entry.ledger.correct(lease.use, tokens, now)
        apply_outcome(entry, lease.permit, lease.model, outcome, now, self._eligibility)
        entry.stored = None
        if outcome.verdict in _SERVED:
            if lease.model and self._rotations.own(lease.model) is None:
                self._begin(lease.model, now)
            if latency is not None:
                entry.answered_in(latency)
            self._has_served(lease, now)
        else:
            self._all_spotless = False
            self._has_failed(lease, outcome, now)

    def proven(self, lease: Lease) -> None:
        """The key has begun to answer: a trial need not wait for a long stream's end."""
        if lease.permit.trial and not lease.settled:
            entry = lease.entry
            if lease.permit.generation == entry.breaker.generation:
                entry.needs_attention = None
            entry.breaker.record_success(lease.permit)

    def release(self, lease: Lease, now: float) -> None:
        """Settle a lease of which nothing is to be learned; the request counts for ``rpm``."""
        self.record(lease, _NOTHING_LEARNED, now)

    def refusal(self, model: str, now: float, outcome: Outcome) -> ProxyError:
        """What a client is told whose last attempt ended with ``outcome`` and who gets no other.

        Where keys are left and only the client's attempts are used up, that is the same kind of
        error, with the advice to come back at once.
        """
        rotation = self._rotation(model, now)
        if rotation.choose(now, self._judge(model, now, 0), lambda _: 0) is None:
            return self._refusal(rotation, model, now, 0)
        census = Census.of(rotation)
        if outcome.verdict in _QUOTA:
            census.add(Hindrance(Reason.COOLING_DOWN, now))
            return quota_exhausted(census, model, now)
        judge, untried = self._judge(model, now, 0), 0
        for number, entry in enumerate(rotation.ready()):
            # Nearly all that are not fit are known, so the others of a large pool go unseen.
            hindrance = judge(entry, False) if number < _MOST_JUDGED else None
            if hindrance is None:
                untried += 1
            else:
                census.add(hindrance)
        return no_healthy_keys(census, 1.0, untried)

    # -- explanations ----------------------------------------------------------------------------

    def passed_over(
        self, model: str, now: float, tried: Collection[str] = (), limit: int = 20
    ) -> list[PassedOver]:
        """The first keys, in the file's order, that are not eligible for ``model``, and why."""
        every = self._entries.values()
        return list(islice(passed_over(every, self._eligibility, model, now, tried=tried), limit))

    def hindered(
        self,
        model: str,
        now: float,
        *,
        tried: Collection[str] = (),
        tokens: int = 0,
        chosen: str | None = None,
        limit: int = 20,
    ) -> list[PassedOver]:
        """At most ``limit`` keys that were not eligible for a request, at a cost that is bounded.

        ``chosen`` is the id of the key that was chosen instead. A pool of up to ``limit`` keys is
        looked at whole, in the file's order. Of a larger one those are told that the rotation has
        come by and found unfit; a key whose turn had not come was not passed over.
        """
        if self._all_spotless and not tried:
            return []
        looked_at: Iterable[PooledKey] = self._entries.values()
        if len(self._entries) > limit:
            rotation = self._rotation(model, now)
            looked_at = suspects(self._entries, rotation, self._rotations, tried, limit)
            if not looked_at:
                return []
        doubtful = self._eligibility.doubtful(looked_at, model, tried)
        if not doubtful:
            self._all_spotless = len(self._entries) <= limit and not self._eligibility.rests
            return []
        others = (entry for entry in doubtful if entry.id != chosen)
        told = passed_over(others, self._eligibility, model, now, tried=tried, tokens=tokens)
        return list(islice(told, limit))

    def statuses(self, now: float) -> list[KeyStatus]:
        """Every key, in the file's order."""
        return list(self.each_status(now))

    def each_status(self, now: float) -> Iterator[KeyStatus]:
        """As :meth:`statuses`, one at a time, for whoever cannot take ten thousand in one go.

        The keys are those of the moment of the first one.
        """
        for entry in list(self._entries.values()):
            yield key_status(entry, self._eligibility, now)

    def status(self, id_or_name: str, now: float) -> KeyStatus:
        """One key. Raises :class:`UnknownKey`."""
        return key_status(self._find(id_or_name), self._eligibility, now)

    def counts(self, now: float) -> PoolCounts:
        """How many keys there are in each state."""
        return pool_counts(self._entries.values(), now)

    def resting(self, now: float) -> int:
        """How many enabled keys are out of quota for some model."""
        projects = {rest.project for rest in self._eligibility.cooldowns.all(now)}
        if not projects:
            return 0
        return sum(
            entry.enabled and entry.key.project in projects for entry in self._entries.values()
        )

    def can_serve(self, now: float) -> bool:
        """Whether some key is enabled and its breaker admits requests. Ends at the first one."""
        serving = {State.CLOSED} if self._settings.probe else {State.CLOSED, State.HALF_OPEN}
        return any(
            entry.enabled and entry.breaker.state_at(now) in serving
            for entry in self._entries.values()
        )

    def sound_keys(self, now: float) -> Iterator[Key]:
        """The keys that are enabled and whose breaker is closed, in the file's order."""
        for entry in self._entries.values():
            if entry.enabled and entry.breaker.state_at(now) is State.CLOSED:
                yield entry.key

    def half_open_keys(self, now: float) -> Iterator[Key]:
        """The enabled keys whose breaker waits for a trial, in the file's order."""
        for entry in self._entries.values():
            if _awaits_trial(entry, now):
                yield entry.key

    def allowed_models(self) -> frozenset[str] | None:
        """The models that the enabled keys may serve; ``None`` where one of them may serve all."""
        allowed: set[str] = set()
        for entry in self._entries.values():
            if entry.enabled:
                if not entry.key.models:
                    return None
                allowed |= entry.key.models
        return frozenset(allowed)

    def sound_key(self, key_id: str, now: float) -> Key | None:
        """The key with this id, if it is one of :meth:`sound_keys`."""
        entry = self._entries.get(key_id)
        if entry is None or not entry.enabled or entry.breaker.state_at(now) is not State.CLOSED:
            return None
        return entry.key

    # -- the operator's words --------------------------------------------------------------------

    def enable(self, id_or_name: str) -> None:
        """Let a key serve, whatever the file says. Raises :class:`UnknownKey`, as the next ones."""
        entry = self._find(id_or_name)
        self._change_override(entry, replace(self._override_of(entry.id), enabled=True))

    def disable(self, id_or_name: str) -> None:
        """Keep a key from serving until it is enabled again, over reloads and restarts."""
        entry = self._find(id_or_name)
        self._change_override(entry, replace(self._override_of(entry.id), enabled=False))

    def set_weight(self, id_or_name: str, weight: int | None) -> None:
        """Weigh a key differently from the file; ``None`` goes back to the file's weight."""
        if weight is not None and weight < 1:
            raise ValueError(f"a weight is a whole number of at least 1, not {weight}")
        entry = self._find(id_or_name)
        self._change_override(entry, replace(self._override_of(entry.id), weight=weight))

    def reset(self, id_or_name: str) -> None:
        """Close a key's breaker, forget its project's rests, and that it needed attention.

        The failures in its health window stay: they age out by themselves.
        """
        entry = self._find(id_or_name)
        entry.breaker.close()
        entry.needs_attention = None
        entry.stored = None
        self._eligibility.cooldowns.forget_project(entry.key.project)
        self._eligibility.denials.forget_project(entry.key.project)
        for sibling in self._siblings(entry):
            self._rotations.free(sibling)

    # -- reload, restart -------------------------------------------------------------------------

    def apply(self, keys: Sequence[Key], settings: PoolSettings, now: float) -> PoolChange:
        """Take a new configuration; what is known of a key whose secret is the same stays.

        Leases of removed keys may still be settled and come to nothing.
        """
        afresh = settings != self._settings
        self._all_spotless = False
        self._settings = self._eligibility.settings = settings
        difference = self._take(keys)
        if afresh:
            for entry in self._entries.values():
                entry.configure(entry.key, settings, self._override_of(entry.id))
        if difference:
            self._follow(difference, now)
        if afresh or difference.lists_models:
            self._renew_rotations()
        else:
            self._update_rotations(difference)
        return difference.told()

    def prepare_snapshot(self, batch: int) -> Iterator[None]:
        """Do the work of :meth:`snapshot` ahead, in steps of ``batch`` keys that have news.

        A key costs some 15 us. Between two steps the pool may be used; what changes meanwhile is
        left for :meth:`snapshot` itself.
        """
        news = 0
        for entry in list(self._entries.values()):
            if entry.stored is None:
                entry.snapshot()
                news += 1
                if news % batch == 0:
                    yield

    def snapshot(self, now: float) -> PoolSnapshot:
        """What has to be kept over a restart."""
        return PoolSnapshot(
            taken_at=now,
            keys=tuple(entry.snapshot() for entry in self._entries.values()),
            cooldowns=tuple(self._eligibility.cooldowns.all(now)),
            denials=tuple(self._eligibility.denials.all(now)),
            overrides=tuple(self._overrides.items()),
        )

    def restore(self, snapshot: PoolSnapshot, now: float) -> None:
        """Take back what :meth:`snapshot` gave, before the first lease.

        What has ended meanwhile is left out; so are keys that are no longer configured, apart from
        the operator's words on them, which hold should they come back.
        """
        self._all_spotless = False
        self._overrides = dict(snapshot.overrides)
        for kept in snapshot.keys:
            entry = self._entries.get(kept.id)
            if entry is not None:
                entry.restore(kept, self._settings, now)
            else:
                self._depart(kept)
        for rests, kept_rests in (
            (self._eligibility.cooldowns, snapshot.cooldowns),
            (self._eligibility.denials, snapshot.denials),
        ):
            for rest in kept_rests:
                rests.add(rest, now)
        for entry in self._entries.values():
            entry.configure(entry.key, self._settings, self._override_of(entry.id))
        self._renew_rotations()

    # -- small ones ------------------------------------------------------------------------------

    def _depart(self, kept: KeySnapshot) -> None:
        self._departed[kept.id] = kept
        while len(self._departed) > _MOST_DEPARTED:
            del self._departed[next(iter(self._departed))]

    def _new_entry(self, key: Key) -> PooledKey:
        override = self._override_of(key.id)
        order = next(self._orders)
        return PooledKey(key, self._settings, override, order, self._breaker_changed)

    def _take(self, keys: Sequence[Key]) -> Difference:
        """Make ``keys`` those of the pool, in their order.

        Of ten thousand keys a reload changes one or two. So the others cost one look each; where
        the key is the very object that is here already, a quick one.
        """
        previous, difference = self._entries, Difference()
        self._entries = entries = {}
        for key in keys:
            key_id = key.secret.id
            entry = previous.get(key_id)
            if entry is None:
                entry = self._new_entry(key)
                difference.added.append(entry)
            elif entry.key is not key and entry.key != key:
                difference.updated.append((entry, entry.key, key))
            entries[key_id] = entry
        if len(previous) > len(entries) - len(difference.added):
            gone = previous.keys() - entries.keys()
            difference.removed += [entry for entry in previous.values() if entry.id in gone]
        return difference

    def _follow(self, difference: Difference, now: float) -> None:
        """Let everything that is known by key follow from the old keys to the new ones."""
        settings = self._settings
        self._eligibility.follow_names(difference, self._entries.values(), now)
        for entry, _, key in difference.updated:
            entry.configure(key, settings, self._override_of(entry.id))
        for entry in difference.added:
            kept = self._departed.pop(entry.id, None)
            if kept is not None:
                entry.restore(kept, settings, now)
        for entry in difference.removed:
            entry.leave()
            self._depart(entry.snapshot())
        self._projects = None

    def _siblings(self, entry: PooledKey) -> list[PooledKey]:
        """The keys of the same project. Looks at every key, the first time after a reload."""
        if self._projects is None:
            self._projects = defaultdict(list)
            for each in self._entries.values():
                self._projects[each.key.project].append(each)
        return self._projects[entry.key.project]

    def _update_rotations(self, difference: Difference) -> None:
        """Change only what a reload changed, so that everybody else's turn stays where it was."""
        for entry in difference.removed:
            self._rotations.discard(entry)
        for entry in difference.added:
            self._rotations.add(entry)
            self._exclude_disabled(entry)
        for entry, _, _ in difference.updated:
            self._rotations.free(entry)
            self._exclude_disabled(entry)

    def _renew_rotations(self) -> None:
        """Begin all turns again."""
        self._rotations = Rotations(self._entries.values())
        for entry in self._entries.values():
            self._exclude_disabled(entry)

    def _exclude_disabled(self, entry: PooledKey) -> None:
        if not entry.enabled:
            self._rotations.stand_aside(entry, lambda _: DISABLED)

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
            resting = (entry for entry in rotation.hindered() if find(entry.key.project, model))
            for entry in list(islice(resting, _MOST_JUDGED)):
                hindrance = self._hindrance_of(entry, now)(model)
                if hindrance is not None:
                    rotation.stand_aside(entry, hindrance)
        return rotation

    def _rests_concern(self, model: str) -> bool:
        rests = self._eligibility
        return rests.cooldowns.concern(model) or rests.denials.concern(model)

    def _judge(self, model: str, now: float, tokens: int) -> Judge[PooledKey]:
        hindrance = self._eligibility.hindrance
        return lambda entry, last_resort: hindrance(
            entry, model, now, tokens=tokens, last_resort=last_resort
        )

    def _choose(
        self,
        rotation: Rotation[PooledKey],
        model: str,
        now: float,
        tried: Collection[str],
        tokens: int,
    ) -> PooledKey | None:
        minimum = self._settings.minimum_requests
        return rotation.choose(
            now, self._judge(model, now, tokens), lambda entry: entry.stride(now, minimum), tried
        )

    def _lease(self, entry: PooledKey, model: str, now: float, tokens: int) -> Lease:
        permit = entry.breaker.try_acquire(now)
        if permit is None:  # pragma: no cover - who is chosen was found fit in the same moment
            raise AssertionError("a key was chosen whose breaker admits nothing")
        entry.used(now)
        if entry.ledger is None:
            return Lease(entry, entry.key, model, permit, None)
        use = entry.ledger.reserve(now, tokens)
        self._exclude_unfit(entry, now)
        return Lease(entry, entry.key, model, permit, use)

    # What may have ended or changed a hindrance: of its breaker's changes a key tells itself.

    def _has_served(self, lease: Lease, now: float) -> None:
        entry = lease.entry
        limited = entry.ledger is not None
        if lease.permit.trial or limited or entry.window.failures:
            self._rotations.free(entry)
            if limited:
                self._exclude_unfit(entry, now)

    def _has_failed(self, lease: Lease, outcome: Outcome, now: float) -> None:
        entry = lease.entry
        if outcome.verdict in _RESTS:
            self._rest(entry, ALL_MODELS if outcome.all_models else lease.model, now)
            return
        if lease.permit.trial or entry.ledger is not None:
            self._rotations.free(entry)
        self._exclude_unfit(entry, now)

    def _rest(self, entry: PooledKey, model: str, now: float) -> None:
        """Keep the keys of a project out of the turns for a ``model`` that it may not use now."""
        # Larger projects learn it when their keys' turns come, to keep this short.
        for key in dict.fromkeys((entry, *self._siblings(entry)[:_FEW_SIBLINGS])):
            self._rotations.free(key)
            self._rotations.stand_aside(key, self._hindrance_of(key, now), model)

    def _exclude_unfit(self, entry: PooledKey, now: float) -> None:
        """Keep a key out of all turns whose breaker is open or whose limits are reached."""
        opened = entry.breaker.state is State.OPEN
        if opened or (entry.ledger is not None and entry.ledger.shortage(now) is not None):
            self._rotations.stand_aside(entry, self._hindrance_of(entry, now))

    def _hindrance_of(self, entry: PooledKey, now: float) -> Callable[[str], Hindrance | None]:
        """What keeps a key from a model, unless it is only low health."""
        judge = self._eligibility.hindrance
        return lambda model: judge(entry, model, now, last_resort=True)

    def _refusal(
        self,
        rotation: Rotation[PooledKey],
        model: str,
        now: float,
        tokens: int,
    ) -> ProxyError:
        census = Census.of(rotation)
        judge = self._judge(model, now, tokens)
        # Whoever is ready and was not chosen is so for this request only.
        for entry in rotation.ready():
            census.add(judge(entry, False) or _TRIED)
        outside = len(self._entries) - census.counts.total()
        if outside > 0 and any(entry.enabled for entry in self._entries.values()):
            census.counts[Reason.MODEL_NOT_ALLOWED] += outside
        return refusal(census, model, now, self._settings.cooldown)

    def _breaker_changed(self, entry: PooledKey, before: State, after: State) -> None:
        entry.stored = None
        self._all_spotless = False
        if entry.removed:
            return
        self._rotations.free(entry)
        if self._on_transition is not None:
            self._on_transition(Transition(entry.key.name, before, after))

    def _find(self, id_or_name: str) -> PooledKey:
        entry = self._entries.get(id_or_name)
        if entry is not None:
            return entry
        for entry in self._entries.values():
            if entry.key.name == id_or_name:
                return entry
        raise UnknownKey("no key has this id or name")

    def _change_override(self, entry: PooledKey, override: Override) -> None:
        self._overrides[entry.id] = override
        self._all_spotless = False
        entry.configure(entry.key, self._settings, override)
        self._rotations.free(entry)
        self._exclude_disabled(entry)

    def _override_of(self, key_id: str) -> Override:
        return self._overrides.get(key_id, _NO_OVERRIDE)


def _awaits_trial(entry: PooledKey, now: float) -> bool:
    breaker = entry.breaker
    if breaker.state is State.CLOSED or not entry.enabled or breaker.trial_running:
        return False
    return breaker.state_at(now) is State.HALF_OPEN
