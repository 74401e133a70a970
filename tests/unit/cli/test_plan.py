"""``gemproxy plan`` against the real admin API."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from fakes.admin import NOON, made_up_secret


def entry(name, secret=None, **more):
    return {"name": name, "key": made_up_secret(secret or name), **more}


SAME = (entry("alpha", weight=2), entry("beta"), entry("gamma"))


def test_nothing_would_change(daemon, gemproxy, write_keys):
    write_keys(*SAME)
    os.utime("config/proxy.yaml", (NOON - 7200, NOON - 7200))
    status, out, err = gemproxy("plan")
    assert (status, err) == (0, "")
    assert out == (
        "config/proxy.yaml and config/keys.yaml are good.\n"
        f"The daemon at {daemon.url} runs generation 1, loaded at 2026-11-22 19:00:00Z.\n"
        "Its keys are those of the file.\n"
        "The daemon does not show its other settings: config/proxy.yaml was last written at "
        "2026-11-22 18:00:00Z, before it was loaded. Nor does it show a key's "
        "cooldownSeconds, models and limits.\n"
    )
    assert daemon.seen == [("GET", "/admin/keys"), ("GET", "/admin/health")]


def test_keys_are_compared_by_their_secrets(daemon, gemproxy, write_keys):
    write_keys(
        entry("alpha", weight=5),
        entry("renamed", "beta", project="team", enabled=False),
        entry("delta"),
        entry("epsilon"),
    )
    os.utime("config/proxy.yaml", (NOON, NOON))
    status, out, _ = gemproxy("plan")
    assert status == 0
    assert out.splitlines()[2:10] == [
        "A reload would change these keys:",
        "  + delta",
        "  + epsilon",
        "  - gamma",
        "  ~ alpha: weight 2 -> 5 (stays as it is if set by `gemproxy keys weight`)",
        "  ~ beta: name beta -> renamed",
        "  ~ beta: project beta -> team",
        "  ~ beta: enabled true -> false (stays as it is if set by `gemproxy keys enable`)",
    ]
    assert "last written at 2026-11-22 20:00:00Z, after it was loaded." in out


def test_the_last_failure_is_told(daemon, gemproxy, write_keys):
    write_keys(*SAME)
    daemon.stage.set(config=replace(daemon.stage.service.config, last_error="keys.yaml:1: no"))
    assert "The last reload failed: keys.yaml:1: no\n" in gemproxy("plan")[1]


def test_json(daemon, gemproxy, write_keys):
    write_keys(entry("alpha", weight=5), entry("beta"), entry("delta"))
    os.utime("config/proxy.yaml", (NOON, NOON))
    status, out, _ = gemproxy("plan", "--json")
    assert status == 0
    assert json.loads(out) == {
        "ok": True,
        "generation": 1,
        "loaded_at": "2026-11-22T19:00:00Z",
        "last_error": None,
        "written_since": True,
        "keys_added": ["delta"],
        "keys_removed": ["gamma"],
        "keys_updated": [
            {
                "key": "alpha",
                "setting": "weight",
                "running": 2,
                "file": 5,
                "may_be_by_hand": True,
            }
        ],
        "not_compared": [
            "proxy.yaml",
            "keys[].cooldownSeconds",
            "keys[].models",
            "keys[].limits",
        ],
    }


def test_mistakes_come_first_and_the_daemon_is_not_asked(daemon, gemproxy, write_keys):
    write_keys(entry("alpha", weight="two"))
    status, out, err = gemproxy("plan")
    assert (status, out) == (78, "")
    assert err.startswith("config/keys.yaml:4: keys[0].weight: expected a whole number")
    status, out, err = gemproxy("plan", "--json")
    assert (status, err) == (78, "")
    answer = json.loads(out)
    assert answer["ok"] is False
    assert [fault["path"] for fault in answer["faults"]] == ["keys[0].weight"]
    assert daemon.seen == []


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_without_a_daemon_the_files_are_validated_all_the_same(
    configure, gemproxy, write_keys, options
):
    configure(endpoint="unix:nothing.sock", accessTokens=["token-of-a-client-0123"])
    write_keys(*SAME)
    assert gemproxy("plan", *options) == (
        1,
        "",
        (
            "gemproxy: both files are good, but what a reload would change is not known: nothing "
            "listens at unix:nothing.sock; is the daemon running?\n"
        ),
    )


def test_an_address_that_cannot_be_known(configure, gemproxy, write_keys):
    configure(port=0)
    write_keys(*SAME)
    status, _, err = gemproxy("plan")
    assert status == 1
    assert "is not known: proxy.port is 0" in err
