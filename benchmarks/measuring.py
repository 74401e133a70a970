"""One run of the load generator against one gateway, and what it cost the gateway."""

import base64
import json
import random
import resource
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateways import BUILD, LOAD_CPU, Gateway, Lag, Upstream
from processes import busy_seconds, on_cpu

MODEL = "gemini-2.5-flash"
#: Connects under way at a time while the connections of an open loop are made.
OPENING = 64
#: The JSON around a text.
ENVELOPE = 190
#: A body larger than this has a picture in it, as large bodies do.
PICTURE_FROM = 10_000
WORDS = ("measure", "what", "a", "gateway", "adds", "until", "the", "median", "settles")


@dataclass(frozen=True)
class Load:
    """What the load generator does; ``load.c`` has the words.

    ``chunks`` of each answer, 0 for an answer in one piece; ``pace`` seconds between two chunks.
    ``rate`` requests a second, 0 for a closed loop; ``body`` bytes of a request. ``dialect`` is one
    of :data:`gateways.PATHS`.
    """

    clients: int
    chunks: int = 0
    pace: float = 0.0
    rate: int = 0
    body: int = 1000
    seconds: float = 0.0
    requests: int = 0
    dialect: str = "chat"


@dataclass(frozen=True)
class Run:
    """What came of it. ``cpu`` is in seconds, ``counted`` as the load generator printed it.

    ``foreign`` is the work of others on this machine meanwhile, in processors.
    """

    load: Load
    counted: dict[str, Any]
    cpu: float
    rss_before_mb: float
    rss_peak_mb: float
    rss_after_mb: float
    foreign: float
    lag: Lag | None

    @property
    def completed(self) -> int:
        """Requests that were answered, by whatever status."""
        return int(self.counted["completed"])

    @property
    def refused(self) -> int:
        """Answers other than 200."""
        return self.completed - int(self.counted["status"].get("200", 0))

    @property
    def failed(self) -> int:
        """Requests that were not served in full, for whatever reason."""
        return int(self.refused + self.counted["errors"] + self.counted["lost_streams"])

    @property
    def cpu_us(self) -> float:
        """A request."""
        return self.cpu * 1e6 / max(1, self.completed)

    @property
    def cpu_us_per_chunk(self) -> float:
        """The request's own cost is shared out among its chunks."""
        return self.cpu_us / max(1, self.load.chunks)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.completed / max(1e-9, float(self.counted["seconds"]))

    def latency_ms(self, quantile: str) -> float:
        """``p50``, ``p99`` or ``max``."""
        return float(self.counted["latency_us"][quantile]) / 1000

    @property
    def first_chunk_ms(self) -> float:
        """The median, from the request's beginning."""
        return float(self.counted["first_mark_us"]["p50"]) / 1000

    @property
    def growth_mb(self) -> float:
        """From the memory before to the peak."""
        return self.rss_peak_mb - self.rss_before_mb

    @property
    def complaint(self) -> str:
        """What went wrong first; empty where nothing did."""
        status = {code: n for code, n in self.counted["status"].items() if code != "200"}
        parts = [
            f"status {status} {self.counted['first_bad_answer'][:160]}" if status else "",
            f"{self.counted['errors']} errors: {self.counted['first_error']}"
            if self.counted["errors"]
            else "",
            f"{self.counted['lost_streams']} streams lost" if self.counted["lost_streams"] else "",
        ]
        return "; ".join(filter(None, parts))


def measure(gateway: Gateway, upstream: Upstream, load: Load, folder: Path) -> Run:
    """Run ``load`` against ``gateway`` in front of ``upstream``; bodies are kept in ``folder``."""
    upstream.behave(max(1, load.chunks), load.pace)
    program = gateway.program
    program.forget_peak()
    rss_before = program.rss_mb()
    # The lag is asked of the daemon itself, so outside of what is counted as cost.
    lag = gateway.lag()
    before = Meters.read(gateway, upstream)
    counted = _run_load(gateway, load, _body_file(folder, load))
    spent = Meters.read(gateway, upstream).since(before)
    return Run(
        load=load,
        counted=counted,
        cpu=spent.gateway,
        rss_before_mb=rss_before,
        rss_peak_mb=program.peak_mb(),
        rss_after_mb=program.rss_mb(),
        foreign=spent.foreign,
        lag=_lag_since(lag, gateway.lag()),
    )


