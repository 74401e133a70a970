"""Probe half-open keys with a free call, so that no client's request is the trial."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from gemproxy.core.errors import UnusableAnswer, UpstreamFailed
from gemproxy.core.interfaces import Upstream
from gemproxy.core.sentences import first_sentence
from gemproxy.pool.key import Key
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool, Lease
from gemproxy.providers.base import Provider, classify_failure

PROBE_SECONDS = 10.0
#: Bytes; another gateway may send its whole list.
_MAX_ANSWER_BYTES = 4 * 1024 * 1024
#: Concurrent probes.
_AT_ONCE = 8

#: Verdicts of a probe that are about the key.
_TELLING = frozenset({Verdict.SUCCESS, Verdict.KEY})
#: Failures of Google or of the network, which will pass: the key is probed again in the next round.
#: Any other answer concerns the list of models, which an upstream need not have.
_PASSING = frozenset(
    {
        Verdict.SERVICE,
        Verdict.NETWORK,
        Verdict.HOST,
        Verdict.QUOTA_MINUTE,
        Verdict.QUOTA_DAY,
        Verdict.UNUSABLE,
    }
)
#: Statuses that mean that the upstream has no list of models.
_NO_LIST = frozenset({404, 405, 501})
#: After this many useless probes in a row, a client's request makes the trial.
_PATIENCE = 3


class KeyProbe:
    """Asks Google about a key, with a call that is free and uses no model's quota.

    ``seconds`` gives monotonic time, ``wall`` epoch time (by default the same); ``scrub`` masks
    secrets in what Google says.
    """

    def __init__(
        self,
        provider: Provider,
        upstream: Upstream,
        *,
        seconds: Callable[[], float],
        scrub: Callable[[str], str],
        wall: Callable[[], float] | None = None,
    ) -> None:
        self._provider = provider
        self._upstream = upstream
        self._seconds = seconds
        self._wall = wall or seconds
        self._scrub = scrub

    async def ask(self, key: Key) -> Outcome:
        """Probe a key and return the outcome. Takes ten seconds at most."""
        outcome = await self._outcome(key)
        return replace(outcome, message=self._scrub(outcome.message))

    async def _outcome(self, key: Key) -> Outcome:
        deadline = self._seconds() + PROBE_SECONDS
        request = self._provider.probe(key.secret, deadline)
        try:
            response = await self._upstream.fetch(request, _MAX_ANSWER_BYTES)
        except UpstreamFailed as failure:
            return classify_failure(failure)
        if response.status == 200:
            return self._judge(response.body)
        return self._provider.classify(
            response.status, response.headers, response.body, now=self._wall()
        )

    def _judge(self, body: bytes) -> Outcome:
        """The outcome of a response. An HTML page with status 200 is not Google's."""
        try:
            self._provider.read_models(body)
        except UnusableAnswer as answer:
            return Outcome(Verdict.UNUSABLE, 200, reason="no_list", message=answer.reason)
        return Outcome(Verdict.SUCCESS, 200)


class ActiveHealthCheck:
    """Probes the half-open keys of ``pool``, when ``enabled()``; see ``monitoring.probe``.

    If Google accepts the key, its breaker closes. If Google rejects it, the breaker stays open for
    another ``recoveryTime``. If probes show neither, a client's request makes the trial, as without
    probes. ``seconds`` gives monotonic time.
    """

    _log = Logger()

    def __init__(
        self,
        pool: KeyPool,
        probe: KeyProbe,
        *,
        enabled: Callable[[], bool],
        seconds: Callable[[], float],
    ) -> None:
        self._pool = pool
        self._probe_of = probe
        self._enabled = enabled
        self._seconds = seconds
        #: Useless probes in a row, by key id.
        self._vain: dict[str, int] = {}
        self._warned = False

    async def round(self) -> None:
        """Probe every half-open key."""
        if not self._enabled():
            return
        keys = list(self._pool.half_open_keys(self._seconds()))
        self._vain = {key.id: self._vain[key.id] for key in keys if key.id in self._vain}
        waiting = iter(keys)
        await gatherResults(
            [Deferred.fromCoroutine(self._probe_each(waiting)) for _ in range(_AT_ONCE)],
            consumeErrors=True,
        )

    async def _probe_each(self, waiting: Iterator[Key]) -> None:
        for key in waiting:
            await self._probe(key)

    async def _probe(self, key: Key) -> None:
        lease = self._pool.acquire_probe(key.id, self._seconds())
        if lease is None:
            return
        try:
            outcome = await self._probe_of.ask(lease.key)
        except BaseException:
            self._pool.release(lease, self._seconds())
            raise
        self._log.info("key probed", key=key.name, outcome=outcome.verdict.value)
        if outcome.verdict in _TELLING:
            self._warned = False
            self._pool.record(lease, outcome, self._seconds())
            return
        vain = self._vain[key.id] = self._vain.get(key.id, 0) + 1
        passing = outcome.verdict in _PASSING and outcome.status not in _NO_LIST
        if not passing or vain >= _PATIENCE:
            self._leave_to_clients(lease, outcome)
        self._pool.release(lease, self._seconds())

    def _leave_to_clients(self, lease: Lease, outcome: Outcome) -> None:
        self._pool.waive_probe(lease)
        if not self._warned:
            self._warned = True
            self._log.warn(
                "probes say nothing of the keys: clients' requests try half-open keys instead",
                key=lease.key.name,
                outcome=outcome.verdict.value,
                status=outcome.status,
                message=first_sentence(outcome.message),
            )


class HealthRound:
    """Runs each piece of ``work`` in order, by name.

    A failure is logged under its name, and the rest still runs. Health windows, cooldowns and
    breakers need no periodic work: they are evaluated with the current time when they are read.
    """

    _log = Logger()

    def __init__(self, work: Mapping[str, Callable[[], Awaitable[object]]]) -> None:
        self._work = work

    async def __call__(self) -> None:
        """Run one round."""
        for name, act in self._work.items():
            try:
                await act()
            except Exception:  # noqa: BLE001 - one failed piece must not keep the others from theirs
                self._log.failure("health work failed: {work}", work=name)
