"""Whose the state is: a lock that the kernel lets go of, whatever numbers processes have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gemproxy.core.errors import StorageUnavailable
from gemproxy.state.sqlite.instance_lock import InstanceLock

ROOT = Path(__file__).parents[3]
#: Takes the lock, says as which process, and holds it until it is killed.
HOLDER = """
import os, pathlib, sys, time
from gemproxy.state.sqlite.instance_lock import InstanceLock
lock = InstanceLock(pathlib.Path(sys.argv[1]))
lock.acquire()
print(os.getpid(), flush=True)
time.sleep(600)
"""


def holder(path, *before):
    return subprocess.Popen(
        [*before, sys.executable, "-c", HOLDER, path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def as_process_1():
    """What makes a program process 1, as in a container; skips where that is not allowed."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    how = (unshare, "--pid", "--fork", "--kill-child=KILL")
    if subprocess.run([*how, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to make a process namespace")
    return how


def test_process_1_that_was_killed_locks_no_later_process_1_out(tmp_path):
    path, how = tmp_path / "gemproxy.db", as_process_1()
    for _ in range(3):
        first = holder(path, *how)
        assert first.stdout.readline() == "1\n"
        with pytest.raises(StorageUnavailable, match="process 1"):
            InstanceLock(path).acquire()
        first.kill()
        first.wait()
        first.stdout.close()
    assert path.with_name("gemproxy.db.lock").read_text() == "1\n"


@pytest.mark.parametrize(
    "number",
    ["1", str(os.getpid()), str(os.getppid()), "", "x" * 100],
    ids=["1", "own", "parent", "empty", "no number"],
)
def test_a_number_that_is_left_in_the_file_says_nothing(tmp_path, number):
    path = tmp_path / "gemproxy.db"
    path.with_name("gemproxy.db.lock").write_text(number)
    lock = InstanceLock(path)
    lock.acquire()
    with pytest.raises(StorageUnavailable, match=f"process {os.getpid()}"):
        InstanceLock(path).acquire()
    lock.release()
