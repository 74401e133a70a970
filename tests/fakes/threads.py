"""Small servers in threads, for what the simulator is not: TLS, and an HTTP proxy for CONNECT."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER = json.dumps(
    {
        "candidates": [
            {
                "content": {"role": "model", "parts": [{"text": "Hello over TLS."}]},
                "finishReason": "STOP",
                "index": 0,
            }
        ],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 4, "totalTokenCount": 5},
    }
).encode()


class _Gemini(BaseHTTPRequestHandler):
    """Gives the same answer to every request."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.heads.append(bytes(self.headers))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: Any) -> None:
        """Nobody wants to read it."""


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that does not trust us closes in the middle of the handshake."""


@contextlib.contextmanager
def tls_upstream(context: ssl.SSLContext):
    """A Gemini API with TLS; ``server.heads`` are the headers of the requests that came."""
    server = _QuietServer(("127.0.0.1", 0), _Gemini)
    server.heads = []
    # The handshake belongs to the connection's own thread.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    with _running(server):
        yield server


class _Connect(socketserver.StreamRequestHandler):
    """One CONNECT: answered by the server's script, then bytes both ways."""

    def handle(self) -> None:
        target = self.rfile.readline().split(b" ")[1].decode()
        while self.rfile.readline() not in {b"\r\n", b""}:
            pass
        self.server.targets.append(target)
        if self.server.answer is None:
            self.rfile.read(1)
            return
        self.wfile.write(self.server.answer)
        if b" 200 " in self.server.answer:
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port))) as upstream:
                back = threading.Thread(target=_pump, args=(upstream, self.connection), daemon=True)
                back.start()
                _pump(self.connection, upstream)
                back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


class _ProxyServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """The other side gave up."""


@contextlib.contextmanager
def http_proxy(answer: bytes | None = b"HTTP/1.1 200 Connection established\r\n\r\n"):
    """A proxy that gives ``answer`` to every CONNECT, ``None`` for silence."""
    server = _ProxyServer(("127.0.0.1", 0), _Connect)
    server.answer, server.targets = answer, []
    with _running(server):
        yield server


@contextlib.contextmanager
def _running(server: socketserver.BaseServer):
    serving = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    serving.start()
    try:
        yield
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
