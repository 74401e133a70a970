"""Both files, read whole: every setting, and every mistake with its place."""

# ruff: noqa: E501 - in the tables of mistakes, one mistake is one line
from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gemproxy.config.loading import load, locate_files
from gemproxy.config.settings import Settings
from gemproxy.core.errors import ConfigError
from gemproxy.pool.key import Limits

ADMIN = "admin-token-0123456789"
KEY = "test-key-one-0123456789abcdef"
GOOD_PROXY = f"proxy: {{adminToken: {ADMIN}}}\n"
GOOD_KEYS = f"keys:\n  - {{name: one, key: {KEY}}}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(proxy=GOOD_PROXY, keys=GOOD_KEYS, environ=None) -> Settings:
    Path("proxy.yaml").write_bytes(proxy if isinstance(proxy, bytes) else proxy.encode())
    Path("keys.yaml").write_bytes(keys if isinstance(keys, bytes) else keys.encode())
    return load(Path("proxy.yaml"), Path("keys.yaml"), environ or {})


def faults(proxy=GOOD_PROXY, keys=GOOD_KEYS, environ=None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(proxy, keys, environ)
    assert str(caught.value).splitlines() == [str(fault) for fault in caught.value.faults]
    return [str(fault) for fault in caught.value.faults]


def proxy_with(lines: str) -> str:
    return f"proxy:\n  adminToken: {ADMIN}\n{lines}"


def test_left_out_settings_have_the_defaults_of_the_contract(folder):
    found = read()
    assert (found.proxy.host, found.proxy.port) == ("127.0.0.1", 4806)
    assert found.proxy.max_payload_size == 10485760
    assert found.proxy.drain_seconds == 30.0
    assert found.upstream.base_url == "https://generativelanguage.googleapis.com"
    assert found.upstream.first_byte_timeout_seconds == 600.0
    assert found.retry.max_attempts == 3
    assert found.monitoring.recovery_time == 300.0
    assert found.persistence.path == Path("state/gemproxy.db")
    assert found.streaming.heartbeat_seconds == 15.0
    key = found.keys[0]
    assert (key.weight, key.project, key.enabled) == (1, "one", True)
    assert (key.models, key.limits, key.cooldown_seconds) == (frozenset(), Limits(), None)


def test_every_kind_of_setting_is_read(folder):
    Path("ca.pem").write_text("pem")
    found = read(
        proxy_with(
            "  endpoint: 'tcp:80:interface=127.0.0.1'\n"
            "  tls: {certFile: ca.pem, keyFile: ca.pem}\n"
            "  corsOrigins: ['*', 'https://example.com/']\n"
            "  accessTokens: [token-of-a, {name: b, token: 12345678, debug: yes}]\n"
            "upstream: {baseUrl: 'http://gateway:8080/v9/', caFile: ca.pem, idleTimeoutSeconds: 0.5}\n"
            "models: {aliases: {gpt-4o: models/gemini-x}, allow: [gemini-x]}\n"
            "persistence: {path: null, fallbackPath: $STATE/x.json}\n"
        ),
        f"keys:\n  - name: one\n    key: {KEY}\n    weight: 7\n    cooldownSeconds: 2.5\n"
        "    project: team\n    enabled: false\n    models: [gemini-x]\n    limits: {rpm: 3}\n",
        {"STATE": "/var/state"},
    )
    assert found.proxy.endpoint == "tcp:80:interface=127.0.0.1"
    assert found.proxy.tls is not None
    assert found.proxy.tls.cert_file == Path("ca.pem")
    assert found.proxy.cors_origins == ("*", "https://example.com")
    assert [(t.name, t.token.reveal(), t.debug) for t in found.proxy.access_tokens] == [
        ("token-1", "token-of-a", False),
        ("b", "12345678", True),
    ]
    assert found.upstream.base_url == "http://gateway:8080/v9"
    assert found.upstream.idle_timeout_seconds == 0.5
    assert dict(found.models.aliases) == {"gpt-4o": "gemini-x"}
    assert found.persistence.path is None
    assert found.persistence.fallback_path == Path("/var/state/x.json")
    key = found.keys[0]
    assert (key.weight, key.cooldown_seconds, key.project) == (7, 2.5, "team")
    assert (key.enabled, key.models, key.limits) == (False, {"gemini-x"}, Limits(rpm=3))


def test_a_token_without_a_name_keeps_the_one_that_is_made_of_it(folder):
    strong = "jA3_xq7Zk-09TbLwPf5R"

    def names(*items):
        listed = ", ".join(items)
        found = read(proxy_with(f"  accessTokens: [{listed}]\n"))
        return [token.name for token in found.proxy.access_tokens]

    (name,) = names(strong)
    assert names("weak", f"{{token: {strong}}}", "short") == [
        "token-1",
        name,
        "token-3",
    ]
    assert len(name) == len("token-012345")
    assert name.removeprefix("token-") not in strong


def test_an_empty_section_has_its_defaults(folder):
    assert read(proxy_with("upstream:\nretry: {}\n")).retry.max_attempts == 3


def test_the_message_of_the_contract_is_given_to_the_letter(folder):
    keys = f"# a comment\nkeys:\n  - name: one\n    key: {KEY}\n  - name: two\n"
    keys += "    key: other-key-0123\n    weight: 'two'\n"
    assert faults(keys=keys) == [
        "keys.yaml:7: keys[1].weight: expected a whole number of at least 1, got 'two'"
    ]


PROXY_MISTAKES = [
    ("  port: two\n", "3: proxy.port: expected a whole number of at least 0, got 'two'"),
    ("  port: 70000\n", "3: proxy.port: expected a whole number of at most 65535, got 70000"),
    ("  port: true\n", "3: proxy.port: expected a whole number of at least 0, got true"),
    ("  port:\n", "3: proxy.port: expected a whole number of at least 0, got nothing"),
    ("  port: 4806.0\n", "3: proxy.port: expected a whole number of at least 0, got 4806.0"),
    ("  prot: 1\n", "3: proxy.prot: unknown setting; did you mean 'port'?"),
    ("  zzz: 1\n", "3: proxy.zzz: unknown setting"),
    (
        "  max_payload_size: 1\n",
        "3: proxy.max_payload_size: unknown setting; did you mean 'maxPayloadSize'?",
    ),
    ("  port: 1\n  port: 2\n", "4: proxy.port: given twice, first in line 3"),
    ("  1: 2\n", "3: proxy: expected the name of a setting, got a number"),
    ("retri: {}\n", "3: retri: unknown setting; did you mean 'retry'?"),
    ("retry: [1]\n", "3: retry: expected a mapping of settings, got a list"),
    (
        "  drainSeconds: .nan\n",
        "3: proxy.drainSeconds: expected a number of seconds of at least 0, got .nan",
    ),
    (
        "retry: {backoffSeconds: .inf}\n",
        "3: retry.backoffSeconds: expected a number of seconds of at most 60, got .inf",
    ),
    (
        "upstream: {connectTimeoutSeconds: 0}\n",
        "3: upstream.connectTimeoutSeconds: expected a number of seconds greater than 0, got 0",
    ),
    (
        "logging: {level: loud}\n",
        "3: logging.level: expected debug, info, warn, error or critical, got 'loud'",
    ),
    ("monitoring: {probe: 1}\n", "3: monitoring.probe: expected true or false, got 1"),
    (
        "  corsOrigins: [example.com]\n",
        (
            "3: proxy.corsOrigins[0]: expected an origin such as https://example.com, or '*', "
            "got 'example.com'"
        ),
    ),
    ("  corsOrigins: '*'\n", "3: proxy.corsOrigins: expected a list, got '*'"),
    (
        "models:\n  aliases:\n    a: b\n    b: c\n",
        "5: models.aliases.a: stands for another alias; an alias must name a model of the upstream",
    ),
    (
        "models: {fetchUrls: true}\n",
        (
            "3: models.fetchUrls: expected false, since this version fetches no address that a client "
            "names; Google does it itself, got true"
        ),
    ),
    (
        "  adminAuth: disabled\n  host: 0.0.0.0\n  allowAnonymous: true\n",
        (
            "3: proxy.adminAuth: cannot be disabled where others can reach the admin API: the "
            "listener is neither on loopback nor a Unix socket"
        ),
    ),
    (
        "  host: '::'\n",
        (
            "1: proxy.accessTokens: others can reach the listener, so clients need tokens: give "
            "accessTokens or a clients.yaml, or say allowAnonymous: true on purpose"
        ),
    ),
    (
        "  allowAnonymous: false\n",
        (
            "3: proxy.allowAnonymous: false leaves nobody who may call, since there are no "
            "accessTokens and no clients.yaml"
        ),
    ),
    (
        "  tls: {certFile: none.pem}\n",
        [
            "3: proxy.tls.keyFile: is missing; TLS needs both certFile and keyFile",
            "3: proxy.tls.certFile: expected the path of a file that is there, got 'none.pem'",
        ],
    ),
    (
        "  accessTokens: [abc-def, abc-def]\n",
        "3: proxy.accessTokens[1]: the same secret as proxy.accessTokens[0]",
    ),
    (
        f"  accessTokens: [{ADMIN}]\n",
        "3: proxy.accessTokens[0]: the same secret as proxy.adminToken",
    ),
    (
        "  accessTokens: [{name: a, token: t-one}, {name: a, token: t-two}]\n",
        "3: proxy.accessTokens[1].name: the same name as proxy.accessTokens[0]",
    ),
    (
        "  accessTokens: [{name: Admin, token: t-one}]\n",
        "3: proxy.accessTokens[0].name: 'Admin' is reserved; choose another name",
    ),
    (
        "  accessTokens: [{name: a}]\n",
        (
            "3: proxy.accessTokens[0].token: expected exactly one of token, tokenEnv and tokenFile, "
            "got none"
        ),
    ),
    (
        "persistence: {path: a, fallbackPath: a}\n",
        "3: persistence.fallbackPath: is the same file as persistence.path",
    ),
    (
        "persistence: {path: $NO_WHERE/a}\n",
        "3: persistence.path: expected a path whose variable NO_WHERE is set, got '$NO_WHERE/a'",
    ),
]


@pytest.mark.parametrize(("lines", "expected"), PROXY_MISTAKES)
def test_a_mistake_in_proxy_yaml_is_named_with_its_place(folder, lines, expected):
    expected = [expected] if isinstance(expected, str) else expected
    assert faults(proxy_with(lines)) == [f"proxy.yaml:{message}" for message in expected]


KEYS_MISTAKES = [
    ("keys: []\n", "1: keys: expected at least one key, got none"),
    ("", None),
    ("keys: 5\n", "1: keys: expected a list of keys, got a number"),
    ("- a\n", "1: expected a mapping of settings, got a list"),
    (f"keys:\n  - key: {KEY}\n", "2: keys[0].name: expected a name, got none"),
    (f"keys:\n  - {{name: '', key: {KEY}}}\n", "2: keys[0].name: expected a name of 1 to 64 printable characters, got ''"),
    ("keys:\n  - name: a\n", "2: keys[0].key: expected exactly one of key, keyEnv and keyFile, got none"),
    (
        "keys:\n  - name: a\n    key: abc-def\n    keyEnv: X\n",
        "4: keys[0].keyEnv: expected exactly one of key, keyEnv and keyFile, got key and keyEnv",
    ),
    (f"keys:\n  - {{name: a, key: {KEY}, weight: 0}}\n", "2: keys[0].weight: expected a whole number of at least 1, got 0"),
    (f"keys:\n  - {{name: a, key: {KEY}, weight: 1001}}\n", "2: keys[0].weight: expected a whole number of at most 1000, got 1001"),
    (f"keys:\n  - {{name: a, key: {KEY}, limits: {{rpx: 1}}}}\n", "2: keys[0].limits.rpx: unknown setting; did you mean 'rpm'?"),
    (f"keys:\n  - {{name: a, key: {KEY}, wieght: 1}}\n", "2: keys[0].wieght: unknown setting; did you mean 'weight'?"),
    ("keys:\n  - {name: a, keyEnv: MY_KEY}\n", "2: keys[0].keyEnv: the environment variable MY_KEY is not set"),
    ("keys:\n  - {name: a, keyFile: none}\n", "2: keys[0].keyFile: the file cannot be read: No such file or directory"),
    ("keys:\n  - {name: a, key: [x]}\n", "2: keys[0].key: expected text, got a list"),
    (f"keys:\n  - {KEY}\n", "2: keys[0]: expected a mapping with name and key, got text"),
    (f"keys:\n  - {{name: {KEY}, key: {KEY}}}\n", "2: keys[0].name: is one of the secrets; names are shown, secrets never"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "expected"), KEYS_MISTAKES)
def test_a_mistake_in_keys_yaml_is_named_with_its_place(folder, keys, expected):
    message = (
        f"keys.yaml:{expected}"
        if expected
        else "keys.yaml: keys: expected at least one key, got none"
    )
    assert faults(keys=keys) == [message]


@pytest.mark.parametrize(
    "secret",
    [
        "YOUR_KEY", "your-api-key", "YOUR_GEMINI_API_KEY_HERE", "AIza...", "changeme", "change-me",
        "CHANGE_ME", "xxx", "XXXXXXXX", "<yourkey>", "<your key>", "...", "{{key}}", "${KEY}",
        "placeholder", "AIza…x9Qk", "***", "insert-key-here", "paste_your_key_here", "replace-me",
    ],
)  # fmt: skip
def test_a_placeholder_is_no_secret(folder, secret):
    keys = yaml.safe_dump({"keys": [{"name": "a", "key": secret}]}, allow_unicode=True)
    (found,) = faults(keys=keys)
    assert found.endswith("keys[0].key: is a placeholder; the secret itself belongs here")


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ("", "is empty"),
        ("abc def", "holds white space or control characters"),
        ("abc\x07def", "holds white space or control characters"),
        ("schlüssel-1", "holds characters that are not ASCII"),
        ("k" * 5000, "is longer than 4096 characters"),
    ],
)
def test_a_secret_that_no_header_can_carry_is_refused(folder, secret, reason):
    (found,) = faults(keys=yaml.safe_dump({"keys": [{"name": "a", "key": secret}]}))
    assert found.endswith(f"keys[0].key: {reason}")


