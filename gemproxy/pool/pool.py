"""The pool: which key serves next, and what each outcome does to it.

:meth:`KeyPool.acquire` gives a :class:`Lease`, which is settled once, by :meth:`KeyPool.record` or
:meth:`KeyPool.release`. Whose turn it is, :class:`~gemproxy.pool.scheduler.Turns` knows. Time is
monotonic and always an argument; what is shown or stored has epoch seconds (see ``calendar``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count, islice

from gemproxy.core.errors import ProxyError
from gemproxy.pool.breaker import Permit, State
from gemproxy.pool.cooldowns import FORBIDDEN
from gemproxy.pool.eligibility import Eligibility, is_alone
from gemproxy.pool.explanations import passed_over
from gemproxy.pool.key import Key
from gemproxy.pool.key_diff import Difference
from gemproxy.pool.key_state import PooledKey, PoolSettings
from gemproxy.pool.lease import Lease, Transition
from gemproxy.pool.outcome import SERVED, Outcome, Verdict
from gemproxy.pool.outcome_effects import apply_outcome
from gemproxy.pool.reports import key_status, pool_counts
from gemproxy.pool.scheduler import Turns
from gemproxy.pool.snapshot import KeySnapshot, Override, PoolSnapshot
from gemproxy.pool.status import KeyStatus, PassedOver, PoolChange, PoolCounts
from gemproxy.pool.stride import Hindrance, Reason
from gemproxy.pool.unavailable import Census, no_healthy_keys, quota_exhausted, refusal

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

_QUOTA = frozenset({Verdict.QUOTA_MINUTE, Verdict.QUOTA_DAY})
_NOT_FOR_THIS_KEY = frozenset({Verdict.FORBIDDEN, Verdict.MODEL_DENIED})
_NOTHING_LEARNED = Outcome(Verdict.CLIENT_GONE)
_NO_OVERRIDE = Override()
_MOST_DEPARTED = 10_000


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
        self._departed: dict[str, KeySnapshot] = {}
        self._eligibility = Eligibility(self._settings)
        self._entries = {key.id: self._new_entry(key) for key in keys}
        self._turns = Turns(self._entries, self._eligibility)
        #: Nothing hinders any key: known since a look at all; whatever may change it says so.
        self._all_spotless = False

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
        entry = self._turns.take(model, now, tried, tokens)
        if entry is None:
            raise self._refusal(model, now, tokens)
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

    def waive_probe(self, lease: Lease) -> None:
        """Probes say nothing of this half-open key: a client's request may make its trial.

        ``lease`` is a probe's, and is still to be settled.
        """
        entry = lease.entry
        if lease.permit.generation == entry.breaker.generation:
            entry.probe_waived = entry.breaker.generation
            self._turns.free(entry)

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
            self._turns.served(lease, now)
        else:
            self._all_spotless = False
            self._turns.failed(lease, outcome, now)

    def _record_late(self, lease: Lease, outcome: Outcome, now: float) -> None:
        """The key is gone. A project that others share is not, and may be out of quota by now."""
        entry = lease.entry
        if not is_alone(entry.key):
            apply_outcome(entry, lease.permit, lease.model, outcome, now, self._eligibility)
            self._all_spotless = False

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
        if not self._turns.any_fit(model, now):
            return self._refusal(model, now, 0)
        if outcome.verdict in _QUOTA:
            census = self._turns.known(model, now)
            census.add(Hindrance(Reason.COOLING_DOWN, now))
            return quota_exhausted(census, model, now)
        census, untried = self._turns.untried(model, now)
        return no_healthy_keys(census, 1.0, untried)

    def listing_refusal(self, failed: dict[str, Outcome], now: float) -> ProxyError:
        """What a client is told that asked for the list of models, which no key could fetch.

        ``failed`` has what came of each key that was asked, by its id, in the order of time; the
        last one decided. Nothing is recorded, but the words are those of :meth:`refusal`, as if it
        were.
        """
        last = next(reversed(failed.values()), None)
        census, untried = Census(), 0
        for entry in self._entries.values():
            outcome = failed.get(entry.id)
            if outcome is not None:
                census.add_lasting(self._hindrance_after(entry, outcome, now))
            elif not entry.enabled:
                census.add_lasting(Hindrance(Reason.DISABLED))
            elif entry.breaker.state_at(now) is State.OPEN:
                census.add_lasting(Hindrance(Reason.CIRCUIT_OPEN, entry.breaker.until))
            elif entry.breaker.state_at(now) is State.HALF_OPEN:
                census.add_lasting(Hindrance(Reason.HALF_OPEN_BUSY))
            else:
                untried += 1
        if not untried:
            return refusal(census, "", now, self._settings.cooldown)
        if last is not None and last.verdict in _QUOTA:
            census.add(Hindrance(Reason.COOLING_DOWN, now))
            return quota_exhausted(census, "", now)
        return no_healthy_keys(census, 1.0, untried)

    def _hindrance_after(self, entry: PooledKey, outcome: Outcome, now: float) -> Hindrance:
        """What would keep the key from serving, had ``outcome`` been recorded."""
        if outcome.verdict in _QUOTA:
            if outcome.until is not None:
                until = self._eligibility.calendar.monotonic(outcome.until)
            else:
                delay = outcome.retry_after
                until = now + (entry.cooldown(self._settings) if delay is None else delay)
            for_the_day = outcome.verdict is Verdict.QUOTA_DAY
            return Hindrance(Reason.COOLING_DOWN, until, for_the_day=for_the_day)
        recovered = now + self._settings.recovery_time
        if outcome.verdict is Verdict.KEY:
            return Hindrance(Reason.CIRCUIT_OPEN, recovered)
        if outcome.verdict in _NOT_FOR_THIS_KEY:
            return Hindrance(Reason.ALREADY_TRIED, recovered)
        return Hindrance(Reason.ALREADY_TRIED)

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
            looked_at = self._turns.suspects(model, now, tried, limit)
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
        """Close a key's breaker, forget its project's rests, and that it needed attention.

        The failures in its health window stay: they age out by themselves.
        """
        entry = self._find(id_or_name)
        entry.breaker.close()
        entry.needs_attention = None
        entry.stored = None
        entry.forbidden_model = None
        self._eligibility.forget(entry)
        self._turns.free_project(entry)

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
                self._turns.free(entry)
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
        self._all_spotless = False
        self._turns.exclude_unfit(entry, now)
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
        self._all_spotless = False
        self._settings = self._eligibility.settings = settings
        difference = self._take(keys)
        if afresh:
            for entry in self._entries.values():
                entry.configure(entry.key, settings, self._override_of(entry.id))
        if difference:
            self._follow(difference, now)
        if afresh or difference.lists_models:
            self._turns = Turns(self._entries, self._eligibility)
        else:
            self._turns.update(self._entries, difference)
        return difference.told()

    def set_wall_clock(self, now: float, wall: float) -> None:
        """The wall clock says ``wall``, in epoch seconds: at the start, and when it was set.

        No cooldown changes by that, apart from those that end at a midnight.
        """
        calendar = self._eligibility.calendar
        calendar.epoch_offset = wall - now
        for rests in (self._eligibility.cooldowns, self._eligibility.denials):
            rests.end_days(now, calendar.next_midnight)
        for entry in self._entries.values():
            entry.wall_clock_set(now)
        # Who was passed over until the midnight of before has to be looked at again.
        self._turns = Turns(self._entries, self._eligibility)

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
        self._all_spotless = False
        to_pool_time = now - max(self._eligibility.calendar.epoch(now), snapshot.taken_at)
        self._overrides = dict(snapshot.overrides)
        for stored in snapshot.keys:
            kept = stored.shifted(to_pool_time)
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
                kept_rest, target = replace(rest, until=rest.until + to_pool_time), rests
                if rest.reason == FORBIDDEN:
                    longest = now + self._settings.recovery_time
                    kept_rest = replace(kept_rest, until=min(kept_rest.until, longest))
                    target = self._eligibility.key_denials
                target.add(kept_rest, now, restored=True)
        for entry in self._entries.values():
            entry.configure(entry.key, self._settings, self._override_of(entry.id))
        self._turns = Turns(self._entries, self._eligibility)

    # -- small ones ------------------------------------------------------------------------------

    def _depart(self, kept: KeySnapshot) -> None:
        self._departed[kept.id] = kept
        while len(self._departed) > _MOST_DEPARTED:
            del self._departed[next(iter(self._departed))]

    def _new_entry(self, key: Key) -> PooledKey:
        override = self._override_of(key.id)
        order = next(self._orders)
        calendar = self._eligibility.calendar
        return PooledKey(key, self._settings, override, order, self._breaker_changed, calendar)

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
            self._depart(entry.history())

    def _lease(self, entry: PooledKey, model: str, now: float, tokens: int) -> Lease:
        permit = entry.breaker.try_acquire(now)
        if permit is None:  # pragma: no cover - who is chosen was found fit in the same moment
            raise AssertionError("a key was chosen whose breaker admits nothing")
        entry.used(now)
        if entry.ledger is None:
            return Lease(entry, entry.key, model, permit, None)
        use = entry.ledger.reserve(now, tokens)
        self._turns.exclude_unfit(entry, now)
        return Lease(entry, entry.key, model, permit, use)

    def _refusal(self, model: str, now: float, tokens: int) -> ProxyError:
        return refusal(self._turns.census(model, now, tokens), model, now, self._settings.cooldown)

    def _breaker_changed(self, entry: PooledKey, before: State, after: State) -> None:
        entry.stored = None
        self._all_spotless = False
        self._turns.free(entry)
        if self._on_transition is not None:
            told = Transition(entry.key.name, before, after)
            if after is State.OPEN:
                told = replace(
                    told, needs_attention=entry.needs_attention, last_error=entry.last_error
                )
            self._on_transition(told)

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
        self._turns.reconsider(entry)

    def _override_of(self, key_id: str) -> Override:
        return self._overrides.get(key_id, _NO_OVERRIDE)


def _awaits_trial(entry: PooledKey, now: float) -> bool:
    breaker = entry.breaker
    if breaker.state is State.CLOSED or not entry.enabled or breaker.trial_running:
        return False
    return breaker.state_at(now) is State.HALF_OPEN
