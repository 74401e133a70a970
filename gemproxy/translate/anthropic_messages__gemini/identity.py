"""Ids of calls as Anthropic's clients see them.

The id of a call carries the id that Gemini gave it after a random part, because Gemini's are short
numbers that repeat, and clients need ids that are unique in a conversation. It comes back
unchanged; an id in another form is from somewhere else, and nothing is read from it.
"""

from __future__ import annotations

import re

from gemproxy.translate.shared.calls import CallReader

_CALL = re.compile(r"toolu_[0-9a-f]{24}(?:_(?P<upstream>[A-Za-z0-9_-]{1,64}))?")
_EMBEDDABLE = re.compile(r"[A-Za-z0-9_-]{1,64}")


def upstream_call_id(call_id: str) -> str:
    """Gemini's id of the call that clients know as ``call_id``; empty if it had none."""
    found = _CALL.fullmatch(call_id)
    return (found["upstream"] or "") if found else ""


class MessageCallReader(CallReader):
    """Reads the calls of an answer; ``new_id`` gives 24 hexadecimal digits."""

    __slots__ = ()

    def _client_id(self, upstream_id: str | None) -> str:
        fresh = f"toolu_{self._new_id()}"
        if upstream_id and _EMBEDDABLE.fullmatch(upstream_id):
            return f"{fresh}_{upstream_id}"
        return fresh
