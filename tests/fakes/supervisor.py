"""What systemd does for a service with sockets, as a small program: it holds them.

``python supervisor.py NAMES COMMAND...`` listens, prints each address and runs the command, which
finds the sockets under their names as by sd_listen_fds(3). NAMES are separated by commas:
``gemproxy`` is a free loopback port, ``gemproxy@PATH`` a Unix socket. SIGUSR1 restarts the command
as ``systemctl restart`` does; SIGTERM stops it and ends.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

#: The first descriptor that is handed over, by the protocol.
_FIRST = 3


def main() -> None:
    """Run until SIGTERM."""
    command = sys.argv[2:]
    sockets = {}
    for wanted in sys.argv[1].split(","):
        name, _, path = wanted.partition("@")
        sockets[name] = listen(path)
    signals = {signal.SIGUSR1, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    while True:
        child = os.fork()
        if child == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            become(command, sockets)
        asked = signal.sigwait(signals)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        say(f"ended with status {os.waitstatus_to_exitcode(status)}")
        if asked == signal.SIGTERM:
            return


def listen(path: str) -> socket.socket:
    """A socket that listens, at ``path`` or at a free port."""
    if path:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        Path(path).chmod(0o600)
        listening.listen(4096)
        say(f"address unix:{path}")
        return listening
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    say("address {}:{}".format(*listening.getsockname()))
    return listening


def say(line: str) -> None:
    """Tell whoever reads along."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def become(command: list[str], sockets: dict[str, socket.socket]) -> None:
    """Turn this process into the service."""
    # First out of the way of each other, then to their places.
    high = [os.dup(each.fileno()) for each in sockets.values()]
    high = [os.dup(number) if number < _FIRST + len(high) else number for number in high]
    for place, number in enumerate(high, _FIRST):
        os.dup2(number, place)
        os.set_inheritable(place, True)
    activation = {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(sockets)),
        "LISTEN_FDNAMES": ":".join(sockets),
    }
    os.execve(command[0], command, {**os.environ, **activation})


if __name__ == "__main__":
    main()
