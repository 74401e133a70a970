"""``gemproxy clients``, and what ``check`` and ``plan`` say of clients."""

import json
import re
from hashlib import sha256
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from fakes.admin import made_up_secret

from gemproxy.core.client_registry import ClientsFile, FileClient

TOKEN = "token-of-the-shop-0123456789"


def made(daemon, token):
    return daemon.stage.clients.by_digest.get(sha256(token.encode()).digest())


def test_there_may_be_none(daemon, gemproxy):
    assert (
        gemproxy("clients")[1] == "There are no clients; `gemproxy clients add NAME` makes one.\n"
    )


def test_a_client_is_made_shown_changed_rotated_and_revoked(daemon, gemproxy):
    status, out, err = gemproxy(
        *(
            "clients",
            "add",
            "app",
            "--rpm",
            "60",
            "--usd-per-day",
            "1.5",
            "--models",
            "gemini-3*,x",
        ),
        *("--addresses", "10.0.0.0/8", "--expires", "2027-06-30", "--priority", "low"),
    )
    assert (status, err) == (0, "")
    (token,) = re.findall(r"^gpx_\S{43}$", out, re.MULTILINE)
    client = made(daemon, token)
    assert (client.limits.rpm, client.budget.usd_per_day) == (60, 1.5)
    assert (client.models, client.addresses) == (("gemini-3*", "x"), ("10.0.0.0/8",))

    for command in (("clients",), ("clients", "list")):
        table = gemproxy(*command)[1]
        assert re.search(
            r"^app +api +until 2027-06-30 +rpm 0/60 usd/day 0.00/1.5 +low", table, re.MULTILINE
        )
    shown = gemproxy("clients", "show", "app")[1]
    assert "models      gemini-3*, x" in shown
    assert "last seen   never" in shown
    assert json.loads(gemproxy("clients", "show", "app", "--json")[1])["name"] == "app"

    assert gemproxy("clients", "change", "app", "--rpm", "none", "--enabled", "false")[0] == 0
    client = daemon.stage.clients.client("app")
    assert (client.limits.rpm, client.enabled, client.budget.usd_per_day) == (None, False, 1.5)

    out = gemproxy("clients", "rotate", "app", "--grace", "60")[1]
    assert "stays valid for 60 s" in out
    assert made(daemon, token) is not None
    assert "gpx_" in out

    assert (
        gemproxy("clients", "revoke", "app")[1] == "The client app is deleted; its usage stays.\n"
    )
    assert made(daemon, token) is None


def test_json_has_the_token_as_the_api_gives_it(daemon, gemproxy):
    answer = json.loads(gemproxy("clients", "add", "app", "--json")[1])
    assert made(daemon, answer["token"]).name == "app"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("show", "ap"), "no client has the name 'ap'; did you mean app?"),
        (("revoke", "nobody"), "no client has the name 'nobody'"),
        (("add", "app"), "exists"),
        (("add", "admin"), "is reserved"),
        (("add", "b", "--rpm", "many"), "limits.rpm: expected a whole number"),
        (("add", "b", "--rpm", "9" * 400), "limits.rpm: expected a whole number"),
        (("add", "b", "--usd-per-day", "nan"), "budget.usdPerDay: expected a number"),
        (("add", "b", "--usd-per-month", "inf"), "budget.usdPerMonth: expected a number"),
        (("add", "b", "--endpoints", "chats"), "endpoints[0]: expected chat"),
    ],
)
def test_what_cannot_be_done_is_told(daemon, gemproxy, command, words):
    gemproxy("clients", "add", "app")
    status, out, err = gemproxy("clients", *command)
    assert (status, out) == (1, "")
    assert words in err


# -- the file --------------------------------------------------------------------------------------


def write_clients(*clients, **more):
    path = Path("config/clients.yaml")
    path.write_text(yaml.safe_dump({"clients": list(clients), **more}))
    path.chmod(0o600)


@pytest.fixture
def keys(write_keys):
    names = ("alpha", "beta", "gamma")
    write_keys(*({"name": name, "key": made_up_secret(name)} for name in names)).chmod(0o600)


def test_check_reads_the_file_and_names_it(daemon, gemproxy, keys):
    write_clients({"name": "shop", "token": TOKEN})
    status, out, err = gemproxy("check")
    assert (status, err) == (0, "")
    assert out.startswith(
        "config/proxy.yaml, config/keys.yaml and config/clients.yaml are good: 3 keys (3 enabled)"
    )
    assert "0 access tokens, 1 client, " in out
    Path("config/clients.yaml").chmod(0o644)
    assert "config/clients.yaml holds secrets and others can read it" in gemproxy("check")[2]
    write_clients({"name": "shop"})
    status, _, err = gemproxy("check")
    assert status == 78
    assert "config/clients.yaml:2: clients[0].token: expected exactly one of" in err


def test_plan_compares_the_clients_of_the_file(daemon, gemproxy, keys):
    old = (
        FileClient("same", {"limits.rpm": 5}, bytes(32)),
        FileClient("changed", {}, bytes(31) + b"1"),
        FileClient("gone", {}, bytes(31) + b"2"),
    )
    daemon.stage.clients.configure(ClientsFile("f", old), ZoneInfo("UTC"))
    gemproxy("clients", "add", "taken")
    write_clients(
        {"name": "same", "token": TOKEN},
        {"name": "changed", "token": f"{TOKEN}-2", "priority": "high"},
        {"name": "new", "token": f"{TOKEN}-3"},
        {"name": "taken", "token": f"{TOKEN}-4"},
        defaults={"limits": {"rpm": 5}},
    )
    lines = gemproxy("plan")[1].splitlines()
    assert lines[0].startswith("config/proxy.yaml, config/keys.yaml and config/clients.yaml are")
    start = lines.index("A reload would change these clients (their tokens are not compared):")
    assert lines[start - 1] == (
        "A reload would be refused: these clients were made at run time: taken"
    )
    assert lines[start + 1 : start + 5] == ["  + new", "  + taken", "  - gone", "  ~ changed"]
    answer = json.loads(gemproxy("plan", "--json")[1])
    assert answer["clients_added"] == ["new", "taken"]
    assert answer["clients_conflicting"] == ["taken"]


def test_an_expired_client_is_said_to_be(daemon, gemproxy):
    for name, expires in (("old", "2020-01-01"), ("past", "2020-01-01T12:00:00Z")):
        assert gemproxy("clients", "add", name, "--expires", expires)[0] == 0
        assert f"state       expired {expires}" in gemproxy("clients", "show", name)[1]
    assert re.search(r"^old +api +expired 2020-01-01 ", gemproxy("clients")[1], re.MULTILINE)


@pytest.mark.parametrize(
    ("grace", "words"), [("nan", "'nan'."), ("inf", "'inf'."), ("-5", "-5.0.")]
)
def test_a_mistaken_grace_is_shown_as_it_was_given(daemon, gemproxy, grace, words):
    gemproxy("clients", "add", "app")
    status, _, err = gemproxy("clients", "rotate", "app", f"--grace={grace}")
    assert status != 0
    assert f"graceSeconds: expected a number of seconds of at least 0, got {words}" in err
