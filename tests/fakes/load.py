"""Clients who never stop asking, and a look at what a daemon has left on its disk."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, Self

from fakes.running import ADMIN_TOKEN
from fakes.wire import CHAT, Wire, said


class Load:
    """Clients who ask one completion after the other until they are told to stop.

    Each has a connection of its own, and leaves at the first answer that is not 200, or when the
    connection breaks.
    """

    def __init__(self, daemon: Any, clients: int = 3, prompt: str = "Hello!") -> None:
        self._daemon = daemon
        self._body = said(prompt)
        self._stopping = threading.Event()
        self._news = threading.Condition()
        #: When each good answer was there, epoch seconds.
        self.answered: list[float] = []
        self.begun = 0
        #: What ended a client early: a status, or what its connection said.
        self.ends: list[int | str] = []
        self._clients = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Self:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let every client finish what it began."""
        self._stopping.set()
        for client in self._clients:
            client.join()

    def wait_for(self, answers: int) -> None:
        """Wait until there are so many more answers."""
        with self._news:
            wanted = len(self.answered) + answers
            arrived = self._news.wait_for(lambda: len(self.answered) >= wanted, 30)
        assert arrived, f"{len(self.answered)} of {wanted} answers; {self.ends}"

    def _ask(self) -> None:
        try:
            with Wire(self._daemon) as wire:
                while not self._stopping.is_set():
                    with self._news:
                        self.begun += 1
                    status = wire.ask("POST", CHAT, self._body).status
                    if status != 200:
                        self.ends.append(status)
                        return
                    with self._news:
                        self.answered.append(time.time())
                        self._news.notify_all()
        except (AssertionError, OSError) as broken:
            self.ends.append(repr(broken))


class Found:
    """What the database of a daemon holds, running or dead; the files are left as they are."""

    def __init__(self, database: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, database.name)
            for suffix in ("", "-wal"):
                beside = database.with_name(database.name + suffix)
                if beside.exists():
                    shutil.copy(beside, copy.with_name(copy.name + suffix))
            # Opening it brings it together with its log, as the next daemon would do.
            with closing(sqlite3.connect(copy)) as connection:
                self._read(connection)

    def _read(self, connection: sqlite3.Connection) -> None:
        def all_of(query: str) -> list[tuple[Any, ...]]:
            return connection.execute(query).fetchall()

        self.integrity = [verdict for (verdict,) in all_of("PRAGMA integrity_check")]
        #: Without tables it was killed before it made them.
        self.made = bool(all_of("SELECT 1 FROM sqlite_master"))
        if not self.made:
            self.taken_at, self.requests = 0.0, Counter[str]()
            return
        self.taken_at = next((taken for (taken,) in all_of("SELECT taken_at FROM checkpoint")), 0.0)
        self.requests = Counter(dict(all_of("SELECT name, requests_total FROM keys")))
        self.finished = all_of("SELECT sum(requests) FROM request_metrics WHERE period = 60")[0][0]
        self.events = all_of("SELECT action, target FROM audit_events ORDER BY at")
        self.overrides = dict(all_of("SELECT key_id, weight FROM overrides"))


def assert_private(folder: Path, *secrets: str) -> None:
    """Every file is its owner's alone and holds neither the admin token nor any of ``secrets``."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        content = path.read_bytes()
        for secret in (ADMIN_TOKEN, *secrets):
            assert secret.encode() not in content, path


class Knocks:
    """Clients who come ``rate`` times a second, each with a connection of its own.

    ``results`` has what became of each, in the order in which they came: a status, the code of a
    503, or the name of what went wrong with the connection. ``headers`` go with each request.
    """

    def __init__(self, daemon: Any, rate: float, **headers: str) -> None:
        self._daemon = daemon
        self._rate = rate
        self._headers = headers
        self._stopping = threading.Event()
        self._results: dict[int, int | str] = {}
        self._begun = 0
        self._clock = threading.Thread(target=self._come, daemon=True)
        self._clients: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._clock.join()
        for client in self._clients:
            client.join()

    @property
    def results(self) -> list[int | str]:
        """So far."""
        return [result for _, result in sorted(self._results.items())]

    def mark(self) -> int:
        """How many have come; see :meth:`wait_for`."""
        return self._begun

    def wait_for(self, result: int | str, since: int = 0, seconds: float = 30) -> float:
        """Wait until one who came after the first ``since`` got ``result``; tells how long."""
        begin = time.monotonic()
        while not any(r == result for n, r in list(self._results.items()) if n >= since):
            assert time.monotonic() - begin < seconds, Counter(self.results)
            time.sleep(0.02)
        return time.monotonic() - begin

    def _come(self) -> None:
        begin = time.monotonic()
        while True:
            due = begin + self._begun / self._rate
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                return
            client = threading.Thread(target=self._knock, args=(self._begun,), daemon=True)
            self._begun += 1
            self._clients.append(client)
            client.start()

    def _knock(self, number: int) -> None:
        try:
            with Wire(self._daemon) as wire:
                answer = wire.ask("POST", CHAT, said("Hello!"), connection="close", **self._headers)
            result = answer.error["code"] if answer.status == 503 else answer.status
        except (AssertionError, OSError) as broken:
            result = type(broken).__name__
        self._results[number] = result
