"""JavaScript clients, each nothing changed but its base URL, in front of the real daemon.

The tests themselves are in ``node/*.test.mjs`` and run under Node's own test runner; each file is
one test here. `make clients` installs what they import, in the versions of the lock file.
"""

import json
import os
import re
import subprocess

import pytest
from fakes.node import NODE_FOLDER, node
from fakes.running import ADMIN_TOKEN, RunningDaemon, keys_of

FILES = sorted(path.name for path in NODE_FOLDER.glob("*.test.mjs"))
LOCKED = [
    NODE_FOLDER,
    *(path.parent for path in NODE_FOLDER.parent.glob("programs/*/package.json")),
]
TOKEN = "a-token-of-the-clients"
#: Real seconds for one file on a loaded machine; the tests of a file take a few.
PATIENCE = 300.0
#: Milliseconds for one test of a file.
TEST_TIMEOUT = 60_000


@pytest.fixture
def guarded(simulator, tmp_path_factory):
    """A daemon that asks for a token, one for each file: wrong tokens lock an address out."""
    folder = tmp_path_factory.mktemp("daemon")
    proxy = {"accessTokens": [TOKEN]}
    running = RunningDaemon(folder, simulator.url, keys_of("alpha", "beta"), proxy=proxy)
    yield running
    running.stop()


@pytest.mark.parametrize("name", FILES)
def test_clients_notice_nothing(name, request):
    program = node()
    guarded, simulator = (request.getfixturevalue(name) for name in ("guarded", "simulator"))
    done = subprocess.run(
        [program, "--test", "--test-reporter=spec", f"--test-timeout={TEST_TIMEOUT}", name],
        cwd=NODE_FOLDER,
        env={
            **os.environ,
            "GEMPROXY_URL": guarded.url,
            "GEMPROXY_TOKEN": TOKEN,
            "GEMPROXY_ADMIN_TOKEN": ADMIN_TOKEN,
            "SIMULATOR_URL": simulator.url,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"^\S pass (\d+)$", done.stdout, re.MULTILINE)[1]) > 0


@pytest.mark.parametrize("folder", LOCKED, ids=lambda folder: folder.name)
def test_the_lock_file_names_no_registry(folder):
    """Whoever installs takes the packages from the registry that they have configured."""
    lock = json.loads((folder / "package-lock.json").read_text())
    assert not any("resolved" in package for package in lock["packages"].values())
    assert all("integrity" in package for name, package in lock["packages"].items() if name)


@pytest.mark.parametrize("folder", LOCKED, ids=lambda folder: folder.name)
def test_every_version_is_pinned(folder):
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    pinned = r"(npm:[@a-z/-]+@)?\d+\.\d+\.\d+"
    assert all(re.fullmatch(pinned, version) for version in wanted.values()), wanted