@pytest.mark.parametrize("secret", ["KEY1", "AQ.short", "12345", "0x1f", "1e5", "sk_'\"\\:{}", "k"])
def test_a_secret_is_opaque(folder, secret):
    found = read(keys=yaml.safe_dump({"keys": [{"name": "a", "key": secret}]}))
    assert found.keys[0].secret.reveal() == secret


def test_a_number_is_the_secret_that_was_written(folder):
    assert read(keys="keys: [{name: a, key: 0012}]\n").keys[0].secret.reveal() == "0012"


def test_the_same_secret_twice_is_told_by_its_places(folder):
    keys = f"keys:\n  - {{name: a, key: {KEY}}}\n  - {{name: b, key: {KEY}}}\n"
    assert faults(keys=keys) == ["keys.yaml:3: keys[1].key: the same secret as keys[0].key"]


def test_an_api_key_cannot_be_the_admin_token_too(folder):
    keys = f"keys:\n  - {{name: a, key: {ADMIN}}}\n"
    assert faults(keys=keys) == ["keys.yaml:2: keys[0].key: the same secret as proxy.adminToken"]


def test_names_are_unique_even_where_a_key_is_unusable(folder):
    keys = f"keys:\n  - {{name: a, key: {KEY}}}\n  - {{name: a, key: xxx}}\n"
    assert [f.split(": ")[1] for f in faults(keys=keys)] == ["keys[1].key", "keys[1].name"]


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("short", "is shorter than 16 characters"),
        (
            "change-me-or-run-gemproxy-init",
            "is the sample's; `gemproxy init` writes a file with a fresh random one",
        ),
    ],
)
def test_an_admin_token_that_can_be_guessed_is_refused(folder, token, reason):
    expected = f"proxy.yaml:1: proxy.adminToken: {reason}"
    assert faults(f"proxy: {{adminToken: {token}}}\n") == [expected]


