"""The Node.js that JavaScript clients are tried with, and where `make clients` puts them."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from fakes.pages import REPOSITORY

NODE_FOLDER = REPOSITORY / "tests" / "clients" / "node"
MODULES = NODE_FOLDER / "node_modules"
OLDEST = 20


def node() -> str:
    """The program, or a skip that says what is missing."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    asked = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    version = re.match(r"v(\d+)", asked.stdout)
    if version is None or int(version[1]) < OLDEST:
        pytest.skip(f"node {OLDEST} or newer is needed, and this is {asked.stdout.strip()}")
    if not (MODULES / "openai").is_dir():
        pytest.skip("the JavaScript clients are not installed: make clients")
    return program
