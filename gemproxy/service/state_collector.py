"""Collect the state of the running parts, and restore it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from twisted.logger import Logger

from gemproxy.core.client_registry import ClientRegistry
from gemproxy.core.limits import ClientLimits
from gemproxy.core.stored_answers import AnswerStore
from gemproxy.pool.pool import KeyPool, UnknownKey
from gemproxy.pool.resources import ResourceRegistry
from gemproxy.pool.snapshot import Override
from gemproxy.state.model import AuditTrail, CountedRows, State
from gemproxy.telemetry.ledger import MetricsLedger
from gemproxy.telemetry.records import RecordBuffer
from gemproxy.telemetry.usage import UsageLedger
from gemproxy.translate.shared.signatures import RememberedCall, SignatureStore

#: Snapshots of changed keys in one turn of the reactor; about 15 us each.
_BATCH = 100


@dataclass(frozen=True)
class StateCollector:
    """Takes a :class:`State` from the running parts, and restores one into them.

    ``now`` is monotonic time, ``wall`` gives epoch time (by default the same).
    """

    pool: KeyPool
    signatures: SignatureStore
    metrics: MetricsLedger
    audit: AuditTrail
    usage: UsageLedger
    records: RecordBuffer
    wall: Callable[[], float] | None = None
    resources: ResourceRegistry = field(default_factory=ResourceRegistry)
    answers: AnswerStore = field(default_factory=AnswerStore)
    limits: ClientLimits = field(default_factory=ClientLimits)
    clients: ClientRegistry = field(default_factory=lambda: ClientRegistry(bytes, float))

    _log = Logger()

    def prepare(self, now: float) -> Iterator[None]:
        """Do most of the work of :meth:`take` in advance, in short steps."""
        # Changed rows are built and cached here; take() finds them ready.
        self.metrics.rows()
        yield from self.usage.prepare()
        yield from self.records.prepare()
        yield from self.pool.prepare_snapshot(_BATCH, now)

    def take(self, now: float) -> State:
        """The state at ``now``."""
        self.answers.evict(self._wall(now))
        answers, texts = self.answers.rows() if self.answers.persists else ((), {})
        state = State(
            self.pool.snapshot(now),
            dict(self.signatures.items()),
            self.metrics.rows(),
            self.audit.events(),
            self.resources.resources(self._wall(now)),
            self.usage.rows(),
            answers=answers,
            answer_texts=texts,
            client_limits=self.limits.rows(),
            records=self.records.take(),
            clients=self.clients.rows(),
            client_seen=self.usage.last_seen.rows(),
        )
        self.metrics.forget(self._wall(now))
        self.usage.forget(self._wall(now))
        return state

    def restore(self, state: State, now: float) -> None:
        """Restore ``state`` before the first request."""
        self._each(
            lambda: self.pool.restore(state.pool, now),
            lambda: self._remember(state.signatures),
            lambda: self.metrics.restore(state.metrics, self._wall(now)),
            lambda: self.audit.restore(state.events),
            lambda: self.resources.restore(state.resources),
            lambda: self.usage.restore(state.usage, self._wall(now)),
            lambda: self._restore_answers(state, now),
            lambda: self.limits.restore(state.client_limits),
            lambda: self.clients.restore(state.clients),
            lambda: self.usage.last_seen.restore(state.client_seen),
        )

    def recall(self, counted: CountedRows, now: float) -> None:
        """Restore the counts of the time that the wall clock was set to."""
        self._each(
            lambda: self.metrics.recall(counted.metrics, self._wall(now)),
            lambda: self.usage.recall(counted.usage, self._wall(now)),
        )

    def restore_late(self, state: State, now: float) -> None:
        """Restore from an older state what does not conflict with what has happened since.

        These are overrides of keys without a newer override, signatures, counts, events, resources
        and clients that have not been made or deleted since. The histories of keys are not
        restored: they have newer ones by now.
        """
        self._each(
            lambda: self._apply_overrides(state.pool.overrides, now),
            lambda: self._remember(state.signatures),
            lambda: self.metrics.restore(state.metrics, self._wall(now)),
            lambda: self.audit.restore(state.events),
            lambda: self.resources.restore(state.resources),
            lambda: self.usage.restore(state.usage, self._wall(now)),
            lambda: self._restore_answers(state, now),
            lambda: self.limits.restore(state.client_limits),
            lambda: self.clients.restore(state.clients),
            lambda: self.usage.last_seen.restore(state.client_seen),
        )

    def _restore_answers(self, state: State, now: float) -> None:
        if self.answers.persists:
            self.answers.restore(state.answers, state.answer_texts, self._wall(now))

    def _wall(self, now: float) -> float:
        return now if self.wall is None else self.wall()

    def _each(self, *steps: Callable[[], None]) -> None:
        """Run all steps; a defective state must not prevent the start."""
        for step in steps:
            try:
                step()
            except Exception:  # noqa: BLE001 - whatever was wrong, the rest is still of use
                self._log.failure("a part of the stored state could not be used")

    def _apply_overrides(self, overrides: tuple[tuple[str, Override], ...], now: float) -> None:
        said_since = dict(self.pool.snapshot(now).overrides)
        for key_id, override in overrides:
            if key_id not in said_since:
                self._apply_override(key_id, override)

    def _apply_override(self, key_id: str, override: Override) -> None:
        try:
            if override.enabled is not None:
                (self.pool.enable if override.enabled else self.pool.disable)(key_id)
            if override.weight is not None:
                self.pool.set_weight(key_id, override.weight)
        except UnknownKey:
            # The store keeps it in case the key comes back.
            return

    def _remember(self, older: Mapping[str, RememberedCall]) -> None:
        """Insert ``older`` before the present ones, so that it is evicted first."""
        present = dict(self.signatures.items())
        for call_id, call in {**older, **present}.items():
            if call_id not in present:
                self.signatures.remember(call_id, call)
        for call_id, call in present.items():
            self.signatures.remember(call_id, call)
