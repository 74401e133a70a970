"""Ids and signatures as Anthropic's clients see them.

A thinking block's signature carries the thought signature of the block that follows it, with the
model that made it: another model would refuse it. The id of a call carries the id that Gemini gave
it after a random part, because Gemini's are short numbers that repeat, and clients need ids that
are unique in a conversation. Both come back unchanged; a signature or an id in another form is from
somewhere else, and nothing is read from it.
"""

from __future__ import annotations

import re

from gemproxy.translate.shared.calls import CallReader
from gemproxy.translate.shared.function_calls import usable_signature

_PREFIX = "gp1."
_CALL = re.compile(r"toolu_[0-9a-f]{24}(?:_(?P<upstream>[A-Za-z0-9_-]{1,64}))?")
_EMBEDDABLE = re.compile(r"[A-Za-z0-9_-]{1,64}")


def carrying(signature: str, model: str) -> str:
    """The signature of a thinking block that carries ``signature``, which ``model`` made."""
    return f"{_PREFIX}{model}.{signature}"


def carried(signature: str | None, model: str) -> str | None:
    """The thought signature in a thinking block's, if ``model`` made it."""
    if signature is None or not signature.startswith(_PREFIX):
        return None
    made_by, _, found = signature[len(_PREFIX) :].rpartition(".")
    return usable_signature(found) if made_by == model else None


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
