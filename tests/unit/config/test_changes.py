"""What a reload would change, told by names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gemproxy.config.changes import KeyUpdate, SettingsChange, compare, with_kept_keys
from gemproxy.config.settings import (
    PersistenceSettings,
    ProxySettings,
    RetrySettings,
    Settings,
)
from gemproxy.pool.key import Key
from gemproxy.secret import Secret

ONE = Key("one", Secret("test-key-one-0123456789"), project="one")
TWO = Key("two", Secret("test-key-two-0123456789"), project="two")


def test_the_same_reading_twice_changes_nothing():
    assert compare(Settings((ONE, TWO)), Settings((TWO, ONE))).is_empty


def test_keys_are_known_by_their_secrets():
    renamed = replace(ONE, name="uno", weight=3)
    three = replace(TWO, secret=Secret("test-key-three-012345678"))
    assert compare(Settings((ONE, TWO)), Settings((renamed, three))) == SettingsChange(
        keys_added=("two",),
        keys_removed=("two",),
        keys_updated=(KeyUpdate("uno", ("name", "weight")),),
    )


def test_changed_settings_are_named_by_their_paths():
    new = Settings((ONE,), retry=RetrySettings(max_attempts=5))
    change = compare(Settings((ONE,)), new)
    assert change.settings == ("retry.maxAttempts",)
    assert change.restart_required == ()


def test_listener_and_database_need_a_restart():
    new = Settings(
        (ONE,),
        proxy=ProxySettings(port=1, admin_endpoint="unix:/a", max_concurrent_requests=9),
        persistence=PersistenceSettings(path=Path("other.db")),
    )
    change = compare(Settings((ONE,)), new)
    assert "proxy.maxConcurrentRequests" in change.settings
    assert change.restart_required == ("proxy.port", "proxy.adminEndpoint", "persistence.path")


def test_a_changed_token_is_named_and_not_shown():
    old = Settings((ONE,), proxy=ProxySettings(admin_token=Secret("a" * 30)))
    new = Settings((ONE,), proxy=ProxySettings(admin_token=Secret("b" * 30)))
    change = compare(old, new)
    assert change.settings == ("proxy.adminToken",)
    assert "bbbb" not in repr(change)


def test_keys_that_are_as_before_are_the_very_objects_of_before():
    same, heavier = replace(ONE), replace(TWO, weight=3)
    taken = with_kept_keys(Settings((same, heavier)), Settings((TWO, ONE)))
    assert taken == Settings((same, heavier))
    assert taken.keys[0] is ONE
    assert taken.keys[1] is heavier
