"""The faults. Each actor causes one, bounded in time, and repairs what it broke."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from chaos.stage import CLIENT_TOKEN, GOOD_KEYS, SIGNALS_WITHOUT_HARM, Stage

CHAT = "/v1/chat/completions"
Actor = Callable[[Stage, random.Random], None]


def head(length: int | str, *, token: str = CLIENT_TOKEN, path: str = CHAT) -> bytes:
    framing = "Transfer-Encoding: chunked" if length == "chunked" else f"Content-Length: {length}"
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\n{framing}\r\n\r\n"
    ).encode()


def connected(stage: Stage) -> socket.socket:
    return socket.create_connection(("127.0.0.1", stage.port), timeout=20)


def body(**more: object) -> bytes:
    messages = [{"role": "user", "content": "Hello!"}]
    return json.dumps({"model": "gemini-3.8-flash", "messages": messages, **more}).encode()


def sent(stage: Stage, data: bytes) -> None:
    """Send it, and read what comes until the other side has nothing more to say."""
    with contextlib.suppress(OSError), connected(stage) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            pass


# -- time ------------------------------------------------------------------------------------------


def step_the_clock(stage: Stage, dice: random.Random) -> None:
    """Set the daemon's wall clock back or forward, and right again."""
    stage.clock.write_text(dice.choice(["+3600s", "-3600s", "-259200s", "+700s", "+86400s"]))
    time.sleep(dice.uniform(1, 4))
    stage.clock.write_text("+0s")


# -- output ----------------------------------------------------------------------------------------


def leave_the_log_unread(stage: Stage, dice: random.Random) -> None:
    """Nobody reads standard output for a while."""
    stage.reading.clear()
    try:
        time.sleep(dice.uniform(3, 8))
    finally:
        stage.reading.set()


# -- clients ---------------------------------------------------------------------------------------


def flood_without_a_token(stage: Stage, _dice: random.Random) -> None:
    """Requests that get 401, with large bodies that never come whole."""
    clients = []
    for _ in range(60):
        with contextlib.suppress(OSError):
            client = connected(stage)
            client.setblocking(False)
            clients.append(client)
            client.send(head(10_000_000, token="wrong") + b" " * 60_000)
    time.sleep(1)
    for client in clients:
        client.close()


