"""Checkpoints of real parts into a store in memory, and once into real files and threads."""

from __future__ import annotations

from time import thread_time

import pytest
from fakes.clocks import DAY, TwoClocks
from fakes.stores import (
    NOON,
    ImmediateThreadPool,
    MemoryStateStore,
    audit_event,
    comparable,
    full_state,
    minute,
)
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs

from gemproxy.clock import wall_clock
from gemproxy.core.context import Attempt, RequestContext
from gemproxy.core.errors import ConfigError, Fault, SchemaTooNew, StorageUnavailable
from gemproxy.pool.key import Key
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool
from gemproxy.pool.snapshot import Override, PoolSnapshot
from gemproxy.pricing.prices import PriceList
from gemproxy.secret import Secret
from gemproxy.service.checkpoint import Checkpoint, StorageThread
from gemproxy.service.state_collector import StateCollector
from gemproxy.state.fallback import FallbackStateStore, NullStateStore
from gemproxy.state.json.store import JSONStateStore
from gemproxy.state.model import AuditTrail, State
from gemproxy.state.sqlite.store import SQLiteStateStore
from gemproxy.telemetry.ledger import MetricsLedger
from gemproxy.telemetry.records import RecordBuffer
from gemproxy.telemetry.usage import UsageLedger
from gemproxy.translate.shared.signatures import RememberedCall, SignatureStore

MODEL = "gemini-3.8-flash"
SUCCESS = Outcome(Verdict.SUCCESS, 200)
EXHAUSTED = Outcome(Verdict.QUOTA_DAY, 429, until=NOON + 7 * 3600)
INVALID = Outcome(Verdict.KEY, 400, reason="invalid", message="API key not valid.")


def keys(count=3):
    return [
        Key(f"k{n}", Secret(f"test-key-{n}-0123456789abcdef"), project=f"p{n}")
        for n in range(count)
    ]


class Running:
    """A part of a daemon: what has state, a checkpoint of it, a clock."""

    def __init__(self, store=None, pool=None, threads=None, clock=None, restored=lambda: None):
        self.store = store or MemoryStateStore()
        self.clock = clock or MemoryReactorClock()
        self.clock.callFromThread = lambda f, *a, **k: f(*a, **k)
        if clock is None:
            self.clock.advance(NOON)
        self.threads = threads or ImmediateThreadPool()
        self.pool = pool or KeyPool(keys())
        self.pool.set_wall_clock(self.clock.seconds(), wall_clock(self.clock)())
        self.live = StateCollector(
            self.pool,
            SignatureStore(),
            MetricsLedger(),
            AuditTrail(),
            UsageLedger(PriceList(), {}),
            RecordBuffer(str),
            wall_clock(self.clock),
        )
        self.observed = []
        self.checkpoint = Checkpoint(
            self.clock,
            5.0,
            self.live,
            self.store,
            lambda status, seconds: self.observed.append((status.backend, seconds >= 0)),
            self.threads,
            restored=restored,
        )

    def set_wall_clock(self, step):
        self.clock.set_wall_clock(step)
        self.pool.set_wall_clock(self.clock.seconds(), self.clock.wall())

    def count(self, requests):
        """Let so many requests end now, and a checkpoint follow."""
        for _ in range(requests):
            done = RequestContext("req_1", "/v1/chat/completions", self.clock.seconds(), MODEL)
            done.epoch_offset = self.clock.wall() - self.clock.seconds()
            self.live.metrics.request_ended(done, 200, 0.0)
        self.clock.advance(5)

    def hours(self):
        """What the store has counted, by hour."""
        rows = self.store.load().metrics
        return {row.start: row.requests for row in rows if row.period == 3600}

    def pass_time(self, seconds):
        self.clock.pump([0.5] * int(seconds * 2))

    def serve(self, outcome=SUCCESS, **options):
        now = self.clock.seconds()
        lease = self.pool.acquire(MODEL, now, **options)
        self.pool.record(lease, outcome, now)
        attempt = Attempt(lease.key.id, lease.key.name, now)
        done = RequestContext("req_1", "/v1/chat/completions", now, MODEL, attempts=[attempt])
        self.live.metrics.request_ended(done, 200, 0.0)


@pytest.fixture
def running():
    made = Running()
    made.checkpoint.startService()
    return made


