"""``gemproxy check --service``: which files, whose surroundings."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from gemproxy.cli import main, service
from gemproxy.cli.exits import Refused

CAT = """\
# /etc/systemd/system/gemproxy.service
[Unit]
Description=one
Environment=NOT=ours

[Service]
ExecStart=/opt/gemproxy/bin/twistd -n --pidfile= \\
  # a comment within
  gemproxy --config /etc/gemproxy/proxy.yaml --keys=/etc/gemproxy/keys.yaml
DynamicUser=yes
StateDirectory=gemproxy
LoadCredential=one:/etc/one
LoadCredential=two:/etc/two
Environment=WHERE=%S/gemproxy
TimeoutStopSec=75
MemoryMax=50%

# /etc/systemd/system/gemproxy.service.d/override.conf
[Service]
LoadCredential=
LoadCredential=three:/etc/three
SupplementaryGroups=gemproxy-secrets
"""


@pytest.fixture
def settings():
    return service.settings_of(CAT, "gemproxy.service")


def test_a_drop_in_takes_back_and_adds(settings):
    assert settings["LoadCredential"] == ["three:/etc/three"]
    assert settings["Environment"] == ["WHERE=/var/lib/gemproxy"]


def test_the_files_are_those_of_the_command_that_the_unit_runs(settings):
    assert service.options_of(settings, "gemproxy.service") == [
        *("--config", "/etc/gemproxy/proxy.yaml", "--keys", "/etc/gemproxy/keys.yaml")
    ]
    settings["ExecStart"] = ["twistd gemproxy -c here"]
    assert service.options_of(settings, "gemproxy.service") == ["--config", "here"]
    settings["ExecStart"] = []
    with pytest.raises(Refused, match="starts nothing"):
        service.options_of(settings, "gemproxy.service")


def test_what_decides_who_reads_is_handed_on_and_no_folder_is_taken_over(settings):
    """systemd gives a folder to the user of whoever names it last."""
    assert list(service.properties(settings)) == [
        "--property=DynamicUser=yes",
        "--setenv=STATE_DIRECTORY=/var/lib/gemproxy",
        "--property=LoadCredential=three:/etc/three",
        "--property=Environment=WHERE=/var/lib/gemproxy",
        "--property=SupplementaryGroups=gemproxy-secrets",
    ]


def test_the_shipped_units_surroundings_are_whole():
    unit = Path(__file__).parents[3] / "contrib/systemd/gemproxy.service"
    settings = service.settings_of(unit.read_text(), "gemproxy.service")
    given = list(service.properties(settings))
    for name in ("admin-token", "client-token", "primary-key"):
        assert f"--property=LoadCredential={name}:/etc/gemproxy/credentials/{name}" in given
        assert f"--property=SetCredential={name}:<missing>" in given
    assert "--property=DynamicUser=yes" in given


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """``systemctl`` and ``systemd-run`` that write down how they were called."""

    def write(name, script):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "argv", ["gemproxy"])
    write("gemproxy", "true")
    return write


def test_systemd_runs_the_check_and_its_status_counts(programs, tmp_path, capfd):
    (tmp_path / "unit").write_text(CAT)
    programs("systemctl", f'[ "$*" = "cat gemproxy.service" ] && cat {tmp_path}/unit')
    programs("systemd-run", 'echo "$@"; exit 78')
    assert main(["check", "--service", "--json"]) == 78
    words = capfd.readouterr().out.split()
    at = words.index(f"{tmp_path}/bin/gemproxy")
    assert words[at + 1 :] == [
        *("check", "--config", "/etc/gemproxy/proxy.yaml", "--keys", "/etc/gemproxy/keys.yaml"),
        "--json",
    ]
    assert {"--pipe", "--wait", "--collect"} <= set(words[:at])


def test_a_unit_that_is_not_there_is_told(programs, capfd):
    programs("systemctl", 'echo "No files found for $2." >&2; exit 1')
    assert main(["check", "--service", "other.service"]) == 1
    assert "No files found for other.service." in capfd.readouterr().err


def test_files_of_ones_own_cannot_stand_beside_it(capfd):
    assert main(["check", "--service", "--config", "mine.yaml"]) == 64
    assert "--config" in capfd.readouterr().err


def test_a_check_of_other_files_than_the_services_says_so(tmp_path, monkeypatch, capfd):
    """The runbook's check said `good` of a bad file, since a variable hid it."""
    system, mine = tmp_path / "etc", tmp_path / "mine"
    for folder in (system, mine):
        folder.mkdir()
        (folder / "proxy.yaml").write_text("proxy: {adminToken: an-admin-token-of-mine}\n")
        (folder / "keys.yaml").write_text("keys: [{name: a, key: test-key-a-0123456789}]\n")
    monkeypatch.setattr("gemproxy.cli.check.SYSTEM_FOLDER", system)
    monkeypatch.setattr("gemproxy.config.loading.SYSTEM_FOLDER", system)
    monkeypatch.setenv("GEMPROXY_CONFIG", str(mine / "proxy.yaml"))
    monkeypatch.chdir(tmp_path)
    assert main(["check", "--json"]) == 0
    told = "\n".join(json.loads(capfd.readouterr().out)["warnings"])
    assert f"{mine}/proxy.yaml was looked at and not {system}/proxy.yaml" in told
    assert "keys.yaml was looked at" not in told
    assert main(["check", "--config", str(mine / "proxy.yaml"), "--json"]) == 0
    told = "\n".join(json.loads(capfd.readouterr().out)["warnings"])
    assert "was looked at" not in told