def send_hostile_bodies(stage: Stage, dice: random.Random) -> None:
    """Bodies that are cheap to send and dear to read."""
    nested: dict[str, object] = {"type": "string"}
    for _ in range(60):
        nested = {"allOf": [nested, {"$ref": "#/$defs/b"}]}
    merging = {
        "$defs": {"b": {"enum": [{"a": {"b": n}} for n in range(1000)]}},
        "properties": {
            "p": {
                "enum": [{"a": {"b": n}} for n in range(1000)],
                "allOf": [{"$ref": "#/$defs/b"}] * 80,
            }
        },
    }
    ring = {f"r{n}": {"$ref": f"#/$defs/r{(n + 1) % 800}"} for n in range(800)}
    schemas = [
        merging,
        {"$defs": {"b": {"type": "string"}}, "properties": {"p": nested}},
        {"$defs": ring, "properties": {"p": {"$ref": "#/$defs/r0"}}},
        {"allOf": [{"required": [f"x{n}" for n in range(1000)]}] * 100},
        {"type": ["string"] * 10_000},
    ]
    bodies = [
        body(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": each}})
        for each in schemas
    ]
    bodies += [
        b"[" * 100_000,
        b'{"model": NaN}',
        b"\xff" * 1000,
        body(temperature=0).replace(b'"temperature": 0', b'"temperature": ' + b"9" * 401),
        body(messages=[{"role": "user", "content": [{"type": "text", "text": ""}] * 50_000}]),
    ]
    for each in dice.sample(bodies, 4):
        sent(stage, head(len(each)) + each)


def abort_large_bodies(stage: Stage, dice: random.Random) -> None:
    """Chunked bodies of some megabytes that are aborted with a reset."""
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    for _ in range(4):
        with contextlib.suppress(OSError), connected(stage) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(head("chunked"))
            for _ in range(dice.randrange(20, 120)):
                client.sendall(chunk)


def send_slowly(stage: Stage, _dice: random.Random) -> None:
    """Bodies and headers that drip."""
    clients = []
    for number in range(20):
        with contextlib.suppress(OSError):
            client = connected(stage)
            clients.append(client)
            whole = head(1000)
            client.sendall(whole if number % 2 else whole[:40])
    for _ in range(5):
        time.sleep(0.5)
        for client in clients:
            with contextlib.suppress(OSError):
                client.send(b"a")
    for client in clients:
        client.close()


def read_nothing(stage: Stage, dice: random.Random) -> None:
    """Streams that are asked for and never read, by clients that go without a word."""
    clients = []
    text = body(stream=dice.random() < 0.7)
    for _ in range(20):
        with contextlib.suppress(OSError):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(20)
            client.connect(("127.0.0.1", stage.port))
            client.sendall(head(len(text)) + text)
            clients.append(client)
    time.sleep(dice.uniform(1, 4))
    for client in clients:
        client.close()


def pipeline(stage: Stage, _dice: random.Random) -> None:
    """Thousands of requests on one connection, at once."""
    sent(stage, b"GET /v1/nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 3000)


def talk_garbage(stage: Stage, dice: random.Random) -> None:
    """Bytes that are no HTTP."""
    for _ in range(20):
        sent(stage, dice.randbytes(dice.randrange(1, 3000)))
    sent(stage, b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n")
    sent(stage, head("chunked") + b"0\r\nContent-Length: 5\r\n\r\n")


# -- the network ---------------------------------------------------------------------------------


def is_network_ours() -> bool:
    """Whether this process has a network namespace of its own, where packets may be dropped."""
    try:
        return Path("/proc/self/ns/net").readlink() != Path("/proc/1/ns/net").readlink()
    except OSError:
        return False


@contextlib.contextmanager
def dropped(*match: str) -> object:
    """Packets that match vanish without a word."""
    rules = [["INPUT", "-i", "lo", "-p", "tcp", *match, "-j", "DROP"]]
    for rule in rules:
        subprocess.run(["iptables", "-w", "-A", *rule], check=True, capture_output=True)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run(["iptables", "-w", "-D", *rule], check=True, capture_output=True)


def lose_the_upstream(stage: Stage, dice: random.Random) -> None:
    """The path to the upstream is gone for a while."""
    port = stage.simulator.url.rpartition(":")[2]
    if is_network_ours():
        with dropped("--dport", port), dropped("--sport", port):
            # Below keepaliveSeconds: streams whose content is out must go on afterwards.
            time.sleep(dice.choice([2, 4, 7]))
    else:
        os.kill(stage.simulator.popen.pid, signal.SIGSTOP)
        time.sleep(dice.choice([2, 4]))
        os.kill(stage.simulator.popen.pid, signal.SIGCONT)


def lose_clients(stage: Stage, _dice: random.Random) -> None:
    """Clients with running streams whose path is gone; they never come back."""
    if not is_network_ours():
        return
    clients = []
    text = body(stream=True)
    with contextlib.ExitStack() as rules:
        for _ in range(5):
            client = connected(stage)
            client.sendall(head(len(text)) + text)
            port = str(client.getsockname()[1])
            rules.enter_context(dropped("--dport", port))  # type: ignore[arg-type]
            rules.enter_context(dropped("--sport", port))  # type: ignore[arg-type]
            clients.append(client)
        time.sleep(3)
        for client in clients:
            client.close()
        time.sleep(3)


# -- the upstream --------------------------------------------------------------------------------


def worsen_a_key(stage: Stage, dice: random.Random) -> None:
    """One key fails in some way for a while."""
    name = dice.choice(GOOD_KEYS)
    # Not those that break a stream whose content is out: no gateway can hide these.
    ways = ["overloaded", "internal-error", "reset", "close", "garbage", "html-200", "bad-gateway"]
    with contextlib.suppress(OSError):
        stage.simulator.behave(name, dice.choice([*ways, "rate-limited-bare"]), times=20)
        time.sleep(dice.uniform(2, 5))
    with contextlib.suppress(OSError):
        stage.simulator.behave(name, "ok")


# -- the operator ---------------------------------------------------------------------------------


def reload_well(stage: Stage, dice: random.Random) -> None:
    """Other weights, by a change of the file or by a signal."""
    stage.configure(**{name: dice.randrange(1, 4) for name in GOOD_KEYS})
    if dice.random() < 0.5:
        stage.signal(signal.SIGHUP)
    time.sleep(2.5)
    stage.configure()


def reload_badly(stage: Stage, dice: random.Random) -> None:
    """A mistake in a file, for a while."""
    stage.break_configuration()
    if dice.random() < 0.5:
        stage.signal(signal.SIGHUP)
    time.sleep(2.5)
    stage.configure()


def send_signals(stage: Stage, dice: random.Random) -> None:
    """Signals that twistd gives a meaning of its own."""
    for _ in range(3):
        stage.signal(dice.choice(SIGNALS_WITHOUT_HARM))
        time.sleep(0.2)


def take_the_descriptors(stage: Stage, dice: random.Random) -> None:
    """The daemon can open hardly any file or connection for a while."""
    with contextlib.suppress(OSError), stage.limited_descriptors(dice.randrange(4)):
        time.sleep(dice.uniform(1, 3))


def restart(stage: Stage, _dice: random.Random) -> None:
    """A restart under load."""
    stage.restart()


def kill(stage: Stage, dice: random.Random) -> None:
    """``kill -9``, sometimes with a state that is damaged before the next start."""

    def damage() -> None:
        path = stage.folder / dice.choice(["state.db", "state.json"])
        path.write_bytes(dice.choice([b"\xff" * 5000, b"", b'{"taken_at": 1e308}', b"[" * 90_000]))
        Path(f"{path}-wal").unlink(missing_ok=True)

    stage.kill(damage if dice.random() < 0.5 else None)


#: All the time.
ALWAYS: tuple[Actor, ...] = (
    step_the_clock,
    leave_the_log_unread,
    flood_without_a_token,
    send_hostile_bodies,
    abort_large_bodies,
    send_slowly,
    read_nothing,
    pipeline,
    talk_garbage,
    lose_the_upstream,
    lose_clients,
    worsen_a_key,
    reload_well,
    reload_badly,
    send_signals,
    take_the_descriptors,
)
#: Early only: memory is compared over the life of the last process.
EARLY: tuple[Actor, ...] = (restart, kill)