class TestRounds:
    def test_every_interval_one_is_written(self, running):
        running.pass_time(4.5)
        assert running.store.saved == []
        running.pass_time(11)
        assert [state.taken_at - NOON for state in running.store.saved] == [5, 10, 15]
        assert running.observed == [("sqlite", True)] * 3

    def test_unchanged_keys_are_the_same_objects(self, running):
        running.pass_time(5)
        running.serve()
        running.pass_time(5)
        before, after = running.store.saved
        assert [a is b for a, b in zip(before.pool.keys, after.pool.keys, strict=True)].count(
            False
        ) == 1

    def test_interval_may_be_changed(self, running):
        running.checkpoint.interval = 1.0
        running.pass_time(3)
        assert len(running.store.saved) == 3
        assert running.checkpoint.interval == 1.0

    def test_many_changed_keys_are_looked_at_in_several_turns(self):
        running = Running(pool=KeyPool(keys(450)))
        running.checkpoint.startService()
        for _ in range(450):
            running.serve()
        delays = []
        call_later = running.clock.callLater
        running.clock.callLater = lambda delay, *what: (
            delays.append(delay) or call_later(delay, *what)
        )
        running.clock.advance(5)
        assert delays.count(0) == 4
        assert sum(kept.requests_total for kept in running.store.saved[0].pool.keys) == 450

    def test_store_that_raises_against_its_promise_does_not_end_the_rounds(self, running):
        running.store.failure = ZeroDivisionError("a defect")
        running.pass_time(10)
        running.store.failure = None
        running.pass_time(5)
        assert len(running.store.saved) == 1

    def test_stop_writes_the_last_one_closes_the_store_and_ends_the_thread(self, running):
        running.pass_time(7)
        running.serve()
        stopped = []
        running.checkpoint.stopService().addCallback(stopped.append)
        assert stopped
        assert [state.taken_at - NOON for state in running.store.saved] == [5, 7]
        assert running.store.closed
        assert not running.threads.running

    def test_stop_waits_for_the_round_that_runs(self, running):
        running.threads.hold = True
        running.pass_time(5)
        stopped = []
        running.checkpoint.stopService().addCallback(stopped.append)
        assert stopped == []
        assert not running.store.closed
        running.threads.release()
        assert stopped
        assert len(running.store.saved) == 2
        assert running.store.closed

    def test_stop_with_a_store_that_fails_is_still_a_stop(self, running):
        running.store.failure = ZeroDivisionError("a defect")
        stopped = []
        running.checkpoint.stopService().addCallback(stopped.append)
        assert stopped
        assert running.store.closed


class TestRestart:
    def test_everything_goes_on(self, running):
        running.serve()
        running.serve(EXHAUSTED)
        running.serve(INVALID)
        running.pool.disable("k0")
        running.pool.set_weight("k1", 5)
        running.live.signatures.remember("call_1", RememberedCall("c2ln", issued_upstream=True))
        running.live.audit.keep(audit_event())
        running.checkpoint.stopService()

        again = Running(MemoryStateStore(running.store.state))
        again.checkpoint.startService()
        assert again.pool.statuses(NOON) == running.pool.statuses(NOON)
        assert again.live.signatures.recall("call_1") == RememberedCall(
            "c2ln", issued_upstream=True
        )
        assert again.live.metrics.rows() == running.live.metrics.rows()
        assert again.live.audit.events() == (audit_event(),)

    def test_without_a_state_it_begins_afresh(self, running):
        assert running.pool.counts(NOON).healthy == 3

    def test_what_is_over_is_not_restored(self, running):
        running.serve(EXHAUSTED)
        running.checkpoint.stopService()
        again = Running(running.store)
        again.clock.advance(8 * 3600)
        again.checkpoint.startService()
        assert [status.cooldowns for status in again.pool.statuses(again.clock.seconds())] == [
            ()
        ] * 3

    def test_part_that_makes_no_sense_does_not_keep_the_rest_from_being_restored(self):
        weird = full_state(metrics=(minute(NOON, requests="many"),))
        running = Running(MemoryStateStore(weird))
        with capturedLogs() as events:
            running.checkpoint.startService()
        assert "a part of the stored state could not be used" in [
            event["log_format"] for event in events
        ]
        assert len(running.live.audit.events()) == 2

    def test_newer_schema_ends_the_start_with_one_line_and_status_78(self):
        running = Running()
        running.store.failure = SchemaTooNew("state/gemproxy.db: its schema has version 9")
        with pytest.raises(SystemExit) as end:
            running.checkpoint.startService()
        assert end.value.code == 78
        assert end.value.reason == "state/gemproxy.db: its schema has version 9"
        assert not running.threads.running

    def test_a_state_that_does_not_fit_the_files_ends_the_start_and_frees_the_store(self):
        def refuse():
            raise ConfigError((Fault("clients.yaml", 2, "clients[0].name", "no"),))

        running = Running(restored=refuse)
        with pytest.raises(SystemExit) as end:
            running.checkpoint.startService()
        assert end.value.code == 78
        assert end.value.reason == "clients.yaml:2: clients[0].name: no"
        assert running.store.closed
        assert not running.threads.running


