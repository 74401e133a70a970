"""The requests and tokens of the last 60 seconds, in bounded memory.

A :class:`SlidingWindow` keeps each event until it is 60 seconds old. Events that are at most
:data:`SLOT_SECONDS` apart share a slot and expire with the latest of them, so that the memory is
bounded at any rate. The error is on the safe side: an event may count that much longer, never
shorter. Times are monotonic seconds, which may step in either direction.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

WINDOW_SECONDS: Final = 60.0
#: Events that are closer to each other may expire together; a window has at most 961 slots.
SLOT_SECONDS: Final = 0.0625


class Slot:
    """The events of a short time, which expire together."""

    __slots__ = ("first", "requests", "tokens", "until")

    def __init__(self, now: float) -> None:
        self.first = now
        #: When it expires; infinitely long ago for a slot that has expired.
        self.until = now + WINDOW_SECONDS
        self.requests = 0
        self.tokens = 0


class SlidingWindow:
    """The requests and tokens of the last 60 seconds."""

    __slots__ = ("_slots", "requests", "tokens")

    def __init__(self) -> None:
        self._slots: deque[Slot] = deque()
        self.requests = 0
        self.tokens = 0

    def forget(self, now: float) -> None:
        """Drop what is 60 seconds old. Call it before each other method."""
        slots = self._slots
        while slots and slots[0].until <= now:
            slot = slots.popleft()
            slot.until = -math.inf
            self.requests -= slot.requests
            self.tokens -= slot.tokens
        if slots and slots[-1].until > now + WINDOW_SECONDS:
            # The clock was set back.
            for slot in slots:
                slot.first = min(slot.first, now)
                slot.until = min(slot.until, now + WINDOW_SECONDS)

    def add(self, now: float, requests: int, tokens: int) -> Slot:
        """Count an event of this moment, and return the slot that holds it."""
        slots = self._slots
        slot = slots[-1] if slots else None
        if slot is None or now >= slot.first + SLOT_SECONDS:
            slot = Slot(now)
            slots.append(slot)
        slot.until = now + WINDOW_SECONDS
        self.change(slot, requests, tokens)
        return slot

    def change(self, slot: Slot, requests: int, tokens: int) -> None:
        """Add to what ``slot`` counts, if it still counts."""
        if slot.until > -math.inf:
            slot.requests += requests
            slot.tokens += tokens
            self.requests += requests
            self.tokens += tokens

    def requests_fit_after(self, now: float, limit: int) -> float:
        """The seconds until another request fits; 0 if it does."""
        excess = self.requests + 1 - limit
        if excess <= 0:
            return 0.0
        for slot in self._slots:
            excess -= slot.requests
            if excess <= 0:
                return slot.until - now
        return WINDOW_SECONDS

    def tokens_fit_after(self, now: float, limit: int, needed: int) -> float:
        """The seconds until ``needed`` more tokens fit; 0 if they do."""
        excess = self.tokens + needed - limit
        if excess <= 0:
            return 0.0
        for slot in self._slots:
            excess -= slot.tokens
            if excess <= 0:
                return slot.until - now
        return WINDOW_SECONDS

    def requests_left_after(self, now: float) -> float:
        """The seconds until no request counts."""
        return next((each.until - now for each in reversed(self._slots) if each.requests), 0.0)

    def tokens_left_after(self, now: float) -> float:
        """The seconds until no token counts."""
        return next((each.until - now for each in reversed(self._slots) if each.tokens), 0.0)
