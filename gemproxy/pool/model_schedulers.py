"""One rotation for each model that is in use, and one for all the others.

Quota is counted per project and model, so the keys take turns for each model by itself: with a
single rotation two clients that alternate between two models would lock step with two keys, and one
key would get all of one model's traffic.

A model has a rotation of its own once it was served, or once something about it is special (an
allow-list that names it, a cooldown, a refusal). Until then it shares the default one, so that
clients who invent names cost nothing. At most 64 are kept; the longest unused makes room.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from gemproxy.pool.cooldowns import ALL_MODELS
from gemproxy.pool.key_state import PooledKey
from gemproxy.pool.stride import Hindrance, Rotation

_CAPACITY = 64


class Rotations:
    """See the module."""

    def __init__(self, keys: Iterable[PooledKey]) -> None:
        keys = list(keys)
        self._default = Rotation(key for key in keys if not key.key.models)
        self._own: OrderedDict[str, Rotation[PooledKey]] = OrderedDict()
        #: Keys that have an allow-list, by the models on it.
        self._listed: defaultdict[str, list[PooledKey]] = defaultdict(list)
        for key in keys:
            for model in key.key.models:
                self._listed[model].append(key)

    def own(self, model: str) -> Rotation[PooledKey] | None:
        """The rotation of ``model`` alone, if it has one."""
        rotation = self._own.get(model)
        if rotation is not None:
            self._own.move_to_end(model)
        return rotation

    def of(self, model: str) -> Rotation[PooledKey]:
        """The rotation in which the keys take turns for a ``model`` without one of its own."""
        return self.begin(model) if model in self._listed else self._default

    def begin(self, model: str) -> Rotation[PooledKey]:
        """Give a ``model`` that has none a rotation of its own; the default one goes on as well."""
        rotation = self._own[model] = self._default.copy()
        for key in self._listed.get(model, ()):
            rotation.add(key)
        if len(self._own) > _CAPACITY:
            self._own.popitem(last=False)
        return rotation

    @property
    def any_listed(self) -> bool:
        """Whether any key has an allow-list."""
        return bool(self._listed)

    def listed(self) -> Iterator[PooledKey]:
        """The keys that have an allow-list; those with several models on it come several times."""
        return chain.from_iterable(self._listed.values())

    def add(self, key: PooledKey) -> None:
        """A new key, in every rotation whose model it may serve."""
        if not key.key.models:
            self._default.add(key)
        for model in key.key.models:
            self._listed[model].append(key)
        for model, rotation in self._own.items():
            if key.allows(model):
                rotation.add(key)

    def discard(self, key: PooledKey) -> None:
        """A removed key without an allow-list; those with one ask for new rotations."""
        for rotation in self._all():
            rotation.discard(key)

    def free(self, key: PooledKey) -> None:
        """Something about the key has changed: whatever hindered it may be over."""
        for rotation in self._all():
            rotation.free(key)

    def stand_aside(
        self,
        key: PooledKey,
        hindrance: Callable[[str], Hindrance | None],
        model: str = ALL_MODELS,
    ) -> None:
        """``key`` became unfit: it keeps out of the turns for which ``hindrance`` tells the reason.

        It is asked about ``model``, or about each; :data:`ALL_MODELS` is then the name for those
        without a rotation of their own.
        """
        if model != ALL_MODELS:
            rotation = self._own.get(model)
            concerned = [] if rotation is None else [(model, rotation)]
        else:
            concerned = [(ALL_MODELS, self._default), *self._own.items()]
        for name, rotation in concerned:
            reason = hindrance(name) if key.allows(name) else None
            if reason is not None:
                rotation.stand_aside(key, reason)

    def _all(self) -> Iterator[Rotation[PooledKey]]:
        yield self._default
        yield from self._own.values()
