"""Networks of the tests' own: a namespace behind a cable that can be cut, and name servers.

They need root and the programs ``ip``, ``iptables`` and ``unshare``; :func:`why_not` tells what is
missing, for tests to skip with.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from fakes.running import Process, RunningDaemon

_SERVER = Path(__file__).parent / "gemini_anywhere.py"
_numbers = count()
_CLONE_NEWNET = 0x40000000


def why_not() -> str:
    """Why there can be no namespaces here; nothing where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "iptables", "unshare", "mount"):
        if shutil.which(program) is None:
            return f"network namespaces need the program {program}"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "true"], capture_output=True, check=False
    )
    return "" if tried.returncode == 0 else f"no namespaces: {tried.stderr.decode().strip()}"


@contextmanager
def own_network() -> Iterator[None]:
    """A new network for the calling thread, and for what it starts: only loopback is in it."""
    with Path("/proc/thread-self/ns/net").open("rb") as home:
        _call("unshare", _CLONE_NEWNET)
        try:
            _run("ip", "link", "set", "lo", "up")
            yield
        finally:
            enter_network(home.fileno())


def enter_network(descriptor: int) -> None:
    """The calling thread, and what it starts, are in another namespace from now on."""
    _call("setns", descriptor, _CLONE_NEWNET)


def _call(name: str, *arguments: int) -> None:
    # The module os has these only since Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        raise OSError(ctypes.get_errno(), name)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


class Island:
    """A network namespace at the end of a cable, with a Gemini API in it."""

    def __init__(self, folder: Path) -> None:
        number = next(_numbers)
        self.name = f"gp{os.getpid()}n{number}"
        net = f"198.18.{os.getpid() % 254 + 1}.{number * 4 % 252}".rsplit(".", 1)
        self.here, self.there = (f"{net[0]}.{int(net[1]) + each}" for each in (1, 2))
        self._cable = f"gp{os.getpid() % 100000}n{number}"
        _run("ip", "netns", "add", self.name)
        try:
            _run(
                "ip", "link", "add", self._cable, "type", "veth", "peer", "eth0", "netns", self.name
            )
            _run("ip", "addr", "add", f"{self.here}/30", "dev", self._cable)
            _run("ip", "link", "set", self._cable, "up")
            self.run("ip", "addr", "add", f"{self.there}/30", "dev", "eth0")
            self.run("ip", "link", "set", "eth0", "up")
            self.run("ip", "link", "set", "lo", "up")
            self.server = Process(
                "ip",
                "netns",
                "exec",
                self.name,
                sys.executable,
                _SERVER,
                self.there,
                "0",
                "island",
                cwd=folder,
            )
            self.url = self.server.wait_for_line("serving on").split()[-1]
        except BaseException:
            _run("ip", "netns", "del", self.name)
            raise

    def run(self, *command: str) -> None:
        """A command in the namespace."""
        _run("ip", "netns", "exec", self.name, *command)

    def asked(self) -> int:
        """How many requests came."""
        return sum(line == "asked\n" for line in self.server.lines)

    def cut(self) -> None:
        """From now on packets vanish, both ways and without a word."""
        self.run("iptables", "-I", "INPUT", "-j", "DROP")
        self.run("iptables", "-I", "OUTPUT", "-j", "DROP")

    def mend(self) -> None:
        """Let packets through again."""
        self.run("iptables", "-F")

    def forget_connections(self) -> None:
        """As a firewall that has lost its memory: what is open is dead, what is new works."""
        for peer in self._peers():
            self.run("iptables", "-I", "INPUT", "-p", "tcp", "--sport", peer, "-j", "DROP")
            self.run("iptables", "-I", "OUTPUT", "-p", "tcp", "--dport", peer, "-j", "DROP")

    def _peers(self) -> set[str]:
        """The ports on our side of the connections that are open."""
        listed = subprocess.run(
            ["ip", "netns", "exec", self.name, "cat", "/proc/net/tcp"],
            capture_output=True,
            text=True,
            check=True,
        )
        established = [line.split() for line in listed.stdout.splitlines()[1:]]
        return {str(int(row[2].split(":")[1], 16)) for row in established if row[3] == "01"}

    def close(self) -> None:
        self.server.kill()
        _run("ip", "netns", "del", self.name)


class NameServer:
    """A DNS server on an address of loopback, and a ``resolv.conf`` that names it.

    ``address`` is its answer to every question; ``None``: silence.
    """

    def __init__(self, folder: Path, address: str | None) -> None:
        self.address = address
        self.asked = threading.Event()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((f"127.99.{os.getpid() % 254 + 1}.{next(_numbers) % 254 + 1}", 53))
        self.resolv_conf = folder / "resolv.conf"
        self.resolv_conf.write_text(f"nameserver {self._socket.getsockname()[0]}\n")
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                question, peer = self._socket.recvfrom(4096)
            except OSError:
                return
            self.asked.set()
            if self.address is not None:
                self._socket.sendto(self._answer(question), peer)

    def _answer(self, question: bytes) -> bytes:
        """RFC 1035 section 4: the question again, and one record of type A if it asks for one."""
        end = question.index(b"\0", 12) + 5
        wants_a = question[end - 4 : end - 2] == b"\0\1"
        head = question[:2] + b"\x81\x80\0\1" + (b"\0\1" if wants_a else b"\0\0") + b"\0\0\0\0"
        record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(self.address or "")
        return head + question[12:end] + (record if wants_a else b"")

    def close(self) -> None:
        self._socket.close()


class DaemonWithNames(RunningDaemon):
    """A daemon whose names come from ``names``, in a mount namespace of its own."""

    def __init__(self, names: NameServer, *arguments: object, **settings: object) -> None:
        self.prefix = (
            "unshare",
            "--mount",
            "sh",
            "-c",
            'mount --bind "$0" /etc/resolv.conf && exec "$@"',
            str(names.resolv_conf),
        )
        super().__init__(*arguments, **settings)
