"""The value that tells of a change."""

from dataclasses import FrozenInstanceError

import pytest

from gemproxy.core.audit import Actor, AuditEvent

EVENT = AuditEvent(1.0, Actor("192.0.2.1", "admin"), "key.reset", "alpha", "id", {}, {})


@pytest.mark.parametrize("field", ["at", "actor", "action", "target", "before", "after"])
def test_what_happened_does_not_change_any_more(field):
    with pytest.raises(FrozenInstanceError):
        setattr(EVENT, field, None)


def test_equal_events_are_equal():
    again = AuditEvent(1.0, Actor("192.0.2.1", "admin"), "key.reset", "alpha", "id", {}, {})
    assert again == EVENT
