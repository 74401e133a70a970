"""A reader who does what a page says, from its top to its end, on a machine of their own.

The machine is a folder: the paths of the system that pages name (``/etc/gemproxy`` and the like)
lie in it, and so do the home and a checkout. Ports are free ones. Commands and files are translated
on the way in and output on the way back, so that the page may speak of the real places. Programs
that need root, the Internet or systemd are stood in for; ``STAND_INS`` says which, and why.
"""

from __future__ import annotations

import doctest
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from fakes.pages import REPOSITORY, Block
from fakes.running import PATIENCE, Process

#: What a person types where a command reads: a key, another one each time.
TYPED = "test-key-typed-by-the-reader"
#: Paths of the system that lie on the reader's machine.
SYSTEM_PATHS = ("/etc/gemproxy", "/etc/systemd/system", "/opt/gemproxy", "/var/lib/gemproxy")
#: The ports of the daemon and of the simulator, as pages name them.
PORT, SIMULATOR_PORT = "4806", "4807"

#: The programs of ``tests/docs/stand_ins``, which come first on the PATH, and why they are needed.
STAND_INS = {
    "python3": "an environment of its own would load packages from the Internet",
    "pip": "packages come from the Internet",
    "gemproxy": "is not installed, and its files name ports that may be somebody's",
    "twistd": "the demo's port may be somebody's",
    "make": "its targets load packages from the Internet, and one of them runs this very test",
    "systemctl": "there is no systemd to talk to",
    "systemd-run": "there is no systemd to talk to",
    "journalctl": "there is no journal",
    "groupadd": "needs root",
    "chown": "needs root",
    "ssh": "there is no other machine",
}
STAND_IN_FOLDER = REPOSITORY / "tests" / "docs" / "stand_ins"

#: Programs that go on until they are stopped, each with what it says when it is ready.
SERVERS = {
    re.compile(r"make demo|twistd .*gemproxy --demo"): '"content": "Hello!"',
    re.compile(r"(\w+=\S+ )?(make run|twistd .*gemproxy( --c.*)?)"): "listening on",
    re.compile(r"gemproxy simulate(?!.*--keys).*"): "http://",
}

