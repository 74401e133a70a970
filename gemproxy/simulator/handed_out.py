"""The tokens that a simulator has reported to its clients, by key.

What was sent counts, not what was planned: of a stream that broke off the last event that was sent
whole. So a test can compare what a proxy counts with what its upstream handed out.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from gemproxy.simulator.recording import Exchange

_MARK = b'"usageMetadata"'
#: The names here and in ``usageMetadata``.
_COUNTS = {
    "input": ("promptTokenCount", "toolUsePromptTokenCount"),
    "cached": ("cachedContentTokenCount",),
    "output": ("candidatesTokenCount", "thoughtsTokenCount"),
    "reasoning": ("thoughtsTokenCount",),
}


def reported_usage(data: bytes) -> dict[str, Any] | None:
    """The ``usageMetadata`` in what is sent at once; ``None`` if it is not there whole."""
    if _MARK not in data:
        return None
    try:
        whole = msgspec.json.decode(data[data.index(b"{") : data.rindex(b"}") + 1])
    except (ValueError, RecursionError):
        return None
    usage = whole.get("usageMetadata")
    return usage if isinstance(usage, dict) else None


class HandedOut:
    """Sums by the name of the key."""

    def __init__(self) -> None:
        self._sums: dict[str, Counter[str]] = {}

    def add(self, exchange: Exchange) -> None:
        """Add an exchange that has ended."""
        usage = exchange.reported
        if usage is None or exchange.key is None:
            return
        sums = self._sums.setdefault(exchange.key, Counter())
        sums["answers"] += 1
        for name, fields in _COUNTS.items():
            sums[name] += sum(usage.get(field, 0) for field in fields)

    def describe(self) -> dict[str, dict[str, int]]:
        """The sums, by key."""
        return {key: dict(sums) for key, sums in self._sums.items()}

    def clear(self) -> None:
        """Forget everything."""
        self._sums.clear()
