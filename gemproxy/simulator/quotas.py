"""Quotas for each project and model: requests and input tokens a minute, requests a day.

Google counts by project, not by key, and a day ends at midnight in Los Angeles. [ai.google.dev
rate-limits]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from gemproxy.simulator.errors import Quota, per_day, per_minute, tokens_per_minute

_MINUTE = 60.0
_PACIFIC = ZoneInfo("America/Los_Angeles")

#: The retry delay in a 429 for a daily quota, which is useless.
_MISLEADING_DELAY = 37.0


@dataclass(frozen=True, slots=True)
class Limits:
    """The quotas of a project for one model; None is unlimited."""

    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None


UNLIMITED = Limits()


@dataclass(frozen=True, slots=True)
class Exceeded:
    """The exceeded quotas of a request, and the ``retryDelay`` for them."""

    quotas: tuple[Quota, ...]
    retry_delay: float


@dataclass(slots=True)
class _Ledger:
    """The use of one model by one project."""

    recent: deque[tuple[float, int]] = field(default_factory=deque)
    day: str = ""
    today: int = 0

    def advance(self, now: float, wall: float) -> None:
        while self.recent and self.recent[0][0] <= now - _MINUTE:
            self.recent.popleft()
        day = datetime.fromtimestamp(wall, UTC).astimezone(_PACIFIC).date().isoformat()
        if day != self.day:
            self.day, self.today = day, 0


class Quotas:
    """The ledgers of all projects. ``now`` is monotonic; ``wall`` gives epoch seconds for days."""

    def __init__(self) -> None:
        #: ``None``: the same as ``now``.
        self.wall: Callable[[], float] | None = None
        self._ledgers: dict[tuple[str, str], _Ledger] = {}

    def take(
        self, project: str, model: str, limits: Limits, tokens: int, now: float
    ) -> Exceeded | None:
        """Count one request of ``tokens`` input tokens, or return the quotas that it exceeds."""
        if limits == UNLIMITED:
            return None
        ledger = self._ledgers.setdefault((project, model), _Ledger())
        ledger.advance(now, self.wall() if self.wall else now)
        exceeded = _exceeded(ledger, limits, tokens, now)
        if exceeded is None:
            ledger.recent.append((now, tokens))
            ledger.today += 1
        return exceeded

    def clear(self) -> None:
        """Reset all counts."""
        self._ledgers.clear()


def _exceeded(ledger: _Ledger, limits: Limits, tokens: int, now: float) -> Exceeded | None:
    quotas: list[Quota] = []
    delays: list[float] = []
    if limits.rpm is not None and len(ledger.recent) >= limits.rpm:
        quotas.append(per_minute(limits.rpm))
        delays.append(_freed(ledger, max(0, len(ledger.recent) - limits.rpm), now))
    used = sum(count for _, count in ledger.recent)
    if limits.tpm is not None and used + tokens > limits.tpm:
        quotas.append(tokens_per_minute(limits.tpm))
        delays.append(_freed(ledger, 0, now))
    if limits.rpd is not None and ledger.today >= limits.rpd:
        quotas.append(per_day(limits.rpd))
        delays.append(_MISLEADING_DELAY)
    return Exceeded(tuple(quotas), max(delays)) if quotas else None


def _freed(ledger: _Ledger, at: int, now: float) -> float:
    """Seconds until the ``at``-th of the recent requests is a minute old."""
    if at >= len(ledger.recent):
        return _MINUTE
    return ledger.recent[at][0] + _MINUTE - now
