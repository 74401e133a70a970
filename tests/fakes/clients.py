"""The clients of the tests: the official SDK, and bare HTTP where the SDK hides too much."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any

import openai
from fakes.wire import MODEL, PATIENCE


def sdk_of(daemon: Any, **options: Any) -> openai.OpenAI:
    """The official SDK in front of ``daemon``; the first answer counts, unless told otherwise."""
    # Certificates are no part of these tests, and reading them is most of a client's making.
    http_client = openai.DefaultHttpxClient(verify=False)
    return openai.OpenAI(**_options(daemon, options), http_client=http_client)


def async_sdk_of(daemon: Any, **options: Any) -> openai.AsyncOpenAI:
    """The same for asyncio."""
    http_client = openai.DefaultAsyncHttpxClient(verify=False)
    return openai.AsyncOpenAI(**_options(daemon, options), http_client=http_client)


def _options(daemon: Any, options: dict[str, Any]) -> dict[str, Any]:
    usual = {"api_key": "unused", "max_retries": 0, "timeout": PATIENCE}
    return {"base_url": f"{daemon.url}/v1", **usual, **options}


def said(prompt: str, model: str = MODEL, **more: Any) -> dict[str, Any]:
    """The arguments of a completion whose only message is ``prompt``."""
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **more}


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def blocks(self) -> list[str]:
        """The blocks of an event stream, of which each must be an event or a comment."""
        assert self.body.endswith(b"\n\n")
        return self.body.decode("utf-8").removesuffix("\n\n").split("\n\n")

    @property
    def events(self) -> list[str]:
        """The data of each event."""
        return [block.removeprefix("data: ") for block in self.blocks if block[0] != ":"]


def post(
    daemon: Any, body: dict[str, Any], path: str = "/v1/chat/completions", **headers: str
) -> Answer:
    """``POST`` to ``path`` without an SDK."""
    connection = http.client.HTTPConnection(daemon.host, daemon.port, timeout=PATIENCE)
    sent = {"Content-Type": "application/json", **headers}
    try:
        connection.request("POST", path, json.dumps(body).encode(), sent)
        response = connection.getresponse()
        given = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, given, response.read())
    finally:
        connection.close()


def send_only(
    daemon: Any, body: dict[str, Any], request_id: str, receive_buffer: int = 0
) -> socket.socket:
    """Send a completion's request and leave the answer unread; ``receive_buffer`` in bytes."""
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(PATIENCE)
    client.connect((daemon.host, daemon.port))
    content = json.dumps(body).encode()
    client.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nx-request-id: %b\r\nContent-Length: %d\r\n\r\n%b"
        % (request_id.encode(), len(content), content)
    )
    return client
