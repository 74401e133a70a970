"""``/admin/clients``: who may ask is made, changed, rotated and revoked there."""

import re
from hashlib import sha256
from urllib.parse import quote

import pytest
from fakes.admin import CLIENT_TOKEN, NOON, TOKEN, AdminStage, made_up_secret
from twisted.internet.task import Clock

from gemproxy.core.client_registry import ClientsFile, FileClient
from gemproxy.core.clients import CLIENT_DEFAULTS

FILE = ClientsFile(
    "config/clients.yaml", (FileClient("shop", {"limits.rpm": 5}, sha256(b"x").digest()),)
)


@pytest.fixture
def stage():
    clock = Clock()
    clock.advance(NOON)
    return AdminStage(clock)


def make(stage, name="app", **settings):
    answer = stage.ask("POST", "/admin/clients", {"name": name, **settings})
    assert answer.status == 201, answer.body
    return answer.json


def knows(stage, token):
    found = stage.clients.by_digest.get(sha256(token.encode()).digest())
    return found is not None and (found.expires is None or found.expires.at > stage.clock.seconds())


def test_a_client_is_made_with_a_token_that_is_shown_this_once(stage):
    made = make(stage, limits={"rpm": 60}, models=["gemini-3*"], expires="2027-06-30")
    assert re.fullmatch(r"gpx_[A-Za-z0-9_-]{43}", made["token"])
    assert knows(stage, made["token"])
    client = made["client"]
    assert {name: client[name] for name in ("name", "source", "enabled", "expires", "models")} == {
        "name": "app",
        "source": "api",
        "enabled": True,
        "expires": "2027-06-30",
        "models": ["gemini-3*"],
    }
    assert client["limits"] == {
        "rpm": 60,
        "tpm": None,
        "rpd": None,
        "tpd": None,
        "concurrent": None,
    }
    assert client["budget"] == {"usdPerDay": None, "usdPerMonth": None}
    assert (client["priority"], client["debug"], client["last_seen"]) == ("normal", False, None)
    assert set(client["used"]) >= {
        "requests_minute",
        "tokens_minute",
        "requests_day",
        "tokens_day",
        "usd_day",
        "usd_month",
    }
    assert client["today"]["requests"] == 0
    assert stage.ask("GET", "/admin/clients/app").json == client
    assert stage.ask("GET", "/admin/clients").json == {"clients": [client]}
    # Nothing but its digest is kept, and that is on the disk before the answer.
    assert made["token"] not in repr(stage.saved)
    assert [row.digest for row in stage.saved[-1]] == [sha256(made["token"].encode()).hexdigest()]
    assert stage.client_changes == 1


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "name", "is missing"),
        ({"name": None}, "name", "expected a name of 1 to 64 printable characters"),
        ({"name": ""}, "name", "expected a name"),
        ({"name": "x" * 65}, "name", "expected a name"),
        ({"name": "a\nb"}, "name", "expected a name"),
        ({"name": "Anonymous"}, "name", "is reserved"),
        ({"name": "a", "tokens": "x"}, "tokens", "unknown setting"),
        ({"name": "a", "token": "mine"}, "token", "unknown setting"),
        ({"name": "a", "limits": {"rps": 1}}, "limits.rps", "unknown setting; did you mean"),
        ({"name": "a", "limits": {"rpm": "1"}}, "limits.rpm", "expected a whole number"),
        ({"name": "a", "limits": {"rpm": True}}, "limits.rpm", "expected a whole number"),
        ({"name": "a", "limits": {"rpm": 0}}, "limits.rpm", "expected a whole number"),
        ({"name": "a", "limits": [1]}, "limits", "expected a mapping"),
        ({"name": "a", "budget": {"usdPerDay": 1e300}}, "budget.usdPerDay", "expected a number"),
        ({"name": "a", "models": "gemini"}, "models", "expected a list"),
        ({"name": "a", "models": None}, "models", "expected a list"),
        ({"name": "a", "enabled": None}, "enabled", "expected true or false"),
        ({"name": "a", "addresses": ["nowhere"]}, "addresses[0]", "expected a network"),
        ({"name": "a", "endpoints": ["everything"]}, "endpoints[0]", "expected chat"),
        ({"name": "a", "expires": "tomorrow"}, "expires", "expected a date"),
        ({"name": "a", "expires": 20270630}, "expires", "expected a date"),
        ({"name": "a", "priority": "highest"}, "priority", "expected high, normal or low"),
        (b"[" * 3000, None, ""),
        (b"[]", None, "must be a JSON object"),
        (b"{", None, ""),
        (b"\xff", None, ""),
    ],
)
def test_a_bad_body_is_refused_with_the_place_of_its_mistake(stage, body, param, words):
    answer = stage.ask("POST", "/admin/clients", body, content_type="application/json")
    error = answer.json["error"]
    assert (answer.status, error["param"]) == (400, param)
    assert words in error["message"]
    assert not stage.clients.rows()
    assert not stage.audited


