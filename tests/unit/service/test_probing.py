"""Half-open keys and their probes; and the rounds in which they are made."""

import json

import pytest
from fakes.pools import date
from fakes.upstreams import FakeGemini, Reply, error, error_info
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from gemproxy.core.errors import FailureKind, NoHealthyKeys
from gemproxy.pool.key import Key, Limits
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings
from gemproxy.providers.gemini.provider import GeminiProvider
from gemproxy.secret import Secret
from gemproxy.service.periodic import PeriodicService
from gemproxy.service.probing import ActiveHealthCheck, HealthRound, KeyProbe

NOON = 1_790_000_000.0
MODEL = "gemini-test"
LIST = Reply(body=json.dumps({"models": [{"name": "models/gemini-test"}]}).encode())
INVALID = error(
    400, "API key not valid: secret-of-a.", "INVALID_ARGUMENT", [error_info("API_KEY_INVALID")]
)
BLOCKING_SETTINGS = PoolSettings(failure_threshold=1, cooldown=30.0, probe=True)


class Stage:
    """Keys whose breakers have opened at noon and are half-open half a minute later."""

    def __init__(self, upstream=None, names="a", settings=BLOCKING_SETTINGS, key=None, **scripts):
        self.now = NOON
        self.enabled = True
        keys = [
            Key(name, Secret(f"secret-of-{name}"), project=name, **(key or {})) for name in names
        ]
        self.pool = KeyPool(keys, settings)
        self.upstream = upstream or FakeGemini(**scripts)
        probe = KeyProbe(
            GeminiProvider(),
            self.upstream,
            seconds=lambda: self.now,
            scrub=lambda text: text.replace("secret-of-", "…"),
        )
        self.check = ActiveHealthCheck(
            self.pool, probe, enabled=lambda: self.enabled, seconds=lambda: self.now
        )
        for _ in names:
            lease = self.pool.acquire(MODEL, self.now)
            self.pool.record(lease, Outcome(Verdict.SERVICE, 500), self.now)
        self.now = NOON + 31

    def probe(self):
        done = Deferred.fromCoroutine(self.check.round())
        results = []
        done.addCallback(results.append)
        return results

    def status(self, name="a"):
        return self.pool.status(name, self.now).status


def test_a_half_open_key_gets_no_clients_request():
    stage = Stage(a=[LIST])
    with pytest.raises(NoHealthyKeys, match="1 half-open and waiting for a trial"):
        stage.pool.acquire(MODEL, stage.now)
    assert not stage.pool.can_serve(stage.now)


def test_without_probes_it_gets_one():
    stage = Stage(settings=PoolSettings(failure_threshold=1, cooldown=30.0), a=[LIST])
    assert stage.pool.can_serve(stage.now)
    assert stage.pool.acquire(MODEL, stage.now).permit.trial


def test_a_probe_that_succeeds_lets_the_key_serve_again():
    stage = Stage(a=[LIST])
    assert stage.probe() == [None]
    assert stage.status() == "active"
    ((_, request),) = stage.upstream.requests
    assert (request.method, request.path) == (b"GET", b"/v1beta/models?pageSize=1")
    assert request.body is None
    assert request.deadline == stage.now + 10
    assert stage.pool.acquire(MODEL, stage.now).key.name == "a"


def test_a_key_that_is_rejected_stays_out_for_the_recovery_time():
    stage = Stage(a=[INVALID])
    stage.probe()
    status = stage.pool.status("a", stage.now)
    assert (status.status, status.needs_attention) == ("circuit_open", "invalid")
    assert status.next_retry == date(stage.now + BLOCKING_SETTINGS.recovery_time)
    assert "secret-of" not in status.last_error.message


@pytest.mark.parametrize(
    "trouble",
    [
        error(503, "Overloaded.", "UNAVAILABLE"),
        error(429, "Slow down.", "RESOURCE_EXHAUSTED"),
        FailureKind.REFUSED,
        Reply(breaks=FailureKind.TRUNCATED),
    ],
)
def test_what_may_be_googles_doing_leaves_the_key_for_the_next_round(trouble):
    stage = Stage(a=[trouble, LIST])
    before = stage.pool.status("a", stage.now)
    stage.probe()
    assert stage.pool.status("a", stage.now) == before
    stage.probe()
    assert stage.status() == "active"


@pytest.mark.parametrize(
    "answer",
    [
        error(404, "Not found.", "NOT_FOUND"),
        Reply(404, b"<html>nothing here</html>", headers={"content-type": "text/html"}),
        Reply(405, b""),
        Reply(501, b"{}"),
        error(400, "Request contains an invalid argument.", "INVALID_ARGUMENT"),
        error(403, "The caller does not have permission", "PERMISSION_DENIED"),
    ],
)
def test_an_upstream_without_a_list_of_models_leaves_the_trial_to_a_client(answer):
    stage = Stage(names="ab", a=[answer], b=[answer])
    with capturedLogs() as events:
        stage.probe()
        assert stage.status() == "circuit_half_open"
        assert stage.pool.can_serve(stage.now)
        lease = stage.pool.acquire(MODEL, stage.now)
        assert lease.permit.trial
        stage.pool.record(lease, Outcome(Verdict.SUCCESS, 200), stage.now)
        stage.probe()
    assert sorted(stage.status(name) for name in "ab") == ["active", "circuit_half_open"]
    told = [event for event in events if event["log_format"].startswith("probes say nothing")]
    assert len(told) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        error(503, "Overloaded.", "UNAVAILABLE"),
        error(429, "Slow down.", "RESOURCE_EXHAUSTED"),
        Reply(503, b"<html>Gateway</html>", headers={"content-type": "text/html"}),
        FailureKind.REFUSED,
        FailureKind.FIRST_BYTE_TIMEOUT,
        Reply(302, b""),
        Reply(200, b"<html>Sign in to this network</html>"),
    ],
)
def test_trouble_that_does_not_pass_keeps_no_key_out_for_ever(trouble):
    stage = Stage(a=[trouble])
    for _ in range(2):
        stage.probe()
        with pytest.raises(NoHealthyKeys):
            stage.pool.acquire(MODEL, stage.now)
    stage.probe()
    assert stage.pool.acquire(MODEL, stage.now).permit.trial


