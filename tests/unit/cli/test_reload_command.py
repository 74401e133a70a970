"""``gemproxy reload`` against the real admin API."""

from __future__ import annotations

import json

import pytest

from gemproxy.config.changes import SettingsChange
from gemproxy.core.errors import ConfigError, Fault
from gemproxy.service.reload import Reloaded

FAULTS = (
    Fault("config/keys.yaml", 7, "keys[1].weight", "expected a whole number, got 'two'"),
    Fault("config/proxy.yaml", 2, "proxy.port", "expected a whole number, got 'x'"),
)


def fail_with(daemon, error):
    async def reload():
        raise error

    daemon.stage.reload = reload


def test_what_changed_is_told(daemon, gemproxy):
    assert gemproxy("reload") == (
        0,
        (
            "1 key added, 1 key updated\n"
            "settings changed: retry.maxAttempts\n"
            "wait for a restart: proxy.port\n"
            "the daemon runs generation 2\n"
        ),
        "",
    )
    assert daemon.seen == [("POST", "/admin/config/reload"), ("GET", "/admin/health")]


def test_nothing_has_changed(daemon, gemproxy):
    async def reload():
        return Reloaded(SettingsChange(), 1, daemon.stage.clock.seconds())

    daemon.stage.reload = reload
    assert gemproxy("reload")[1] == "nothing has changed\nthe daemon runs generation 1\n"


def test_mistakes_are_told_by_line(daemon, gemproxy):
    fail_with(daemon, ConfigError(FAULTS))
    assert gemproxy("reload") == (
        78,
        "",
        (
            "config/keys.yaml:7: keys[1].weight: expected a whole number, got 'two'\n"
            "config/proxy.yaml:2: proxy.port: expected a whole number, got 'x'\n"
        ),
    )


def test_a_defect_of_the_daemons_is_no_mistake_of_the_files(daemon, gemproxy, monkeypatch):
    from gemproxy.admin import auth_gate

    monkeypatch.setattr(auth_gate.AdminAuthGate._log, "failure", lambda *_, **__: None)
    fail_with(daemon, RuntimeError("a defect"))
    status, out, err = gemproxy("reload")
    assert (status, out) == (1, "")
    assert "The proxy failed to serve this request" in err


@pytest.mark.parametrize("argv", [("reload", "--json"), ("--json", "reload")])
def test_json(daemon, gemproxy, argv):
    status, out, _ = gemproxy(*argv)
    assert status == 0
    assert json.loads(out) == {
        "success": True,
        "timestamp": "2026-11-22T20:00:00Z",
        "changes": {
            "keys_added": 1,
            "keys_removed": 0,
            "keys_updated": 1,
            "settings": ["retry.maxAttempts", "proxy.port"],
            "restart_required": ["proxy.port"],
        },
        "generation": 2,
    }


def test_json_of_mistakes(daemon, gemproxy):
    fail_with(daemon, ConfigError(FAULTS))
    status, out, err = gemproxy("reload", "--json")
    assert (status, err) == (78, "")
    assert json.loads(out) == {"success": False, "faults": [str(fault) for fault in FAULTS]}
