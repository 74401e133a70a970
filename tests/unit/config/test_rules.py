"""What works and is hardly meant."""

from __future__ import annotations

import base64
import hashlib
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.config.guessable import weakness
from gemproxy.config.rules import warnings
from gemproxy.config.settings import (
    AccessToken,
    ModelSettings,
    MonitoringSettings,
    ProxySettings,
    Settings,
    TLSSettings,
)
from gemproxy.pool.key import Key
from gemproxy.secret import Secret

TLS = TLSSettings(Path("cert.pem"), Path("key.pem"))
STRONG = "jA3_xq7Zk-09TbLwPf5R"
OPEN_ADMIN = "adminEndpoint, which has no TLS"


def proxy(**fields) -> Settings:
    return Settings((key(),), proxy=ProxySettings(**fields))


def tokens(*values) -> tuple[AccessToken, ...]:
    return tuple(AccessToken(f"token-{n}", Secret(value)) for n, value in enumerate(values, 1))


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
        (proxy(access_tokens=tokens(STRONG, "b")), "the access token token-2 has fewer than 16"),
        (proxy(admin_token=Secret("a" * 16)), "the admin token has too few"),
        (proxy(cors_origins=("*",)), "every web page"),
        (proxy(trusted_proxies=(ip_network("0.0.0.0/0"),)), "trustedProxies names every address"),
        (proxy(max_payload_size=2, max_buffered_bytes=1), "always get 503"),
        (proxy(tls=TLS, admin_endpoint="tcp:8080"), OPEN_ADMIN),
        (proxy(tls=TLS, admin_endpoint="haproxy:tcp:8080"), OPEN_ADMIN),
        (
            proxy(
                endpoint="ssl:443:privateKey=k.pem",
                access_tokens=tokens(STRONG),
                admin_endpoint="tcp:80:interface=10.0.0.1",
            ),
            OPEN_ADMIN,
        ),
    ],
)
def test_a_warning_says_what_is_odd(settings, words):
    (warning,) = warnings(settings)
    assert words in warning


@pytest.mark.parametrize(
    "settings",
    [
        proxy(tls=TLS, admin_endpoint="tcp:80:interface=127.0.0.1"),
        proxy(tls=TLS, admin_endpoint="unix:/run/admin.sock"),
        proxy(tls=TLS, admin_endpoint="ssl:443:privateKey=k.pem"),
        proxy(tls=TLS, admin_endpoint="systemd:domain=INET:name=admin"),
        proxy(cors_origins=("*",), access_tokens=tokens(STRONG)),
        proxy(trusted_proxies=(ip_network("10.0.0.0/8"),)),
        proxy(max_payload_size=2, max_buffered_bytes=2),
        proxy(access_tokens=tokens(STRONG), admin_token=Secret(STRONG)),
    ],
)
def test_what_is_meant_is_not_warned_of(settings):
    assert warnings(settings) == ()


@pytest.mark.parametrize(
    "token",
    [
        "b",
        "test",
        "changeme",
        "0123456789abcde",
        "aaaaaaaaaaaaaaaa",
        "abababababababab",
        "xY7-xY7-xY7-xY7-xY7",
        "abcdefghijklmnopqrst",
        "98765432109876543210",
        "1234567890123456",
        "password12345678",
        "Change-Me-Please!",
        "my-secret-token-123",
        "test-token-test-token",
        "gemproxy-admin-token",
        "sk-local-test-token-1",
        "deadbeefdeadbeef",
    ],
)
def test_tokens_that_may_be_guessed(token):
    weak = weakness(token)
    assert weak is not None
    assert token not in weak


@given(st.binary(min_size=12, max_size=64))
def test_what_comes_of_enough_dice_is_not_called_weak(dice):
    """Of dice, that is, and not of hypothesis, which likes zeros."""
    token = base64.urlsafe_b64encode(hashlib.sha256(dice).digest()[:18]).decode()
    assert weakness(token) is None
    assert weakness(hashlib.sha256(dice).hexdigest()) is None
