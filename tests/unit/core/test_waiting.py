"""Requests that wait for a key: the dispatcher, the real pool and queue, and time by hand."""

import itertools
from collections import Counter

import pytest
from fakes.heads import FakeHead
from fakes.upstreams import (
    PER_MINUTE,
    FakeGemini,
    RecordingWriter,
    error,
    quota,
    streamed,
    whole,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater

from gemproxy.api.openai.chat import ChatEndpoint
from gemproxy.core.clients import Client, Priority
from gemproxy.core.context import RequestContext
from gemproxy.core.dispatch import Dispatcher
from gemproxy.core.errors import NoHealthyKeys, ProxyError, QuotaExhausted
from gemproxy.core.retry import RetrySettings
from gemproxy.core.waiting import FIRST, STEP, QueueListener, QueueSettings, RequestQueue
from gemproxy.deadlines import Deadlines
from gemproxy.http.coroutine_runner import CoroutineRunner
from gemproxy.pool.key import Affinity, Key, Limits
from gemproxy.pool.models import ModelBreakers
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings
from gemproxy.providers.gemini.provider import GeminiProvider
from gemproxy.secret import Secret
from gemproxy.translate.shared.model_names import ModelNames
from gemproxy.translate.shared.signatures import SignatureStore

LIVELY = Client("lively", priority=Priority.HIGH)
USUAL, OTHER = Client("usual"), Client("other")
BATCH = Client("batch", priority=Priority.LOW)
BUSY = error(503, "The model is overloaded.", "UNAVAILABLE")


class SlowGemini(FakeGemini):
    """Answers after ``latency`` seconds of the clock."""

    def __init__(self, clock, latency, scripts):
        super().__init__(**scripts)
        self.clock, self.latency = clock, latency

    async def send(self, request):
        reply = await super().send(request)
        if self.latency:
            await deferLater(self.clock, self.latency)
        return reply


class Asked:
    """One request of a client, under way or ended."""

    def __init__(self, proxy, client, *, model, stream, affinity=None):
        self.client, self.writer = client, RecordingWriter()
        self.context = RequestContext(
            "r", "/v1/chat/completions", proxy.clock.seconds(), client=client.name, caller=client
        )
        self.error = self.ended_at = None
        self.runner = CoroutineRunner(self._serve(proxy, model, stream, affinity))

    async def _serve(self, proxy, model, stream, affinity):
        head = '{"model":"%s",%s"messages":[{"role":"user","content":"Hi"}]}'
        body = (head % (model, '"stream":true,' if stream else "")).encode()
        job = proxy.endpoint.decode(body, FakeHead(), self.context, brief=False)
        if affinity is not None:
            job.resources = ("files/x",)
            proxy.affinities.append(affinity)
        try:
            await proxy.dispatcher.dispatch(job, self.context, self.writer)
        except (ProxyError, CancelledError) as failed:
            self.error = failed
        self.ended_at = proxy.clock.seconds()

    @property
    def is_waiting(self):
        return self.ended_at is None


class Proxy(QueueListener):
    """Keys by their names with the upstream's script for each, all of one project each."""

    def __init__(self, limits=None, latency=0.0, pool=None, retry=None, queue=None, **scripts):
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.upstream = SlowGemini(self.clock, latency, scripts)
        self.keys = [self.key(name, limits or Limits()) for name in scripts]
        self.pool = KeyPool(self.keys, PoolSettings(**(pool or {})))
        self.waits, self.refusals = [], Counter()
        self.queue = RequestQueue(
            self.pool,
            QueueSettings(**(queue or {})),
            seconds=self.clock.seconds,
            new_signal=Deferred,
            timer=Deadlines(self.clock),
            listener=self,
        )
        self.affinities = []
        self.dispatcher = Dispatcher(
            RetrySettings(**(retry or {})),
            provider=GeminiProvider(),
            pool=self.pool,
            models=ModelBreakers(),
            upstream=self.upstream,
            seconds=self.clock.seconds,
            sleep=lambda seconds: deferLater(self.clock, seconds),
            in_thread=None,
            scrub=str,
            resources=self,
            queue=self.queue,
        )
        ids = map("call_{}".format, itertools.count())
        self.endpoint = ChatEndpoint(ModelNames({}, ()), SignatureStore(), ids.__next__, str)

    @staticmethod
    def key(name, limits):
        return Key(name, Secret(f"secret-of-{name}"), project=name, limits=limits)

    async def locate(self, _resources, _deadline):
        return self.affinities.pop()

    def waited(self, priority, seconds):
        self.waits.append((priority, round(seconds, 3)))

    def queue_refused(self, reason):
        self.refusals[reason] += 1

    def ask(self, client=USUAL, model="m", *, stream=False, affinity=None):
        return Asked(self, client, model=model, stream=stream, affinity=affinity)

    def cool(self, name, seconds, model="m"):
        """Let Google refuse ``model`` to a key for some seconds."""
        now = self.clock.seconds()
        lease = self.pool.acquire_again(self.pool.status(name, now).id, model, now)
        self.pool.record(lease, Outcome(Verdict.QUOTA_MINUTE, 429, retry_after=seconds), now)


def served(requests):
    return [each for each in requests if each.error is None and not each.is_waiting]


class TestAMoment:
    def test_is_waited_for_exactly(self):
        proxy = Proxy(a=[whole()])
        proxy.cool("a", 1.5)
        asked = proxy.ask()
        proxy.clock.advance(1.4)
        assert asked.is_waiting
        assert not proxy.upstream.requests
        proxy.clock.advance(0.1)
        assert served([asked])
        assert asked.context.queued == pytest.approx(1.5)
        assert asked.context.attempts[0].seconds == 0.0
        assert asked.context.refused is None
        assert proxy.waits == [(Priority.NORMAL, 1.5)]
        assert not proxy.clock.getDelayedCalls()

    def test_that_is_too_far_is_told_at_once(self):
        proxy = Proxy(a=[whole()], b=[whole()])
        proxy.cool("a", 30.0)
        proxy.cool("b", 2.5)
        asked = proxy.ask()
        assert isinstance(asked.error, QuotaExhausted)
        assert asked.error.retry_after == 2.5
        assert {each.key for each in asked.context.refused.skipped_keys} == {"a", "b"}
        assert proxy.refusals == {"no_key_in_time": 1}
        assert not proxy.clock.getDelayedCalls()

    def test_is_not_waited_for_where_nothing_waits(self):
        proxy = Proxy(a=[whole()], queue={"max_wait": 0.0})
        proxy.cool("a", 0.5)
        assert isinstance(proxy.ask().error, QuotaExhausted)
        assert not proxy.refusals
        proxy.queue.settings = QueueSettings(1.0)
        assert proxy.ask().is_waiting

    def test_comes_also_for_a_request_that_has_met_the_429_itself(self):
        proxy = Proxy(a=[quota(PER_MINUTE, "1s"), whole()])
        asked = proxy.ask()
        assert asked.is_waiting
        proxy.clock.advance(1.0)
        assert served([asked])
        assert [each.outcome.verdict.value for each in asked.context.attempts] == [
            "quota_minute",
            "success",
        ]
        assert asked.context.refused is None

    def test_comes_as_often_as_there_are_attempts_and_seconds(self):
        proxy = Proxy(a=[quota(PER_MINUTE, "0.5s")], retry={"max_attempts": 2})
        asked = proxy.ask()
        proxy.clock.pump([0.5, 0.5])
        assert isinstance(asked.error, QuotaExhausted)
        assert len(proxy.upstream.requests) == 2
        proxy = Proxy(a=[quota(PER_MINUTE, "1.2s")], retry={"max_attempts": 9})
        asked = proxy.ask()
        proxy.clock.advance(1.2)
        assert isinstance(asked.error, QuotaExhausted)
        assert asked.error.retry_after == pytest.approx(1.2)
        assert len(proxy.upstream.requests) == 2

    def test_a_key_that_failed_otherwise_is_not_tried_again(self):
        proxy = Proxy(a=[BUSY], b=[quota(PER_MINUTE, "1s"), whole()])
        asked = proxy.ask()
        assert proxy.upstream.keys_used == ["a", "b"]
        proxy.clock.advance(1.0)
        assert served([asked])
        assert proxy.upstream.keys_used == ["a", "b", "b"]

    def test_may_come_too_late_after_all(self):
        proxy = Proxy(a=[quota(PER_MINUTE, "9s")])
        proxy.cool("a", 1.0)
        first, second = proxy.ask(), proxy.ask(OTHER)
        proxy.upstream.scripts["a"] = [quota(PER_MINUTE, "9s")]
        proxy.clock.advance(1.0)
        # One has met the 429; nobody waits for nine seconds.
        for each in (first, second):
            assert isinstance(each.error, QuotaExhausted)
            assert each.error.retry_after == 9.0
        assert first.error is not second.error
        assert not proxy.queue.short

    def test_is_within_the_requests_own_time(self):
        proxy = Proxy(a=[whole()], retry={"request_timeout": 0.5})
        proxy.cool("a", 1.0)
        assert isinstance(proxy.ask().error, QuotaExhausted)

    def test_is_a_breakers_trial_and_its_success_lets_all_through(self):
        proxy = Proxy(a=[BUSY, whole()], latency=0.2, pool={"failure_threshold": 1, "cooldown": 1})
        proxy.pool.reject(proxy.pool.status("a", 1000.0).id, Outcome(Verdict.SERVICE), 1000.0)
        proxy.upstream.scripts["a"] = [whole()]
        waiting = [proxy.ask(client) for client in (USUAL, OTHER, BATCH)]
        proxy.clock.advance(1.0)
        assert len(proxy.upstream.requests) == 1
        late = proxy.ask()
        # When the trial ends is not known.
        assert isinstance(late.error, NoHealthyKeys)
        proxy.clock.advance(0.2)
        proxy.clock.advance(0.2)
        assert served(waiting) == waiting

    def test_is_not_waited_for_longer_where_a_trial_does_not_end(self):
        proxy = Proxy(a=[whole()], latency=9.0, pool={"failure_threshold": 1, "cooldown": 1})
        proxy.pool.reject(proxy.pool.status("a", 1000.0).id, Outcome(Verdict.SERVICE), 1000.0)
        trial, waiting = proxy.ask(), proxy.ask(OTHER)
        proxy.clock.advance(1.0)
        assert waiting.is_waiting
        proxy.clock.advance(1.0)
        assert isinstance(waiting.error, NoHealthyKeys)
        assert proxy.refusals == {"timeout": 1}
        assert trial.is_waiting

    def test_that_ends_for_many_clients_at_once_is_one_look_at_each(self, monkeypatch):
        proxy = Proxy(a=[whole()], latency=9.0, pool={"failure_threshold": 1, "cooldown": 1})
        proxy.pool.reject(proxy.pool.status("a", 1000.0).id, Outcome(Verdict.SERVICE), 1000.0)
        proxy.ask()
        waiting = [proxy.ask(Client(f"client {number}")) for number in range(100)]
        proxy.clock.advance(1.0)
        looks, reserve = Counter(), proxy.queue.shares.reserve

        def counted(client, *rest):
            looks[client] += 1
            return reserve(client, *rest)

        monkeypatch.setattr(proxy.queue.shares, "reserve", counted)
        proxy.clock.advance(1.0)
        assert proxy.refusals == {"timeout": 100}
        assert all(isinstance(each.error, NoHealthyKeys) for each in waiting)
        assert max(looks.values()) < 8


class TestTheQueue:
    def test_newcomers_wait_behind_and_other_models_do_not(self):
        proxy = Proxy(a=[whole()])
        proxy.cool("a", 1.0)
        first = proxy.ask()
        assert not proxy.ask(model="other").is_waiting
        proxy.cool("a", 1.0, "third")
        # The key is free for this one, but not yet offered to those who wait for it.
        proxy.clock.rightNow += 1.0
        second = proxy.ask(OTHER)
        assert served([first, second]) == [first, second]
        assert first.ended_at == second.ended_at

    def test_wakes_as_many_as_the_keys_limits_admit_and_in_turn(self):
        proxy = Proxy(limits=Limits(rpm=3), a=[whole()])
        for _ in range(3):
            proxy.ask()
        proxy.clock.advance(58.5)
        many, one = [proxy.ask() for _ in range(4)], proxy.ask(OTHER)
        assert len(proxy.upstream.requests) == 3
        proxy.clock.advance(1.5)
        assert len(proxy.upstream.requests) == 6
        assert served([*many, one]) == [many[0], many[1], one]
        proxy.clock.advance(0.5)
        assert proxy.refusals == {"no_key_in_time": 2}
        assert many[2].error.retry_after == 60.0
        assert many[2].error is not many[3].error

    def test_sends_a_few_and_then_more_where_the_limits_are_not_known(self):
        proxy = Proxy(a=[whole()], latency=9.0)
        proxy.cool("a", 1.0)
        waiting = [proxy.ask() for _ in range(20)]
        sent = []
        for _ in range(4):
            proxy.clock.advance(1.0 if not sent else STEP)
            sent.append(len(proxy.upstream.requests))
        assert sent == [FIRST, 3 * FIRST, 20, 20]
        assert all(each.is_waiting for each in waiting)

    def test_stops_sending_when_google_refuses(self):
        proxy = Proxy(a=[quota(PER_MINUTE, "30s")])
        proxy.cool("a", 1.0)
        waiting = [proxy.ask() for _ in range(20)]
        proxy.clock.advance(1.0)
        proxy.clock.advance(STEP)
        assert len(proxy.upstream.requests) == FIRST
        assert {each.error.retry_after for each in waiting} == {30.0 - STEP, 30.0}

    def test_has_one_timer_and_none_without_need(self):
        proxy = Proxy(a=[whole()], b=[whole()])
        for seconds, name, model in ((1.0, "a", "m"), (1.5, "b", "m"), (1.5, "a", "n")):
            proxy.cool(name, seconds, model)
        proxy.cool("b", 1.0, "n")
        for _ in range(50):
            proxy.ask()
            proxy.ask(model="n")
        assert len(proxy.queue) == 100
        assert len(proxy.clock.getDelayedCalls()) == 1

    def test_is_bounded_and_a_client_with_many_makes_room(self):
        proxy = Proxy(a=[whole()], queue={"max_queued": 3})
        proxy.cool("a", 1.7)
        many = [proxy.ask() for _ in range(4)]
        assert isinstance(many[3].error, QuotaExhausted)
        assert many[3].error.retry_after == pytest.approx(1.7)
        other = proxy.ask(OTHER)
        assert isinstance(many[2].error, QuotaExhausted)
        assert proxy.refusals == {"full": 1, "evicted": 1}
        assert len(proxy.queue) == 3
        proxy.clock.advance(1.7)
        assert served([*many, other]) == [*many[:2], other]

    def test_a_client_that_leaves_frees_its_place(self):
        proxy = Proxy(a=[whole()], queue={"max_queued": 1})
        proxy.cool("a", 1.0)
        asked = proxy.ask()
        asked.runner.cancel()
        assert isinstance(asked.error, CancelledError)
        assert not len(proxy.queue)
        assert not proxy.clock.getDelayedCalls()
        after = proxy.ask()
        proxy.clock.advance(1.0)
        assert served([after])

    def test_a_key_comes_back_from_a_client_that_leaves_as_it_gets_it(self):
        proxy = Proxy(limits=Limits(rpm=2), a=[whole()], latency=5.0)
        for _ in range(2):
            proxy.ask()
        proxy.clock.advance(58.5)
        first, second = proxy.ask(), proxy.ask(OTHER)
        send, release, released = proxy.upstream.send, proxy.pool.release, []

        def send_and_leave(request):
            """The first of the two is woken, and that ends the other's connection."""
            second.runner.cancel()
            return send(request)

        def note(lease, now):
            released.append(lease)
            release(lease, now)

        proxy.upstream.send, proxy.pool.release = send_and_leave, note
        proxy.clock.advance(1.5)
        assert isinstance(second.error, CancelledError)
        assert not second.context.attempts
        assert len(proxy.upstream.requests) == 3
        assert len(released) == 1
        assert released[0].settled
        assert first.is_waiting


class TestPriorities:
    def test_high_then_normal_then_low(self):
        proxy = Proxy(limits=Limits(rpm=1), **{name: [whole()] for name in "ab"})
        proxy.ask(), proxy.ask()
        proxy.clock.advance(58.5)
        asked = [proxy.ask(client) for client in (BATCH, USUAL, LIVELY)]
        proxy.clock.advance(1.5)
        assert served(asked) == asked[1:]

    def test_low_is_offered_nothing_while_another_waits_that_no_key_can_serve(self):
        proxy = Proxy(a=[whole()], b=[whole()])
        proxy.cool("a", 1.0)
        proxy.cool("b", 0.5)
        bound = proxy.ask(affinity=Affinity("a", "files/x"))
        low = proxy.ask(BATCH)
        proxy.clock.advance(0.6)
        assert low.is_waiting
        bound.runner.cancel()
        proxy.clock.advance(0.0)
        assert served([low])

    def test_low_has_its_turn_when_those_before_it_have_waited_too_long(self):
        proxy = Proxy(a=[whole()], b=[whole()], pool={"failure_threshold": 1, "cooldown": 1})
        proxy.upstream.latency = 9.0
        proxy.pool.reject(proxy.pool.status("a", 1000.0).id, Outcome(Verdict.SERVICE), 1000.0)
        proxy.cool("b", 1.9)
        affinity = Affinity("a", "files/x")
        trial, bound = proxy.ask(affinity=affinity), proxy.ask(affinity=affinity)
        proxy.clock.advance(1.5)
        low = proxy.ask(BATCH)
        proxy.clock.advance(0.4)
        # The key b is free; the other one is on trial, for which a normal request waits.
        assert len(proxy.upstream.requests) == 1
        proxy.clock.advance(0.1)
        proxy.clock.advance(0.0)
        assert isinstance(bound.error, NoHealthyKeys)
        assert proxy.upstream.keys_used == ["a", "b"]
        assert low.is_waiting
        assert trial.is_waiting

    def test_low_leaves_the_last_fifth_of_a_keys_limits(self):
        proxy = Proxy(limits=Limits(rpm=10), a=[whole()])
        low = [proxy.ask(BATCH) for _ in range(10)]
        assert len(served(low)) == 8
        assert {each.error.retry_after for each in low[8:]} == {60.0}
        assert len(served([proxy.ask() for _ in range(3)])) == 2
        proxy.clock.advance(58.5)
        low = proxy.ask(BATCH)
        proxy.clock.advance(1.5)
        assert served([low])


class TestEvents:
    @pytest.mark.parametrize("event", ["enable", "reload", "correction"])
    def test_a_key_that_is_free_earlier_is_used_at_once(self, event):
        proxy = Proxy(limits=Limits(tpm=100), a=[whole()], b=[whole()])
        proxy.pool.disable("b")
        lease = proxy.pool.acquire("m", 1000.0, tokens=100)
        proxy.clock.advance(58.5)
        asked = proxy.ask()
        assert asked.is_waiting
        match event:
            case "enable":
                proxy.pool.enable("b")
            case "reload":
                added = proxy.key("c", Limits())
                proxy.upstream.scripts["c"] = [whole()]
                proxy.pool.apply([*proxy.keys, added], PoolSettings(), proxy.clock.seconds())
            case "correction":
                success = Outcome(Verdict.SUCCESS, 200)
                proxy.pool.record(lease, success, proxy.clock.seconds(), tokens=1)
        assert asked.is_waiting
        proxy.clock.advance(0.0)
        assert served([asked])

    def test_a_reset_ends_the_wait_for_a_cooldown(self):
        proxy = Proxy(a=[whole()])
        proxy.cool("a", 1.9)
        asked = proxy.ask()
        proxy.pool.reset("a")
        proxy.clock.advance(0.0)
        assert served([asked])


class TestOneProject:
    def test_only_its_keys_serve_and_others_are_not_delayed(self):
        proxy = Proxy(a=[whole()], b=[whole()])
        proxy.cool("a", 1.0)
        bound = proxy.ask(affinity=Affinity("a", "files/x"))
        assert served([proxy.ask(), proxy.ask(OTHER)])
        assert bound.is_waiting
        proxy.clock.advance(1.0)
        assert served([bound])
        assert proxy.upstream.keys_used == ["b", "b", "a"]


class TestStreams:
    def test_are_announced_when_the_wait_begins(self):
        proxy = Proxy(a=[streamed("Hello.")])
        proxy.cool("a", 1.0)
        asked = proxy.ask(stream=True)
        assert asked.writer.stream_awaited
        proxy.clock.advance(1.0)
        assert asked.writer.text == "Hello."

    def test_are_not_where_none_is_free_in_time(self):
        proxy = Proxy(a=[streamed("Hello.")])
        proxy.cool("a", 9.0)
        assert not proxy.ask(stream=True).writer.stream_awaited


class TestFlood:
    """One client sends 200 requests at a time, another asks once a second."""

    def test_the_other_client_gets_every_answer_within_two_seconds(self):
        proxy = Proxy(limits=Limits(rpm=60), latency=0.3, a=[whole()], b=[whole()])
        proxy.queue.shares.configured = 2
        flood, calm, total, longest = [], [], 0, 0
        for tick in range(300):
            proxy.clock.advance(0.25)
            if tick % 4 == 2:
                calm.append(proxy.ask())
            if tick % 8 == 0:
                total += len(served(flood))
                flood = [each for each in flood if each.is_waiting]
                flood += [proxy.ask(OTHER) for _ in range(200 - len(flood))]
            longest = max(longest, len(proxy.queue))
        assert longest <= 200
        proxy.clock.advance(2.0)
        assert served(calm) == calm
        waits = sorted(each.context.queued for each in calm)
        assert waits[int(0.99 * len(waits))] <= 2.0
        # What the other one does not need is used: half at once, the rest over the minute.
        assert total + len(calm) >= 170

    def test_a_client_alone_may_use_all_at_once(self):
        proxy = Proxy(limits=Limits(rpm=60), a=[whole()])
        assert len(served([proxy.ask() for _ in range(80)])) == 60
