"""One scheduler for each model that is in use, and one for all the others.

Quota is counted per project and model, so each model schedules the keys by itself: with a single
scheduler two clients that alternate between two models would lock step with two keys, and one key
would get all of one model's traffic.

A model has a scheduler of its own once it was served, or once something about it is special (an
allow-list that names it, a cooldown, a refusal). Until then it shares the default one, so that
clients who invent names cost nothing. At most 64 are kept; the longest unused makes room.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from gemproxy.pool.cooldowns import ALL_MODELS
from gemproxy.pool.key_state import KeyState
from gemproxy.pool.stride import Ineligible, StrideScheduler

_CAPACITY = 64


class ModelSchedulers:
    """See the module."""

    def __init__(self, keys: Iterable[KeyState]) -> None:
        keys = list(keys)
        self._default = StrideScheduler(key for key in keys if not key.key.models)
        self._own: OrderedDict[str, StrideScheduler[KeyState]] = OrderedDict()
        #: Keys that have an allow-list, by the models on it.
        self._listed: defaultdict[str, list[KeyState]] = defaultdict(list)
        for key in keys:
            for model in key.key.models:
                self._listed[model].append(key)

    def own(self, model: str) -> StrideScheduler[KeyState] | None:
        """The scheduler of ``model`` alone, if it has one."""
        scheduler = self._own.get(model)
        if scheduler is not None:
            self._own.move_to_end(model)
        return scheduler

    def of(self, model: str) -> StrideScheduler[KeyState]:
        """The scheduler in which the keys take turns for a ``model`` without one of its own."""
        return self.begin(model) if model in self._listed else self._default

    def begin(self, model: str) -> StrideScheduler[KeyState]:
        """Give a ``model`` that has none a scheduler of its own, copied from the default one."""
        scheduler = self._own[model] = self._default.copy()
        for key in self._listed.get(model, ()):
            scheduler.add(key)
        if len(self._own) > _CAPACITY:
            self._own.popitem(last=False)
        return scheduler

    @property
    def any_listed(self) -> bool:
        """Whether any key has an allow-list."""
        return bool(self._listed)

    def listed(self) -> Iterator[KeyState]:
        """The keys that have an allow-list; those with several models on it come several times."""
        return chain.from_iterable(self._listed.values())

    def add(self, key: KeyState) -> None:
        """A new key, in every scheduler whose model it may serve."""
        if not key.key.models:
            self._default.add(key)
        for model in key.key.models:
            self._listed[model].append(key)
        for model, scheduler in self._own.items():
            if key.allows(model):
                scheduler.add(key)

    def discard(self, key: KeyState) -> None:
        """A removed key without an allow-list; those with one ask for new schedulers."""
        for scheduler in self._all():
            scheduler.discard(key)

    def mark_eligible(self, key: KeyState) -> None:
        """Something about the key has changed: whatever hindered it may be over."""
        for scheduler in self._all():
            scheduler.mark_eligible(key)

    def mark_ineligible(
        self,
        key: KeyState,
        ineligible: Callable[[str], Ineligible | None],
        model: str = ALL_MODELS,
    ) -> None:
        """``key`` became ineligible for the models for which ``ineligible`` gives a reason.

        It is asked about ``model``, or about each; :data:`ALL_MODELS` is then the name for those
        without a scheduler of their own.
        """
        if model != ALL_MODELS:
            scheduler = self._own.get(model)
            concerned = [] if scheduler is None else [(model, scheduler)]
        else:
            concerned = [(ALL_MODELS, self._default), *self._own.items()]
        for name, scheduler in concerned:
            reason = ineligible(name) if key.allows(name) else None
            if reason is not None:
                scheduler.mark_ineligible(key, reason)

    def _all(self) -> Iterator[StrideScheduler[KeyState]]:
        yield self._default
        yield from self._own.values()