class TestDurableSave:
    """What an operator was told is on the disk."""

    def result(self, running):
        results = []
        Deferred.fromCoroutine(running.checkpoint.save_durably()).addCallback(results.append)
        running.clock.pump([0.0] * 20)
        return results[0]

    def test_it_is_written_at_once(self, running):
        assert self.result(running) is True
        assert len(running.store.saved) == 1

    def test_a_disk_that_takes_nothing_is_told(self, running):
        running.store.save = lambda _: None
        running.store.status = lambda: _status("none", "disk full")
        assert self.result(running) is False

    def test_without_a_store_there_is_nothing_to_keep(self):
        running = Running(NullStateStore())
        running.checkpoint.startService()
        assert self.result(running) is True


class TestLateState:
    """A database that could not be read at the start comes back while the daemon serves."""

    def late(self, running):
        first, second, third = (key.id for key in keys())
        running.store.late = State(
            PoolSnapshot(
                NOON - 100,
                overrides=(
                    (first, Override(enabled=False)),
                    (second, Override(enabled=False, weight=7)),
                    (third, Override(enabled=True, weight=7)),
                    ("absent-fingerprint", Override(enabled=False)),
                ),
            ),
            {"call_old": RememberedCall("b2xk", issued_upstream=True)},
            (minute(NOON, key="k0"),),
            (audit_event(NOON - 200),),
        )

    def test_operator_s_words_hold_unless_something_was_said_since(self, running):
        running.pool.enable("k0")
        self.late(running)
        running.pass_time(5)
        statuses = {status.name: status for status in running.pool.statuses(NOON)}
        assert statuses["k0"].enabled
        assert (statuses["k1"].enabled, statuses["k1"].weight) == (False, 7)
        assert (statuses["k2"].enabled, statuses["k2"].weight) == (True, 7)

    def test_counts_add_up_and_are_written_at_once(self, running):
        running.serve()
        self.late(running)
        running.pass_time(5)
        first, second = running.store.saved
        counted = {row.key: row.requests for row in second.metrics if row.period == 60}
        assert counted == {"k0": 6}
        assert first.taken_at == second.taken_at

    def test_signatures_and_events_stand_before_the_later_ones(self, running):
        running.live.signatures.remember("call_new", RememberedCall("bmV3", issued_upstream=True))
        running.live.audit.keep(audit_event(NOON))
        self.late(running)
        running.pass_time(5)
        assert [call_id for call_id, _ in running.live.signatures.items()] == [
            "call_old",
            "call_new",
        ]
        assert [event.at - NOON for event in running.live.audit.events()] == [-200, 0]


class TestLog:
    def told(self, running, seconds):
        with capturedLogs() as events:
            running.pass_time(seconds)
        return [event["log_format"].split(":")[0] for event in events]

    def test_fallback_is_told_once_and_so_is_the_return(self, running):
        assert self.told(running, 5) == []
        running.store.status = lambda: status
        status = _status("json", "disk full")
        assert self.told(running, 15) == ["the state cannot be kept in SQLite"]
        status = _status("json", "read-only")
        assert self.told(running, 15) == ["the state cannot be kept in SQLite"]
        status = _status("sqlite", "read-only", degraded=False)
        assert self.told(running, 15) == ["the state is kept in SQLite again"]

    def test_what_was_moved_aside_at_the_start_is_told(self):
        running = Running()
        running.store.status = lambda: _status("sqlite", "damaged; moved", degraded=False)
        with capturedLogs() as events:
            running.checkpoint.startService()
        assert [event["reason"] for event in events] == ["damaged; moved"]


def _status(backend, error, *, degraded=True):
    from gemproxy.core.interfaces import StoreStatus

    return StoreStatus(backend, NOON, error, NOON, NOON if degraded else None)