def test_without_an_admin_token_the_fault_says_how_to_make_one(folder):
    assert faults("retry: {}\n") == [
        (
            "proxy.yaml: proxy.adminToken: the admin API needs a token: give one of adminToken, "
            "adminTokenEnv and adminTokenFile (`gemproxy init` writes a file with a fresh random one)"
        )
    ]


def test_the_admin_token_may_be_left_out_on_purpose_on_loopback(folder):
    assert read("proxy: {adminAuth: disabled}\n").proxy.admin_token is None


@pytest.mark.parametrize(
    ("listener", "local"),
    [
        ("host: 127.0.0.1", True),
        ("host: 127.8.9.1", True),
        ("host: '::1'", True),
        ("host: localhost", True),
        ("host: 0.0.0.0", False),
        ("host: '::'", False),
        ("host: 10.0.0.1", False),
        ("host: example.com", False),
        ("endpoint: 'tcp:80:interface=127.0.0.1'", True),
        (r"endpoint: 'tcp6:80:interface=\:\:1'", True),
        ("endpoint: 'tcp:80'", False),
        ("endpoint: 'tcp:port=80:interface=10.0.0.1'", False),
        ("endpoint: 'unix:/run/gemproxy.sock'", True),
        ("endpoint: 'haproxy:tcp:80:interface=127.0.0.1'", True),
        ("endpoint: 'haproxy:tcp:80'", False),
        ("endpoint: 'systemd:domain=INET:index=0'", False),
        ("endpoint: 'onion:80'", False),
        ("{host: 0.0.0.0, endpoint: 'unix:/run/gemproxy.sock'", True),
    ],
)
def test_clients_need_tokens_where_others_can_reach_the_listener(folder, listener, local):
    text = f"proxy: {{adminToken: {ADMIN}, {listener.removeprefix('{')}}}\n"
    if local:
        assert read(text).anonymous_allowed
    else:
        assert any("proxy.accessTokens" in fault for fault in faults(text))


