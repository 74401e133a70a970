"""What systemd does for a service with a socket, as a small program: it holds the socket.

``python supervisor.py NAME COMMAND...`` listens on a free loopback port, prints the address and
runs the command, which finds the socket under NAME as by sd_listen_fds(3). SIGUSR1 restarts the
command as ``systemctl restart`` does; SIGTERM stops it and ends.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

#: The first descriptor that is handed over, by the protocol.
_FIRST = 3


def main() -> None:
    """Run until SIGTERM."""
    name, command = sys.argv[1], sys.argv[2:]
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    signals = {signal.SIGUSR1, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    say("address {}:{}".format(*listening.getsockname()))
    while True:
        child = os.fork()
        if child == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            become(name, command, listening)
        asked = signal.sigwait(signals)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        say(f"ended with status {os.waitstatus_to_exitcode(status)}")
        if asked == signal.SIGTERM:
            return


def say(line: str) -> None:
    """Tell whoever reads along."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def become(name: str, command: list[str], listening: socket.socket) -> None:
    """Turn this process into the service."""
    os.dup2(listening.fileno(), _FIRST)
    os.set_inheritable(_FIRST, True)  # dup2 onto itself changes nothing
    activation = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": name}
    os.execve(command[0], command, {**os.environ, **activation})


if __name__ == "__main__":
    main()
