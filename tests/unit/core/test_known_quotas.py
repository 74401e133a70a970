"""Quotas that the upstream enforces and nobody has told: learned from its 429s, then kept.

The upstream has true sliding windows. A request reaches it after a latency that varies, so it
counts at other moments than the pool does, and tokens are known only after the answer.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import pytest
from fakes.heads import FakeHead
from fakes.upstreams import RecordingWriter, Reply, answer
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from gemproxy.api.openai.chat import ChatEndpoint
from gemproxy.core.context import RequestContext
from gemproxy.core.dispatch import Dispatcher
from gemproxy.core.errors import QuotaExhausted
from gemproxy.core.retry import RetrySettings
from gemproxy.core.waiting import QueueSettings, RequestQueue
from gemproxy.deadlines import Deadlines
from gemproxy.pool.key import Key
from gemproxy.pool.models import ModelBreakers
from gemproxy.pool.pool import KeyPool, PoolSettings
from gemproxy.pool.quotas import LearnedQuotas
from gemproxy.providers.gemini.provider import GeminiProvider
from gemproxy.secret import Secret
from gemproxy.simulator.errors import quota_exceeded
from gemproxy.simulator.quotas import Limits, Quotas
from gemproxy.translate.shared.model_names import ModelNames
from gemproxy.translate.shared.signatures import SignatureStore

MODEL = "gemini-3.8-flash"
# 2026-11-22 in Los Angeles.
MIDNIGHT = 1_795_420_800.0
BEGIN = MIDNIGHT - 6 * 3600.0
MINUTE = 60.0
DAY = 86_400.0


@dataclass
class Google:
    """Enforces the quotas of projects; keys are named ``project-number``."""

    clock: Clock
    limits: dict[str, Limits]
    #: Seconds on the way there, and until the answer is here.
    there: tuple[float, float] = (0.02, 0.5)
    back: tuple[float, float] = (0.3, 3.0)
    #: How far estimates may be from the actual tokens, as a share of these.
    error: float = 0.0
    random: Random = field(default_factory=lambda: Random(7))
    quotas: Quotas = field(default_factory=Quotas)
    #: Requests, refusals and tokens that were counted, by the second.
    log: list[tuple[float, str, bool, int]] = field(default_factory=list)

    def send(self, request) -> Deferred[Reply]:
        key = request.key.reveal().removeprefix("secret-of-")
        project = key.partition("-")[0]
        estimate = len(request.body) // 4
        tokens = max(1, round(estimate / self.random.uniform(1 - self.error, 1 + self.error)))
        answered: Deferred[Reply] = Deferred()

        def arrive() -> None:
            now = self.clock.seconds()
            exceeded = self.quotas.take(project, MODEL, self.limits[project], tokens, now)
            self.log.append((now, project, exceeded is None, tokens))
            if exceeded is None:
                said = answer()
                said["usageMetadata"] |= {"promptTokenCount": tokens, "totalTokenCount": tokens + 3}
                reply = Reply(body=json.dumps(said).encode())
            else:
                said = quota_exceeded(list(exceeded.quotas), MODEL, exceeded.retry_delay)
                reply = Reply(said.status, json.dumps(said.body).encode())
            # A refusal is quick.
            back = self.back if exceeded is None else (0.05, 0.3)
            self.clock.callLater(self.random.uniform(*back), answered.callback, reply)

        self.clock.callLater(self.random.uniform(*self.there), arrive)
        return answered


class Stage:
    """A proxy, ``clients`` that ask without a pause, and Google."""

    def __init__(self, limits: dict[str, Limits], keys: int = 1, **google) -> None:
        self.clock = Clock()
        self.clock.advance(BEGIN)
        self.google = Google(self.clock, limits, **google)
        self.random = Random(11)
        self.pool = KeyPool(
            [
                Key(f"{project}-{n}", Secret(f"secret-of-{project}-{n}"), project=project)
                for project in limits
                for n in range(keys)
            ],
            PoolSettings(),
        )
        queue = RequestQueue(
            self.pool,
            QueueSettings(),
            seconds=self.clock.seconds,
            new_signal=Deferred,
            timer=Deadlines(self.clock),
        )
        self.dispatcher = Dispatcher(
            RetrySettings(),
            queue=queue,
            provider=GeminiProvider(),
            pool=self.pool,
            models=ModelBreakers(),
            upstream=self.google,
            seconds=self.clock.seconds,
            sleep=lambda seconds: deferLater(self.clock, seconds),
            in_thread=None,
            scrub=str,
        )
        ids = map("call_{}".format, itertools.count())
        self.endpoint = ChatEndpoint(ModelNames({}, ()), SignatureStore(), ids.__next__, str)
        self.refused: Counter[str] = Counter()

    def run(self, seconds: float, *, clients: int = 40, size: int = 40) -> None:
        """Let clients ask for so long; their prompts have about ``size`` tokens."""
        self.end = self.clock.seconds() + seconds
        for _ in range(clients):
            Deferred.fromCoroutine(self._client(size)).addErrback(self._fail)
        while self.clock.getDelayedCalls() and self.clock.seconds() < self.end:
            next_call = min(call.getTime() for call in self.clock.getDelayedCalls())
            self.clock.advance(max(0.0, next_call - self.clock.seconds()))

    def _fail(self, failure) -> None:
        self.failure = failure
        failure.raiseException()

    async def _client(self, size: int) -> None:
        while self.clock.seconds() < self.end:
            said = "x" * max(4, round(4 * size * self.random.uniform(0.3, 1.7)))
            body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": said}]})
            context = RequestContext("r", "/v1/chat/completions", self.clock.seconds())
            try:
                job = self.endpoint.decode(body.encode(), FakeHead(), context, brief=True)
                await self.dispatcher.dispatch(job, context, RecordingWriter())
            except QuotaExhausted as refusal:
                self.refused[type(refusal).__name__] += 1
                await deferLater(self.clock, refusal.retry_after * self.random.uniform(1.0, 1.05))

    def counted(self, begin: float, end: float, project: str | None = None):
        """Requests, the share of refused ones, and tokens that Google counted."""
        seen = [
            (passed, tokens)
            for at, of, passed, tokens in self.google.log
            if begin <= at < end and project in (None, of)
        ]
        served = [tokens for passed, tokens in seen if passed]
        return len(served), 1 - len(served) / len(seen), sum(served)


def assert_kept(stage: Stage, begin: float, quota: int, *, tokens=False, project=None) -> None:
    """From ``begin`` on fewer than 1 % are refused, and 95 % of the quota is used."""
    served, refused, used = stage.counted(begin, stage.end, project)
    minutes = (stage.end - begin) / MINUTE
    assert refused < 0.01
    assert (used if tokens else served) >= 0.95 * quota * minutes


@pytest.mark.parametrize("keys", [1, 3])
def test_requests_a_minute(keys):
    stage = Stage({"a": Limits(rpm=60)}, keys)
    stage.run(13 * MINUTE, clients=10)
    assert_kept(stage, BEGIN + 3 * MINUTE, 60)
    assert stage.refused.keys() == {"QuotaExhausted"}


def test_tokens_a_minute_with_estimates_that_are_wrong_by_half():
    stage = Stage({"a": Limits(tpm=20_000)}, error=0.5)
    stage.run(10 * MINUTE, clients=10, size=100)
    assert_kept(stage, BEGIN + 3 * MINUTE, 20_000, tokens=True)


def test_requests_a_day():
    stage = Stage({"a": Limits(rpd=250)})
    stage.run(4 * DAY, clients=5)
    assert stage.refused.keys() == {"DailyQuotaExhausted"}
    for day in range(4):
        served, refused, _ = stage.counted(MIDNIGHT + day * DAY, MIDNIGHT + (day + 1) * DAY)
        assert served == 250
        assert refused < 0.01


def test_projects_with_different_quotas():
    limits = {
        "a": Limits(rpm=30),
        "b": Limits(rpm=90),
        "c": Limits(tpm=8_000),
    }
    stage = Stage(limits, keys=2, error=0.5)
    stage.run(8 * MINUTE, clients=20)
    warm = BEGIN + 3 * MINUTE
    assert stage.counted(warm, stage.end)[1] < 0.01
    for project, quota in (("a", 30), ("b", 90)):
        assert stage.counted(warm, stage.end, project)[0] >= 0.95 * 5 * quota
    assert stage.counted(warm, stage.end, "c")[2] >= 0.95 * 5 * 8_000


@pytest.mark.parametrize(("before", "after"), [(60, 120), (120, 60)])
def test_quota_that_is_changed_meanwhile(before, after):
    stage = Stage({"a": Limits(rpm=before)})
    stage.run(6 * MINUTE, clients=10)
    stage.google.limits["a"] = Limits(rpm=after)
    changed = stage.clock.seconds()
    stage.run(13 * MINUTE, clients=10)
    # The next probe comes after 300 requests, and the first minutes of a new value are as the
    # first minutes of all.
    assert_kept(stage, changed + 8 * MINUTE, after)
    (known,) = stage.pool.each_quota(stage.clock.seconds())
    assert known.limit == after


def test_without_knowledge_of_quotas_every_minute_would_meet_them(monkeypatch):
    """What the tests above measure against."""
    monkeypatch.setattr(LearnedQuotas, "learn", lambda *_, **__: None)
    stage = Stage({"a": Limits(rpm=60)})
    stage.run(6 * MINUTE, clients=10)
    assert stage.counted(BEGIN + 3 * MINUTE, stage.end)[1] > 0.05
