"""The real admin API in memory, put behind a socket of the standard library's server.

So a program that blocks can ask it from the thread of the test.
"""

from __future__ import annotations

import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fakes.admin import NOON, AdminStage
from twisted.internet.task import Clock


class AdminServer:
    """A stage whose API answers at ``address``; ``seen`` are the requests as method and path.

    ``context`` makes it speak TLS, ``path`` lets it listen on a Unix socket.
    """

    def __init__(self, *keys: Any, context: Any = None, path: str | None = None, **options: Any):
        clock = Clock()
        clock.advance(NOON)
        self.stage = AdminStage(clock, *keys, **options)
        self.seen: list[tuple[str, str]] = []
        self.asked = threading.Lock()
        if path is None:
            self._server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Bridge)
        else:
            self._server = socketserver.ThreadingUnixStreamServer(path, _Bridge)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.admin = self
        self._server.handle_error = lambda *_: None
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Bridge(BaseHTTPRequestHandler):
    """Carries one request to the stage and its answer back."""

    def do_GET(self) -> None:
        admin = self.server.admin
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
        headers = {
            name.lower().replace("-", "_"): value
            for name, value in self.headers.items()
            if name in {"Authorization", "Content-Type"}
        }
        with admin.asked:
            admin.seen.append((self.command, self.path))
            answer = admin.stage.ask(self.command, self.path, body, token=None, **headers)
        self.send_response(answer.status)
        if "retry-after" in answer.headers:
            self.send_header("Retry-After", answer.headers["retry-after"])
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def address_string(self) -> str:
        return "a client"

    def log_message(self, *_: object) -> None:
        pass