@dataclass(frozen=True)
class Meters:
    """CPU seconds so far: of the gateway, of all that is ours, of the machine; and the time."""

    gateway: float
    ours: float
    machine: float
    time: float

    @classmethod
    def read(cls, gateway: Gateway, upstream: Upstream) -> "Meters":
        """All of them now."""
        cost = gateway.program.cpu_seconds()
        load_generators = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = time.process_time() + load_generators.ru_utime + load_generators.ru_stime
        others = 0.0 if gateway is upstream else upstream.program.cpu_seconds()
        return cls(cost, cost + others + own, busy_seconds(), time.monotonic())

    def since(self, before: "Meters") -> "Meters":
        """What was spent meanwhile."""
        return Meters(
            self.gateway - before.gateway,
            self.ours - before.ours,
            self.machine - before.machine,
            self.time - before.time,
        )

    @property
    def foreign(self) -> float:
        """Processors that others kept busy."""
        return max(0.0, self.machine - self.ours) / self.time


def _lag_since(before: Lag | None, after: Lag | None) -> Lag | None:
    return after.since(before) if before and after else None


def _run_load(gateway: Gateway, load: Load, body: Path) -> dict[str, Any]:
    with on_cpu(LOAD_CPU):
        done = subprocess.run(
            [BUILD / "load", *_options(gateway, load, body)],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"the load generator failed: {done.stderr}")
    counted: dict[str, Any] = json.loads(done.stdout)
    return counted


def _options(gateway: Gateway, load: Load, body: Path) -> list[str]:
    options = {
        "address": gateway.address,
        "path": gateway.path_of(load.dialect, stream=load.chunks > 0),
        "body": body,
        "clients": load.clients,
        "seconds": load.seconds,
        "rate": load.rate,
        "opening": OPENING if load.rate else 0,
        "requests": load.requests or None,
        # The upstream's own chunks; gemproxy adds events of its own around them.
        "marks": gateway.times_told(load.dialect) * load.chunks or None,
        "end": gateway.end_of(load.dialect),
    }
    return [
        part
        for name, value in options.items()
        if value is not None
        for part in (f"--{name}", str(value))
    ]


def _body_file(folder: Path, load: Load) -> Path:
    """A request of about ``load.body`` bytes."""
    kind = "stream" if load.chunks else "unary"
    file = folder / f"{load.dialect}-{kind}-{load.body}.json"
    if not file.exists():
        file.write_text(json.dumps(BODIES[load.dialect](load), separators=(",", ":")))
    return file


def chat(load: Load) -> dict[str, Any]:
    """The body of a request, as any SDK would send it."""
    user = _picture(load.body) if load.body > PICTURE_FROM else _text(load.body)
    return {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You are a terse assistant."},
            {"role": "user", "content": user},
        ],
        "temperature": 0.7,
        "max_tokens": 256,
        **({"stream": True} if load.chunks else {}),
    }


def messages(load: Load) -> dict[str, Any]:
    """The same for Anthropic's API."""
    asked = chat(load)
    system, user = asked["messages"]
    return {**asked, "system": system["content"], "messages": [user]}


def responses(load: Load) -> dict[str, Any]:
    """The same for OpenAI's Responses."""
    system, user = (message["content"] for message in chat(load)["messages"])
    stream = {"stream": True} if load.chunks else {}
    limits = {"temperature": 0.7, "max_output_tokens": 256, "store": False}
    return {"model": MODEL, "instructions": system, "input": user, **limits, **stream}


def native(load: Load) -> dict[str, Any]:
    """The same for Gemini's own API."""
    system, user = (message["content"] for message in chat(load)["messages"])
    return {
        "contents": [{"role": "user", "parts": [{"text": user}]}],
        "systemInstruction": {"parts": [{"text": system}]},
        "generationConfig": {"temperature": 0.7, "maxOutputTokens": 256},
    }


#: What makes the body of a request in each dialect; only chat's may hold a picture.
BODIES: dict[str, Callable[[Load], dict[str, Any]]] = {
    "chat": chat,
    "messages": messages,
    "responses": responses,
    "native": native,
}


def _text(size: int) -> str:
    words = random.Random(size)
    return " ".join(words.choices(WORDS, k=size))[: size - ENVELOPE]


def _picture(size: int) -> list[dict[str, Any]]:
    pixels = base64.b64encode(random.Random(size).randbytes(size * 3 // 4)).decode()
    return [
        {"type": "text", "text": "What is in this picture?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixels}"}},
    ]
