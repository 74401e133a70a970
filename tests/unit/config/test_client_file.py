"""What ``clients.yaml`` may say, and how its mistakes are named."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from gemproxy.config.loading import load, locate_clients
from gemproxy.config.settings import Settings
from gemproxy.core.errors import ConfigError

ADMIN = "admin-token-0123456789"
TOKEN = "token-of-the-app-0123456789"
OTHER = "token-of-another-0123456789"
PROXY = f"proxy: {{adminToken: {ADMIN}}}\n"
KEYS = "keys: [{name: one, key: test-key-one-0123456789abcdef}]\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(clients: str, proxy=PROXY, environ=None) -> Settings:
    Path("proxy.yaml").write_text(proxy)
    Path("keys.yaml").write_text(KEYS)
    Path("clients.yaml").write_text(clients)
    return load(Path("proxy.yaml"), Path("keys.yaml"), environ or {}, Path("clients.yaml"))


def faults(clients: str, **more) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(clients, **more)
    assert TOKEN not in str(caught.value)
    return [str(fault) for fault in caught.value.faults]


def test_everything_that_a_client_may_say_is_read():
    found = read(
        "clients:\n"
        "  - name: checkout-service\n"
        f"    token: {TOKEN}\n"
        "    enabled: false\n"
        "    expires: 2027-06-30\n"
        "    models: ['gemini-3*', gemini-embedding-*]\n"
        "    endpoints: [chat, native]\n"
        "    addresses: [10.0.0.0/8, '2001:db8::/32', 192.0.2.7]\n"
        "    limits: {rpm: 60, tpm: null, concurrent: 2}\n"
        "    budget: {usdPerDay: 1.5}\n"
        "    priority: low\n"
        "    debug: true\n"
        "defaults: {limits: {rpd: 1000}, priority: high}\n"
    ).clients
    (client,) = found.clients
    assert (client.name, client.token.reveal()) == ("checkout-service", TOKEN)
    assert client.digest == sha256(TOKEN.encode()).digest()
    assert client.settings == {
        "enabled": False,
        "expires": "2027-06-30",
        "models": ("gemini-3*", "gemini-embedding-*"),
        "endpoints": ("chat", "native"),
        "addresses": ("10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"),
        "limits.rpm": 60,
        "limits.tpm": None,
        "limits.concurrent": 2,
        "budget.usdPerDay": 1.5,
        "priority": "low",
        "debug": True,
    }
    assert found.defaults == {"limits.rpd": 1000, "priority": "high"}


@pytest.mark.parametrize(
    ("token", "environ"),
    [
        ("tokenEnv: APP_TOKEN", {"APP_TOKEN": TOKEN}),
        ("tokenFile: app.txt", {}),
        ("tokenFile: $CREDENTIALS_DIRECTORY/app.txt", {"CREDENTIALS_DIRECTORY": "."}),
        (f"tokenSha256: {sha256(TOKEN.encode()).hexdigest()}", {}),
        (f"tokenSha256: {sha256(TOKEN.encode()).hexdigest().upper()}", {}),
    ],
)
def test_a_token_may_be_elsewhere(token, environ):
    Path("app.txt").write_text(f"{TOKEN}\n")
    (client,) = read(f"clients: [{{name: app, {token}}}]", environ=environ).clients.clients
    assert client.digest == sha256(TOKEN.encode()).digest()


def test_every_mistake_is_named_with_its_place():
    text = f"""\
clients:
  - name: app
    token: {TOKEN}
    limits: {{rpm: two}}
  - name: app
    tokenEnv: NOT_THERE
  - {{name: Admin, token: {OTHER}}}
  - name: "two\\nlines"
  - name: dates
    tokenSha256: 0123
    expires: 2027-02-30
    endpoints: [chats]
    addresses: [10.0.0.1/8]
    budget: {{usdPerDay: -1}}
    prority: low
  - just-a-token-0123456789
defaults:
  enabled: false
