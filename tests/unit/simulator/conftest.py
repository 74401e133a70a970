"""A client of the simulated API that needs neither reactor nor socket."""

import json
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

import pytest

from gemproxy.simulator.api import Api
from gemproxy.simulator.config import config_for
from gemproxy.simulator.keyring import Keyring
from gemproxy.simulator.recording import received
from gemproxy.simulator.script import End, Head, Raw, Send, Wait

KEYS = (("one", "test-key-one-0123456789abcdef"), ("two", "test-key-two-0123456789abcdef"))


@dataclass
class Reply:
    steps: list
    exchange: object

    @property
    def status(self):
        return next((step.status for step in self.steps if isinstance(step, Head)), None)

    @property
    def data(self):
        return b"".join(step.data for step in self.steps if isinstance(step, Send))

    @property
    def raw(self):
        return b"".join(step.data for step in self.steps if isinstance(step, Raw))

    @property
    def waits(self):
        return [step.seconds for step in self.steps if isinstance(step, Wait)]

    @property
    def end(self):
        return self.steps[-1] if isinstance(self.steps[-1], End) else None

    @property
    def json(self):
        return json.loads(self.data)

    @property
    def error(self):
        return self.json["error"]

    @property
    def message(self):
        return self.error["message"]

    @property
    def events(self):
        blocks = self.data.decode().split("\r\n\r\n")
        return [json.loads(b.removeprefix("data: ")) for b in blocks if b.startswith("data: {")]

    @property
    def text(self):
        return self.parts[-1]["text"]

    @property
    def parts(self):
        return self.json["candidates"][0]["content"]["parts"]


class Client:
    """Speaks to an Api by whole requests; ``now`` is the time of the next one."""

    def __init__(self, config):
        self.keyring = Keyring(config)
        self.api = Api(config, self.keyring)
        self.now = 1_800_000_000.0

    def request(self, method, url, body=b"", **headers):
        parts = urlsplit(url)
        exchange = received(
            1,
            self.now,
            method,
            parts.path,
            dict(parse_qsl(parts.query)),
            {name.replace("_", "-"): value for name, value in headers.items()},
        )
        return Reply(list(self.api.respond(exchange, body, self.now)), exchange)

    def post(self, body, model="gemini-3.8-flash", method="generateContent", key=KEYS[0][1]):
        path, _, query = method.partition("?")
        url = f"/v1beta/models/{model}:{path}" + (f"?{query}" if query else "")
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", url, data, x_goog_api_key=key)

    def say(self, text, model="gemini-3.8-flash", method="generateContent", **fields):
        body = {"contents": [{"role": "user", "parts": [{"text": text}]}], **fields}
        return self.post(body, model, method)

    def stream(self, text, model="gemini-3.8-flash", **fields):
        return self.say(text, model, "streamGenerateContent?alt=sse", **fields)

    def get(self, url, key=KEYS[0][1]):
        return self.request("GET", url, x_goog_api_key=key)


@pytest.fixture
def make_client():
    def make(keys=KEYS, **settings):
        return Client(config_for(keys, **settings))

    return make


@pytest.fixture
def client(make_client):
    return make_client()


@pytest.fixture
def client_of():
    return Client
