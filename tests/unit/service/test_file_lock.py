"""Locks of the kernel's, and what is done with them: the pid file and the sockets' paths."""

import errno
import gc
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory

from gemproxy.core.errors import StartRefused
from gemproxy.service.file_lock import FileLock, LockHeld
from gemproxy.service.pid_file import PidFile
from gemproxy.service.unix_sockets import UnixSockets


def hold_and_die(path):
    """Another process takes the lock and is killed; its number is then this one's."""
    code = (
        "import os, signal; from gemproxy.service.file_lock import FileLock;"
        f"FileLock({str(path)!r}).write(b'{os.getpid()}'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)


def test_it_is_held_once_and_free_again(tmp_path):
    lock = FileLock(tmp_path / "lock")
    lock.write(b"4711")
    with pytest.raises(LockHeld) as held:
        FileLock(tmp_path / "lock")
    assert held.value.content == b"4711"
    lock.unlock()
    assert not (tmp_path / "lock").exists()
    FileLock(tmp_path / "lock").unlock()


def test_a_holder_that_was_killed_holds_nothing_though_its_number_lives(tmp_path):
    hold_and_die(tmp_path / "lock")
    assert (tmp_path / "lock").read_text() == str(os.getpid())
    FileLock(tmp_path / "lock").unlock()


def test_a_file_that_was_removed_meanwhile_is_not_the_lock(tmp_path, monkeypatch):
    """Who waits at the open file while its holder removes it would hold something else."""
    first = FileLock(tmp_path / "lock")
    real = os.open

    def slow(path, *rest):
        descriptor = real(path, *rest)
        monkeypatch.setattr(os, "open", real)
        first.unlock()
        return descriptor

    monkeypatch.setattr(os, "open", slow)
    second = FileLock(tmp_path / "lock")
    with pytest.raises(LockHeld):
        FileLock(tmp_path / "lock")
    second.unlock()


def test_a_device_is_left_alone():
    PidFile(Path("/dev/null"))._lock.unlock()
    assert Path("/dev/null").exists()


def test_a_pid_file_that_was_asked_for_and_cannot_be_written_refuses_the_start(tmp_path):
    with pytest.raises(StartRefused) as refused:
        PidFile(tmp_path / "missing" / "gemproxy.pid")
    assert "No such file or directory" in refused.value.reason
    # twistd's own, which nobody asked for, is done without.
    PidFile(tmp_path / "missing" / "twistd.pid").privilegedStartService()


# -- sockets ---------------------------------------------------------------------------------------


def listen(path, **more):
    return UnixSockets(reactor).listenUNIX(str(path), Factory(), **more)


async def stop(port):
    await port.stopListening()


def left_behind(path):
    """A socket whose process is gone."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


async def test_a_socket_of_a_dead_process_is_replaced(tmp_path):
    path = tmp_path / "s"
    left_behind(path)
    # And the lock of Twisted's, with the number of a process that lives: in a container always.
    lock = tmp_path / "s.lock"
    lock.symlink_to("1")
    port = listen(path)
    assert not lock.is_symlink()
    await stop(port)
    assert list(tmp_path.iterdir()) == []


async def test_a_killed_holders_socket_and_lock_are_replaced(tmp_path):
    path = tmp_path / "s"
    left_behind(path)
    hold_and_die(f"{path}.lock")
    port = listen(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    await stop(port)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("locked", [True, False])
async def test_a_live_one_is_never_stolen(tmp_path, locked):
    path = tmp_path / "s"
    port = listen(path) if locked else reactor.listenUNIX(str(path), Factory(), wantPID=True)
    with pytest.raises(CannotListenError) as refused:
        listen(path)
    assert refused.value.socketError.errno == errno.EADDRINUSE
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    await stop(port)


async def test_a_socket_that_somebody_has_removed_hinders_no_stop(tmp_path):
    port = listen(tmp_path / "s")
    (tmp_path / "s").unlink()
    await stop(port)
    assert list(tmp_path.iterdir()) == []


async def test_a_stop_leaves_what_stands_there_instead(tmp_path):
    port = listen(tmp_path / "s")
    (tmp_path / "s").unlink()
    left_behind(tmp_path / "s")
    await stop(port)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


async def test_what_is_no_socket_is_never_removed(tmp_path):
    (tmp_path / "s").write_text("precious")
    with pytest.raises(CannotListenError) as refused:
        listen(tmp_path / "s")
    assert "no socket" in str(refused.value.socketError)
    assert (tmp_path / "s").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


# Twisted leaves the socket that it could not bind to the collector.
_TWISTED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@_TWISTED
async def test_an_abstract_one_needs_no_lock_and_is_not_stolen():
    name = f"\0gemproxy-test-{os.getpid()}"
    port = listen(name)
    with pytest.raises(CannotListenError):
        listen(name)
    await stop(port)
    gc.collect()


@_TWISTED
async def test_a_path_that_is_too_long_leaves_nothing_behind(tmp_path):
    with pytest.raises(CannotListenError):
        listen(tmp_path / ("s" * 120))
    assert list(tmp_path.iterdir()) == []
    gc.collect()


def test_a_link_is_not_followed(tmp_path):
    """Who can write to the folder would choose what is overwritten."""
    (tmp_path / "precious").write_text("as it was")
    (tmp_path / "gemproxy.pid").symlink_to(tmp_path / "precious")
    with pytest.raises(StartRefused):
        PidFile(tmp_path / "gemproxy.pid")
    assert (tmp_path / "precious").read_text() == "as it was"
