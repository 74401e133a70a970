"""A Debian machine with systemd as its first process, booted in a container by systemd-nspawn.

The tree comes from Debian's mirror once (``debootstrap``) and is kept beside the wheels of
``requirements/run.txt`` in the user's cache; each machine writes into a layer of its own above it.
The machine has a network of its own with nothing but loopback.

Its commands are typed into a shell that remembers folder and variables from one to the next, as a
terminal does. The test enters the machine's network, so that its clients reach the ports there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fakes.network import enter_network
from fakes.pages import REPOSITORY

SUITE = "bookworm"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "libnss-systemd"),
    *("python3", "python3-venv", "ca-certificates", "curl", "jq", "sqlite3", "iproute2", "procps"),
    "libfaketime",
)
PROGRAMS = ("systemd-nspawn", "debootstrap", "nsenter", "unshare")
#: Seconds; a loaded machine may take its time.
PATIENCE = 120.0
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class Unavailable(Exception):
    """This machine cannot boot another one; the message says why."""


def cache() -> Path:
    """Where the tree and the wheels are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gemproxy-tests"


def debian() -> Path:
    """The tree. Raises :class:`Unavailable`."""
    if os.geteuid() != 0:
        raise Unavailable("booting a machine needs root")
    for program in PROGRAMS:
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            raise Unavailable(f"{program} is not installed (systemd-container, debootstrap)")
    key = hashlib.sha256("\n".join((SUITE, *PACKAGES)).encode()).hexdigest()[:12]
    tree = cache() / f"debian-{key}"
    if not tree.exists():
        tree.parent.mkdir(parents=True, exist_ok=True)
        unfinished = tree.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        _quietly(
            "debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, unfinished
        )
        unfinished.rename(tree)
    return tree


def wheels(tree: Path) -> Path:
    """The packages of ``requirements/run.txt``, for the Python of the tree."""
    locked = REPOSITORY / "requirements" / "run.txt"
    folder = cache() / f"wheels-{SUITE}-{hashlib.sha256(locked.read_bytes()).hexdigest()[:12]}"
    if folder.exists():
        return folder
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    settings = [f"--setenv={n}={v}" for n, v in os.environ.items() if n.startswith("PIP_")]
    binds = [f"--bind-ro={locked}:/mnt/run.txt", f"--bind={unfinished}:/srv"]
    if _CERTIFICATES.exists():
        binds.append(f"--bind-ro={_CERTIFICATES}")
    script = (
        "python3 -m venv /tmp/pip && "
        "/tmp/pip/bin/pip -q download --require-hashes -r /mnt/run.txt -d /srv"
    )
    _quietly(
        *("systemd-nspawn", "--quiet", "--directory", tree, "--volatile=overlay"),
        *("--register=no", "--keep-unit", *binds, *settings, "/bin/sh", "-c", script),
    )
    unfinished.rename(folder)
    return folder


def _quietly(*command: object) -> None:
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Unavailable(f"{command[0]} failed: {(done.stderr or done.stdout)[-500:]}")