@pytest.mark.parametrize(
    "endpoint",
    ["4806", "tcp", "tcp:", "tcp:99999", "tcp:http", ":80", "a b:1", "stdio:", "stdio:x"],
)
def test_what_cannot_be_an_endpoint_is_refused(folder, endpoint):
    (found,) = faults(proxy_with(f"  endpoint: '{endpoint}'\n"))
    assert "expected a Twisted server endpoint string" in found


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a",
        "example.com",
        "http://",
        "https://a?b",
        "https://a b",
        "http://a:0",
        "http://[::1",
    ],
)
def test_what_cannot_be_the_upstreams_address_is_refused(folder, url):
    (found,) = faults(proxy_with(f"upstream: {{baseUrl: '{url}'}}\n"))
    assert "upstream.baseUrl: expected an address" in found


def test_an_address_with_a_password_is_refused_and_not_repeated(folder):
    (found,) = faults(proxy_with("upstream: {httpProxy: 'http://me:canary-word@proxy:1'}\n"))
    assert found.endswith("got text with '@' in it")


def test_secrets_come_from_files_beside_the_configuration_and_from_the_environment(folder):
    Path("one").write_text("key-from-file\n")
    Path("creds").mkdir()
    Path("creds/two").write_text("key-from-credential")
    found = read(
        "proxy: {adminTokenEnv: TOKEN}\n",
        "keys:\n  - {name: a, keyFile: one}\n  - {name: b, keyFile: $CREDENTIALS_DIRECTORY/two}\n"
        "  - {name: c, keyEnv: KEY_C}\n",
        {"TOKEN": ADMIN, "CREDENTIALS_DIRECTORY": str(folder / "creds"), "KEY_C": "key-from-env"},
    )
    assert found.proxy.admin_token is not None
    assert [key.secret.reveal() for key in found.keys] == [
        "key-from-file",
        "key-from-credential",
        "key-from-env",
    ]
    assert {secret.reveal() for secret in found.secrets()} == {
        ADMIN, "key-from-file", "key-from-credential", "key-from-env",
    }  # fmt: skip


