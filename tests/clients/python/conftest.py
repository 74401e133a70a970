"""What the frameworks' tests share: where the daemon is, and what reached the simulator.

Runs in a framework's own environment, so it imports nothing of ours.
"""

import base64
import json
import os
import urllib.request
from dataclasses import dataclass, replace

import pytest

# LiteLLM asks the Internet for prices when it is imported, unless it finds this.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

MODEL = "gemini-3.8-flash"
#: One pixel.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5Erk"
    "Jggg=="
)
#: These sign their function calls, the last one without giving them ids.
SIGNING = (MODEL, "gemini-4-carbon", "gemini-3-flash-preview")
#: Each breaks a stream off after some of it was sent; each has a model of its own, whose breaker it
#: may open.
BROKEN = {
    "cut": "gemini-3.7-flash",
    "truncated": "gemini-3.6-flash",
    "error-mid-stream": "gemini-3.5-flash",
    "reset-mid-stream": "gemini-3.1-pro-preview",
}
SECONDS = 60
_FROM_URLS = str.maketrans("-_", "+/")


@dataclass(frozen=True)
class Proxy:
    """The daemon; ``url`` is what a framework is pointed at."""

    url: str
    token: str
    model: str = MODEL


class Simulator:
    """What the daemon's upstream saw."""

    def __init__(self, url):
        self._url = url

    def control(self, method, path, body=None):
        """One control call of the simulator."""
        request = urllib.request.Request(
            f"{self._url}/_simulator/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            return json.load(response)

    def generations(self):
        """The requests that asked for an answer, oldest first."""
        found = self.control("GET", "requests?limit=1000")["requests"]
        return [request for request in found if (request["call"] or "").endswith("enerateContent")]

    def calls_that_came_back(self):
        """The function calls of the last request, by content, each checked for its signature.

        The simulator refuses what is missing or another call's; a documented dummy would pass.
        """
        generations = self.generations()
        assert {request["status"] for request in generations} == {200}
        steps = []
        for content in generations[-1]["body"]["contents"]:
            made = [part for part in content["parts"] if "functionCall" in part]
            if not made:
                continue
            signature = made[0]["thoughtSignature"]
            decoded = base64.b64decode(signature + "==", altchars=b"-_")
            assert decoded.startswith(b"simulated"), f"no signature of the model's: {signature}"
            steps.append(
                [(part["functionCall"]["name"], part["functionCall"]["args"]) for part in made]
            )
        return steps

    def images(self):
        """The base64 of each image in the last request, also in results of calls.

        Google's SDK sends the alphabet of URLs.
        """
        found = []
        for content in self.generations()[-1]["body"]["contents"]:
            for part in content["parts"]:
                inside = part.get("functionResponse", {}).get("parts", ())
                blobs = [each.get("inlineData") for each in (part, *inside)]
                found += [blob["data"].translate(_FROM_URLS) for blob in blobs if blob is not None]
        return found

    def declared(self):
        """The names of the functions that the last request declares."""
        tools = self.generations()[-1]["body"].get("tools", [])
        return [f["name"] for tool in tools for f in tool.get("functionDeclarations", [])]


@pytest.fixture
def png():
    """The base64 of an image."""
    return PNG


@pytest.fixture(scope="session")
def proxy():
    return Proxy(f"{os.environ['GEMPROXY_URL']}/v1", os.environ["GEMPROXY_TOKEN"])


@pytest.fixture(params=SIGNING)
def signing(request, proxy):
    """The same with each kind of model that wants its signatures back."""
    return replace(proxy, model=request.param)


@pytest.fixture
def simulator():
    found = Simulator(os.environ["SIMULATOR_URL"])
    found.control("POST", "reset")
    return found


@pytest.fixture(params=sorted(BROKEN))
def broken(request):
    """A prompt whose stream breaks off, and the model to ask."""
    return f"[simulate:words n=80] [simulate:{request.param} chunks=3] Go on.", BROKEN[
        request.param
    ]
