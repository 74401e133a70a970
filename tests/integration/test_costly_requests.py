"""Requests that would take long to translate: the daemon has time for the others meanwhile."""

import threading
import time

import pytest
from fakes.hostile_bodies import all_shapes
from fakes.wire import CHAT, Wire, chat

SHAPES = all_shapes()


@pytest.mark.parametrize("size", [69_000, 368_000])
def test_bodies_that_ask_for_minutes_of_work_hold_up_nobody(shared_daemon, size):
    """A dozen at once; before there were budgets, each took the daemon's time for seconds."""
    names = ["schema-merged-types", "schema-merged-enums", "schema-copied-types", "schema-ring"]
    bodies = [SHAPES[name](size) for name in names * 3]
    statuses = []

    def attack(body):
        with Wire(shared_daemon) as wire:
            statuses.append(wire.ask("POST", CHAT, body).status)

    threads = [threading.Thread(target=attack, args=(body,)) for body in bodies]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    longest = 0.0
    with Wire(shared_daemon) as wire:
        while any(thread.is_alive() for thread in threads):
            asked = time.monotonic()
            assert wire.ask("GET", "/livez").status == 200
            longest = max(longest, time.monotonic() - asked)
    # Some 12 times 0.2 s of work, on a machine that does other things as well.
    assert time.monotonic() - begun < 60
    assert longest < 6
    assert len(statuses) == 12
    assert set(statuses) <= {200, 400}
    assert chat(shared_daemon).status == 200