def test_relative_files_start_at_the_configurations_folder_not_at_the_working_directory(folder):
    Path("conf").mkdir()
    Path("conf/secret").write_text(KEY)
    Path("conf/keys.yaml").write_text("keys: [{name: a, keyFile: secret}]\n")
    Path("proxy.yaml").write_text(GOOD_PROXY)
    found = load(Path("proxy.yaml"), Path("conf/keys.yaml"), {})
    assert found.keys[0].secret.reveal() == KEY


def test_all_mistakes_of_both_files_come_at_once_in_the_order_of_the_lines(folder):
    found = faults(
        "proxy:\n  port: x\n  adminToken: short\nretry: {maxAttempts: 0}\n",
        "keys:\n  - {name: a, key: xxx, weight: x}\n  - {nam: b, key: y y}\n",
    )
    assert [fault.split(": ")[:2] for fault in found] == [
        ["proxy.yaml:2", "proxy.port"],
        ["proxy.yaml:3", "proxy.adminToken"],
        ["proxy.yaml:4", "retry.maxAttempts"],
        ["keys.yaml:2", "keys[0].weight"],
        ["keys.yaml:2", "keys[0].key"],
        ["keys.yaml:3", "keys[1].nam"],
        ["keys.yaml:3", "keys[1].key"],
        ["keys.yaml:3", "keys[1].name"],
    ]


