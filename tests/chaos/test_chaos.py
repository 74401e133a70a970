"""Everything that goes wrong, at once, while honest clients go on working.

``make chaos`` lets it run for half an hour, ``.ci/run`` for two minutes; it is skipped otherwise.
At its end no request of an honest client was lost, memory is what it was, and every key is in the
state that it should be in.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import threading
import time
from pathlib import Path

import httpx2
import openai
import pytest
from chaos.actors import ALWAYS, EARLY, Actor
from chaos.stage import CLIENT_TOKEN, EXPIRED_KEY, GOOD_KEYS, Stage, is_forbidden

MINUTES = float(os.environ.get("GEMPROXY_CHAOS_MINUTES", "0"))
SEED = int(os.environ.get("GEMPROXY_CHAOS_SEED", str(random.randrange(10**6))))
CLIENTS = 6
GROWTH = 20 * 1024 * 1024
#: How long an answer that was cut by a kill may have been under way.
LONGEST_REQUEST = 120.0

pytestmark = pytest.mark.skipif(
    not MINUTES, reason="takes minutes: make chaos, or GEMPROXY_CHAOS_MINUTES=2"
)


class HonestClient(threading.Thread):
    """A program with OpenAI's SDK, which tries again as the SDK does."""

    def __init__(self, stage: Stage, number: int, stopping: threading.Event) -> None:
        super().__init__(daemon=True)
        self._stage = stage
        self._stopping = stopping
        self._dice = random.Random(SEED + number)
        self._number = number
        self.served = 0
        self.cut_by_kills = 0
        self.lost: list[str] = []

    def run(self) -> None:
        client = openai.OpenAI(
            base_url=f"{self._stage.url}/v1",
            api_key=CLIENT_TOKEN,
            max_retries=10,
            timeout=LONGEST_REQUEST,
        )
        while not self._stopping.is_set():
            word = f"word{self._number}x{self.served}"
            begun = time.monotonic()
            try:
                text = self._ask(client, word)
            except (openai.APIError, httpx2.HTTPError) as error:
                if any(begun <= killed for killed in self._stage.kills):
                    self.cut_by_kills += 1
                else:
                    seconds = time.monotonic() - begun
                    self.lost.append(f"after {seconds:.1f} s: {error!r} {error.__cause__!r}")
                continue
            if word in text:
                self.served += 1
            else:
                self.lost.append(f"another answer: {text[:200]!r}")
            time.sleep(self._dice.uniform(0.05, 0.3))

    def _ask(self, client: openai.OpenAI, word: str) -> str:
        messages = [{"role": "user", "content": f"Please say {word}."}]
        if self._dice.random() < 0.5:
            answer = client.chat.completions.create(model="gemini-3.8-flash", messages=messages)
            return answer.choices[0].message.content or ""
        pieces = []
        finished = False
        with client.chat.completions.create(
            model="gemini-3.8-flash", messages=messages, stream=True
        ) as stream:
            for chunk in stream:
                for choice in chunk.choices:
                    pieces.append(choice.delta.content or "")
                    finished = finished or choice.finish_reason is not None
        if not finished:
            raise httpx2.RemoteProtocolError("the stream ended without a finish reason")
        return "".join(pieces)


def bring_chaos(stage: Stage, number: int, end: float, early: float, told: list[str]) -> None:
    """Let each actor act, in another order each time, until ``end``.

    Those of ``EARLY`` act only until ``early``, and only for the first of two.
    """
    dice = random.Random(SEED + 100 + number)
    coming: list[Actor] = []
    while time.monotonic() < end:
        if not coming:
            coming = dice.sample(ALWAYS, len(ALWAYS))
            if time.monotonic() < early and number == 0:
                coming += EARLY
        actor = coming.pop()
        told.append(f"{time.monotonic():.1f} {actor.__name__}")
        try:
            actor(stage, dice)
        except Exception as error:  # noqa: BLE001 - a defect of an actor is a failure of the test
            stage.unplanned.append(f"{actor.__name__}: {error!r}")
            return
        time.sleep(dice.uniform(0.2, 1.0))


