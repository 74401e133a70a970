"""A Gemini API at any address, for namespaces: ``python gemini_anywhere.py HOST PORT NAME``.

It answers with its name. ``think 3`` in a request lets it wait for three seconds before.
"""

from __future__ import annotations

import json
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Gemini(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        sys.stdout.write("asked\n")
        sys.stdout.flush()
        if thinks := re.search(rb"think (\d+)", body):
            time.sleep(int(thinks[1]))
        answer = json.dumps(
            {
                "candidates": [
                    {
                        "content": {"role": "model", "parts": [{"text": self.server.name}]},
                        "finishReason": "STOP",
                        "index": 0,
                    }
                ],
                "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 1},
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nobody wants to read it."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """A client that vanished."""


if __name__ == "__main__":
    host, port, name = sys.argv[1:]
    with Server((host, int(port)), Gemini) as server:
        server.name = name
        sys.stdout.write(f"serving on http://{host}:{server.server_port}\n")
        sys.stdout.flush()
        server.serve_forever(0.05)