@pytest.mark.parametrize("name", [TOKEN, made_up_secret("alpha"), f"gpx_{'x' * 43}"])
def test_a_secret_is_no_name(stage, name):
    answer = stage.ask("POST", "/admin/clients", {"name": name})
    assert (answer.status, answer.json["error"]["param"]) == (400, "name")
    assert "is one of the secrets" in answer.json["error"]["message"]
    assert name not in repr((stage.saved, stage.audited, answer.body))


def test_a_secret_is_no_pattern_of_models(stage):
    make(stage)
    for method, path, body in (("POST", "", {"name": "b"}), ("PATCH", "/app", {})):
        body["models"] = ["gemini-3*", TOKEN]
        answer = stage.ask(method, f"/admin/clients{path}", body)
        assert (answer.status, answer.json["error"]["param"]) == (400, "models[1]")
        assert TOKEN not in repr((stage.saved, stage.audited, answer.body))


@pytest.mark.parametrize("budget", [0, 0.1, 1e-9, 12345678.25])
def test_numbers_of_json_are_read_as_they_are(stage, budget):
    assert make(stage, budget={"usdPerDay": budget})["client"]["budget"]["usdPerDay"] == budget


@pytest.mark.parametrize(
    "name", ["<b>x</b>", "a/b", "50 %", "Größe ☃", "'; --", "x" * 64, "rotate"]
)
def test_a_client_of_any_name_is_found_again(stage, name):
    make(stage, name)
    path = f"/admin/clients/{quote(name, safe='')}"
    assert stage.ask("GET", path).json["name"] == name
    assert stage.ask("POST", f"{path}/rotate").status == 200
    assert stage.ask("DELETE", path).status == 200
    assert stage.ask("GET", path).status == 404


def test_a_change_takes_what_the_body_says_and_leaves_the_rest(stage):
    make(stage, limits={"rpm": 1, "tpm": 2}, budget={"usdPerDay": 3.0}, debug=True)
    changed = stage.ask(
        "PATCH",
        "/admin/clients/app",
        {"limits": {"rpm": 9, "rpd": 7}, "budget": None, "priority": "low"},
    )
    assert changed.status == 200
    limits = {"rpm": 9, "tpm": 2, "rpd": 7, "tpd": None, "concurrent": None}
    assert changed.json["limits"] == limits
    assert changed.json["budget"] == {"usdPerDay": None, "usdPerMonth": None}
    assert (changed.json["priority"], changed.json["debug"]) == ("low", True)
    event = stage.audited[-1]
    assert (event.action, event.target) == ("client.update", "app")
    assert dict(event.before) == {"limits.rpm": 1, "budget.usdPerDay": 3.0}
    assert dict(event.after) == {"limits.rpm": 9, "limits.rpd": 7, "priority": "low"}


def test_null_lifts_a_limit_that_the_defaults_set(stage):
    stage.clients.configure(ClientsFile("f", defaults={"limits.rpm": 5}), stage.clients.zone)
    assert make(stage)["client"]["limits"]["rpm"] == 5
    changed = stage.ask("PATCH", "/admin/clients/app", {"limits": {"rpm": None}})
    assert changed.json["limits"]["rpm"] is None
    changed = stage.ask("PATCH", "/admin/clients/app", {"limits": None})
    assert changed.json["limits"]["rpm"] == 5


@pytest.mark.parametrize("body", [{}, {"name": "app"}, {"debug": False}])
def test_what_changes_nothing_is_no_event(stage, body):
    make(stage, debug=False)
    audited = len(stage.audited)
    assert stage.ask("PATCH", "/admin/clients/app", body).status == 200
    assert len(stage.audited) == audited


def test_a_client_keeps_its_name_and_its_source(stage):
    make(stage)
    for body in ({"name": "other"}, {"source": "file"}, {"token": "x"}, {"last_seen": None}):
        answer = stage.ask("PATCH", "/admin/clients/app", body)
        assert (answer.status, answer.json["error"]["param"]) == (400, next(iter(body)))


def test_a_disabled_client_keeps_its_token(stage):
    token = make(stage)["token"]
    assert stage.ask("PATCH", "/admin/clients/app", {"enabled": False}).json["enabled"] is False
    assert knows(stage, token)


def test_a_rotation_gives_a_new_token_and_leaves_the_old_one_its_grace(stage):
    old = make(stage)["token"]
    answer = stage.ask("POST", "/admin/clients/app/rotate", {"graceSeconds": 60})
    new = answer.json["token"]
    assert answer.status == 200
    assert answer.json["client"]["name"] == "app"
    assert (knows(stage, old), knows(stage, new)) == (True, True)
    stage.clock.advance(60)
    assert (knows(stage, old), knows(stage, new)) == (False, True)
    assert stage.ask("POST", "/admin/clients/app/rotate").status == 200
    assert not knows(stage, new)