def settled(stage: Stage, seconds: float) -> dict[str, str]:
    """The states of the keys, once those that can work do, or when the time is up."""
    deadline = time.monotonic() + seconds
    while True:
        states = {}
        with contextlib.suppress(OSError, ValueError):
            states = stage.states()
        if all(states.get(name) == "active" for name in GOOD_KEYS):
            return states
        if time.monotonic() > deadline:
            return states
        time.sleep(1)


def test_honest_clients_notice_nothing_of_all_this(tmp_path):
    stage = Stage(tmp_path)
    stopping = threading.Event()
    clients = [HonestClient(stage, number, stopping) for number in range(CLIENTS)]
    told: list[str] = []
    try:
        for client in clients:
            client.start()
        begun = time.monotonic()
        end, early = begun + MINUTES * 60, begun + MINUTES * 60 * 0.4
        actors = [
            threading.Thread(
                target=bring_chaos, args=(stage, number, end, early, told), daemon=True
            )
            for number in range(2)
        ]
        for actor in actors:
            actor.start()
        # Memory is compared between two moments of the last process's life.
        time.sleep(max(0.0, early - time.monotonic()))
        stage.wait_until_live()
        time.sleep(MINUTES * 60 * 0.2)
        before, process = stage.rss(), stage.pid
        for actor in actors:
            actor.join()
        for name in GOOD_KEYS:
            stage.simulator.behave(name, "ok")
        states = settled(stage, 60)
        stopping.set()
        for client in clients:
            client.join(LONGEST_REQUEST)
        after = stage.rss()
        same_process = stage.pid == process
        status = stage.stop()
    finally:
        stopping.set()
        stage.process.kill()
        stage.simulator.popen.kill()
    served = sum(client.served for client in clients)
    lost = [line for client in clients for line in client.lost]
    report = (
        f"seed {SEED}: {served} served, {sum(c.cut_by_kills for c in clients)} cut by "
        f"{len(stage.kills)} kills, {len(lost)} lost; RSS {before / 2**20:.1f} to"
        f" {after / 2**20:.1f} MB; {len(told)} acts"
    )
    sys.stdout.write(f"{report}\n")
    (tmp_path / "log").write_text("\n".join(stage.lines))
    good = {name: states.get(name) for name in GOOD_KEYS}
    errors = Path(stage.folder, "stderr").read_text()
    checks = {
        "unplanned: " + "; ".join(stage.unplanned): not stage.unplanned,
        f"{len(lost)} lost, the first: " + "\n  ".join(lost[:5]): not lost,
        "too few served": served > MINUTES * 60,
        "the last process was replaced": same_process,
        f"memory grew by {(after - before) / 2**20:.1f} MB": after - before < GROWTH,
        f"keys are in another state: {good}": set(good.values()) == {"active"},
        "the expired key is active": states.get(EXPIRED_KEY) != "active",
        f"SIGTERM ended it with status {status}": status == 0,
        f"{len(stage.forbidden)} forbidden lines in the log, such as:\n"
        + "\n".join(map(shortened, stage.forbidden[:3])): not stage.forbidden,
        f"forbidden on standard error:\n{errors[-2000:]}": not is_forbidden(errors),
    }
    # What went wrong comes last, without a traceback of this test: the end of the output tells it.
    wrong = [text for text, holds in checks.items() if not holds]
    if wrong:
        acts = "\n".join(told[-40:])
        pytest.fail("\n".join([acts, f"log: {tmp_path}/log", report, *wrong]), pytrace=False)


def shortened(line: str) -> str:
    """What happened in a line of the log, and the end of its traceback."""
    try:
        event = json.loads(line)
    except ValueError:
        return line[-500:]
    ends = str(event.get("traceback", line[:500])).splitlines()[-5:]
    return "\n".join([f"- {event.get('event')}: {event.get('error')}", *ends])