"""
    assert faults(text) == [
        f"clients.yaml:{line}"
        for line in (
            "4: clients[0].limits.rpm: expected a whole number of at least 1, got 'two'",
            "5: clients[1].name: the same name as clients[0]",
            "6: clients[1].tokenEnv: the environment variable NOT_THERE is not set",
            "7: clients[2].name: 'Admin' is reserved; choose another name",
            (
                "8: clients[3].name: expected a name of 1 to 64 printable characters, got"
                r" 'two\\nlines'"
            ),
            (
                "8: clients[3].token: expected exactly one of token, tokenEnv, tokenFile and"
                " tokenSha256, got none"
            ),
            "10: clients[4].tokenSha256: expected the 64 hex digits of a SHA-256, got a number",
            (
                "11: clients[4].expires: expected a date such as 2027-06-30, or a time such as"
                " 2027-06-30T12:00:00Z, got 2027-02-30"
            ),
            (
                "12: clients[4].endpoints[0]: expected chat, responses, messages, embeddings,"
                " images, audio, files, batches or native, got 'chats'"
            ),
            (
                "13: clients[4].addresses[0]: expected a network without host bits, such as"
                " 10.0.0.0/8, got '10.0.0.1/8'"
            ),
            (
                "14: clients[4].budget.usdPerDay: expected a number of US dollars of at least 0,"
                " got -1"
            ),
            "15: clients[4].prority: unknown setting; did you mean 'priority'?",
            "16: clients[5]: expected a mapping with name and token, got text",
            "18: defaults.enabled: unknown setting",
        )
    ]


@pytest.mark.parametrize(
    ("clients", "expected"),
    [
        (f"token: {ADMIN}", "clients[0].token: the same secret as proxy.adminToken"),
        (f"token: {OTHER}", "clients[0].token: the same secret as proxy.accessTokens[0].token"),
        (
            f"tokenSha256: {sha256(OTHER.encode()).hexdigest()}",
            "clients[0].tokenSha256: the same secret as proxy.accessTokens[0].token",
        ),
        (f"token: {TOKEN}, name: shop", "clients[0].name: the same name as proxy.accessTokens[0]"),
        (
            f"token: {TOKEN}, tokenSha256: {'0' * 64}",
            "clients[0].tokenSha256: cannot stand beside token; give exactly one of them",
        ),
        (
            f"name: {TOKEN}, token: {TOKEN}",
            "clients[0].name: is one of the secrets; names are shown, secrets never",
        ),
    ],
)
def test_no_token_and_no_name_is_used_twice(clients, expected):
    proxy = f"proxy: {{adminToken: {ADMIN}, accessTokens: [{{name: shop, token: {OTHER}}}]}}\n"
    name = "" if "name:" in clients else "name: app, "
    assert f"clients.yaml:1: {expected}" in faults(f"clients: [{{{name}{clients}}}]", proxy=proxy)


def test_two_clients_cannot_have_one_token_whatever_its_form():
    digest = sha256(TOKEN.encode()).hexdigest()
    text = f"clients: [{{name: a, tokenSha256: {digest}}}, {{name: b, token: {TOKEN}}}]"
    assert faults(text) == [
        "clients.yaml:1: clients[1].token: the same secret as clients[0].tokenSha256"
    ]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "Ünïcode-Größe 1", "x" * 64])
def test_a_name_may_be_anything_that_can_be_printed(name):
    (client,) = read(f"clients: [{{name: '{name}', token: {TOKEN}}}]").clients.clients
    assert client.name == name


@pytest.mark.parametrize("text", ["", "clients:\n", "clients: []\n", "# nothing\n"])
def test_an_empty_file_admits_nobody_without_a_token(text):
    """It is there on purpose: for clients that are made at run time."""
    settings = read(text)
    assert settings.clients.clients == ()
    assert not settings.anonymous_allowed
    assert read(text, proxy=PROXY.replace("{", "{host: 0.0.0.0, ")).clients.clients == ()
    assert replace(settings, clients=None).anonymous_allowed


def test_the_tokens_of_clients_are_kept_from_every_sink():
    settings = read(f"clients: [{{name: app, token: {TOKEN}}}]")
    assert TOKEN in {secret.reveal() for secret in settings.secrets()}


def test_the_file_is_beside_proxy_yaml_unless_it_is_named(folder):
    config = folder / "proxy.yaml"
    assert locate_clients(None, config, {}) is None
    (folder / "clients.yaml").write_text("")
    assert locate_clients(None, config, {}) == folder / "clients.yaml"
    named = {"GEMPROXY_CLIENTS": "/named/by/variable.yaml"}
    assert locate_clients(None, config, named) == Path("/named/by/variable.yaml")
    assert locate_clients("option.yaml", config, named) == Path("option.yaml")


def test_a_file_that_is_named_has_to_be_there():
    Path("proxy.yaml").write_text(PROXY)
    Path("keys.yaml").write_text(KEYS)
    with pytest.raises(ConfigError, match=r"gone.yaml: cannot be read: No such file"):
        load(Path("proxy.yaml"), Path("keys.yaml"), {}, Path("gone.yaml"))