CANARY = "canary-0123456789-canary"


@pytest.mark.parametrize(
    ("proxy", "keys"),
    [
        (f"proxy: {{adminToken: [{CANARY}]}}\n", GOOD_KEYS),
        (f"proxy: {{adminToken: {{a: {CANARY}}}}}\n", GOOD_KEYS),
        (f"proxy: {{adminToken: !x {CANARY}}}\n", GOOD_KEYS),
        (f"proxy: {{adminToken: *{CANARY}}}\n", GOOD_KEYS),
        (f"proxy: {{adminToken: '{CANARY}}}\n", GOOD_KEYS),
        (f"proxy: {{adminToken: {CANARY}, adminTokenFile: {CANARY}}}\n", GOOD_KEYS),
        (f"proxy: {{adminTokenEnv: {CANARY}}}\n", GOOD_KEYS),
        (f"proxy: {{adminTokenFile: {CANARY}}}\n", GOOD_KEYS),
        (f"proxy: {{adminTokenFile: ${CANARY.replace('-', '_')}/a}}\n", GOOD_KEYS),
        (f"proxy: {{accessTokens: {CANARY}}}\n", GOOD_KEYS),
        (f"proxy: {{accessTokens: [[{CANARY}], {{{CANARY}: 1}}, {CANARY} {CANARY}]}}\n", GOOD_KEYS),
        (f"proxy: {{port: {CANARY}, host: '{CANARY}', adminAuth: {CANARY}}}\n", GOOD_KEYS),
        (f"{CANARY}: 1\n{CANARY}: 1\n", GOOD_KEYS),
        (f"models: {{aliases: {{{CANARY}: [1]}}}}\n", GOOD_KEYS),
        (GOOD_PROXY, f"keys: {CANARY}\n"),
        (GOOD_PROXY, f"keys: {{{CANARY}: 1}}\n"),
        (GOOD_PROXY, f"keys: [{CANARY}, name:{CANARY}]\n"),
        (GOOD_PROXY, f"keys:\n- name: a\n  key: {CANARY}\n  weight: {CANARY}\n  {CANARY}: 1\n"),
        (GOOD_PROXY, f"keys:\n- name: {CANARY}\n  key: {CANARY}\n- name: b\n  key: {CANARY}\n"),
        (GOOD_PROXY, f"keys:\n- name: a\n  key: '{CANARY}\n"),
        (GOOD_PROXY, f"keys:\n- name: a\n  key: @{CANARY}\n"),
        (GOOD_PROXY, f"keys:\n- name: a\n  key: {CANARY}: b\n"),
        (GOOD_PROXY, f"keys:\n- name: a\n  key: &a {CANARY}\n  key: {CANARY}\n"),
        (GOOD_PROXY, f"keys:\n- name: a\n key: {CANARY}\n"),
        (GOOD_PROXY, f"keys:\n- name: a\n  key: {CANARY} \t\n  \tkeyEnv: {CANARY}\n"),
        (GOOD_PROXY, f"%{CANARY} {CANARY}\n---\n"),
        (GOOD_PROXY, f"keys: !!int {CANARY}\n"),
    ],
)
def test_no_message_holds_a_secret_wherever_it_stands(folder, proxy, keys):
    for fault in faults(proxy, keys):
        assert CANARY not in fault
        assert CANARY.replace("-", "_") not in fault
        assert CANARY[:12] not in fault


