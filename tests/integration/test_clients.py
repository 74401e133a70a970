"""Clients of ``clients.yaml`` at the real daemon: whom it lets do what, in every dialect."""

from hashlib import sha256

import pytest
import yaml
from fakes.running import ADMIN_TOKEN, TWISTD, Process, RunningDaemon, eventually, keys_of
from fakes.wire import CHAT, Wire, ask, request, said

KEYS = keys_of("alpha", "beta")
MESSAGES = "/v1/messages"
NATIVE = "/v1beta/models/gemini-3.8-flash:generateContent"
MODEL = "gemini-3.8-flash"
TOKENS = {
    name: f"token-of-{name}-0123456789"
    for name in ("free", "chatter", "picky", "near", "far", "late", "off", "hashed", "seen")
}
CLIENTS = [
    {"name": "free", "token": TOKENS["free"]},
    {"name": "chatter", "token": TOKENS["chatter"], "endpoints": ["chat"]},
    {"name": "picky", "token": TOKENS["picky"], "models": ["gemini-2.5*", "gpt-4o"]},
    {"name": "near", "token": TOKENS["near"], "addresses": ["127.0.0.0/8"]},
    {"name": "far", "token": TOKENS["far"], "addresses": ["10.0.0.0/8", "2001:db8::/32"]},
    {"name": "late", "token": TOKENS["late"], "expires": "2020-01-01"},
    {"name": "off", "token": TOKENS["off"], "enabled": False},
    {"name": "hashed", "tokenSha256": sha256(TOKENS["hashed"].encode()).hexdigest()},
    {"name": "seen", "token": TOKENS["seen"], "debug": True},
]
PROXY = {"trustedProxies": ["127.0.0.1/32"]}
ALIASES = {"aliases": {"gpt-4o": MODEL, "gpt-4": MODEL}}


def write(folder, clients, **more):
    path = folder / "clients.yaml"
    path.write_text(yaml.safe_dump({"clients": clients, **more}))


@pytest.fixture(scope="module")
def daemon(simulator, tmp_path_factory):
    folder = tmp_path_factory.mktemp("daemon")
    write(folder, CLIENTS)
    running = RunningDaemon(folder, simulator.url, KEYS, proxy=PROXY, models=ALIASES)
    yield running
    assert running.stop() == 0
    for token in TOKENS.values():
        assert token not in running.output


def chat_as(daemon, name, model=MODEL, **headers):
    body = said("hi") | {"model": model}
    return ask(
        daemon, "POST", CHAT, body, authorization=f"Bearer {TOKENS.get(name, name)}", **headers
    )


def in_each_dialect(daemon, name, model=MODEL, **headers):
    """The answers to one request in each dialect, and what each says: the status, and the words."""
    token, turn = TOKENS.get(name, name), {"role": "user", "content": "hi"}
    headers["authorization"] = f"Bearer {token}"
    chat = ask(daemon, "POST", CHAT, {"model": model, "messages": [turn]}, **headers)
    messages = ask(
        daemon,
        "POST",
        MESSAGES,
        {"model": model, "max_tokens": 9, "messages": [turn]},
        anthropic_version="2023-06-01",
        **headers,
    )
    contents = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    path = NATIVE.replace(MODEL, model)
    native = ask(daemon, "POST", path, contents, **headers)
    responses = ask(daemon, "POST", "/v1/responses", {"model": model, "input": "hi"}, **headers)
    return chat, messages, native, responses


@pytest.mark.parametrize("name", ["free", "hashed", "near"])
def test_a_client_may_ask_in_every_dialect(daemon, name):
    assert {answer.status for answer in in_each_dialect(daemon, name)} == {200}


@pytest.mark.parametrize(
    ("name", "model", "status", "code"),
    [
        ("nobody-0123456789", MODEL, 401, "invalid_api_key"),
        ("off", MODEL, 401, "invalid_api_key"),
        ("late", MODEL, 401, "invalid_api_key"),
        ("far", MODEL, 403, "address_not_allowed"),
        ("picky", MODEL, 403, "model_not_allowed"),
    ],
)
def test_a_refusal_has_the_form_of_its_dialect(daemon, simulator, name, model, status, code):
    before = len(simulator.requests())
    chat, messages, native, responses = in_each_dialect(daemon, name, model)
    assert {answer.status for answer in (chat, messages, native, responses)} == {status}
    for answer in (chat, responses):
        assert answer.json["error"]["code"] == code
    assert messages.json["type"] == "error"
    word = "authentication_error" if status == 401 else "permission_error"
    assert messages.json["error"]["type"] == word
    if status == 403:
        assert messages.json["error"]["details"] == {"error_code": code}
    assert native.json["error"]["status"] == (
        "UNAUTHENTICATED" if status == 401 else "PERMISSION_DENIED"
    )
    assert native.json["error"]["details"][0]["reason"] == code.upper()
    assert len(simulator.requests()) == before


def test_an_endpoint_that_is_not_allowed_is_refused(daemon):
    chat, messages, native, responses = in_each_dialect(daemon, "chatter")
    assert chat.status == 200
    assert {messages.status, native.status, responses.status} == {403}
    assert responses.json["error"]["code"] == "endpoint_not_allowed"
    assert messages.json["error"]["details"] == {"error_code": "endpoint_not_allowed"}
    assert native.json["error"]["details"][0]["reason"] == "ENDPOINT_NOT_ALLOWED"


def test_a_model_may_be_allowed_by_the_name_that_is_asked_or_by_the_upstreams(daemon):
    assert chat_as(daemon, "picky", "gpt-4o").status == 200
    assert chat_as(daemon, "picky", "gemini-2.5-flash").status == 200
    assert chat_as(daemon, "picky", "gpt-4").status == 403


def test_every_list_of_models_shows_what_the_client_may_ask_and_is_open_to_all(daemon):
    def names(name, path, field, **headers):
        headers["authorization"] = f"Bearer {TOKENS[name]}"
        answer = ask(daemon, "GET", path, **headers)
        assert answer.status == 200, answer.body
        listed = answer.json["models" if field == "name" else "data"]
        return {each[field].removeprefix("models/") for each in listed}

    for path, field, headers in (
        ("/v1/models", "id", {}),
        ("/v1/models?limit=1000", "id", {"anthropic_version": "2023-06-01"}),
        ("/v1beta/models?pageSize=1000", "name", {}),
    ):
        every = names("free", path, field, **headers)
        assert MODEL in every
        wanted = {name for name in every if name.startswith("gemini-2.5") or name == "gpt-4o"}
        assert names("picky", path, field, **headers) == wanted
        assert names("chatter", path, field, **headers) == every
    hidden = ask(daemon, "GET", f"/v1/models/{MODEL}", authorization=f"Bearer {TOKENS['picky']}")
    assert hidden.status == 404


def test_a_token_is_taken_from_each_of_its_four_places(daemon):
    token = TOKENS["free"]
    for path, headers in (
        (CHAT, {"authorization": f"Bearer {token}"}),
        (CHAT, {"x_api_key": token}),
        (CHAT, {"x_goog_api_key": token}),
        (f"{CHAT}?key={token}", {}),
        (CHAT, {"x_api_key": token, "authorization": f"Bearer {token}"}),
    ):
        assert ask(daemon, "POST", path, said("hi"), **headers).status == 200
    two = ask(
        daemon, "POST", CHAT, said("hi"), x_api_key=token, authorization=f"Bearer {TOKENS['near']}"
    )
    assert (two.status, two.json["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("address", "status"),
    [("10.1.2.3", 200), ("::ffff:10.1.2.3", 200), ("2001:db8::7", 200), ("192.0.2.1", 403)],
)
def test_the_address_is_the_one_that_a_trusted_proxy_names(daemon, address, status):
    assert chat_as(daemon, "far", x_forwarded_for=address).status == status


def test_nobody_is_let_in_without_a_token(daemon):
    assert ask(daemon, "POST", CHAT, said("hi")).status == 401


def test_the_log_names_the_client_also_of_a_refusal(daemon):
    chat_as(daemon, "free", x_request_id="client-1")
    chat_as(daemon, "far", x_request_id="client-2")
    assert daemon.request_line("client-1")["client"] == "free"
    line = daemon.request_line("client-2")
    assert (line["client"], line["outcome"]) == ("far", "address_not_allowed")


def test_a_client_may_be_told_the_key(daemon):
    assert chat_as(daemon, "seen").headers["x-gemproxy-key"] in ("alpha", "beta")
    assert "x-gemproxy-key" not in chat_as(daemon, "free").headers


# -- reload ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_lived(simulator, tmp_path_factory):
    """With a file elsewhere, which an option names."""
    folder = tmp_path_factory.mktemp("daemon")
    (folder / "others").mkdir()
    write(folder / "others", CLIENTS[:1])
    running = RunningDaemon(
        folder, simulator.url, KEYS, "--clients", str(folder / "others" / "clients.yaml")
    )
    yield running
    running.stop()


@pytest.fixture
def fresh(long_lived):
    write(long_lived.folder / "others", CLIENTS[:1])
    assert long_lived.reload().status == 200
    return long_lived


def test_a_changed_file_is_taken_over_while_requests_in_flight_finish(fresh, simulator):
    simulator.behave_all("hang")
    with Wire(fresh) as wire:
        wire.send(request("POST", CHAT, said("hi"), authorization=f"Bearer {TOKENS['free']}"))
        simulator.wait_for_request(lambda _: True)
        write(fresh.folder / "others", [{"name": "new", "token": TOKENS["near"]}])
        changes = fresh.reload().json["changes"]
        assert (changes["clients_added"], changes["clients_removed"]) == (1, 1)
        assert chat_as(fresh, "free").status == 401
        assert fresh.health()["in_flight"] == 1
        simulator.reset()
    assert chat_as(fresh, "near").status == 200


def test_a_changed_file_is_noticed_and_a_mistaken_one_changes_nothing(fresh):
    write(fresh.folder / "others", [*CLIENTS[:1], {"name": "new", "token": TOKENS["near"]}])
    eventually(lambda: chat_as(fresh, "near").status == 200)
    write(fresh.folder / "others", [{"name": "new"}])
    answer = fresh.reload()
    assert answer.status == 400
    assert (
        "clients.yaml:2: clients[0].token: expected exactly one of token"
        in answer.json["error"]["message"]
    )
    assert chat_as(fresh, "free").status == 200
    assert chat_as(fresh, "near").status == 200


def test_no_client_is_made_with_the_name_of_an_access_token(fresh):
    """Usage is counted, and limits hold, by the name."""
    fresh.configure(KEYS, proxy={"accessTokens": [{"name": "app", "token": TOKENS["seen"]}]})
    assert fresh.reload().status == 200
    refused = fresh.admin("POST", "clients", {"name": "app"})
    assert (refused.status, refused.json["error"]["code"]) == (409, "client_of_file")
    fresh.configure(KEYS)
    assert fresh.reload().status == 200
    assert fresh.admin("POST", "clients", {"name": "app"}).status == 201
    assert fresh.admin("DELETE", "clients/app").status == 200


def test_an_access_token_with_the_name_of_a_client_that_was_made_is_refused(fresh):
    assert fresh.admin("POST", "clients", {"name": "app"}).status == 201
    proxy = {"accessTokens": [{"name": "app", "token": "another-token-0123456789"}]}
    fresh.configure(KEYS, proxy=proxy)
    answer = fresh.reload()
    assert answer.status == 400
    message = answer.json["error"]["message"]
    assert "proxy.accessTokens[0].name: 'app' is the name of a client that was made" in message
    assert "proxy.yaml:" in message
    assert status_with(fresh, "another-token-0123456789") != 200
    assert fresh.admin("DELETE", "clients/app").status == 200
    assert fresh.reload().status == 200


def test_a_named_file_that_is_gone_changes_nothing(fresh):
    (fresh.folder / "others" / "clients.yaml").unlink()
    answer = fresh.reload()
    assert answer.status == 400
    assert "clients.yaml: cannot be read" in answer.json["error"]["message"]
    assert ask(fresh, "POST", CHAT, said("hi")).status == 401
    assert chat_as(fresh, "free").status == 200


def test_a_file_that_appears_closes_the_proxy_for_strangers_also_once_it_is_gone(
    simulator, tmp_path
):
    running = RunningDaemon(tmp_path, simulator.url, KEYS)
    try:
        assert ask(running, "POST", CHAT, said("hi")).status == 200
        assert ask(running, "POST", CHAT, said("hi"), x_api_key="made-up").status == 200
        write(tmp_path, CLIENTS[:1])
        assert running.reload().status == 200
        assert ask(running, "POST", CHAT, said("hi")).status == 401
        assert chat_as(running, "free").status == 200
        admin = ask(running, "POST", CHAT, said("hi"), authorization=f"Bearer {ADMIN_TOKEN}")
        assert admin.status == 200
        (tmp_path / "clients.yaml").unlink()
        answer = running.reload()
        assert answer.status == 400
        assert "clients.yaml: is gone" in answer.json["error"]["message"]
        assert ask(running, "POST", CHAT, said("hi")).status == 401
        assert chat_as(running, "free").status == 200
    finally:
        running.stop()


# -- clients that are made at run time -------------------------------------------------------------


def make(daemon, name, **settings):
    answer = daemon.admin("POST", "clients", {"name": name, **settings})
    assert answer.status == 201, answer.body
    return answer.json["token"]


def status_with(daemon, token):
    return ask(daemon, "POST", CHAT, said("hi"), authorization=f"Bearer {token}").status


def test_what_was_answered_outlives_a_kill(simulator, tmp_path):
    """Neither a made client nor a revoked one waits for the checkpoint, which is an hour away."""
    persistence = {"checkpointSeconds": 3600.0}
    running = RunningDaemon(tmp_path, simulator.url, KEYS, persistence=persistence)
    assert ask(running, "POST", CHAT, said("hi")).status == 200
    kept, revoked = make(running, "kept", limits={"rpd": 20}), make(running, "revoked")
    old = make(running, "rotated")
    disabled = make(running, "disabled")
    # A client was made, so nobody is let in without a token any more.
    assert ask(running, "POST", CHAT, said("hi")).status == 401
    assert [status_with(running, each) for each in (kept, revoked, old)] == [200] * 3
    # A token in a wrong place is kept from every sink as well.
    as_kept = {"authorization": f"Bearer {kept}"}
    for place in (f"/v1/models/{kept}", f"/v1/{kept}", f"/v1beta/models/{kept}:generateContent"):
        assert ask(running, "POST", place, {}, **as_kept).status in (400, 404, 405)
    assert ask(running, "POST", CHAT, said("hi") | {"model": kept}, **as_kept).status == 404
    new = running.admin("POST", "clients/rotated/rotate", {"graceSeconds": 0}).json["token"]
    assert running.admin("DELETE", "clients/revoked").status == 200
    assert running.admin("PATCH", "clients/disabled", {"enabled": False}).status == 200
    running.kill()
    tokens = (kept, revoked, old, new, disabled)
    assert not any(token in running.output for token in tokens)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(token.encode() in content for token in tokens), path

    again = RunningDaemon(tmp_path, simulator.url, KEYS, persistence=persistence)
    assert [status_with(again, token) for token in tokens] == [200, 401, 401, 200, 401]
    assert ask(again, "POST", CHAT, said("hi")).status == 401
    shown = {each["name"]: each for each in again.admin("GET", "clients").json["clients"]}
    assert list(shown) == ["disabled", "kept", "rotated"]
    assert shown["kept"]["limits"]["rpd"] == 20
    assert shown["kept"]["last_seen"] is not None
    # All of them are deleted, and it is still known that there were some.
    for name in shown:
        assert again.admin("DELETE", f"clients/{name}").status == 200
    again.kill()

    # A file with the name of a client of the state is a mistake of the file.
    last = RunningDaemon(tmp_path, simulator.url, KEYS, persistence=persistence)
    assert ask(last, "POST", CHAT, said("hi")).status == 401
    made = make(last, "free")
    write(tmp_path, CLIENTS[:1])
    answer = last.reload()
    assert answer.status == 400
    message = answer.json["error"]["message"]
    assert "clients.yaml:2: clients[0].name: 'free' is the name of a client" in message
    assert status_with(last, made) == 200
    last.stop()
    refused = Process(
        *TWISTD,
        "gemproxy",
        "--config",
        tmp_path / "proxy.yaml",
        "--keys",
        tmp_path / "keys.yaml",
        cwd=tmp_path,
    )
    assert refused.wait() == 78
    assert "clients.yaml:2: clients[0].name: 'free' is the name of a client" in refused.output
    assert "Traceback" not in refused.output


def test_without_a_state_no_client_is_made(simulator, tmp_path):
    """It would be gone after a restart, and strangers would be let in again."""
    write(tmp_path, CLIENTS[:1])
    nowhere = {"path": None}
    running = RunningDaemon(tmp_path, simulator.url, KEYS, persistence=nowhere)
    try:
        of_file = CLIENTS[0]["name"]
        for method, path, body, code in (
            ("POST", "clients", {"name": "app"}, "no_persistence"),
            ("PATCH", "clients/app", {"debug": True}, "no_persistence"),
            ("POST", "clients/app/rotate", {}, "no_persistence"),
            ("PATCH", f"clients/{of_file}", {"debug": True}, "client_of_file"),
        ):
            refused = running.admin(method, path, body)
            assert (refused.status, refused.json["error"]["code"]) == (409, code)
        message = running.admin("POST", "clients", {"name": "app"}).json["error"]["message"]
        assert "need persistence.path" in message
        assert "clients.yaml" in message
        assert [each["name"] for each in running.admin("GET", "clients").json["clients"]] == [
            of_file
        ]
    finally:
        running.stop()


def test_clients_are_kept_in_the_fallback_while_the_database_cannot_be_written(simulator, tmp_path):
    """And come back from there; what was deleted meanwhile stays deleted in the database."""
    state = tmp_path / "state"
    running = RunningDaemon(tmp_path, simulator.url, KEYS)
    first = make(running, "first")
    # A folder in the place of the database can be neither opened nor replaced.
    running.stop()
    database = state / "gemproxy.db"
    database.rename(state / "aside.db")
    database.mkdir()
    running = RunningDaemon(tmp_path, simulator.url, KEYS)
    assert running.health()["persistence"]["backend"] == "json"
    second, third = make(running, "second"), make(running, "third")
    assert running.admin("DELETE", "clients/third").status == 200
    running.kill()
    database.rmdir()
    (state / "aside.db").rename(database)
    running = RunningDaemon(tmp_path, simulator.url, KEYS)
    assert [status_with(running, each) for each in (first, second, third)] == [200, 200, 401]
    running.stop()
