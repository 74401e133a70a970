"""The list of models of the upstream, read page by page and cached."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any

from gemproxy.core.client_errors import error_for
from gemproxy.core.context import Attempt, RequestContext
from gemproxy.core.errors import ProxyError, UnusableAnswer, UpstreamFailed
from gemproxy.core.interfaces import Upstream
from gemproxy.core.retry import KEYS_FAULT
from gemproxy.pool.key import Key
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool
from gemproxy.providers.base import ModelPage, Provider, classify_failure
from gemproxy.translate.shared.listed_model import ListedModel

#: A page of 1,000 models is about 500 KB.
MAX_PAGE_BYTES = 8 * 1024 * 1024
#: A provider has some 60 models; a list with more pages than this is a defect.
MAX_PAGES = 50
#: A pool may have more keys than that. Several are tried because the first ones may be rejected.
MAX_ATTEMPTS = 10
#: Seconds to wait for a new list before the old one is returned.
STALE_PATIENCE = 10.0

Share = Callable[[Callable[[], Coroutine[Any, Any, None]]], Awaitable[None]]

_FINAL = frozenset({Verdict.REQUEST, Verdict.REGION})


class ModelCatalogue:
    """The upstream's models, fetched when asked for and older than ``cache_seconds``.

    While the upstream does not answer, the last list is returned. ``seconds`` gives monotonic time,
    ``wall`` epoch time (by default the same). ``share`` runs a fetch once for all callers that wait
    for it; without it, each caller fetches.
    """

    def __init__(
        self,
        provider: Provider,
        pool: KeyPool,
        upstream: Upstream,
        *,
        cache_seconds: float,
        request_timeout: float,
        seconds: Callable[[], float],
        scrub: Callable[[str], str],
        wall: Callable[[], float] | None = None,
        share: Share | None = None,
    ) -> None:
        self.cache_seconds = cache_seconds
        self.request_timeout = request_timeout
        self._provider = provider
        self._pool = pool
        self._upstream = upstream
        self._seconds = seconds
        self._wall = wall or seconds
        self._scrub = scrub
        self._share = share
        self._models: list[ListedModel] = []
        #: The output limit of each model, by its name.
        self._limits: dict[str, int | None] = {}
        self._fetched_at: float | None = None
        self._last_good = ""

    async def models(self, context: RequestContext) -> list[ListedModel]:
        """All models. Raises :class:`ProxyError` if there is no list and none can be fetched."""
        now = self._seconds()
        if self._fetched_at is None or now >= self._fetched_at + self.cache_seconds:
            try:
                await self._renew(context)
            except ProxyError:
                if self._fetched_at is None:
                    raise
        return self._models

    async def refresh(self, context: RequestContext) -> None:
        """Fetch a list that was asked for before and is old, so that the next client need not wait.

        A failure is ignored: the old list stays, and the next call tries again.
        """
        if self._fetched_at is None or self._seconds() < self._fetched_at + self.cache_seconds:
            return
        with suppress(ProxyError):
            await self._renew(context)

    def knows(self, name: str) -> bool:
        """Whether the last list has the model ``name`` (without ``models/``)."""
        return name in self._limits

    def output_limit(self, name: str) -> int | None:
        """The most tokens that the model ``name`` gives, if the last list tells it."""
        return self._limits.get(name)

    async def _renew(self, context: RequestContext) -> None:
        """Fetch the list, or wait for a running fetch, whose attempts are in another context."""
        if self._share is None:
            await self._fetch_anew(context)
        else:
            await self._share(lambda: self._fetch_anew(context))

    async def _fetch_anew(self, context: RequestContext) -> None:
        self._models = await self._fetch(context)
        self._limits = {model.id: model.output_token_limit for model in self._models if model.id}
        self._fetched_at = self._seconds()

    async def _fetch(self, context: RequestContext) -> list[ListedModel]:
        """Try one key after the other.

        A key's failure to list models does not show that it cannot generate, so the pool does not
        get these outcomes.
        """
        for key in self._keys_to_ask():
            record = Attempt(key.id, key.name, self._seconds())
            context.attempts.append(record)
            try:
                models = await self._fetch_with(key, context)
            except UpstreamFailed as failure:
                outcome = classify_failure(failure)
            except UnusableAnswer as answer:
                outcome = Outcome(Verdict.UNUSABLE, 200, reason=answer.reason)
            except _Refused as refused:
                outcome = refused.outcome
            else:
                self._last_good = key.id
                return models
            finally:
                record.end(self._seconds())
            record.outcome = outcome = replace(outcome, message=self._scrub(outcome.message))
            if outcome.verdict in _FINAL:
                break
        failed = {attempt.key_id: attempt.outcome for attempt in context.attempts}
        last = next(reversed(failed.values()), None)
        # As for a chat: what the provider says about a key does not concern the client.
        if last is None or last.verdict in KEYS_FAULT:
            raise self._pool.models_unavailable(failed, self._seconds())
        raise error_for(last)

    def _keys_to_ask(self) -> list[Key]:
        """The key that fetched the last list, then the others in the file's order."""
        keys = list(islice(self._pool.healthy_keys(self._seconds()), MAX_ATTEMPTS))
        last = self._pool.healthy_key(self._last_good, self._seconds())
        return keys if last is None else [last, *(key for key in keys if key != last)]

    async def _fetch_with(self, key: Key, context: RequestContext) -> list[ListedModel]:
        models: list[ListedModel] = []
        token: str | None = ""
        for _ in range(MAX_PAGES):
            page = await self._page(key, token or "", context.started + self._patience())
            models += page.models
            token = page.next_page_token
            if not token:
                break
        return models

    def _patience(self) -> float:
        """Seconds that a fetch may take; fewer if an old list can be returned instead."""
        if self._fetched_at is None:
            return self.request_timeout
        return min(STALE_PATIENCE, self.request_timeout)

    async def _page(self, key: Key, token: str, deadline: float) -> ModelPage:
        request = self._provider.list_models(key.secret, token, deadline)
        response = await self._upstream.fetch(request, MAX_PAGE_BYTES)
        body = response.body
        if response.status == 200:
            return self._provider.read_models(key.secret.masked_in(body))
        raise _Refused(
            self._provider.classify(response.status, response.headers, body, now=self._wall())
        )


class _Refused(Exception):
    """The fetch failed with one key; ``outcome`` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome
