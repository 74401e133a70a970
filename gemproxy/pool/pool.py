"""The pool of keys: leases, status, the operator's commands, reload and restart.

:meth:`KeyPool.acquire` gives a :class:`Lease`, which is settled once, by :meth:`KeyPool.record` or
:meth:`KeyPool.release`. The modules below it do the work: ``scheduler`` chooses the key,
``outcome`` has the effects of each outcome. Time is monotonic and always an argument; what is shown
or stored has epoch seconds (see :class:`~gemproxy.pool.cooldowns.Calendar`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count, islice

from gemproxy.core.errors import ModelNotFound, ProxyError, Unavailable
from gemproxy.pool.breaker import BreakerState, Permit
from gemproxy.pool.cooldowns import FORBIDDEN, Cooldown
from gemproxy.pool.eligibility import Eligibility, Ineligible, Reason
from gemproxy.pool.key import Affinity, Key
from gemproxy.pool.outcome import QUOTA, SERVED, Outcome, Verdict, apply_outcome
from gemproxy.pool.quotas import QuotaStatus, configured_quotas
from gemproxy.pool.reload import KeyDiff, compare_keys, move_cooldowns
from gemproxy.pool.scheduler import KeyScheduler
from gemproxy.pool.snapshot import KeySnapshot, Override, PoolSnapshot
from gemproxy.pool.state import KeyState, Lease, PoolSettings
from gemproxy.pool.status import (
    KeyStatus,
    PoolChange,
    PoolCounts,
    PoolListener,
    SkippedKey,
    Transition,
    key_status,
    pool_counts,
    skipped_keys,
)
from gemproxy.pool.unavailable import (
    AvailabilitySummary,
    cannot_move,
    models_unavailable,
    no_healthy_keys,
    project_unavailable,
    quota_exhausted,
    unavailable,
)

__all__ = [
    "KeyPool",
    "KeyStatus",
    "Lease",
    "PoolChange",
    "PoolCounts",
    "PoolListener",
    "PoolSettings",
    "PoolSnapshot",
    "Reason",
    "SkippedKey",
    "Transition",
    "UnknownKey",
]

_IGNORED = Outcome(Verdict.CLIENT_GONE)
_NO_OVERRIDE = Override()
_MAX_REMOVED = 10_000


class UnknownKey(LookupError):
    """No key of the pool has this id or name."""


class KeyPool:
    """See the module. ``listener`` is notified of what happens to keys."""

    def __init__(
        self,
        keys: Sequence[Key],
        settings: PoolSettings | None = None,
        listener: PoolListener | None = None,
    ) -> None:
        self._settings = settings or PoolSettings()
        self._listener = listener or PoolListener()
        self._orders = count()
        self._overrides: dict[str, Override] = {}
        #: The history of removed keys, in the pool's time: they may return to the file.
        self._removed: dict[str, KeySnapshot] = {}
        self._eligibility = Eligibility(self._settings, self._cooldown_set)
        self._quotas = self._eligibility.quotas
        self._entries = {key.id: self._new_entry(key) for key in keys}
        self._scheduler = KeyScheduler(self._entries, self._eligibility)
        #: Called when a key may be eligible before the time that was known. It may be called within
        #: any call of the pool, so it must not call the pool.
        self.more_eligible: Callable[[], None] = _nothing
        #: Whether an enabled key has limits of its own of a minute, and the sum of their ``rpm``.
        self.has_limits = False
        self.requests_per_minute = 0
        self._count_limits()

    # -- leases ----------------------------------------------------------------------------------

    def acquire(
        self,
        model: str,
        now: float,
        *,
        tried: Collection[str] = (),
        tokens: int = 0,
        affinity: Affinity | None = None,
        conversation: int | None = None,
        reserve: float = 0.0,
    ) -> Lease:
        """Lease the next key for ``model``, for a request of about ``tokens`` tokens.

        ``tried`` are ids of keys that this request has used already. With ``affinity`` only the
        keys of its project are considered. ``conversation`` is a number that the requests of one
        conversation share: they prefer the same key, as long as the balance allows it. The last
        ``reserve`` (0 to 1) of a key's own limits of a minute is left to other requests. Raises
        :class:`~gemproxy.core.errors.QuotaExhausted`,
        :class:`~gemproxy.core.errors.NoHealthyKeys` or
        :class:`~gemproxy.core.errors.ModelNotFound`, as if the tried keys did not exist; with
        ``affinity`` also :class:`~gemproxy.core.errors.NotFound` if the project has no keys, and
        :class:`~gemproxy.core.errors.Conflict` if they are all disabled.
        """
        if affinity is not None:
            return self._acquire_of_project(affinity, model, now, tried, tokens, reserve)
        if conversation is not None:
            entry = self._scheduler.choose_preferred(
                conversation, model, now, tried, tokens, reserve
            )
            if entry is not None:
                lease = self._lease(entry, model, now, tokens)
                lease.sticky = True
                return lease
        entry = self._scheduler.choose(model, now, tried, tokens, reserve)
        if entry is None:
            raise self._unavailable(model, now, tokens, reserve)
        return self._lease(entry, model, now, tokens)

    def _acquire_of_project(
        self,
        affinity: Affinity,
        model: str,
        now: float,
        tried: Collection[str],
        tokens: int,
        reserve: float,
    ) -> Lease:
        project = affinity.project
        entry = self._scheduler.choose_of_project(project, model, now, tried, tokens, reserve)
        if entry is None:
            raise self._project_unavailable(affinity, model, now, tokens, reserve=reserve)
        return self._lease(entry, model, now, tokens)

    def acquire_again(
        self,
        key_id: str,
        model: str,
        now: float,
        *,
        tokens: int = 0,
        affinity: Affinity | None = None,
    ) -> Lease:
        """Lease one key for a second attempt; its earlier lease has to be settled.

        Raises as :meth:`acquire` if the key is ineligible now.
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
        error = unavailable(summary, model, now, self._settings.cooldown)
        raise error if affinity is None else cannot_move(error, affinity.resource)

    def acquire_probe(self, key_id: str, now: float) -> Lease | None:
        """Lease a half-open key for its one trial, with a call that uses no model's quota.

        ``None`` if the key waits for no trial. The outcome is recorded as any other.
        """
        entry = self._entries.get(key_id)
        if entry is None or not _awaits_trial(entry, now):
            return None
        permit = entry.breaker.try_acquire(now)
        return Lease(entry, entry.key, "", permit, None) if permit is not None else None

    def waive_probe(self, lease: Lease) -> None:
        """Let a client's request be the trial of a half-open key, if probes say nothing about it.

        ``lease`` is the lease of a probe, which is still to be settled.
        """
        entry = lease.entry
        if lease.permit.generation == entry.breaker.generation:
            entry.probe_waived = entry.breaker.generation
            self._scheduler.mark_eligible(entry)
            self.more_eligible()

    def record(
        self,
        lease: Lease,
        outcome: Outcome,
        now: float,
        *,
        latency: float | None = None,
        tokens: int | None = None,
        prompt_tokens: int = 0,
    ) -> None:
        """Settle a lease with the outcome of its attempt; a settled lease stays as it is.

        ``latency`` is in seconds, ``tokens`` what the request really took, ``prompt_tokens`` those
        of its input, 0 if they are not known. A failure of the service or of the network is
        recorded only if it is charged to the key (see :mod:`gemproxy.core.attribution`), else the
        lease is released.
        """
        if lease.settled:
            return
        lease.settled = True
        entry = lease.entry
        if lease.quota_uses or outcome.quotas:
            self._settle_quotas(lease, outcome, now, prompt_tokens)
        if entry.removed:
            self._record_late(lease, outcome, now)
            return
        if tokens is not None and lease.use is not None and entry.ledger is not None:
            entry.ledger.correct(lease.use, tokens, now)
        apply_outcome(entry, lease.permit, lease.model, outcome, now, self._eligibility)
        entry.stored = None
        if outcome.verdict in SERVED:
            if latency is not None:
                entry.add_latency(latency)
            self._scheduler.served(lease, now)
        else:
            self._scheduler.failed(lease, outcome, now)
        if lease.use is not None or lease.permit.trial or lease.quota_uses:
            # Fewer tokens than were reserved, or another trial or probe.
            self.more_eligible()

    def _settle_quotas(
        self, lease: Lease, outcome: Outcome, now: float, prompt_tokens: int
    ) -> None:
        """Correct what is counted against known quotas, and learn those that a 429 names."""
        uses, project = lease.quota_uses, lease.key.project
        if outcome.verdict in SERVED:
            for use in uses:
                use.ledger.accept(use, now)
                if prompt_tokens:
                    use.ledger.correct(use, prompt_tokens, now)
        elif outcome.verdict in QUOTA:
            for use in uses:
                use.ledger.refuse(use, now)
            delay = outcome.retry_after or 0.0
            self._quotas.learn(project, lease.model, outcome.quotas, now, delay=delay, uses=uses)
            self._scheduler.quota_used(project, lease.model, now)
        for use in uses:
            use.ledger.end(use, now)
        self._scheduler.quota_settled(lease, now)

    def count_step(self, lease: Lease, now: float) -> None:
        """Count a further request of a long answer, which is sent with the same key."""
        if lease.entry.ledger is not None:
            lease.entry.ledger.reserve(now, 0)
        if self._quotas.size:
            for use in self._quotas.reserve(lease.key.project, lease.model, now, 0):
                use.ledger.end(use, now)

    def _record_late(self, lease: Lease, outcome: Outcome, now: float) -> None:
        """A removed key: its project, which other keys may share, can still be out of quota."""
        entry = lease.entry
        if not entry.key.has_own_project:
            apply_outcome(entry, lease.permit, lease.model, outcome, now, self._eligibility)

    def mark_serving(self, lease: Lease, now: float) -> None:
        """The key has begun to answer. If this attempt was its trial, the breaker closes now.

        It does not wait for the end of a long stream.
        """
        for use in lease.quota_uses:
            probes = use.probes
            use.ledger.accept(use, now)
            if use.probes != probes:
                # The next probe need not wait for the end of this stream.
                self._scheduler.quota_settled(lease, now)
                self.more_eligible()
        if lease.permit.trial and not lease.settled:
            entry = lease.entry
            if lease.permit.generation == entry.breaker.generation:
                entry.needs_attention = None
            entry.breaker.record_success(lease.permit)

    def release(self, lease: Lease, now: float) -> None:
        """Settle a lease without an outcome for the key; the request counts for ``rpm``."""
        self.record(lease, _IGNORED, now)

    def unavailable(
        self, model: str, now: float, outcome: Outcome, affinity: Affinity | None = None
    ) -> ProxyError:
        """The error for a request that gets no other attempt after ``outcome``.

        If keys are eligible and only the attempts are used up, it is the same kind of error, which
        tells the client to try again at once.
        """
        if affinity is not None:
            return self._project_unavailable(affinity, model, now, 0, outcome)
        if not self._scheduler.any_eligible(model, now):
            return self._unavailable(model, now, 0)
        if outcome.verdict in QUOTA:
            summary = self._scheduler.known(model, now)
            summary.add(Ineligible(Reason.COOLING_DOWN, now))
            return quota_exhausted(summary, model, now)
        summary, untried = self._scheduler.untried(model, now)
        return no_healthy_keys(summary, 1.0, untried)

    def models_unavailable(
        self, failed: dict[str, Outcome], now: float
    ) -> Unavailable | ModelNotFound:
        """The error for a request for the list of models, which no key could fetch.

        ``failed`` has the outcome of each key that was asked, by its id, in the order of time; the
        last one decides. Nothing is recorded, but the error is that of :meth:`unavailable` as if
        it were.
        """
        return models_unavailable(self._entries.values(), failed, now, self._eligibility)

    # -- status ----------------------------------------------------------------------------------

    def skipped_keys(
        self,
        model: str,
        now: float,
        *,
        tried: Collection[str] = (),
        tokens: int = 0,
        chosen: str | None = None,
        affinity: Affinity | None = None,
        limit: int = 20,
        reserve: float = 0.0,
    ) -> list[SkippedKey]:
        """At most ``limit`` keys that were ineligible for a request, at a bounded cost.

        With ``affinity`` the keys of other projects are not mentioned.

        ``chosen`` is the id of the key that was chosen instead. In a pool of up to ``limit`` keys
        every key is checked, in the file's order. In a larger one only keys that the scheduler has
        suspended are: a key that was not next was not skipped.
        """
        index = self._eligibility
        if not (
            index.restricted
            or tried
            or index.cooldowns.size
            or index.denials.size
            or index.key_denials.size
            or (index.quotas.size and index.quotas.concern(model))
        ):
            return []
        keys: Iterable[KeyState] = self._entries.values()
        if affinity is not None:
            keys = self._scheduler.of_project(affinity.project)[: 2 * limit]
        elif len(self._entries) > limit:
            keys = self._scheduler.suspects(model, now, tried, limit)
        candidates = index.candidates(keys, model, tried)
        others = (entry for entry in candidates if entry.id != chosen)
        found = skipped_keys(others, index, model, now, tried=tried, tokens=tokens, reserve=reserve)
        return list(islice(found, limit))

    def statuses(self, now: float) -> list[KeyStatus]:
        """Every key, in the file's order."""
        return list(self.each_status(now))

    def each_status(self, now: float) -> Iterator[KeyStatus]:
        """As :meth:`statuses`, one at a time, for a caller that does other work in between.

        The keys are those of the moment when the first one is read.
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
        projects |= self._quotas.used_up_today(now)
        if not projects:
            return 0
        return sum(
            entry.enabled and entry.key.project in projects for entry in self._entries.values()
        )

    def each_quota(self, now: float) -> Iterator[QuotaStatus]:
        """Every quota that is known: learned ones, then the configured limits of keys."""
        yield from self._quotas.each(now)
        for entry in list(self._entries.values()):
            yield from configured_quotas(entry, self._eligibility.calendar, now)

    def quotas_ending_today(self, now: float) -> list[QuotaStatus]:
        """Learned daily quotas that will be used up before the day ends, the first one first."""
        return self._quotas.ending_today(now)

    def can_serve(self, now: float) -> bool:
        """Whether the breaker of some enabled key admits requests."""
        return any(
            entry.enabled
            and (
                entry.breaker.state is BreakerState.CLOSED
                or (
                    entry.breaker.state_at(now) is BreakerState.HALF_OPEN
                    and not entry.waits_for_probe(self._settings)
                )
            )
            for entry in self._entries.values()
        )

    def healthy_keys(self, now: float) -> Iterator[Key]:
        """The keys that are enabled and whose breaker is closed, in the file's order."""
        for entry in self._entries.values():
            if entry.enabled and entry.breaker.state_at(now) is BreakerState.CLOSED:
                yield entry.key

    def half_open_keys(self, now: float) -> Iterator[Key]:
        """The enabled keys whose breaker waits for a trial, in the file's order."""
        for entry in self._entries.values():
            if _awaits_trial(entry, now):
                yield entry.key

    def projects(self) -> list[str]:
        """The projects of all keys, in the file's order."""
        return self._scheduler.projects()

    def has_project(self, project: str) -> bool:
        """Whether a key of ``project`` is configured."""
        return bool(self._scheduler.of_project(project))

    def is_enabled(self, project: str) -> bool:
        """Whether a key of ``project`` is enabled."""
        return any(entry.enabled for entry in self._scheduler.of_project(project))

    def keys_to_ask(self, project: str, now: float, number: int) -> list[Key]:
        """Keys of ``project`` for calls that use no model's quota: those that work come first."""
        enabled = [entry for entry in self._scheduler.of_project(project) if entry.enabled]
        enabled.sort(key=lambda entry: entry.breaker.state_at(now) is not BreakerState.CLOSED)
        return [entry.key for entry in enabled[:number]]

    def has_one_project(self) -> bool:
        """Whether all keys belong to the same project, so that any key can read any resource."""
        return len(self._scheduler.projects()) <= 1

    def allowed_models(self) -> frozenset[str] | None:
        """The models that the enabled keys may serve; ``None`` if any key may serve all."""
        allowed: set[str] = set()
        for entry in self._entries.values():
            if entry.enabled:
                if not entry.key.models:
                    return None
                allowed |= entry.key.models
        return frozenset(allowed)

    def healthy_key(self, key_id: str, now: float) -> Key | None:
        """The key with this id, if it is one of :meth:`healthy_keys`."""
        entry = self._entries.get(key_id)
        if (
            entry is None
            or not entry.enabled
            or entry.breaker.state_at(now) is not BreakerState.CLOSED
        ):
            return None
        return entry.key

    # -- the operator's commands -----------------------------------------------------------------

    def enable(self, id_or_name: str) -> None:
        """Enable a key, whatever the file says. Raises :class:`UnknownKey`, as the next ones do."""
        entry = self._find(id_or_name)
        self._change_override(entry, replace(self._override_of(entry.id), enabled=True))

    def disable(self, id_or_name: str) -> None:
        """Disable a key until it is enabled again, over reloads and restarts."""
        entry = self._find(id_or_name)
        self._change_override(entry, replace(self._override_of(entry.id), enabled=False))

    def set_weight(self, id_or_name: str, weight: int | None) -> None:
        """Set the weight of a key, whatever the file says; ``None`` restores the file's weight."""
        if weight is not None and weight < 1:
            raise ValueError(f"a weight is a whole number of at least 1, not {weight}")
        entry = self._find(id_or_name)
        self._change_override(entry, replace(self._override_of(entry.id), weight=weight))

    def reset(self, id_or_name: str) -> None:
        """Close a key's breaker, end its project's cooldowns, and forget that it needs attention.

        The failures in its health window stay; they age out.
        """
        entry = self._find(id_or_name)
        entry.breaker.close()
        entry.needs_attention = None
        entry.stored = None
        entry.forbidden_model = None
        self._eligibility.forget(entry)
        self._scheduler.mark_project_eligible(entry)
        self.more_eligible()

    def reset_many(self, key_ids: Collection[str], batch: int) -> Iterator[None]:
        """As :meth:`reset` for each of these keys, in steps of about ``batch`` keys.

        Other calls may be made between two steps. Keys that were removed by then are ignored.
        """
        chosen = [entry for entry in map(self._entries.get, key_ids) if entry is not None]
        projects = {entry.key.project for entry in chosen}
        for number, entry in enumerate(chosen, 1):
            self._eligibility.forget(entry)
            if number % batch == 0:
                yield
        # Only now, or a key that is checked in between would be marked ineligible again.
        for number, entry in enumerate(list(self._entries.values()), 1):
            if entry.key.project in projects:
                if entry.id in key_ids:
                    entry.breaker.close()
                    entry.needs_attention = entry.forbidden_model = None
                    entry.stored = None
                self._scheduler.mark_eligible(entry)
            if number % batch == 0:
                yield
        self.more_eligible()

    def reject(self, key_id: str, outcome: Outcome, now: float) -> bool:
        """Record that Google rejected a key outside of any lease.

        Returns whether there is such a key.
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
        """Take a new configuration; the history of a key whose secret is the same stays.

        Leases of removed keys may still be settled; that can only affect a project that other keys
        share.
        """
        other_settings = settings != self._settings
        self._settings = self._eligibility.settings = settings
        self._entries, diff = compare_keys(self._entries, keys, self._new_entry)
        if other_settings:
            for entry in self._entries.values():
                entry.configure(entry.key, settings, self._override_of(entry.id))
        if diff:
            self._follow(diff, now)
        if other_settings or diff.lists_models:
            self._scheduler = KeyScheduler(self._entries, self._eligibility)
        else:
            self._scheduler.update(self._entries, diff)
        self._count_limits()
        self.more_eligible()
        return diff.names()

    def set_wall_clock(self, now: float, wall: float) -> None:
        """Set the time of the wall clock, in epoch seconds: at the start, and whenever it was set.

        This changes only cooldowns that end at midnight.
        """
        calendar = self._eligibility.calendar
        calendar.epoch_offset = wall - now
        for cooldowns in (self._eligibility.cooldowns, self._eligibility.denials):
            cooldowns.end_days(now, calendar.next_midnight)
        self._quotas.wall_clock_set(now)
        for entry in self._entries.values():
            entry.wall_clock_set(now)
        # Marks that end at the earlier midnight are wrong now.
        self._scheduler = KeyScheduler(self._entries, self._eligibility)
        self.more_eligible()

    def prepare_snapshot(self, batch: int, now: float) -> Iterator[None]:
        """Do the work of :meth:`snapshot` in advance, in steps of ``batch`` changed keys.

        A key takes some 15 us. Other calls may be made between two steps; a key that changes then
        is left to :meth:`snapshot` itself. Quotas are in it as well.
        """
        for number, _ in enumerate(self._quotas.prepare(now), 1):
            if number % batch == 0:
                yield
        changed = 0
        for entry in list(self._entries.values()):
            if entry.stored is None:
                entry.snapshot()
                changed += 1
                if changed % batch == 0:
                    yield

    def snapshot(self, now: float) -> PoolSnapshot:
        """The state to keep over a restart."""
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
            quotas=self._quotas.stored(now),
        )

    def restore(self, snapshot: PoolSnapshot, now: float) -> None:
        """Restore a :meth:`snapshot`, before the first lease.

        Cooldowns that have ended since are ignored. The history and overrides of keys that are not
        configured are kept, in case they return. Nothing lasts longer than its rule allows,
        whatever the clock said when the snapshot was taken; if that clock was ahead of the present
        one, no time has passed since.
        """
        to_pool_time = now - max(self._eligibility.calendar.epoch(now), snapshot.taken_at)
        self._overrides = dict(snapshot.overrides)
        self._quotas.restore(snapshot.quotas, to_pool_time, now)
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
                until, table = cooldown.until + to_pool_time, cooldowns
                if cooldown.reason == FORBIDDEN:
                    until = min(until, now + self._settings.recovery_time)
                    table = self._eligibility.key_denials
                table.add(replace(cooldown, until=until), now, restored=True)
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

    def _follow(self, diff: KeyDiff, now: float) -> None:
        """Configure updated keys, restore returned ones, and store the history of removed ones."""
        settings = self._settings
        tables = (self._eligibility.cooldowns, self._eligibility.denials)
        move_cooldowns(diff, self._entries.values(), tables, self._quotas, now)
        for entry, _, key in diff.updated:
            entry.configure(key, settings, self._override_of(entry.id))
        for entry in diff.added:
            kept = self._removed.pop(entry.id, None)
            if kept is not None:
                entry.restore(kept, settings, now)
        for entry in diff.removed:
            entry.mark_removed()
            self._remember_removed(entry.history())

    def _lease(self, entry: KeyState, model: str, now: float, tokens: int) -> Lease:
        permit = entry.breaker.try_acquire(now)
        if permit is None:  # pragma: no cover - the key was checked in the same moment
            raise AssertionError("a key was chosen whose breaker admits nothing")
        entry.count_request(now)
        if entry.ledger is None:
            lease = Lease(entry, entry.key, model, permit, None)
        else:
            use = entry.ledger.reserve(now, tokens)
            self._scheduler.mark_if_ineligible(entry, now)
            lease = Lease(entry, entry.key, model, permit, use)
        if self._quotas.size:
            lease.quota_uses = self._quotas.reserve(entry.key.project, model, now, tokens)
            if lease.quota_uses:
                self._scheduler.quota_used(entry.key.project, model, now)
        return lease

    def _unavailable(
        self, model: str, now: float, tokens: int, reserve: float = 0.0
    ) -> Unavailable | ModelNotFound:
        summary = self._scheduler.summary(model, now, tokens, reserve)
        return unavailable(summary, model, now, self._settings.cooldown)

    def _project_unavailable(
        self,
        affinity: Affinity,
        model: str,
        now: float,
        tokens: int,
        outcome: Outcome | None = None,
        reserve: float = 0.0,
    ) -> ProxyError:
        summary = self._scheduler.summary_of_project(affinity.project, model, now, tokens, reserve)
        if outcome is not None and outcome.verdict in QUOTA and not summary.out_of_quota:
            summary.add(Ineligible(Reason.COOLING_DOWN))
        return project_unavailable(affinity, summary, model, now, self._settings.cooldown)

    def _breaker_changed(self, entry: KeyState, before: BreakerState, after: BreakerState) -> None:
        entry.stored = None
        self._scheduler.mark_eligible(entry)
        change = Transition(entry.key.name, before, after)
        if after is BreakerState.OPEN:
            attention, error = entry.needs_attention, entry.last_error
            change = replace(change, needs_attention=attention, last_error=error)
        else:
            self.more_eligible()
        self._listener.breaker_changed(change)

    def _cooldown_set(self, cooldown: Cooldown) -> None:
        until = self._eligibility.calendar.epoch(cooldown.until)
        # The constructor takes half as long as replace().
        reported = Cooldown(cooldown.project, cooldown.model, until, cooldown.reason)
        self._listener.cooldown_set(reported)

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
        self._count_limits()
        self.more_eligible()
        self._listener.override_changed(entry.key.name, override)

    def _count_limits(self) -> None:
        limits = [entry.key.limits for entry in self._entries.values() if entry.enabled]
        self.requests_per_minute = sum(each.rpm or 0 for each in limits)
        self.has_limits = any(each.rpm is not None or each.tpm is not None for each in limits)

    def _override_of(self, key_id: str) -> Override:
        return self._overrides.get(key_id, _NO_OVERRIDE)


def _nothing() -> None:
    """Does nothing."""


def _awaits_trial(entry: KeyState, now: float) -> bool:
    breaker = entry.breaker
    if breaker.state is BreakerState.CLOSED or not entry.enabled or breaker.trial_running:
        return False
    return breaker.state_at(now) is BreakerState.HALF_OPEN
