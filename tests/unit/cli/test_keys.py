"""``gemproxy keys`` against the real admin API."""

from __future__ import annotations

import json

import pytest
from fakes.admin import NOON, key

from gemproxy.pool.outcome import Outcome, Verdict

ARROW = "\N{HORIZONTAL ELLIPSIS}"


def test_the_table_tells_of_every_key(daemon, gemproxy):
    daemon.stage.let("alpha", Verdict.QUOTA_MINUTE, status=429, retry_after=90.0, message="Slow.")
    daemon.stage.break_key("beta")
    daemon.stage.pool.disable("gamma")
    status, out, err = gemproxy("keys", "--wide", "--sort", "file")
    assert (status, err) == (0, "")
    counts, _, head, _, *rows = out.splitlines()
    assert counts == "3 keys: 1 attention (1 invalid), 1 cooling, 1 disabled"
    assert head.split() == [
        *("NAME", "KEY", "STATUS", "ENABLED", "WEIGHT", "EFFECTIVE", "HEALTH", "REQUESTS"),
        *("COOLDOWNS", "NEXT", "RETRY", "LAST", "ERROR"),
    ]
    alpha, alpha_more, beta, beta_more, gamma = rows
    assert alpha.split()[:8] == ["alpha", f"test{ARROW}cdef", "active", "yes", "2", "2", "0%", "1"]
    assert "m until 2026-11-22 20:01:30Z (quota_minute)" in alpha
    assert alpha.endswith("2026-11-22 20:00:00Z quota_minute 429")
    assert alpha_more.strip() == "Slow."
    assert beta.split()[:3] == ["beta", f"test{ARROW}cdef", "circuit_open"]
    assert "2026-11-22 20:05:00Z" in beta
    assert beta_more.endswith("  API key not valid.")
    assert "needs attention: invalid" in beta_more
    assert gamma.split()[:4] == ["gamma", f"test{ARROW}cdef", "disabled", "no"]


def test_many_cooldowns_are_counted(serve, configure, gemproxy):
    server = serve(key("alpha"))
    configure(port=server.port)
    pool, now = server.stage.pool, server.stage.clock.seconds()
    for model in ("a", "b", "c", "d", "e"):
        lease = pool.acquire_again(pool.status("alpha", now).id, model, now)
        pool.record(lease, Outcome(Verdict.QUOTA_MINUTE, 429, retry_after=60.0), now)
    _, out, _ = gemproxy("keys", "--wide")
    assert out.count("until") == 3
    assert "and 2 more" in out
    _, out, _ = gemproxy("keys")
    assert "20:01:00Z +4 a" in out


def test_names_are_shown_as_they_are_and_obeyed_by_no_terminal(serve, configure, gemproxy):
    server = serve(key("007", weight=10), key("1e5"))
    configure(port=server.port)
    server.stage.let("007", Verdict.SERVICE, status=500, message="Oh\x1b[2J\nno")
    _, out, _ = gemproxy("keys", "--wide")
    assert [line.split()[0] for line in out.splitlines()[4:7:2]] == ["007", "1e5"]
    assert "\x1b" not in out
    assert "Oh [2J\n" in out


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


@pytest.mark.parametrize(
    "argv",
    [
        ("burn", "alpha"),
        ("disable", "a", "b"),
        ("--state", "ill"),
        ("--sort", "colour"),
        ("--limit", "-1"),
        ("reset", "--all", "--state", "opened"),
        ("test", "--all"),
    ],
)
def test_a_wrong_command_line(daemon, gemproxy, argv):
    status, _, err = gemproxy("keys", *argv)
    assert status == 64
    assert err.startswith("usage: gemproxy keys")


@pytest.mark.parametrize(
    "argv",
    [
        ("reset",),
        ("disable",),
        ("reset", "alpha", "--all"),
        ("reset", "--state", "open"),
        ("reset", "alpha", "--state", "open"),
        ("enable", "alpha", "--project", "p"),
    ],
)
def test_many_keys_change_only_where_it_is_said(daemon, gemproxy, argv):
    status, out, err = gemproxy("keys", *argv)
    assert (status, out) == (64, "")
    assert err.startswith(f"gemproxy: keys {argv[0]}: ")
    assert daemon.seen == []


class TestTable:
    """Five hundred keys on a terminal of eighty columns."""

    @pytest.fixture
    def many(self, serve, configure):
        keys = [
            key(f"key-of-a-team-with-a-name-{n:03}", project=f"p{n % 3}", enabled=n != 499)
            for n in range(500)
        ]
        server = serve(*keys)
        configure(port=server.port)
        for number in range(100, 140):
            reason = "leaked" if number == 100 else "expired"
            server.stage.let(keys[number].name, Verdict.KEY, status=400, reason=reason)
        for _ in range(3):
            server.stage.let(keys[200].name, Verdict.SERVICE, status=503)
        server.stage.let(keys[201].name, Verdict.QUOTA_DAY, status=429, until=NOON + 3600)
        server.stage.let(keys[202].name, Verdict.FORBIDDEN, status=403, reason="forbidden")
        return server

    def test_counts_come_first_and_bad_ones_before_good_ones(self, many, gemproxy, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")
        _, out, _ = gemproxy("keys")
        counts, table, more = out.split("\n\n")
        head, _, *rows = table.splitlines()
        # The whole project of a key is out of quota with it.
        assert " ".join(counts.split()).startswith(
            "500 keys: 40 attention (39 expired, 1 leaked), 1 open, "
        )
        assert head.split() == ["NAME", "STATE", "HEALTH", "REQUESTS", "WHY"]
        assert max(map(len, out.splitlines())) <= 80
        assert rows[0].split()[1:] == ["attention", "0%", "1", "leaked", "until", "20:05:00Z"]
        assert rows[40].split()[1:5] == ["open", "0%", "3", "service"]
        assert rows[41].split()[1] == "cooling"
        assert rows[0].startswith("key-of-a-te…a-name-100 ")
        assert len(rows) == 100
        assert more == "and 400 more keys: --limit 0 shows all\n"
        assert gemproxy("keys", "--limit", "0")[1].count("key-of-a-te") == 500
        monkeypatch.setenv("COLUMNS", "120")
        wide = gemproxy("keys", "--limit", "5")[1]
        assert wide.count("key-of-a-team-with-a-name-") == 5
        assert max(map(len, wide.splitlines())) <= 120

    def test_filters(self, many, gemproxy):
        def names(*argv):
            _, out, _ = gemproxy("keys", "--json", *argv)
            return [each["name"][-3:] for each in json.loads(out)["keys"]]

        assert names("--state", "open") == [str(n) for n in range(100, 140)] + ["200"]
        assert names("--state", "circuit_open") == names("--state", "open")
        assert len(names("--state", "attention")) == 40
        assert names("--state", "disabled") == ["499"]
        assert names("--state", "open", "--project", "p2") == [
            *(str(n) for n in range(100, 140) if n % 3 == 2),
            "200",
        ]
        assert len(names("--state", "active")) == 500 - 41 - 1
        assert names("--project", "nobody's") == []
        assert gemproxy("keys", "--project", "nobody's")[1].endswith("No key matches.\n")

    def test_sorts(self, many, gemproxy):
        for sort, first in [("name", "000"), ("file", "000"), ("requests", "200")]:
            _, out, _ = gemproxy("keys", "--sort", sort, "--limit", "1", "--wide")
            table = out.split("\n\n")[1]
            assert table.splitlines()[2].split()[0].endswith(first)

    def test_many_are_reset_at_once(self, many, gemproxy):
        status, out, _ = gemproxy("keys", "reset", "--all", "--state", "open")
        assert (status, out) == (
            0,
            "41 keys are reset: breakers are closed, cooldowns forgotten.\n",
        )
        assert many.seen == [("POST", "/admin/keys/reset")]
        assert many.stage.status("key-of-a-team-with-a-name-100").status == "active"
        assert many.stage.status("key-of-a-team-with-a-name-499").status == "disabled"
        _, out, _ = gemproxy("keys", "disable", "--all", "--project", "p1", "--json")
        told = json.loads(out)
        assert (told["changed"], len(told["names"])) == (167, 20)
        assert gemproxy("keys", "enable", "--all", "--state", "disabled")[1].startswith("167 keys")
        assert gemproxy("keys", "enable", "--all", "--state", "disabled")[1].startswith("0 keys")


class TestTest:
    EXPIRED = Outcome(
        Verdict.KEY,
        400,
        "expired",
        "API key expired. Please renew the API key.",
        google_status="INVALID_ARGUMENT",
        google_reason="API_KEY_INVALID",
    )
    REFUSED = Outcome(Verdict.NETWORK, reason="refused", message="Connection refused.")

    def test_of_one_key(self, daemon, gemproxy):
        assert gemproxy("keys", "test", "alpha") == (0, "alpha: ok\n", "")
        daemon.stage.google["alpha"] = self.EXPIRED
        status, out, _ = gemproxy("keys", "test", "alpha")
        assert status == 1
        assert out == (
            "alpha: rejected (expired, 400 INVALID_ARGUMENT API_KEY_INVALID): API key expired.\n"
        )
        found = daemon.stage.status("alpha")
        assert (found.status, found.needs_attention) == ("circuit_open", "expired")

    def test_of_each(self, daemon, gemproxy):
        daemon.stage.google |= {"beta": self.EXPIRED, "gamma": self.REFUSED}
        status, out, _ = gemproxy("keys", "test")
        assert status == 1
        assert out.splitlines() == [
            "alpha: ok",
            "beta: rejected (expired, 400 INVALID_ARGUMENT API_KEY_INVALID): API key expired.",
            "gamma: unclear (refused): Connection refused.",
            "",
            "3 keys tested: 1 ok, 1 rejected, 1 unclear",
        ]
        # What says nothing of the key changes nothing.
        assert daemon.stage.status("gamma").status == "active"

    def test_of_those_of_a_filter_for_scripts(self, daemon, gemproxy):
        daemon.stage.pool.disable("gamma")
        status, out, _ = gemproxy("keys", "test", "--state", "disabled", "--json")
        assert status == 0
        (test,) = json.loads(out)["tests"]
        assert (test["name"], test["verdict"], test["recorded"]) == ("gamma", "ok", False)

    def test_of_a_key_that_is_not_there(self, daemon, gemproxy):
        status, _, err = gemproxy("keys", "test", "alhpa")
        assert status == 1
        assert "did you mean alpha?" in err