def test_a_short_secret_is_not_told_by_a_mistake_beside_it(folder):
    keys = "keys: [{name: a, key: hunter2-token, weight: hunter2-token}]\n"
    assert faults(keys=keys) == [
        "keys.yaml:1: keys[0].weight: expected a whole number of at least 1, got '…'"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("proxy: {a: [}\n", "1: not valid YAML: "),
        ("proxy:\n\tport: 1\n", "2: not valid YAML: "),
        ("a: 1\n---\nb: 2\n", "2: not valid YAML: "),
        ("proxy:\n  port: \x01\n", "2: not valid YAML: "),
        (b"proxy:\n  host: \xff\n", "2: not valid UTF-8"),
        ("[" * 100_000, "1: nested too deeply"),
        ("{a: " * 40 + "}" * 40, "1: nested too deeply"),
        (" " * (16 * 1024 * 1024 + 1), " is larger than 16 MiB"),
    ],
)
def test_what_is_no_yaml_is_one_fault_with_its_line(folder, text, message):
    (found,) = faults(text)
    assert found.startswith(f"proxy.yaml:{message}")


def test_a_file_that_is_not_there_is_a_fault_beside_those_of_the_other(folder):
    Path("keys.yaml").write_text("keys: []\n")
    with pytest.raises(ConfigError) as caught:
        load(Path("none.yaml"), Path("keys.yaml"), {})
    assert [str(fault) for fault in caught.value.faults] == [
        "none.yaml: cannot be read: No such file or directory",
        "keys.yaml:1: keys: expected at least one key, got none",
    ]


def test_a_document_that_expands_to_gigabytes_costs_nothing(folder):
    bomb = "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]\n" for i in range(1, 30))
    merges = "".join(
        f"y{i}: &y{i} {{<<: [{', '.join([f'*y{i - 1}'] * 10)}]}}\n" for i in range(1, 30)
    )
    found = faults(f"x0: &x0 [a]\n{bomb}y0: &y0 {{a: 1}}\n{merges}proxy: *y29\n")
    assert "proxy.a: unknown setting" in " ".join(found)


def test_anchors_and_merge_keys_work_and_what_is_written_beats_what_is_merged(folder):
    found = read(
        keys=f"keys:\n  - &base {{name: a, key: {KEY}, weight: 3, project: p}}\n"
        "  - {<<: *base, name: b, key: another-key-1}\n"
    )
    assert [(k.name, k.weight, k.project) for k in found.keys] == [("a", 3, "p"), ("b", 3, "p")]


def test_a_mapping_that_merges_itself_is_read_all_the_same(folder):
    assert read(f"proxy: &p\n  <<: *p\n  adminToken: {ADMIN}\n").proxy.port == 4806


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
    st.binary(max_size=5),
    st.sampled_from(["unix:/x", "https://a", "info", "$HOME", "127.0.0.1", "a" * 50]),
)
NAMES = st.sampled_from(
    [
        "proxy",
        "upstream",
        "retry",
        "keys",
        "models",
        "logging",
        "port",
        "host",
        "adminToken",
        "accessTokens",
        "tls",
        "certFile",
        "name",
        "key",
        "keyEnv",
        "keyFile",
        "weight",
        "limits",
        "rpm",
        "aliases",
        "endpoint",
        "token",
        "level",
        "enabled",
        "baseUrl",
        "<<",
    ]
)
DATA = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(NAMES | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=25,
)


def settings_or_faults(folder):
    try:
        return load(folder / "p.yaml", folder / "k.yaml", {})
    except ConfigError as error:
        return error.faults


