"""What ``make`` says to somebody whose machine lacks something."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def program(folder: Path, text: str) -> Path:
    path = folder / "some-python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def make(venv: Path, python: Path | str, target: str = "demo") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", f"PYTHON={python}", f"VENV={venv}", target],
        cwd=REPOSITORY,
        env={k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MAKELEVEL"}},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ('[ "$1" = --version ] && { echo Python 3.9.2; exit 0; }; exit 1', "is: Python 3.9.2"),
        ("exit 127", "is: not found"),
    ],
)
def test_make_names_the_python_that_it_needs(tmp_path, found, told):
    python = program(tmp_path, found)
    done = make(tmp_path / "venv", python)
    assert done.returncode == 2
    assert "gemproxy needs Python 3.11 or newer" in done.stderr
    assert told in done.stderr
    assert "make PYTHON=python3.12 demo" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_make_names_the_package_that_brings_venv(tmp_path):
    python = program(tmp_path, 'case "$2" in *ensurepip*) exit 1;; esac')
    done = make(tmp_path / "venv", python)
    assert done.returncode == 2
    assert "apt install python3-venv" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_venv_that_could_not_be_made_is_not_left_behind(tmp_path):
    half_made = 'for last; do :; done; [ "$2" = venv ] && mkdir -p "$last/bin" && exit 1; exit 0'
    done = make(tmp_path / "venv", program(tmp_path, half_made))
    assert done.returncode == 2
    assert not (tmp_path / "venv").exists()


def test_a_half_made_venv_is_made_anew(tmp_path):
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").write_text("")
    python = program(tmp_path, '[ "$2" = venv ] && echo remade && exit 1; exit 0')
    done = make(venv, python)
    assert done.returncode == 2
    assert "remade" in done.stdout
    assert not venv.exists()


def test_make_says_at_once_what_it_does(tmp_path):
    python = program(tmp_path, '[ "$2" = venv ] && exit 1; exit 0')
    assert make(tmp_path / "venv", python).stdout.startswith("making ")
