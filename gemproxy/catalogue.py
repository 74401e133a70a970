"""The models that can be asked for: the upstream's list, paged through, kept for a while."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

from gemproxy.classification import classify_failure, classify_response, error_for
from gemproxy.dialects.translation.model_list import ModelPage, UpstreamModel, decode_page
from gemproxy.errors import ProxyError, UnusableAnswer, UpstreamFailed
from gemproxy.exchange import AttemptRecord, Exchange
from gemproxy.interfaces import Upstream, UpstreamRequest
from gemproxy.keys.outcome import Charge, Outcome, Verdict
from gemproxy.keys.pool import KeyPool, Lease

#: A page of 1,000 models is about 500 KB.
MAX_PAGE_BYTES = 8 * 1024 * 1024
#: Google has some 60 models; a list without an end would be a defect.
MAX_PAGES = 50
PAGE_SIZE = 1000
#: A pool has more keys than a list needs tries.
MAX_ATTEMPTS = 3

_KEY_AT_FAULT = frozenset({Verdict.QUOTA_MINUTE, Verdict.QUOTA_DAY, Verdict.KEY})
_FINAL = frozenset({Verdict.REQUEST, Verdict.REGION})


class ModelCatalogue:
    """The upstream's models, fetched when asked for and older than ``cache_seconds``.

    While the upstream cannot be asked, the last list that it gave stands.
    """

    def __init__(
        self,
        pool: KeyPool,
        upstream: Upstream,
        *,
        cache_seconds: float,
        request_timeout: float,
        seconds: Callable[[], float],
        scrub: Callable[[str], str],
    ) -> None:
        self.cache_seconds = cache_seconds
        self.request_timeout = request_timeout
        self._pool = pool
        self._upstream = upstream
        self._seconds = seconds
        self._scrub = scrub
        self._models: list[UpstreamModel] = []
        self._fetched_at: float | None = None

    async def models(self, exchange: Exchange) -> list[UpstreamModel]:
        """All models. Raises :class:`ProxyError` where none were ever fetched and none can be."""
        now = self._seconds()
        if self._fetched_at is None or now >= self._fetched_at + self.cache_seconds:
            try:
                self._models = await self._fetch(exchange)
                self._fetched_at = self._seconds()
            except ProxyError:
                if self._fetched_at is None:
                    raise
        return self._models

    async def _fetch(self, exchange: Exchange) -> list[UpstreamModel]:
        while True:
            now = self._seconds()
            tried = [attempt.key_id for attempt in exchange.attempts]
            lease = self._pool.acquire(None, now, tried=tried)
            record = AttemptRecord(lease.key.id, lease.key.name, now)
            exchange.attempts.append(record)
            try:
                models = await self._fetch_with(lease, exchange)
            except _Refused as refused:
                self._settle(lease, record, refused.outcome)
            except BaseException:
                self._pool.release(lease, self._seconds())
                raise
            else:
                self._settle(lease, record, Outcome(Verdict.SUCCESS, 200))
                return models
            if record.outcome.verdict in _FINAL or len(exchange.attempts) >= MAX_ATTEMPTS:
                raise error_for(record.outcome)

    async def _fetch_with(self, lease: Lease, exchange: Exchange) -> list[UpstreamModel]:
        models: list[UpstreamModel] = []
        token: str | None = ""
        for _ in range(MAX_PAGES):
            page = await self._page(lease, token or "", exchange.started + self.request_timeout)
            models += page.models
            token = page.next_page_token
            if not token:
                break
        return models

    async def _page(self, lease: Lease, token: str, deadline: float) -> ModelPage:
        query = f"?pageSize={PAGE_SIZE}" + (f"&pageToken={quote(token, safe='')}" if token else "")
        path = f"/v1beta/models{query}".encode("ascii")
        try:
            response = await self._upstream.send(
                UpstreamRequest(b"GET", path, lease.key.secret, deadline=deadline)
            )
            body = await response.read(MAX_PAGE_BYTES)
            if response.status == 200:
                return decode_page(body)
        except UpstreamFailed as failure:
            raise _Refused(classify_failure(failure)) from failure
        except UnusableAnswer as answer:
            raise _Refused(Outcome(Verdict.UNUSABLE, 200, reason=answer.reason)) from answer
        now = self._seconds()
        raise _Refused(classify_response(response.status, response.headers, body, now=now))

    def _settle(self, lease: Lease, record: AttemptRecord, outcome: Outcome) -> None:
        """A list says little of how a key generates: only what is the key's own is recorded."""
        now = self._seconds()
        record.seconds = now - record.started
        record.outcome = replace(outcome, message=self._scrub(outcome.message))
        if outcome.verdict in _KEY_AT_FAULT:
            record.charge = Charge.KEY
            self._pool.record(lease, record.outcome, now)
        else:
            self._pool.release(lease, now)


class _Refused(Exception):
    """One key could not get the list; ``outcome`` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome
