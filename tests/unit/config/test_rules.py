"""What works and is hardly meant."""

from __future__ import annotations

import pytest

from gemproxy.config.rules import warnings
from gemproxy.config.settings import (
    ModelSettings,
    MonitoringSettings,
    ProxySettings,
    Settings,
)
from gemproxy.keys.key import Key
from gemproxy.secret import Secret


def key(**fields) -> Key:
    return Key("one", Secret("test-key-one-0123456789"), project="one", **fields)


def test_good_settings_have_no_warnings():
    assert warnings(Settings((key(),))) == ()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings((key(enabled=False),)), "no key is enabled"),
        (Settings((key(cooldown_seconds=301.0),)), "cooldownSeconds of key one"),
        (
            Settings((key(),), monitoring=MonitoringSettings(recovery_time=2.0)),
            "monitoring.cooldownSeconds is longer than monitoring.recoveryTime",
        ),
        (
            Settings((key(),), proxy=ProxySettings(host="0.0.0.0", allow_anonymous=True)),
            "clients need no token",
        ),
        (
            Settings((key(),), models=ModelSettings(aliases={"a": "b"}, allow=("c",))),
            "the alias a stands for a model that models.allow does not hold",
        ),
    ],
)
def test_a_warning_says_what_is_odd(settings, words):
    (warning,) = warnings(settings)
    assert words in warning
