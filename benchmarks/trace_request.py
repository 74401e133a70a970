"""Which files a warm request crosses: one whole answer and one stream, traced in the daemon.

A newcomer reads as many files as a request crosses, and follows as many changes of file. Run with
the interpreter that has gemproxy: ``python benchmarks/trace_request.py [-v]``. With ``-v`` every
change of file is shown, with the function that was entered.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread

import gemproxy
from gemproxy.config.settings import LoggingSettings
from gemproxy.service.config_files import ConfigFiles
from gemproxy.service.daemon import Daemon
from gemproxy.telemetry import logs
from gemproxy.telemetry.scrubbing import Scrubber

PACKAGE = str(Path(gemproxy.__file__).parent)
EVENTS = 9
WARM = 20
TRACED = 10


class Trace:
    """Files of the package in the order in which their functions are entered."""

    def __init__(self) -> None:
        self.entered: list[tuple[str, str]] = []

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """A profile function; see :func:`sys.setprofile`."""
        if event != "call":
            return
        code = frame.f_code
        if code.co_filename.startswith(PACKAGE):
            self.entered.append((code.co_filename.removeprefix(PACKAGE + "/"), code.co_name))

    def changes(self) -> list[tuple[str, str]]:
        """Each entry whose file is not that of the one before."""
        before, found = "", []
        for name, function in self.entered:
            if name != before:
                found.append((name, function))
            before = name
        return found


class Gemini(BaseHTTPRequestHandler):
    """An upstream that says Hello, in one piece or in :data:`EVENTS` events."""

    protocol_version = "HTTP/1.1"
    #: Head and body leave in one piece, as a nearby upstream's do.
    wbufsize = 64 * 1024

    def do_POST(self) -> None:
        """Answer any call."""
        self.rfile.read(int(self.headers["Content-Length"]))
        streams = ":streamGenerateContent" in self.path
        parts = [self._chunk(last=n == EVENTS - 1) for n in range(EVENTS)]
        body = b"".join(b"data: %b\r\n\r\n" % part for part in parts) if streams else parts[-1]
        self.send_response(200)
        kind = "text/event-stream" if streams else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _chunk(self, *, last: bool) -> bytes:
        candidate = {"content": {"parts": [{"text": "Hello"}], "role": "model"}, "index": 0}
        if last:
            candidate["finishReason"] = "STOP"
        usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
        return json.dumps({"candidates": [candidate], "usageMetadata": usage}).encode()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def ask(connection: http.client.HTTPConnection, *, stream: bool) -> None:
    body = {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"Content-Type": "application/json"}
    asked = json.dumps({**body, "stream": stream}).encode()
    connection.request("POST", "/v1/chat/completions", asked, headers)
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise SystemExit(f"the daemon answered {answer.status}")


def fewest(ask_once: Callable[[], None]) -> Trace:
    """The shortest of some traces: none of what the daemon does now and then falls into it."""
    for _ in range(WARM):
        ask_once()
    traces = [traced(ask_once) for _ in range(TRACED)]
    return min(traces, key=lambda trace: len(trace.changes()))


def traced(ask_once: Callable[[], None]) -> Trace:
    """What one more request enters."""
    trace, begun, ended = Trace(), threading.Event(), threading.Event()

    def begin() -> None:
        sys.setprofile(trace)
        begun.set()

    def end() -> None:
        sys.setprofile(None)
        ended.set()

    reactor.callFromThread(begin)
    begun.wait()
    ask_once()
    reactor.callFromThread(end)
    ended.wait()
    return trace


def report(name: str, trace: Trace, *, verbose: bool) -> None:
    changes = trace.changes()
    files = Counter(file for file, _ in changes)
    print(f"{name}: {len(files)} files, {len(changes)} changes of file, {len(trace.entered)} calls")
    if verbose:
        for file, function in changes:
            print(f"  {file}:{function}")


def run(port: int, *, verbose: bool) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    report("whole answer", fewest(lambda: ask(connection, stream=False)), verbose=verbose)
    report("stream", fewest(lambda: ask(connection, stream=True)), verbose=verbose)


def trace_and_stop(verbose: bool, port: Any) -> None:
    done = deferToThread(run, port.getHost().port, verbose=verbose)
    done.addErrback(lambda failure: failure.printTraceback())
    done.addBoth(lambda _: reactor.stop())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def main() -> None:
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Gemini)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with TemporaryDirectory() as folder:
        proxy, keys = Path(folder, "proxy.yaml"), Path(folder, "keys.yaml")
        url = f"http://127.0.0.1:{upstream.server_port}"
        proxy.write_text(
            json.dumps(
                {
                    "proxy": {"port": free_port(), "adminToken": "an-admin-token-0123456789xy"},
                    "upstream": {"baseUrl": url},
                    "persistence": {"path": f"{folder}/a.db", "fallbackPath": f"{folder}/a.json"},
                }
            )
        )
        keys.write_text(json.dumps({"keys": [{"name": "one", "key": "trace-key-1-of-one-key"}]}))
        source = ConfigFiles(proxy, keys, {})
        with Path(os.devnull).open("w") as nowhere:
            settings = source.read()
            sink = logs.install(LoggingSettings(), Scrubber(settings.secrets()), nowhere)
            daemon = Daemon(reactor, settings, source, b"", sink=sink)
            daemon.listener.listening.addCallback(partial(trace_and_stop, "-v" in sys.argv))
            reactor.callWhenRunning(daemon.parts.privilegedStartService)
            reactor.callWhenRunning(daemon.parts.startService)
            reactor.addSystemEventTrigger("before", "shutdown", daemon.parts.stopService)
            reactor.run()


if __name__ == "__main__":
    main()
