"""Bound the model labels of metrics."""

from __future__ import annotations

from collections.abc import Callable

OTHER = "other"
"""The label of requests for all other models, and of those for none."""


class ModelLabels:
    """Labels that invented model names cannot multiply.

    A model gets its own label once it has served or if ``is_known`` says so (the upstream lists
    it). Beyond ``capacity`` labels, further models are ``other``.
    """

    def __init__(self, is_known: Callable[[str], bool], capacity: int = 200) -> None:
        self._is_known = is_known
        self._capacity = capacity
        self._labels: set[str] = set()

    def of(self, model: str | None, *, served: bool = False) -> str:
        """The label of ``model``; ``served``: the upstream has just answered for it."""
        if model in self._labels:
            return model
        if model is None or len(self._labels) >= self._capacity:
            return OTHER
        if not served and not self._is_known(model):
            return OTHER
        self._labels.add(model)
        return model
