"""Times as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_MILLISECONDS: Final = tuple(f".{number:03}Z" for number in range(1000))


class _Timestamps:
    """Caches date and time up to the second, which many consecutive lines share."""

    def __init__(self) -> None:
        # One object, replaced at once, since other threads log too; in milliseconds.
        self._latest = (0, _up_to_second(0))

    def of(self, when: float) -> str:
        """Epoch seconds as RFC 3339 in UTC with milliseconds; ``-`` if impossible."""
        try:
            now = int(when * 1000)
            second, text = self._latest
            if not 0 <= now - second < 1000:
                second = now - now % 1000
                text = _up_to_second(second // 1000)
                self._latest = (second, text)
            return text + _MILLISECONDS[now - second]
        except (ValueError, OverflowError, OSError):
            return "-"


def _up_to_second(when: int) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%S")


timestamp: Final = _Timestamps().of