def test_a_key_that_fails_its_trial_waits_for_a_probe_again():
    stage = Stage(a=[Reply(405, b"")])
    stage.probe()
    lease = stage.pool.acquire(MODEL, stage.now)
    stage.pool.record(lease, Outcome(Verdict.SERVICE, 500), stage.now)
    stage.now = stage.pool.status("a", stage.now).next_retry.timestamp()
    with pytest.raises(NoHealthyKeys):
        stage.pool.acquire(MODEL, stage.now)
    stage.probe()
    assert stage.pool.acquire(MODEL, stage.now).permit.trial


def test_a_key_that_is_bound_to_models_or_limits_is_probed_as_well():
    """A list of models uses no model's quota, and its probe does not count as a request."""
    limits = Limits(rpm=1)
    stage = Stage(key={"models": frozenset({MODEL}), "limits": limits}, a=[LIST])
    stage.now = NOON + 31
    stage.probe()
    assert stage.status() == "active"
    assert stage.pool.status("a", stage.now).requests_total == 1


def test_keys_that_are_disabled_open_or_closed_are_left_alone():
    stage = Stage(names="ab", a=[LIST], b=[LIST])
    stage.pool.disable("b")
    stage.now = NOON + 29
    stage.probe()
    assert stage.upstream.requests == []
    stage.now = NOON + 31
    stage.probe()
    stage.probe()
    assert stage.upstream.keys_used == ["a"]


def test_nothing_is_asked_while_probing_is_off():
    stage = Stage(a=[LIST])
    stage.enabled = False
    assert stage.probe() == [None]
    assert stage.upstream.requests == []


class SlowGemini:
    """Answers when it is told to."""

    def __init__(self):
        self.waiting = []

    def fetch(self, request, _limit):
        sent = Deferred()
        self.waiting.append((request.key.reveal().removeprefix("secret-of-"), sent))
        return sent


def test_a_few_are_probed_at_once_and_all_in_the_end():
    stage = Stage(SlowGemini(), names="abcdefghijklmnopqrst")
    done = stage.probe()
    assert len(stage.upstream.waiting) == 8
    probed = []
    while stage.upstream.waiting:
        name, sent = stage.upstream.waiting.pop(0)
        probed.append(name)
        sent.callback(LIST)
    assert "".join(probed) == "abcdefghijklmnopqrst"
    assert done == [None]


def test_a_round_that_is_cancelled_gives_the_trial_back():
    stage = Stage(SlowGemini())
    running = Deferred.fromCoroutine(stage.check.round())
    running.addErrback(lambda _: None)
    assert list(stage.pool.half_open_keys(stage.now)) == []
    running.cancel()
    assert [key.name for key in stage.pool.half_open_keys(stage.now)] == ["a"]


def test_a_key_that_was_removed_meanwhile_is_no_trouble():
    stage = Stage(SlowGemini())
    done = stage.probe()
    stage.pool.apply([], BLOCKING_SETTINGS, stage.now)
    stage.upstream.waiting[0][1].callback(LIST)
    assert done == [None]


# -- the rounds ------------------------------------------------------------------------------------


class Rounds:
    def __init__(self, **work):
        self.clock = Clock()
        self.story = []
        self.work = {name: self.piece(name, what) for name, what in work.items()}
        self.service = PeriodicService(self.clock, 30.0, HealthRound(self.work), "health round")
        self.service.startService()

    def piece(self, name, result):
        def act():
            self.story.append(name)
            if isinstance(result, Exception):
                raise result
            return succeed(None) if result is None else result

        return act


def test_each_round_does_all_work_in_order():
    rounds = Rounds(probe=None, models=None)
    rounds.clock.advance(29)
    assert rounds.story == []
    rounds.clock.pump([1, 30])
    assert rounds.story == ["probe", "models", "probe", "models"]


def test_what_fails_is_logged_and_ends_nothing():
    rounds = Rounds(probe=RuntimeError("a defect"), models=None)
    with capturedLogs() as events:
        rounds.clock.pump([30, 30])
    assert rounds.story == ["probe", "models"] * 2
    assert [event["work"] for event in events] == ["probe", "probe"]


def test_a_round_waits_for_the_one_before():
    waiting = Deferred()
    rounds = Rounds(probe=waiting)
    rounds.clock.pump([30, 30, 30])
    assert rounds.story == ["probe"]
    waiting.callback(None)
    rounds.clock.advance(30)
    assert rounds.story == ["probe"] * 2
