"""The documentation and the example files say what the code knows."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from gemproxy.config import reference
from gemproxy.config.client_file import CLIENT_SETTINGS
from gemproxy.config.loading import KEY_SETTINGS, load
from gemproxy.config.settings import Settings
from gemproxy.core.clients import CLIENT_DEFAULTS
from gemproxy.core.errors import ConfigError

ROOT = Path(__file__).parents[3]
TOKEN = "an-admin-token-0123456789"


def test_the_documentation_has_the_table_of_this_version():
    page = (ROOT / "docs/configuration.md").read_text("utf-8")
    assert reference.with_table(page) == page, "run python -m gemproxy.config.reference"


def test_the_table_names_every_setting_of_a_key():
    named = set(re.findall(r"`keys\[\]\.(\w+)", reference.table()))
    assert named == set(KEY_SETTINGS)


def test_the_table_names_every_setting_of_a_client():
    named = set(re.findall(r"`clients\[\]\.(\w+)", reference.table()))
    assert named == set(CLIENT_SETTINGS)


def test_the_example_of_clients_says_what_holds_without_it(tmp_path):
    (tmp_path / "proxy.yaml").write_text(reference.proxy_example(TOKEN), "utf-8")
    (tmp_path / "keys.yaml").write_text(reference.keys_example(), "utf-8")
    (tmp_path / "clients.yaml").write_text(reference.clients_example(), "utf-8")
    environ = {"GEMINI_API_KEY": "test-key-one-0123456789", "EXAMPLE_SERVICE_TOKEN": "test-token-1"}
    places = tmp_path / "proxy.yaml", tmp_path / "keys.yaml"
    found = load(*places, environ, tmp_path / "clients.yaml").clients
    (client,) = found.clients
    assert client.settings == CLIENT_DEFAULTS
    assert found.defaults == {}


def test_the_example_files_are_those_of_this_version():
    assert (ROOT / "config/proxy.example.yaml").read_text("utf-8") == reference.proxy_example()
    assert (ROOT / "config/keys.example.yaml").read_text("utf-8") == reference.keys_example()
    clients = (ROOT / "config/clients.example.yaml").read_text("utf-8")
    assert clients == reference.clients_example()


def test_the_examples_hold_every_setting_with_its_default(tmp_path):
    (tmp_path / "proxy.yaml").write_text(reference.proxy_example(TOKEN), "utf-8")
    (tmp_path / "keys.yaml").write_text(reference.keys_example(), "utf-8")
    environ = {"GEMINI_API_KEY": "test-key-one-0123456789"}
    found = load(tmp_path / "proxy.yaml", tmp_path / "keys.yaml", environ)
    bare = replace(found, proxy=replace(found.proxy, admin_token=None))
    assert bare == Settings(found.keys, prices=found.prices)
    key = found.keys[0]
    assert (key.name, key.project, key.weight) == ("primary-key", "primary-key", 1)
    assert (key.enabled, key.models, key.cooldown_seconds) == (True, frozenset(), None)


def test_the_untouched_examples_have_the_two_faults_that_a_person_must_mend():
    with pytest.raises(ConfigError) as caught:
        load(ROOT / "config/proxy.example.yaml", ROOT / "config/keys.example.yaml", {})
    assert [fault.path for fault in caught.value.faults] == ["proxy.adminToken", "keys[0].keyEnv"]