@pytest.mark.parametrize("body", [{"graceSeconds": -1}, {"graceSeconds": "x"}, {"grace": 1}, []])
def test_a_grace_that_is_none_is_refused(stage, body):
    token = make(stage)["token"]
    answer = stage.ask(
        "POST",
        "/admin/clients/app/rotate",
        b"[]" if body == [] else body,
        content_type="application/json",
    )
    assert answer.status == 400
    assert knows(stage, token)


def test_a_deleted_client_is_gone_and_its_name_is_free(stage):
    token = make(stage)["token"]
    assert stage.ask("DELETE", "/admin/clients/app").json["success"] is True
    assert not knows(stage, token)
    assert [row.is_deleted for row in stage.saved[-1]] == [True]
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate")):
        answer = stage.ask(method, f"/admin/clients/app{path}", {} if method != "GET" else None)
        assert (answer.status, answer.json["error"]["code"]) == (404, "client_not_found")
    assert make(stage)["token"] != token


def test_clients_of_the_file_are_shown_and_cannot_be_changed(stage):
    stage.clients.configure(FILE, stage.clients.zone)
    assert [each["source"] for each in stage.ask("GET", "/admin/clients").json["clients"]] == [
        "file"
    ]
    for method, path, body in (
        ("POST", "", {"name": "shop"}),
        ("PATCH", "/shop", {"debug": True}),
        ("DELETE", "/shop", None),
        ("POST", "/shop/rotate", None),
    ):
        answer = stage.ask(method, f"/admin/clients{path}", body)
        assert answer.status == 409
        assert "config/clients.yaml" in answer.json["error"]["message"]
    assert not stage.audited


def test_a_name_is_given_once(stage):
    token = make(stage)["token"]
    answer = stage.ask("POST", "/admin/clients", {"name": "app"})
    assert (answer.status, answer.json["error"]["code"]) == (409, "client_exists")
    assert knows(stage, token)


def test_every_change_is_an_audit_event_without_a_token(stage):
    tokens = [make(stage, limits={"rpm": 1})["token"]]
    stage.ask("PATCH", "/admin/clients/app", {"enabled": False})
    tokens.append(stage.ask("POST", "/admin/clients/app/rotate", {"graceSeconds": 5}).json["token"])
    stage.ask("DELETE", "/admin/clients/app")
    assert [event.action for event in stage.audited] == [
        "client.create",
        "client.update",
        "client.rotate",
        "client.delete",
    ]
    assert {(event.actor.token, event.actor.address) for event in stage.audited} == {
        ("admin", "192.0.2.1")
    }
    assert not any(token in repr(stage.audited) for token in tokens)
    names = {name for event in stage.audited for name in (*event.before, *event.after)}
    assert names <= {*CLIENT_DEFAULTS, "grace_seconds"}


def test_a_token_that_cannot_be_written_is_not_given(stage):
    old = make(stage)["token"]
    stage.can_save = False
    for path, body in (("", {"name": "second"}), ("/app/rotate", {})):
        answer = stage.ask("POST", f"/admin/clients{path}", body)
        assert answer.status == 503, answer.body
        assert answer.json["error"]["code"] == "state_not_written"
        assert "gpx_" not in answer.body.decode()
    assert knows(stage, old)
    assert [client.name for client in stage.clients.clients()] == ["app"]


def test_a_restriction_that_cannot_be_written_is_in_force_all_the_same(stage):
    token = make(stage)["token"]
    stage.can_save = False
    assert stage.ask("PATCH", "/admin/clients/app", {"enabled": False}).status == 503
    assert not stage.clients.client("app").enabled
    assert stage.ask("DELETE", "/admin/clients/app").status == 503
    assert not knows(stage, token)


@pytest.mark.parametrize(
    ("method", "body", "status"), [("PATCH", {"enabled": False}, 200), ("DELETE", None, 404)]
)
def test_what_was_not_written_is_written_when_it_is_asked_again(stage, method, body, status):
    make(stage)
    stage.can_save = False
    for _ in range(2):
        assert stage.ask(method, "/admin/clients/app", body).status == 503
    stage.can_save = True
    saved = len(stage.saved)
    assert stage.ask(method, "/admin/clients/app", body).status == status
    assert len(stage.saved) == saved + 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("POST", ""),
        ("GET", "/app"),
        ("PATCH", "/app"),
        ("DELETE", "/app"),
        ("POST", "/app/rotate"),
    ],
)
def test_the_operator_alone_may_do_it(stage, method, path):
    make(stage)
    for token in (None, CLIENT_TOKEN, "wrong"):
        answer = stage.ask(
            method, f"/admin/clients{path}", b"" if method == "POST" else None, token=token
        )
        assert answer.status == 401
    assert stage.ask("PUT", f"/admin/clients{path}").status == 405


def test_the_methods_of_a_path_are_named_together(stage):
    answer = stage.ask("PUT", "/admin/clients/app")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "PATCH", "DELETE"}