class Machine:
    """See the module. ``name`` is its host's name, ``folder`` where its layer is written."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder
        self.root = folder / "root"
        tree = debian()
        upper, work = folder / "upper", folder / "work"
        for each in (self.root, upper, work):
            each.mkdir(parents=True)
        layers = f"lowerdir={tree},upperdir={upper},workdir={work}"
        _quietly("mount", "-t", "overlay", "overlay", "-o", layers, self.root)
        (self.root / "etc/hostname").write_text(f"{name}\n")
        (self.root / "etc/machine-id").write_text("")
        shutil.copytree(wheels(tree), self.root / "srv/wheels")
        _check_out(self.root / "root/gemproxy")
        self._boot()

    def _boot(self) -> None:
        with (self._folder / "console").open("wb") as console:
            self._nspawn = subprocess.Popen(
                [
                    *("systemd-nspawn", "--quiet", "--directory", str(self.root), "--boot"),
                    *("--register=no", "--keep-unit", "--private-network", "--link-journal=no"),
                    *("--console=pipe", "--resolv-conf=off", f"--machine={self.name}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._leader = self._wait_for_leader()
            self.run("ip link set lo up")
            self.wait_until("systemctl is-system-running | grep -qE 'running|degraded'")
        except BaseException:
            self.power_off()
            raise

    def _wait_for_leader(self) -> int:
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._nspawn.poll() is None:
            for child in children.read_text().split():
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)
            time.sleep(0.05)
        said = (self._folder / "console").read_text("utf-8", "replace")[-1000:]
        raise Unavailable(f"systemd-nspawn does not boot here: {said}")

    def power_off(self) -> None:
        """At once: what is on its disk is as it was after a pulled plug."""
        if self._nspawn.poll() is None:
            self._nspawn.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            self._nspawn.send_signal(signal.SIGTERM)  # A second one does not wait.
            try:
                self._nspawn.wait(20)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
        _quietly("umount", "--lazy", self.root)

    # -- at its terminal ---------------------------------------------------------------------------

    def type(self, script: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Type ``script`` into root's terminal; folder and variables are kept for the next one."""
        kept = "/run/terminal"
        whole = (
            f"cd /root/gemproxy; [ -e {kept} ] && . {kept}\n"
            f"keep() {{ (export -p; echo \"cd '$PWD'\"; umask -p) > {kept}; }}\n"
            "trap 'status=$?; keep; exit $status' EXIT\n"
            f"{script}"
        )
        return subprocess.run(
            [*self._entered(), "/bin/bash", "-c", whole],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def run(self, script: str, stdin: str = "") -> str:
        """Type it; it must succeed. Gives what it printed."""
        done = self.type(script, stdin)
        assert done.returncode == 0, f"$ {script}\n{done.stdout}\nstatus {done.returncode}"
        return done.stdout

    def start(self, script: str) -> subprocess.Popen[str]:
        """The same for what goes on for a while."""
        return subprocess.Popen(
            [*self._entered(), "/bin/bash", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_until(self, script: str, seconds: float = 40.0) -> None:
        """Run ``script`` until it succeeds."""
        deadline = time.monotonic() + seconds
        while (done := self.type(script)).returncode:
            said = f"$ {script}\n{done.stdout}"
            assert time.monotonic() < deadline, f"not within {seconds} s: {said}"
            time.sleep(0.1)

    def write(self, path: str, text: str) -> None:
        """Put a file there, readable by all."""
        self.run(f"install -D -m 0644 /dev/stdin {path}", text)

    def copy_from(self, other: Machine, path: str) -> None:
        """Take over a folder of another machine's."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(other.root / path, target, symlinks=True)

    def _entered(self) -> list[str]:
        return [
            *("nsenter", f"--target={self._leader}", "--mount", "--uts", "--ipc", "--net", "--pid"),
            *("--root", "/usr/bin/env", "-i", "--chdir=/", "HOME=/root", "TERM=dumb"),
            "LANG=C.UTF-8",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            # There is no network: packages come from a folder.
            *("PIP_NO_INDEX=1", "PIP_FIND_LINKS=/srv/wheels", "PIP_DISABLE_PIP_VERSION_CHECK=1"),
            *("PIP_ROOT_USER_ACTION=ignore",),
        ]

    # -- its network -------------------------------------------------------------------------------

    @contextmanager
    def network(self) -> Iterator[None]:
        """The calling thread, and those that it starts, are on the machine's network."""
        with (
            Path("/proc/thread-self/ns/net").open("rb") as home,
            Path(f"/proc/{self._leader}/ns/net").open("rb") as there,
        ):
            enter_network(there.fileno())
            try:
                yield
            finally:
                enter_network(home.fileno())


def _check_out(folder: Path) -> None:
    """The repository as a checkout of one's own."""
    listed = subprocess.run(
        [
            *("git", "-C", str(REPOSITORY), "ls-files", "-z"),
            *("--cached", "--others", "--exclude-standard"),
        ],
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        source, target = REPOSITORY / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
