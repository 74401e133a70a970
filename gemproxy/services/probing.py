"""Trying half-open keys with a cheap call, so that no client's request has to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from gemproxy.classification import classify_failure, classify_response
from gemproxy.errors import UpstreamFailed
from gemproxy.interfaces import Upstream, UpstreamRequest
from gemproxy.keys.key import Key
from gemproxy.keys.outcome import Outcome, Verdict
from gemproxy.keys.pool import KeyPool

#: One page with one model: Google answers it from its own list and bills nothing for it.
PROBE_PATH = b"/v1beta/models?pageSize=1"
PROBE_SECONDS = 10.0
_MAX_ANSWER_BYTES = 64 * 1024
#: So many are tried at the same time, however many wait.
_AT_ONCE = 8

#: What a probe can tell of its key. Whatever else went wrong may be Google's doing or the way's,
#: and is not the key's as long as nobody else was served: it is tried again in the next round.
_TELLING = frozenset({Verdict.SUCCESS, Verdict.KEY})


class ActiveHealthCheck:
    """Probes the half-open keys of ``pool``, when ``enabled()``; see ``monitoring.probe``.

    A key that Google accepts is closed and serves again; one that it rejects stays out for another
    ``recoveryTime``. ``seconds`` tells epoch time; ``scrub`` masks secrets in what Google says.
    """

    _log = Logger()

    def __init__(
        self,
        pool: KeyPool,
        upstream: Upstream,
        *,
        enabled: Callable[[], bool],
        seconds: Callable[[], float],
        scrub: Callable[[str], str],
    ) -> None:
        self._pool = pool
        self._upstream = upstream
        self._enabled = enabled
        self._seconds = seconds
        self._scrub = scrub

    async def round(self) -> None:
        """Probe every key that waits for its trial now."""
        if not self._enabled():
            return
        waiting = iter(list(self._pool.half_open_keys(self._seconds())))
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
            outcome = await self._ask(lease.key)
        except BaseException:
            self._pool.release(lease, self._seconds())
            raise
        self._log.info("key probed", key=key.name, outcome=outcome.verdict.value)
        if outcome.verdict in _TELLING:
            self._pool.record(lease, outcome, self._seconds())
        else:
            self._pool.release(lease, self._seconds())

    async def _ask(self, key: Key) -> Outcome:
        deadline = self._seconds() + PROBE_SECONDS
        request = UpstreamRequest(b"GET", PROBE_PATH, key.secret, deadline=deadline)
        try:
            response = await self._upstream.send(request)
            body = await response.read(_MAX_ANSWER_BYTES)
        except UpstreamFailed as failure:
            return classify_failure(failure)
        if response.status == 200:
            return Outcome(Verdict.SUCCESS, 200)
        now = self._seconds()
        outcome = classify_response(response.status, response.headers, body, now=now)
        return replace(outcome, message=self._scrub(outcome.message))