#: What differs from one time to the next.
_VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z"), "TIME"),
    (re.compile(r"\breq_\w+"), "ID"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "FINGERPRINT"),
    (re.compile(r"\b\d+(\.\d+)? ms\b"), "N ms"),
    (re.compile(r"\b\d+ tokens in, \d+ out"), "N tokens in, N out"),
    (re.compile(r"-{3,}"), "---"),
)
_SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Reader:
    """See the module. ``upstream`` is where files of `gemproxy init` point to."""

    def __init__(self, root: Path, upstream: str) -> None:
        self.root = root
        self.port = free_port()
        self.folder = root / "checkout"
        #: What the last command printed, translated back.
        self.output = ""
        self._status = 0
        self._typed = 0
        self._servers: dict[str, Process] = {}
        self._ports = {PORT: self.port, SIMULATOR_PORT: upstream.rpartition(":")[2]}
        self._upstream = upstream
        (root / "journal").touch()
        self._check_out()
        for path in (*SYSTEM_PATHS, "/home"):
            self.place(path).mkdir(parents=True)
        # Where pages have it that speak of an installed service.
        (self.place("/home") / "gemproxy").symlink_to(self.folder)

    def place(self, path: str) -> Path:
        """Where a path of the system lies on this machine."""
        return self.root / path.removeprefix("/")

    @property
    def environ(self) -> dict[str, str]:
        """What every command of the reader is run with."""
        return {
            "PATH": f"{STAND_IN_FOLDER}:/usr/bin:/bin",
            "HOME": str(self.place("/home")),
            "TMPDIR": str(self.root),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(REPOSITORY),
            "READER_PYTHON": sys.executable,
            "READER_ROOT": str(self.root),
            "READER_PORT": self.port,
            "READER_UPSTREAM": self._upstream,
            "READER_REPOSITORY": str(REPOSITORY),
        }

    def translated(self, text: str) -> str:
        """What the page says, as this machine has it."""
        for path in SYSTEM_PATHS:
            text = text.replace(path, str(self.place(path)))
        return re.sub("|".join(self._ports), lambda port: self._ports[port[0]], text)

    def told(self, text: str) -> str:
        """What this machine says, as the page has it."""
        text = text.replace(str(self.root), "").replace(f":{self.port}", f":{PORT}")
        for there, here in self._ports.items():
            text = text.replace(f":{here}", f":{there}")
        return text

    # -- what is done with a block -----------------------------------------------------------------

    def run_script(self, block: Block) -> None:
        """Every line, one after the other; servers go on in the background."""
        lines: list[str] = []
        for line in block.text.splitlines(keepends=True):
            command = line.partition(" #")[0].strip()
            if server(command):
                self._run_lines(lines, block)
                self.start(command, block)
                lines = []
            else:
                lines.append(line)
        self._run_lines(lines, block)

    def _run_lines(self, lines: list[str], block: Block) -> None:
        if lines:
            self._shell("".join(lines), block, strict=True)
            assert self._status == 0, f"{block.place}: status {self._status}\n{self.output}"

    def run_session(self, block: Block) -> None:
        """Every command behind ``$``, and what it prints against what the page shows.

        A command whose status is asked for by ``echo $?`` may fail, others may not.
        """
        session = commands(block.text)
        for index, (command, wanted) in enumerate(session):
            if server(command):
                self.start(command, block)
                continue
            self._shell(command, block)
            excused = index + 1 < len(session) and session[index + 1][0] == "echo $?"
            said = f"{block.place}: $ {command}\n{self.output}"
            assert excused or self._status == 0, f"{said}status {self._status}"
            if wanted.strip():
                assert alike(wanted, self.output), f"{said}--- but the page shows:\n{wanted}"

    def run_python(self, block: Block) -> None:
        """The block as a program of its own."""
        program = self.folder / "example.py"
        program.write_text(self.translated(block.text))
        self._shell("python3 example.py", block)
        assert self._status == 0, f"{block.place}:\n{self.output}"

    def keep_file(self, block: Block) -> None:
        """A block whose first line is a comment with a path is that file, from now on."""
        match = re.match(r"# (\S+/\S+\.\w+)\n", block.text)
        if match is not None:
            path = self.folder / self.translated(match[1])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.translated(block.text))

    def start(self, command: str, block: Block) -> None:
        """Start a program that goes on, in the place of the last one of its kind."""
        ready = next(words for pattern, words in SERVERS.items() if pattern.fullmatch(command))
        self.stop(ready)
        environ = {**os.environ, **self.environ, **self._exported()}
        process = Process("bash", "-c", self.translated(command), cwd=self.folder, **environ)
        self._servers[ready] = process
        line = process.wait_for_line(ready)
        shown = line if "127.0.0.1:" in line else process.output
        found = re.search(r"127\.0\.0\.1:(\d+)", shown)
        assert found, f"{block.place}: {command} told no address:\n{process.output}"
        self._ports[SIMULATOR_PORT if "simulate" in command else PORT] = found[1]

    def stop(self, ready: str | None = None) -> None:
        """Stop the programs that go on, or the one of this kind."""
        for name in [name for name in self._servers if ready in {None, name}]:
            self._servers.pop(name).stop()

    # -- underneath --------------------------------------------------------------------------------

    def _shell(self, script: str, block: Block, *, strict: bool = False) -> None:
        kept = self.root / "session"
        whole = "\n".join(
            (
                f'[ -e "{kept}" ] && . "{kept}"',
                f'keep() {{ (export -p; echo "cd \\"$PWD\\"") > "{kept}"; }}',
                "trap 'status=$?; keep; exit $status' EXIT",
                "set -eu -o pipefail" if strict else f"(exit {self._status})",
                self.translated(script),
            )
        )
        self._typed += 1
        done = subprocess.run(
            ["bash", "-c", whole],
            cwd=self.folder,
            env=self.environ,
            input=f"{TYPED}-{self._typed}\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=PATIENCE,
            check=False,
        )
        self._status, self.output = done.returncode, self.told(done.stdout)
        assert TYPED not in self.output, f"{block.place} shows a secret"

    def _exported(self) -> dict[str, str]:
        """What the reader has exported by now."""
        kept = self.root / "session"
        if not kept.exists():
            return {}
        done = subprocess.run(
            ["bash", "-c", f'. "{kept}"; env -0'],
            env=self.environ,
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(pair.split("=", 1) for pair in done.stdout.split("\0") if "=" in pair)

    def _check_out(self) -> None:
        """The repository as a folder that the reader may write to."""
        self.folder.mkdir()
        for path in REPOSITORY.iterdir():
            if path.name != "config" and not path.name.startswith("."):
                (self.folder / path.name).symlink_to(path)
        (self.folder / "config").mkdir()
        for path in (REPOSITORY / "config").glob("*.example.yaml"):
            shutil.copy(path, self.folder / "config")


def commands(text: str) -> list[tuple[str, str]]:
    """The commands of a session, each with the output that is shown below it."""
    found: list[tuple[str, list[str]]] = []
    going_on = False
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif going_on or (found and line.startswith("> ") and not found[-1][1]):
            found[-1] = (f"{found[-1][0]}\n{line.removeprefix('> ')}", [])
        else:
            assert found, f"a session begins with $: {line!r}"
            found[-1][1].append(f"{line}\n")
        going_on = line.endswith("\\") and not found[-1][1]
    return [(command, "".join(lines)) for command, lines in found]


def server(command: str) -> bool:
    """Whether a command goes on until it is stopped."""
    return any(pattern.fullmatch(command) for pattern in SERVERS)


def alike(wanted: str, got: str) -> bool:
    """Whether ``got`` is what the page shows, but for times, ids and ``...``."""
    for pattern, word in _VARYING:
        wanted, got = pattern.sub(word, wanted), pattern.sub(word, got)
    return doctest.OutputChecker().check_output(wanted, got, _SAME)


def differences(shown: Any, real: Any, path: str = "$") -> list[str]:
    """Where the shape of two JSON values differs: names of members, and kinds of values.

    A ``null`` fits everything. Of lists each item that the page shows must fit one of the real
    ones.
    """
    if shown is None or real is None:
        return []
    if isinstance(shown, dict) and isinstance(real, dict):
        missing = [f"{path}.{name} is not there" for name in shown if name not in real]
        untold = [f"{path}.{name} is not shown" for name in real if name not in shown]
        inner = [
            line
            for name in shown
            if name in real
            for line in differences(shown[name], real[name], f"{path}.{name}")
        ]
        return missing + untold + inner
    if isinstance(shown, list) and isinstance(real, list):
        return [
            line
            for number, item in enumerate(shown)
            for line in min(
                (differences(item, other, f"{path}[{number}]") for other in real),
                key=len,
                default=[f"{path} is empty"],
            )
        ]
    kinds = [float if type(value) is int else type(value) for value in (shown, real)]
    return [] if kinds[0] is kinds[1] else [f"{path} is {json.dumps(real)}, not as shown"]


def free_port() -> str:
    """A port of loopback that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return str(listening.getsockname()[1])
