"""``gemproxy keys`` against the real admin API."""

from __future__ import annotations

import json

import pytest
from fakes.admin import key

from gemproxy.keys.outcome import Outcome, Verdict

ARROW = "\N{HORIZONTAL ELLIPSIS}"


def test_the_table_tells_of_every_key(daemon, gemproxy):
    daemon.stage.let("alpha", Verdict.QUOTA_MINUTE, status=429, retry_after=90.0, message="Slow.")
    daemon.stage.break_key("beta")
    daemon.stage.pool.disable("gamma")
    status, out, err = gemproxy("keys")
    assert (status, err) == (0, "")
    head, _, *rows = out.splitlines()
    assert head.split() == [
        *("NAME", "KEY", "STATUS", "ENABLED", "WEIGHT", "EFFECTIVE", "HEALTH", "REQUESTS"),
        *("COOLDOWNS", "NEXT", "RETRY", "LAST", "ERROR"),
    ]
    alpha, alpha_more, beta, beta_more, gamma, _, end = rows
    assert alpha.split()[:8] == ["alpha", f"test{ARROW}cdef", "active", "yes", "2", "2", "0%", "1"]
    assert "m until 2026-11-22 20:01:30Z (quota_minute)" in alpha
    assert alpha.endswith("2026-11-22 20:00:00Z quota_minute 429")
    assert alpha_more.strip() == "Slow."
    assert beta.split()[:3] == ["beta", f"test{ARROW}cdef", "circuit_open"]
    assert "2026-11-22 20:05:00Z" in beta
    assert beta_more.endswith("  API key not valid.")
    assert "needs attention: invalid" in beta_more
    assert gamma.split()[:4] == ["gamma", f"test{ARROW}cdef", "disabled", "no"]
    assert end == "3 keys: 1 active, 1 circuit_open, 1 disabled"


def test_many_cooldowns_are_counted(serve, configure, gemproxy):
    server = serve(key("alpha"))
    configure(port=server.port)
    pool, now = server.stage.pool, server.stage.clock.seconds()
    for model in ("a", "b", "c", "d", "e"):
        lease = pool.acquire_again(pool.status("alpha", now).id, model, now)
        pool.record(lease, Outcome(Verdict.QUOTA_MINUTE, 429, retry_after=60.0), now)
    _, out, _ = gemproxy("keys")
    assert out.count("until") == 3
    assert "and 2 more" in out


def test_names_are_shown_as_they_are_and_obeyed_by_no_terminal(serve, configure, gemproxy):
    server = serve(key("007", weight=10), key("1e5"))
    configure(port=server.port)
    server.stage.let("007", Verdict.SERVICE, status=500, message="Oh\x1b[2J\nno")
    _, out, _ = gemproxy("keys")
    assert [line.split()[0] for line in out.splitlines()[2:5:2]] == ["007", "1e5"]
    assert "\x1b" not in out
    assert "[2J no" in out


def test_scripts_get_what_the_daemon_says(daemon, gemproxy):
    status, out, _ = gemproxy("keys", "--json")
    assert status == 0
    keys = json.loads(out)["keys"]
    assert [each["name"] for each in keys] == ["alpha", "beta", "gamma"]
    assert (
        keys
        == json.loads(
            daemon.stage.ask("GET", "/admin/keys").body,
        )["keys"]
    )


def test_disable_and_enable(daemon, gemproxy):
    status, out, _ = gemproxy("keys", "disable", "beta")
    assert (status, out) == (0, "The key beta is disabled until it is enabled again.\n")
    assert not daemon.stage.status("beta").enabled
    assert gemproxy("keys", "enable", "beta") == (0, "The key beta is enabled.\n", "")
    assert daemon.stage.status("beta").enabled


def test_reset_by_id(daemon, gemproxy):
    daemon.stage.break_key("beta")
    status, out, _ = gemproxy("keys", "reset", daemon.stage.status("beta").id)
    assert status == 0
    assert out == "The breaker of the key beta is closed and its cooldowns are forgotten.\n"
    assert daemon.stage.status("beta").status == "active"


def test_weight_and_back(daemon, gemproxy):
    assert gemproxy("keys", "weight", "alpha", "7")[:2] == (0, "The key alpha weighs 7.\n")
    assert daemon.stage.status("alpha").weight == 7
    assert gemproxy("keys", "weight", "alpha", "default")[1] == "The key alpha weighs 2.\n"


@pytest.mark.parametrize("weight", ["0", "1001", "-1", "1.5", "two", "", "null", "\u0663"])
def test_a_weight_is_a_whole_number_or_default(daemon, gemproxy, weight):
    status, out, err = gemproxy("keys", "weight", "alpha", "--", weight)
    assert (status, out) == (64, "")
    assert "expected a whole number from 1 to 1000, or default" in err
    assert daemon.seen == []


def test_a_name_may_hold_anything(serve, configure, gemproxy):
    server = serve(key("team/one é?"))
    configure(port=server.port)
    assert gemproxy("keys", "disable", "team/one é?")[0] == 0
    assert server.seen == [("POST", "/admin/keys/team%2Fone%20%C3%A9%3F/disable")]


@pytest.mark.parametrize(
    ("name", "advice"),
    [("alpah", "; did you mean alpha?"), ("be", "; did you mean beta?"), ("zzz", "")],
)
def test_a_name_that_no_key_has(daemon, gemproxy, name, advice):
    status, out, err = gemproxy("keys", "reset", name)
    assert (status, out) == (1, "")
    assert err == f"gemproxy: no key has the id or name '{name}'{advice}\n"


def test_options_stand_before_or_after_the_action(daemon, configure, gemproxy):
    path = configure(port=1)
    for argv in (
        ("keys", "--json", "--url", daemon.url, "disable", "beta"),
        ("keys", "disable", "beta", "--json", "--url", daemon.url, "--config", str(path)),
        ("--config", str(path), "--json", "keys", "disable", "--url", daemon.url, "beta"),
    ):
        status, out, _ = gemproxy(*argv)
        assert status == 0
        assert json.loads(out)["key"]["enabled"] is False


@pytest.mark.parametrize("argv", [("burn", "alpha"), ("disable",), ("disable", "a", "b")])
def test_a_wrong_command_line(daemon, gemproxy, argv):
    status, _, err = gemproxy("keys", *argv)
    assert status == 64
    assert err.startswith("usage: gemproxy keys")
