"""Programs on loopback that are started, watched and stopped; their CPU time and their memory."""

import ctypes
import os
import resource
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PATIENCE = 60.0
_LIBC = ctypes.CDLL(None)
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
#: What the kernel wants to read to begin a new peak of the resident memory; see proc(5).
_RESET_PEAK = "5"


class ProgramEnded(Exception):
    """A program that should run does not; the message ends with what it said."""


class Program:
    """One running program and its children, kept on one processor where ``cpu`` names one.

    What it prints goes to ``folder / (name + ".log")``.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        folder: Path,
        cpu: int | None = None,
        **environ: str,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("w") as log, on_cpu(cpu):
            self._popen = _start(command, folder, log, environ)
        self.pid = self._popen.pid

    def cpu_seconds(self) -> float:
        """CPU time so far, of threads that have ended too."""
        return sum(cpu_seconds(pid) for pid in self._pids())

    def rss_mb(self) -> float:
        """Resident memory now."""
        return self._memory_mb("VmRSS:")

    def peak_mb(self) -> float:
        """The most resident memory since ``forget_peak``."""
        return self._memory_mb("VmHWM:")

    def forget_peak(self) -> None:
        """Begin a new one."""
        for pid in self._pids():
            Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK)

    def wait_until_up(self, url: str) -> None:
        """Until ``url`` is answered, whatever the answer."""
        deadline = time.monotonic() + PATIENCE
        while not _answers(url):
            if self._popen.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ProgramEnded(f"{self.name} did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """By SIGTERM, and by force where that does not help."""
        self._popen.terminate()
        try:
            self._popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def _memory_mb(self, field: str) -> float:
        return sum(_status_kb(pid, field) for pid in self._pids()) / 1024

    def _pids(self) -> list[int]:
        if self._popen.poll() is not None:
            raise ProgramEnded(f"{self.name} ended:\n{self.log.read_text()[-2000:]}")
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process to the nanosecond, by its CPU clock: see clock_getcpuclockid(3)."""
    clock = ctypes.c_int()
    if _LIBC.clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise ProgramEnded(f"there is no process {pid}")
    return time.clock_gettime(clock.value)


def busy_seconds() -> float:
    """CPU time of everything that runs on this machine, the hypervisor's guests not counted."""
    user, nice, system, _idle, _iowait, irq, softirq = (
        int(field) for field in Path("/proc/stat").read_text().split()[1:8]
    )
    return (user + nice + system + irq + softirq) / _TICKS_PER_SECOND


@contextmanager
def on_cpu(cpu: int | None) -> Iterator[None]:
    """What is started meanwhile stays on this processor, with all of its threads."""
    before = os.sched_getaffinity(0)
    if cpu is not None and cpu in before:
        os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_descriptors() -> int:
    """Give what is started from here all the open files that it may have, and tell how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def get(url: str, token: str = "") -> str:
    """The body of an answer."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        text: str = response.read().decode()
        return text


def _start(
    command: Sequence[str | Path], folder: Path, log: IO[str], environ: dict[str, str]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=folder,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
    )


def _answers(url: str) -> bool:
    try:
        get(url)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _status_kb(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0
