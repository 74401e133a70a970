"""The pool: which key serves next, and what each outcome does to it.

:meth:`KeyPool.acquire` gives a :class:`Lease`, which is settled once, by :meth:`KeyPool.record` or
:meth:`KeyPool.release`. :class:`~gemproxy.pool.scheduler.KeyScheduler` chooses the key. Time is
monotonic and always an argument; what is shown or stored has epoch seconds (see ``calendar``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count, islice

from gemproxy.core.errors import ProxyError
from gemproxy.pool.breaker import Permit, State
from gemproxy.pool.cooldowns import FORBIDDEN
from gemproxy.pool.eligibility import Eligibility, Ineligible, Reason
from gemproxy.pool.key import Key
from gemproxy.pool.outcome import SERVED, Outcome, Verdict, apply_outcome
from gemproxy.pool.reload import KeyDiff, move_cooldowns
from gemproxy.pool.scheduler import KeyScheduler
from gemproxy.pool.snapshot import KeySnapshot, Override, PoolSnapshot
from gemproxy.pool.state import KeyState, Lease, PoolSettings
from gemproxy.pool.status import (
    KeyStatus,
    PoolChange,
    PoolCounts,
    SkippedKey,
    Transition,
    key_status,
    pool_counts,
    skipped_keys,
)
from gemproxy.pool.unavailable import (
    AvailabilitySummary,
    no_healthy_keys,
    quota_exhausted,
    unavailable,
)

__all__ = [
    "KeyPool",
    "KeyStatus",
    "Lease",
    "PoolChange",
    "PoolCounts",
    "PoolSettings",
    "PoolSnapshot",
    "Reason",
    "SkippedKey",
    "Transition",
    "UnknownKey",
]

_QUOTA = frozenset({Verdict.QUOTA_MINUTE, Verdict.QUOTA_DAY})
_NOT_FOR_THIS_KEY = frozenset({Verdict.FORBIDDEN, Verdict.MODEL_DENIED})
_NOTHING_LEARNED = Outcome(Verdict.CLIENT_GONE)
_NO_OVERRIDE = Override()
_MAX_REMOVED = 10_000


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
        #: What was known of keys that have left the file, in the pool's time: they may come back.
        self._removed: dict[str, KeySnapshot] = {}
        self._eligibility = Eligibility(self._settings)
        self._entries = {key.id: self._new_entry(key) for key in keys}
        self._scheduler = KeyScheduler(self._entries, self._eligibility)

    # -- leases ----------------------------------------------------------------------------------

    def acquire(
        self, model: str, now: float, *, tried: Collection[str] = (), tokens: int = 0
    ) -> Lease:
        """The key whose turn it is for ``model``, for a request of about ``tokens`` tokens.

        ``tried`` are ids of keys that this request has used already. Raises
        :class:`~gemproxy.core.errors.QuotaExhausted`,
        :class:`~gemproxy.core.errors.NoHealthyKeys` or
        :class:`~gemproxy.core.errors.ModelNotFound`, as if the tried keys did not exist.
        """
        entry = self._scheduler.choose(model, now, tried, tokens)
        if entry is None:
            raise self._unavailable(model, now, tokens)
        return self._lease(entry, model, now, tokens)

    def acquire_again(self, key_id: str, model: str, now: float, *, tokens: int = 0) -> Lease:
        """This very key, for a second try; its earlier lease has to be settled.

        Raises as :meth:`acquire` where the key may not serve now.
        """
        entry = self._entries.get(key_id)
        summary = AvailabilitySummary()
        if entry is not None:
            ineligible = self._eligibility.check(
                entry, model, now, tokens=tokens, last_resort=True, probe=True
            )
            if ineligible is None:
                return self._lease(entry, model, now, tokens)
            summary.add(ineligible)
        raise unavailable(summary, model, now, self._settings.cooldown)

    def acquire_probe(self, key_id: str, now: float) -> Lease | None:
        """The one trial of a half-open key, for a call that no model's quota is used for.

        ``None`` where there is none to be had. Its outcome is recorded as any other.
        """
        entry = self._entries.get(key_id)
        if entry is None or not _awaits_trial(entry, now):
            return None
        permit = entry.breaker.try_acquire(now)
        return Lease(entry, entry.key, "", permit, None) if permit is not None else None

    def waive_probe(self, lease: Lease) -> None:
        """Probes say nothing of this half-open key: a client's request may make its trial.

        ``lease`` is a probe's, and is still to be settled.
        """
        entry = lease.entry
        if lease.permit.generation == entry.breaker.generation:
            entry.probe_waived = entry.breaker.generation
            self._scheduler.mark_eligible(entry)

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
            self._record_late(lease, outcome, now)
            return
        if tokens is not None and lease.use is not None and entry.ledger is not None:
            entry.ledger.correct(lease.use, tokens, now)
        apply_outcome(entry, lease.permit, lease.model, outcome, now, self._eligibility)
        entry.stored = None
        if outcome.verdict in SERVED:
            if latency is not None:
                entry.answered_in(latency)
            self._scheduler.served(lease, now)
        else:
            self._scheduler.failed(lease, outcome, now)

    def _record_late(self, lease: Lease, outcome: Outcome, now: float) -> None:
        """The key is gone. A project that others share is not, and may be out of quota by now."""
        entry = lease.entry
        if not entry.key.has_own_project:
            apply_outcome(entry, lease.permit, lease.model, outcome, now, self._eligibility)

    def mark_serving(self, lease: Lease) -> None:
        """The key has begun to answer: a trial need not wait for a long stream's end."""
        if lease.permit.trial and not lease.settled:
            entry = lease.entry
            if lease.permit.generation == entry.breaker.generation:
                entry.needs_attention = None
            entry.breaker.record_success(lease.permit)

    def release(self, lease: Lease, now: float) -> None:
        """Settle a lease of which nothing is to be learned; the request counts for ``rpm``."""
        self.record(lease, _NOTHING_LEARNED, now)

    def unavailable(self, model: str, now: float, outcome: Outcome) -> ProxyError:
        """What a client is told whose last attempt ended with ``outcome`` and who gets no other.

        Where keys are left and only the client's attempts are used up, that is the same kind of
        error, with the advice to come back at once.
        """
        if not self._scheduler.any_eligible(model, now):
            return self._unavailable(model, now, 0)
        if outcome.verdict in _QUOTA:
            summary = self._scheduler.known(model, now)
            summary.add(Ineligible(Reason.COOLING_DOWN, now))
            return quota_exhausted(summary, model, now)
        summary, untried = self._scheduler.untried(model, now)
        return no_healthy_keys(summary, 1.0, untried)

    def models_unavailable(self, failed: dict[str, Outcome], now: float) -> ProxyError:
        """What a client is told that asked for the list of models, which no key could fetch.

        ``failed`` has what came of each key that was asked, by its id, in the order of time; the
        last one decided. Nothing is recorded, but the error is that of :meth:`unavailable` as if
        it were.
        """
        last = next(reversed(failed.values()), None)
        summary, untried = AvailabilitySummary(), 0
        for entry in self._entries.values():
            outcome = failed.get(entry.id)
            if outcome is not None:
                summary.add_lasting(self._ineligible_after(entry, outcome, now))
            elif not entry.enabled:
                summary.add_lasting(Ineligible(Reason.DISABLED))
            elif entry.breaker.state_at(now) is State.OPEN:
                rejected = entry.needs_attention is not None
                until = entry.breaker.until
                summary.add_lasting(Ineligible(Reason.CIRCUIT_OPEN, until, rejected=rejected))
            elif entry.breaker.state_at(now) is State.HALF_OPEN:
                summary.add_lasting(Ineligible(Reason.HALF_OPEN_BUSY))
            else:
                untried += 1
        if not untried:
            return unavailable(summary, "", now, self._settings.cooldown)
        if last is not None and last.verdict in _QUOTA:
            summary.add(Ineligible(Reason.COOLING_DOWN, now))
            return quota_exhausted(summary, "", now)
        return no_healthy_keys(summary, 1.0, untried)

    def _ineligible_after(self, entry: KeyState, outcome: Outcome, now: float) -> Ineligible:
        """What would keep the key from serving, had ``outcome`` been recorded."""
        if outcome.verdict in _QUOTA:
            if outcome.until is not None:
                until = self._eligibility.calendar.monotonic(outcome.until)
            else:
                delay = outcome.retry_after
                until = now + (entry.cooldown(self._settings) if delay is None else delay)
            for_the_day = outcome.verdict is Verdict.QUOTA_DAY
            return Ineligible(Reason.COOLING_DOWN, until, for_the_day=for_the_day)
        recovered = now + self._settings.recovery_time
        if outcome.verdict is Verdict.KEY:
            return Ineligible(Reason.CIRCUIT_OPEN, recovered, rejected=True)
        if outcome.verdict in _NOT_FOR_THIS_KEY:
            return Ineligible(Reason.ALREADY_TRIED, recovered)
        return Ineligible(Reason.ALREADY_TRIED)

    # -- explanations ----------------------------------------------------------------------------

    def ineligible_keys(
        self, model: str, now: float, tried: Collection[str] = (), limit: int = 20
    ) -> list[SkippedKey]:
        """The first keys, in the file's order, that are not eligible for ``model``, and why."""
        every = self._entries.values()
        return list(islice(skipped_keys(every, self._eligibility, model, now, tried=tried), limit))

    def skipped_keys(
        self,
        model: str,
        now: float,
        *,
        tried: Collection[str] = (),
        tokens: int = 0,
        chosen: str | None = None,
        limit: int = 20,
    ) -> list[SkippedKey]:
        """At most ``limit`` keys that were not eligible for a request, at a cost that is bounded.

        ``chosen`` is the id of the key that was chosen instead. A pool of up to ``limit`` keys is
        looked at whole, in the file's order. Of a larger one those are told that the scheduler has
        come by and found unfit; a key whose turn had not come was not passed over.
        """
        index = self._eligibility
        if not (
            index.restricted
            or tried
            or index.cooldowns.size
            or index.denials.size
            or index.key_denials.size
        ):
            return []
        looked_at: Iterable[KeyState] = self._entries.values()
        if len(self._entries) > limit:
            looked_at = self._scheduler.suspects(model, now, tried, limit)
        candidates = index.candidates(looked_at, model, tried)
        others = (entry for entry in candidates if entry.id != chosen)
        found = skipped_keys(others, index, model, now, tried=tried, tokens=tokens)
        return list(islice(found, limit))

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

    def cooling(self, now: float) -> int:
        """How many enabled keys are out of quota for some model."""
        projects = {cooldown.project for cooldown in self._eligibility.cooldowns.all(now)}
        if not projects:
            return 0
        return sum(
            entry.enabled and entry.key.project in projects for entry in self._entries.values()
        )

    def can_serve(self, now: float) -> bool:
        """Whether some key is enabled and its breaker admits requests. Ends at the first one."""
        return any(
            entry.enabled
            and (
                entry.breaker.state is State.CLOSED
                or (
                    entry.breaker.state_at(now) is State.HALF_OPEN
                    and not entry.waits_for_probe(self._settings)
                )
            )
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
        """Close a key's breaker, forget its project's cooldowns, and that it needed attention.

        The failures in its health window stay: they age out by themselves.
        """
        entry = self._find(id_or_name)
        entry.breaker.close()
        entry.needs_attention = None
        entry.stored = None
        entry.forbidden_model = None
        self._eligibility.forget(entry)
        self._scheduler.mark_project_eligible(entry)

    def reset_many(self, key_ids: Collection[str], batch: int) -> Iterator[None]:
        """As :meth:`reset` for each of these, in steps of about ``batch`` keys.

        Between two steps the pool may be used. Keys that are gone by then are left out.
        """
        chosen = [entry for entry in map(self._entries.get, key_ids) if entry is not None]
        projects = {entry.key.project for entry in chosen}
        for number, entry in enumerate(chosen, 1):
            self._eligibility.forget(entry)
            if number % batch == 0:
                yield
        # Only now, or those that are looked at meanwhile would be found unfit again.
        for number, entry in enumerate(list(self._entries.values()), 1):
            if entry.key.project in projects:
                if entry.id in key_ids:
                    entry.breaker.close()
                    entry.needs_attention = entry.forbidden_model = None
                    entry.stored = None
                self._scheduler.mark_eligible(entry)
            if number % batch == 0:
                yield

    def reject(self, key_id: str, outcome: Outcome, now: float) -> bool:
        """Google rejected the key when it was asked about it, and not for a client's request.

        Gives whether there is such a key.
        """
        entry = self._entries.get(key_id)
        if entry is None:
            return False
        permit = Permit(entry.breaker.generation)
        apply_outcome(entry, permit, "", outcome, now, self._eligibility)
        entry.stored = None
        self._scheduler.rejected(entry, now)
        return True

    def key(self, id_or_name: str) -> Key:
        """The key as the operator wrote it, with its secret. Raises :class:`UnknownKey`."""
        return self._find(id_or_name).key

    # -- reload, restart -------------------------------------------------------------------------

    def apply(self, keys: Sequence[Key], settings: PoolSettings, now: float) -> PoolChange:
        """Take a new configuration; what is known of a key whose secret is the same stays.

        Leases of removed keys may still be settled; only a project that others share hears of it.
        """
        afresh = settings != self._settings
        self._settings = self._eligibility.settings = settings
        diff = self._take(keys)
        if afresh:
            for entry in self._entries.values():
                entry.configure(entry.key, settings, self._override_of(entry.id))
        if diff:
            self._follow(diff, now)
        if afresh or diff.lists_models:
            self._scheduler = KeyScheduler(self._entries, self._eligibility)
        else:
            self._scheduler.update(self._entries, diff)
        return diff.told()

    def set_wall_clock(self, now: float, wall: float) -> None:
        """The wall clock says ``wall``, in epoch seconds: at the start, and when it was set.

        No cooldown changes by that, apart from those that end at a midnight.
        """
        calendar = self._eligibility.calendar
        calendar.epoch_offset = wall - now
        for cooldowns in (self._eligibility.cooldowns, self._eligibility.denials):
            cooldowns.end_days(now, calendar.next_midnight)
        for entry in self._entries.values():
            entry.wall_clock_set(now)
        # Who was passed over until the midnight of before has to be looked at again.
        self._scheduler = KeyScheduler(self._entries, self._eligibility)

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
        epoch_offset = self._eligibility.calendar.epoch_offset
        return PoolSnapshot(
            taken_at=now + epoch_offset,
            keys=tuple(entry.snapshot() for entry in self._entries.values()),
            cooldowns=tuple(self._eligibility.cooldowns.stored(now, epoch_offset)),
            denials=(
                *self._eligibility.denials.stored(now, epoch_offset),
                *self._eligibility.key_denials.stored(now, epoch_offset),
            ),
            overrides=tuple(self._overrides.items()),
        )

    def restore(self, snapshot: PoolSnapshot, now: float) -> None:
        """Take back what :meth:`snapshot` gave, before the first lease.

        What has ended meanwhile is left out; so are keys that are no longer configured, apart from
        the operator's words on them, which hold should they come back. Nothing lasts for longer
        than its rule allows, whatever the clock said when the snapshot was taken; where it was
        ahead of the present one, no time has passed since.
        """
        to_pool_time = now - max(self._eligibility.calendar.epoch(now), snapshot.taken_at)
        self._overrides = dict(snapshot.overrides)
        for stored in snapshot.keys:
            kept = stored.shifted(to_pool_time)
            entry = self._entries.get(kept.id)
            if entry is not None:
                entry.restore(kept, self._settings, now)
            else:
                self._remember_removed(kept)
        for cooldowns, kept_cooldowns in (
            (self._eligibility.cooldowns, snapshot.cooldowns),
            (self._eligibility.denials, snapshot.denials),
        ):
            for cooldown in kept_cooldowns:
                kept_cooldown, target = (
                    replace(cooldown, until=cooldown.until + to_pool_time),
                    cooldowns,
                )
                if cooldown.reason == FORBIDDEN:
                    longest = now + self._settings.recovery_time
                    kept_cooldown = replace(kept_cooldown, until=min(kept_cooldown.until, longest))
                    target = self._eligibility.key_denials
                target.add(kept_cooldown, now, restored=True)
        for entry in self._entries.values():
            entry.configure(entry.key, self._settings, self._override_of(entry.id))
        self._scheduler = KeyScheduler(self._entries, self._eligibility)

    # -- small ones ------------------------------------------------------------------------------

    def _remember_removed(self, kept: KeySnapshot) -> None:
        self._removed[kept.id] = kept
        while len(self._removed) > _MAX_REMOVED:
            del self._removed[next(iter(self._removed))]

    def _new_entry(self, key: Key) -> KeyState:
        override = self._override_of(key.id)
        order = next(self._orders)
        calendar = self._eligibility.calendar
        return KeyState(key, self._settings, override, order, self._breaker_changed, calendar)

    def _take(self, keys: Sequence[Key]) -> KeyDiff:
        """Make ``keys`` those of the pool, in their order.

        Of ten thousand keys a reload changes one or two. So the others cost one look each; where
        the key is the very object that is here already, a quick one.
        """
        previous, diff = self._entries, KeyDiff()
        self._entries = entries = {}
        for key in keys:
            key_id = key.secret.id
            entry = previous.get(key_id)
            if entry is None:
                entry = self._new_entry(key)
                diff.added.append(entry)
            elif entry.key is not key and entry.key != key:
                diff.updated.append((entry, entry.key, key))
            entries[key_id] = entry
        if len(previous) > len(entries) - len(diff.added):
            gone = previous.keys() - entries.keys()
            diff.removed += [entry for entry in previous.values() if entry.id in gone]
        return diff

    def _follow(self, diff: KeyDiff, now: float) -> None:
        """Let everything that is known by key follow from the old keys to the new ones."""
        settings = self._settings
        tables = (self._eligibility.cooldowns, self._eligibility.denials)
        move_cooldowns(diff, self._entries.values(), tables, now)
        for entry, _, key in diff.updated:
            entry.configure(key, settings, self._override_of(entry.id))
        for entry in diff.added:
            kept = self._removed.pop(entry.id, None)
            if kept is not None:
                entry.restore(kept, settings, now)
        for entry in diff.removed:
            entry.leave()
            self._remember_removed(entry.history())

    def _lease(self, entry: KeyState, model: str, now: float, tokens: int) -> Lease:
        permit = entry.breaker.try_acquire(now)
        if permit is None:  # pragma: no cover - who is chosen was found fit in the same moment
            raise AssertionError("a key was chosen whose breaker admits nothing")
        entry.used(now)
        if entry.ledger is None:
            return Lease(entry, entry.key, model, permit, None)
        use = entry.ledger.reserve(now, tokens)
        self._scheduler.mark_if_ineligible(entry, now)
        return Lease(entry, entry.key, model, permit, use)

    def _unavailable(self, model: str, now: float, tokens: int) -> ProxyError:
        return unavailable(
            self._scheduler.summary(model, now, tokens), model, now, self._settings.cooldown
        )

    def _breaker_changed(self, entry: KeyState, before: State, after: State) -> None:
        entry.stored = None
        self._scheduler.mark_eligible(entry)
        if self._on_transition is not None:
            told = Transition(entry.key.name, before, after)
            if after is State.OPEN:
                told = replace(
                    told, needs_attention=entry.needs_attention, last_error=entry.last_error
                )
            self._on_transition(told)

    def _find(self, id_or_name: str) -> KeyState:
        entry = self._entries.get(id_or_name)
        if entry is not None:
            return entry
        for entry in self._entries.values():
            if entry.key.name == id_or_name:
                return entry
        raise UnknownKey("no key has this id or name")

    def _change_override(self, entry: KeyState, override: Override) -> None:
        self._overrides[entry.id] = override
        entry.configure(entry.key, self._settings, override)
        self._scheduler.reconfigured(entry)

    def _override_of(self, key_id: str) -> Override:
        return self._overrides.get(key_id, _NO_OVERRIDE)


def _awaits_trial(entry: KeyState, now: float) -> bool:
    breaker = entry.breaker
    if breaker.state is State.CLOSED or not entry.enabled or breaker.trial_running:
        return False
    return breaker.state_at(now) is State.HALF_OPEN