@given(proxy=st.dictionaries(NAMES, DATA) | DATA, keys=st.fixed_dictionaries({"keys": DATA}) | DATA)
@settings(max_examples=150, deadline=None)
def test_any_yaml_gives_settings_or_faults_and_nothing_else(tmp_path_factory, proxy, keys):
    folder = tmp_path_factory.mktemp("wild")
    (folder / "p.yaml").write_text(yaml.safe_dump(proxy, allow_unicode=True), "utf-8")
    (folder / "k.yaml").write_text(yaml.safe_dump(keys, allow_unicode=True), "utf-8")
    found = settings_or_faults(folder)
    assert isinstance(found, Settings) or all("\n" not in str(fault) for fault in found)


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_faults_and_nothing_else(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "p.yaml").write_bytes(data)
    (folder / "k.yaml").write_bytes(data)
    with pytest.raises(ConfigError):
        load(folder / "p.yaml", folder / "k.yaml", {})


def test_an_option_beats_the_variable_beats_the_local_folder(folder):
    Path("config").mkdir()
    Path("config/proxy.yaml").touch()
    Path("config/keys.yaml").touch()
    environ = {"GEMPROXY_CONFIG": "env.yaml", "GEMPROXY_KEYS": ""}
    assert locate_files("a.yaml", None, environ) == (Path("a.yaml"), Path("config/keys.yaml"))
    assert locate_files(None, "b.yaml", environ) == (Path("env.yaml"), Path("b.yaml"))
    assert locate_files(None, None, {}) == (Path("config/proxy.yaml"), Path("config/keys.yaml"))


@pytest.mark.skipif(Path("/etc/gemproxy").exists(), reason="this machine has files there")
def test_where_no_file_is_found_every_place_is_named(folder):
    with pytest.raises(ConfigError) as caught:
        locate_files(None, None, {})
    proxy, keys = map(str, caught.value.faults)
    assert proxy == (
        "proxy.yaml: no such file: looked at config/proxy.yaml and /etc/gemproxy/proxy.yaml; "
        "name one with --config or GEMPROXY_CONFIG, or run `gemproxy init`"
    )
    assert "--keys or GEMPROXY_KEYS" in keys


def test_the_credentials_of_the_proxy_are_a_name_and_a_secret(folder):
    found = read(
        proxy_with(
            "upstream: {httpProxy: 'http://proxy:1', httpProxyUser: me, httpProxyPasswordEnv: P}\n"
        ),
        environ={"P": "canary-word"},
    )
    assert found.upstream.http_proxy_user == "me"
    assert found.upstream.http_proxy_password is not None
    assert found.upstream.http_proxy_password.reveal() == "canary-word"
    assert "canary-word" in {secret.reveal() for secret in found.secrets()}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("{httpProxyUser: me}", "upstream.httpProxyUser: needs httpProxy"),
        (
            "{httpProxy: 'http://proxy:1', httpProxyPassword: canary-word}",
            "upstream.httpProxyPassword: needs httpProxyUser",
        ),
        (
            "{httpProxy: 'http://proxy:1', httpProxyUser: 'a:b'}",
            "upstream.httpProxyUser: expected a user name without a colon, got 'a:b'",
        ),
    ],
)
def test_credentials_of_a_proxy_that_is_not_there_are_refused(folder, lines, expected):
    (found,) = faults(proxy_with(f"upstream: {lines}\n"))
    assert found.endswith(expected)


def test_hosts_and_networks_are_read_in_their_canonical_form(folder):
    found = read(
        proxy_with("  allowedHosts: [Gateway.Example, '[::0:1]']\n  trustedProxies: [10.0.0.0/8]\n")
    )
    assert found.proxy.allowed_hosts == ("gateway.example", "::1")
    assert found.proxy.trusted_proxies == (ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("  allowedHosts: ['a:80']\n", "expected a host name or an address, without a port"),
        ("  trustedProxies: [10.0.0.1/8]\n", "without host bits, such as 10.0.0.0/8"),
        ("  trustedProxies: [home]\n", "expected a network such as 10.0.0.0/8, or an address"),
    ],
)
def test_what_is_no_host_or_network_is_refused(folder, lines, expected):
    (found,) = faults(proxy_with(lines))
    assert expected in found
