"""The environments that `make clients` makes: a Python for each client that is tried.

``GEMPROXY_CLIENT_PYTHONS`` lists their interpreters; the folder above ``bin`` has the client's
name.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

#: Real seconds for all tests of one client on a loaded machine; they take a few.
PATIENCE = 300.0

_INTERPRETERS = {
    Path(path).parents[1].name: Path(path)
    for path in os.environ.get("GEMPROXY_CLIENT_PYTHONS", "").split()
}


def interpreter(name: str) -> Path:
    """The Python that has the client ``name``, or a skip that says what is missing."""
    if name not in _INTERPRETERS:
        pytest.skip(f"{name} is not installed: make clients")
    return _INTERPRETERS[name]


def run_pytest(
    python: Path, folder: Path, *arguments: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run pytest of the interpreter ``python`` in ``folder``, without what is set up for ours."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENAI_", "PYTEST_", "PYTHON")) and name.lower() != "http_proxy"
    }
    return subprocess.run(
        [str(python), "-m", "pytest", "-p", "no:cacheprovider", "--color=no", *arguments],
        cwd=folder,
        env={**inherited, "PYTHONDONTWRITEBYTECODE": "1", **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
