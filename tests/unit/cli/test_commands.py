"""The operator's program, by its arguments, output and exit status."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gemproxy import __version__
from gemproxy.cli import COMMANDS, main
from gemproxy.config.loading import load

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in ("GEMPROXY_CONFIG", "GEMPROXY_KEYS", "GEMINI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


KEY = {"GEMINI_API_KEY": "test-key-one-0123456789"}


@pytest.fixture
def files(monkeypatch):
    main(["init"])
    monkeypatch.setenv("GEMINI_API_KEY", KEY["GEMINI_API_KEY"])


def test_init_writes_both_files_for_their_owner_alone_with_a_fresh_token(capsys):
    assert main(["init"]) == 0
    for name in ("proxy", "keys"):
        assert stat.S_IMODE(Path(f"config/{name}.yaml").stat().st_mode) == 0o600
    first = Path("config/proxy.yaml").read_text("utf-8")
    assert main(["init", "--config", "other/proxy.yaml", "--keys", "other/keys.yaml"]) == 0
    assert Path("other/proxy.yaml").read_text("utf-8") != first
    out = capsys.readouterr().out
    assert "next: put your keys in config/keys.yaml (or one in GEMINI_API_KEY)" in out


def test_after_init_only_the_key_is_missing(capsys):
    main(["init"])
    assert main(["check"]) == 78
    assert capsys.readouterr().err == (
        "config/keys.yaml:8: keys[0].keyEnv: the environment variable GEMINI_API_KEY is not set\n"
    )


def test_init_never_prints_the_token(capsys, files):
    settings = load(Path("config/proxy.yaml"), Path("config/keys.yaml"), KEY)
    out, err = capsys.readouterr()
    assert settings.proxy.admin_token is not None
    assert settings.proxy.admin_token.reveal() not in out + err


@pytest.mark.parametrize("there", [["proxy"], ["keys"], ["proxy", "keys"]])
def test_init_never_overwrites(capsys, there):
    Path("config").mkdir()
    for name in there:
        Path(f"config/{name}.yaml").write_text("mine")
    assert main(["init"]) == 1
    paths = " and ".join(f"config/{name}.yaml" for name in there)
    verb = "exists" if len(there) == 1 else "exist"
    assert capsys.readouterr().err == f"gemproxy: {paths} {verb}; nothing was written\n"
    assert all(Path(f"config/{name}.yaml").read_text() == "mine" for name in there)
    assert len(list(Path("config").iterdir())) == len(there)


def test_init_says_where_it_cannot_write(capsys):
    Path("config").write_text("a file where the folder should be")
    assert main(["init"]) == 73
    assert capsys.readouterr().err == "gemproxy: cannot write config/proxy.yaml: File exists\n"


def test_check_counts_what_it_found(capsys, files):
    capsys.readouterr()
    assert main(["check"]) == 0
    out, err = capsys.readouterr()
    assert out == (
        "config/proxy.yaml and config/keys.yaml are good: 1 key (1 enabled) in 1 project, "
        "0 access tokens, listening on 127.0.0.1:4806\n"
    )
    assert err == ""


def test_check_prints_every_fault_on_a_line_and_exits_with_78(capsys):
    Path("p.yaml").write_text("proxy: {port: x}\n")
    Path("k.yaml").write_text("keys: []\n")
    assert main(["--config", "p.yaml", "check", "--keys", "k.yaml"]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "p.yaml:1: proxy.port: expected a whole number of at least 0, got 'x'",
        (
            "p.yaml:1: proxy.adminToken: the admin API needs a token: give one of adminToken, "
            "adminTokenEnv and adminTokenFile (`gemproxy init` writes a file with a fresh "
            "random one)"
        ),
        "k.yaml:1: keys: expected at least one key, got none",
    ]


def test_check_gives_json_to_scripts(capsys, files):
    capsys.readouterr()
    assert main(["check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "faults": [], "warnings": []}
    Path("config/keys.yaml").write_text("keys: []\n")
    assert main(["--json", "check"]) == 78
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert answer["faults"] == [
        {
            "file": "config/keys.yaml",
            "line": 1,
            "path": "keys",
            "message": "expected at least one key, got none",
        }
    ]


def test_check_warns_of_a_file_that_others_can_read(capsys, files):
    # What only names a secret may be read by whoever runs the daemon.
    Path("config/keys.yaml").chmod(0o644)
    capsys.readouterr()
    assert main(["check"]) == 0
    assert capsys.readouterr().err == ""
    Path("config/keys.yaml").write_text("keys: [{name: a, key: test-key-one-0123456789}]\n")
    assert main(["check"]) == 0
    assert capsys.readouterr().err == (
        "warning: config/keys.yaml holds secrets and others can read it; "
        "chmod 600 config/keys.yaml\n"
    )


def test_check_without_files_names_every_place(capsys):
    assert main(["check"]) == 78
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_files_may_be_named_by_the_environment(capsys, monkeypatch, files):
    Path("config").rename("elsewhere")
    monkeypatch.setenv("GEMPROXY_CONFIG", "elsewhere/proxy.yaml")
    monkeypatch.setenv("GEMPROXY_KEYS", "elsewhere/keys.yaml")
    assert main(["check"]) == 0


def test_version(capsys):
    assert main(["version"]) == 0
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gemproxy {__version__}\n" * 2
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == __version__


@pytest.mark.parametrize(
    "argv", [[], ["unknown"], ["check", "--foo"], ["check", "extra"], ["--keys", "a", "version"]]
)
def test_a_wrong_command_line_exits_with_64_and_the_usage(capsys, argv):
    assert main(argv) == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: gemproxy")


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert name in out
        assert command.summary in out


def test_a_command_loads_nothing_that_it_does_not_need(files):
    program = "import sys; from gemproxy.cli import main; main(['check'])"
    program += "; print('twisted' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_a_reader_that_leaves_early_is_no_error(files):
    program = "import sys; from gemproxy.cli import main; sys.exit(main(['--help']))"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": str(ROOT)},
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
