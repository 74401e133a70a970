"""The units, by systemd's own judgement, and what the daemon relies on in them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gemproxy.config import endpoints
from gemproxy.config.credentials import MISSING_CREDENTIAL
from gemproxy.config.loading import load
from gemproxy.config.settings import ProxySettings

REPOSITORY = Path(__file__).resolve().parents[3]
UNITS = REPOSITORY / "contrib" / "systemd"
SERVICE = UNITS / "gemproxy.service"
SOCKET = UNITS / "gemproxy.socket"
PAGE = (REPOSITORY / "docs" / "systemd.md").read_text()


def analyze(*arguments):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (package systemd)")
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )


def settings_of(unit):
    """A unit's settings; each has all the values that it was given, in order."""
    found = {}
    for line in unit.read_text().splitlines():
        if match := re.fullmatch(r"(\w+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


@pytest.fixture(scope="module")
def service():
    return settings_of(SERVICE)


# -- by systemd ------------------------------------------------------------------------------------


def test_systemd_finds_nothing_wrong_with_them(tmp_path):
    """With a program that is there, since systemd looks for it."""
    twistd = Path(sys.executable).parent / "twistd"
    for unit in (SERVICE, SOCKET):
        text = unit.read_text().replace("/opt/gemproxy/bin/twistd", str(twistd))
        (tmp_path / unit.name).write_text(text)
    result = analyze("verify", tmp_path / SERVICE.name, tmp_path / SOCKET.name)
    complaints = [line for line in result.stderr.splitlines() if "gemproxy" in line]
    assert complaints == []
    assert result.returncode == 0


def test_a_mistake_in_a_unit_would_be_found(tmp_path):
    (tmp_path / SERVICE.name).write_text(SERVICE.read_text().replace("UMask=", "Umask="))
    assert "Umask" in analyze("verify", tmp_path / SERVICE.name).stderr


def test_the_service_is_exposed_to_2_0_at_most():
    result = analyze("security", "--offline=true", "--threshold=20", "--no-pager", SERVICE)
    level = re.search(r"Overall exposure level for gemproxy.service: ([0-9.]+)", result.stdout)
    assert float(level[1]) <= 2.0
    assert result.returncode == 0


# -- by the daemon ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("RestartPreventExitStatus", "78"),
        ("Sockets", "gemproxy.socket"),
        ("StartLimitIntervalSec", "0"),
        ("SyslogIdentifier", "gemproxy"),
        ("DynamicUser", "yes"),
        ("StateDirectory", "gemproxy"),
        ("RuntimeDirectory", "gemproxy"),
        ("UMask", "0077"),
        ("LimitCORE", "0"),
    ],
)
def test_what_the_daemon_relies_on(service, setting, value):
    assert service[setting] == [value]


def test_twistd_stays_in_the_foreground_and_writes_no_pid_file(service):
    (start,) = service["ExecStart"]
    assert start.split()[1:4] == ["-n", "--pidfile=", "gemproxy"]


def test_the_watchdog_leaves_time_for_two_pings(service):
    assert int(service["WatchdogSec"][0]) >= 10


def test_a_stop_may_take_longer_than_a_drain(service):
    assert int(service["TimeoutStopSec"][0]) >= ProxySettings().drain_seconds + 30


def test_the_sockets_name_is_the_endpoints():
    (name,) = settings_of(SOCKET)["FileDescriptorName"]
    endpoint = re.search(r'endpoint: "([^"]+)"', SOCKET.read_text())[1]
    assert endpoint == f"systemd:domain=INET:name={name}"
    assert endpoints.is_description(endpoint)


# -- by the page -----------------------------------------------------------------------------------


def block(first_line):
    """The code block of the page that begins with this line."""
    return re.search(rf"```\w*\n({re.escape(first_line)}\n.*?)```", PAGE, re.DOTALL)[1]


def test_the_files_of_the_page_are_read_with_the_credentials_of_the_unit(tmp_path, service):
    folder = tmp_path / "credentials"
    folder.mkdir()
    secrets = {}
    for line in service["LoadCredential"]:
        name = line.split(":")[0]
        secrets[name] = f"test-{name}-0123456789abcdef"
        (folder / name).write_text(secrets[name] + "\n")
    for name in ("proxy", "keys"):
        (tmp_path / f"{name}.yaml").write_text(block(f"# /etc/gemproxy/{name}.yaml"))
    environ = {"CREDENTIALS_DIRECTORY": str(folder)}
    settings = load(tmp_path / "proxy.yaml", tmp_path / "keys.yaml", environ)
    assert settings.proxy.endpoint == "systemd:domain=INET:name=gemproxy"
    assert {secret.reveal() for secret in settings.secrets()} == set(secrets.values())
    assert not settings.anonymous_allowed


def test_the_page_makes_every_file_that_the_units_need(service):
    for line in service["LoadCredential"]:
        name, path = line.split(":")
        assert path == f"/etc/gemproxy/credentials/{name}"
        assert re.search(rf"\b{name}\b", block("install -d -m 0755 /etc/gemproxy"))


def test_a_credential_whose_file_is_missing_is_told_and_no_reason_not_to_start(service):
    """Else systemd would try again and again, with every client waiting."""
    names = [line.split(":")[0] for line in service["LoadCredential"]]
    assert service["SetCredential"] == [f"{name}:{MISSING_CREDENTIAL}" for name in names]
