"""What counts as another content of the files, and what of it a running daemon can take over."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from gemproxy.config.settings import RetrySettings
from gemproxy.core.errors import ConfigError
from gemproxy.service.config_files import ConfigFiles, keep_fixed

TOKEN = "an-admin-token-for-the-tests"
PROXY = f"proxy: {{adminToken: {TOKEN}}}\n"
KEYS = "keys: [{name: a, key: test-key-of-a-0123456789}]\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "proxy.yaml").write_text(PROXY)
    (tmp_path / "keys.yaml").write_text(KEYS)
    return tmp_path


def files_in(folder, **environ):
    return ConfigFiles(folder / "proxy.yaml", folder / "keys.yaml", environ)


def changed_by(folder, act, **environ):
    """Whether the fingerprint differs after ``act``."""
    files = files_in(folder, **environ)
    before = files.fingerprint()
    assert files.fingerprint() == before
    act()
    return files.fingerprint() != before


# -- the fingerprint -------------------------------------------------------------------------------


def test_writing_in_place_is_noticed_also_with_the_old_time_and_size(folder):
    path = folder / "proxy.yaml"
    times = path.stat()

    def write():
        path.write_text(PROXY.replace("tests", "TESTS"))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert changed_by(folder, write)


def test_a_file_renamed_over_it_is_noticed(folder):
    other = folder / "keys.yaml.new"
    other.write_text(KEYS.replace("name: a", "name: b"))
    assert changed_by(folder, lambda: other.replace(folder / "keys.yaml"))


def test_a_symbolic_link_that_points_elsewhere_is_noticed(folder):
    for version, content in (("v1", KEYS), ("v2", KEYS.replace("name: a", "name: b"))):
        (folder / version).mkdir()
        (folder / version / "keys.yaml").write_text(content)
    (folder / "keys.yaml").unlink()
    (folder / "current").symlink_to("v1")
    (folder / "keys.yaml").symlink_to("current/keys.yaml")

    def swap():
        (folder / "next").symlink_to("v2")
        (folder / "next").rename(folder / "current")

    assert changed_by(folder, swap)


def test_the_same_content_saved_again_is_no_change(folder):
    def save():
        (folder / "keys.yaml.new").write_text(KEYS)
        (folder / "keys.yaml.new").rename(folder / "keys.yaml")
        os.utime(folder / "proxy.yaml", ns=(1, 1))

    assert not changed_by(folder, save)


def test_a_file_that_vanishes_is_a_change(folder):
    assert changed_by(folder, (folder / "keys.yaml").unlink)


@pytest.mark.parametrize("name", ["secret", "$SECRETS/secret", "${SECRETS}/secret"])
def test_a_secret_in_a_file_of_its_own_is_looked_at(folder, name):
    (folder / "secret").write_text("test-key-of-a-0123456789")
    (folder / "keys.yaml").write_text(f'keys: [{{name: a, keyFile: "{name}"}}]\n')
    assert changed_by(
        folder,
        lambda: (folder / "secret").write_text("test-key-of-a-9876543210"),
        SECRETS=str(folder),
    )


def test_tokens_in_files_are_looked_at(folder):
    (folder / "proxy.yaml").write_text(
        "proxy: {adminTokenFile: admin, accessTokens: [{name: a, tokenFile: client}]}\n"
    )
    for name in ("admin", "client"):
        (folder / name).write_text(f"{TOKEN}-{name}")
        assert changed_by(folder, lambda name=name: (folder / name).write_text(f"{TOKEN}-other"))


def test_a_secret_that_a_changed_file_names_anew_is_looked_at(folder):
    files = files_in(folder)
    files.fingerprint()
    (folder / "keys.yaml").write_text("keys: [{name: a, keyFile: secret}]\n")
    before = files.fingerprint()
    (folder / "secret").write_text("test-key-of-a-0123456789")
    assert files.fingerprint() != before


@pytest.mark.parametrize(
    "content",
    [
        "keys: [",
        "",
        "keys: [{name: a, keyFile: $NO_SUCH_VARIABLE/x}]",
        "keys: [{keyFile: [1]}, {keyFile: }, {? [a] : b}]",
        "a: &a [&b {keyFile: nowhere}, *b]\nb: [*a, *a]\n",
        'keys: [{keyFile: "a\\0b"}]',
    ],
)
def test_rubbish_has_a_fingerprint_too(folder, content):
    assert changed_by(folder, lambda: (folder / "keys.yaml").write_text(content))


def test_unchanged_secrets_are_not_read_again(folder, monkeypatch):
    """Ten thousand keys in files of their own would cost a core otherwise."""
    (folder / "secret").write_text("test-key-of-a-0123456789")
    (folder / "keys.yaml").write_text("keys: [{name: a, keyFile: secret}]\n")
    files = files_in(folder)
    before = files.fingerprint()
    opened = []
    real = os.open

    def spy(path, *args, **kwargs):
        opened.append(Path(path).name)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", spy)
    assert files.fingerprint() == before
    assert opened == ["proxy.yaml", "keys.yaml"]


# -- what can be taken over ------------------------------------------------------------------------


def write_proxy(folder, settings):
    (folder / "proxy.yaml").write_text(f"proxy: {{adminToken: {TOKEN}, {settings}}}\n")


def test_what_needs_a_restart_stays_and_the_rest_is_taken(folder):
    files = files_in(folder)
    running = files.read()
    write_proxy(folder, "port: 4807, drainSeconds: 5")
    written, applicable = files.read_over(running)
    assert (written.proxy.port, written.proxy.drain_seconds) == (4807, 5)
    assert (applicable.proxy.port, applicable.proxy.drain_seconds) == (4806, 5)


def test_keys_and_settings_without_restart_are_those_that_are_written(folder):
    running = files_in(folder).read()
    written = replace(running, keys=(), retry=RetrySettings(max_attempts=7))
    assert keep_fixed(running, written) == written


def test_a_listener_that_stays_public_keeps_its_tokens(folder):
    """The file makes it local, which needs a restart; until then others can reach it."""
    files = files_in(folder)
    write_proxy(folder, "host: 0.0.0.0, accessTokens: [a-token-of-a-client]")
    running = files.read()
    write_proxy(folder, "host: 127.0.0.1, adminAuth: disabled")
    with pytest.raises(ConfigError) as caught:
        files.read_over(running)
    assert [fault.path for fault in caught.value.faults] == [
        "proxy.adminAuth",
        "proxy.accessTokens",
    ]
    assert "until a restart" in str(caught.value)
    assert str(folder / "proxy.yaml") in str(caught.value)


def test_every_mistake_of_both_files_is_told(folder):
    files = files_in(folder)
    running = files.read()
    (folder / "proxy.yaml").write_text("proxy: {adminToken: short}\n")
    (folder / "keys.yaml").write_text("keys: []\n")
    with pytest.raises(ConfigError) as caught:
        files.read_over(running)
    assert [fault.path for fault in caught.value.faults] == ["proxy.adminToken", "keys"]


def test_a_port_of_the_command_line_is_stronger_than_the_file(folder):
    files = ConfigFiles(folder / "proxy.yaml", folder / "keys.yaml", {}, port=4999)
    running = files.read()
    assert running.proxy.port == 4999
    # And no reload waits for a restart because of it.
    assert files.read_over(running) == (running, running)


def test_a_port_beside_an_endpoint_is_a_mistake(folder):
    (folder / "proxy.yaml").write_text(
        "proxy: {endpoint: 'tcp:0:interface=127.0.0.1', adminToken: an-admin-token-for-the-tests}\n"
    )
    with pytest.raises(ConfigError, match="--port"):
        ConfigFiles(folder / "proxy.yaml", folder / "keys.yaml", {}, port=4999).read()


def test_a_fifo_in_the_place_of_a_file_keeps_nobody_waiting(folder):
    files = files_in(folder)
    (folder / "keys.yaml").unlink()
    os.mkfifo(folder / "keys.yaml")
    files.fingerprint()
    with pytest.raises(ConfigError, match="no regular file"):
        files.read()
