"""The state as values."""

from __future__ import annotations

from fakes.stores import NOON, audit_event, comparable, full_state, idle_key, minute

from gemproxy.pool.snapshot import Override, PoolSnapshot
from gemproxy.state.kinds import KINDS, METRICS, merge_states
from gemproxy.state.model import (
    AuditTrail,
    State,
)


class TestMerging:
    def test_newer_state_stands_and_history_stays(self):
        older = full_state()
        newer = State(
            PoolSnapshot(
                NOON + 5,
                (idle_key("spare"),),
                overrides=(("primary-fingerprint", Override(weight=4)),),
            ),
            metrics=(minute(requests=50),),
            events=(audit_event(NOON + 3),),
        )
        merged = merge_states(older, newer)
        assert merged.taken_at == NOON + 5
        assert (merged.pool.cooldowns, merged.signatures) == ((), {})
        assert {kept.name for kept in merged.pool.keys} == {"primary", "spare"}
        assert dict(merged.pool.overrides) == {
            "primary-fingerprint": Override(weight=4),
            "absent-fingerprint": Override(weight=7),
        }
        assert sorted(row.requests for row in merged.metrics) == [5, 5, 50]
        assert [event.at - NOON for event in merged.events] == [-5, 0, 3]

    def test_with_itself_it_is_the_same(self):
        assert comparable(merge_states(full_state(), full_state())) == comparable(full_state())

    def test_row_of_both_is_the_newer(self):
        assert METRICS.merge([minute(requests=1)], [minute(requests=2)]) == (minute(requests=2),)


def test_the_full_state_of_the_tests_has_rows_of_every_kind():
    """So every kind is written, read, exported and merged by the tests of the stores."""
    assert [kind.name for kind in KINDS if not kind.of(full_state())] == []


class TestAuditTrail:
    def test_latest_events_are_kept(self):
        trail = AuditTrail(capacity=3)
        for n in range(5):
            trail.keep(audit_event(NOON + n))
        assert [event.at - NOON for event in trail.events()] == [2, 3, 4]

    def test_restored_events_stand_before_later_ones(self):
        trail = AuditTrail(capacity=3)
        trail.keep(audit_event(NOON + 9))
        trail.restore([audit_event(NOON + n) for n in range(4)])
        assert [event.at - NOON for event in trail.events()] == [2, 3, 9]

    def test_event_that_is_restored_twice_is_there_once(self):
        trail = AuditTrail()
        trail.restore([audit_event()])
        trail.restore([audit_event()])
        assert len(trail.events()) == 1