@pytest.mark.parametrize("kind", [MemoryStateStore, None])
@pytest.mark.parametrize("step", [-3 * DAY, 3 * DAY, -7200.0, 7200.0])
def test_counts_are_added_up_when_the_clock_comes_by_again(tmp_path, step, kind):
    store = kind() if kind else FallbackStateStore(SQLiteStateStore(tmp_path / "a.db"), None)
    running = Running(store, clock=TwoClocks(NOON))
    running.checkpoint.startService()
    running.count(3)
    running.set_wall_clock(step)
    running.count(2)
    running.set_wall_clock(-step)
    running.count(4)
    running.set_wall_clock(step)
    running.count(1)
    assert running.hours() == {int(NOON): 7, int(NOON + step): 3}
    # Also where the first to know of the step is another process.
    running.checkpoint.stopService()
    again = Running(store, clock=TwoClocks(NOON + 100))
    again.checkpoint.startService()
    again.count(1)
    again.set_wall_clock(step)
    again.count(1)
    assert again.hours() == {int(NOON): 8, int(NOON + step): 4}
    again.checkpoint.stopService()


def test_a_checkpoint_survives_a_store_that_cannot_tell_what_it_counted():
    running = Running(clock=TwoClocks(NOON))
    running.checkpoint.startService()
    running.count(3)
    running.store.failure = StorageUnavailable("disk full")
    running.set_wall_clock(-3 * DAY)
    running.count(2)
    running.store.failure = None
    running.count(0)
    running.count(0)
    assert sum(running.hours().values()) == 5


def test_real_thread_and_files(tmp_path):
    """The thread answers through the reactor's queue, which is drained by hand here."""
    from queue import Queue

    def store():
        return FallbackStateStore(
            SQLiteStateStore(tmp_path / "a.db"), JSONStateStore(tmp_path / "a.json")
        )

    def run_until(running, condition):
        while not condition():
            function, arguments = running.queue.get(timeout=10)
            function(*arguments)

    def start(later=0.0):
        running = Running(store(), threads=StorageThread())
        running.clock.advance(later)
        running.queue = Queue()
        running.clock.callFromThread = lambda f, *a: running.queue.put((f, a))
        running.checkpoint.startService()
        return running

    running = start()
    running.serve()
    running.pool.disable("k2")
    running.clock.advance(5)
    run_until(running, lambda: running.observed)
    assert running.observed == [("sqlite", True)]
    stopped = []
    running.checkpoint.stopService().addCallback(stopped.append)
    run_until(running, lambda: stopped)

    again = start(5.0)
    assert again.pool.statuses(NOON + 5) == running.pool.statuses(NOON + 5)
    again.checkpoint.stopService().addCallback(stopped.append)
    run_until(again, lambda: len(stopped) == 2)


def test_reactor_is_held_for_a_few_milliseconds_at_ten_thousand_keys():
    """The best of a few runs, since the machine of a test is shared."""
    assert min(_longest_step() for _ in range(3)) < 0.02


def _longest_step():
    running = Running(pool=KeyPool(keys(10_000)))
    now = NOON
    for n in range(10_000):
        running.live.signatures.remember(f"call_{n}", RememberedCall("c2ln", issued_upstream=True))
        running.serve()
    longest = 0.0
    steps = running.live.prepare(now)
    while True:
        began = thread_time()
        more = next(steps, 1)
        longest = max(longest, thread_time() - began)
        if more == 1:
            break
    began = thread_time()
    state = running.live.take(now)
    longest = max(longest, thread_time() - began)
    assert len(state.pool.keys) == len(state.signatures) == 10_000
    return longest


def test_states_of_live_parts_and_stores_fit(tmp_path):
    running = Running()
    running.serve()
    running.serve(EXHAUSTED)
    running.serve(INVALID)
    running.pool.disable("k0")
    running.live.audit.keep(audit_event())
    state = running.live.take(NOON)
    for store in (SQLiteStateStore(tmp_path / "a.db"), JSONStateStore(tmp_path / "a.json")):
        store.save(state)
        assert comparable(store.load(NOON)) == comparable(state)
        store.close()
    assert "0123456789abcdef" not in repr(state)


def test_failing_store_of_the_contract_s_kind_is_told_in_its_status():
    store = MemoryStateStore()
    store.failure = StorageUnavailable("disk full")
    assert store.status().backend == "none"
