"""Decide whether a request is sent again, and with which key. No other module decides this.

:func:`decide` is pure: it gets the attempts so far, the operator's settings and the time, and
returns :class:`Stop`, :class:`SameKey` or :class:`OtherKey`. Only the pool knows whether a key can
be had, so the last two also say what to do if none is.

What would fail with every key is not repeated: a mistake of the client, a refused region, a host
without resources. If the upstream refused an option, the request may be sent to the same key
without it (:class:`Revision`). Everything else goes to another key, as long as there are attempts
and time left. If the failure does not concern the key (the service or the network failed) and no
other key is left, the same key is tried again after a pause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from gemproxy.core.attribution import PastAttempt
from gemproxy.pool.outcome import Outcome, Verdict

#: HTTP 200 without an answer: a second one is final.
MAX_UNUSABLE: Final = 2
#: A dead connection is noticed after half a minute, and a connection that cannot be made after
#: ``upstream.connectTimeoutSeconds``. The client should get its error within a minute.
MAX_LOST_ON_THE_WAY: Final = 2
#: The failure concerns the key or its project: only another key may serve.
KEYS_FAULT: Final = frozenset(
    {
        Verdict.QUOTA_MINUTE,
        Verdict.QUOTA_DAY,
        Verdict.KEY,
        Verdict.MODEL_DENIED,
        Verdict.FORBIDDEN,
    }
)
#: The failure does not concern the key: if there is no other, it may be tried again.
SAME_KEY_MAY_SERVE: Final = frozenset({Verdict.SERVICE, Verdict.NETWORK, Verdict.UNUSABLE})
_ANOTHER_KEY_MAY_SERVE: Final = KEYS_FAULT | SAME_KEY_MAY_SERVE


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """The operator's settings. Times in seconds.

    ``backoff`` is the pause before the same key is used again; it doubles with each attempt.
    ``first_chunk_retry`` allows another attempt after the upstream began a stream, as long as the
    client has received nothing of it.
    """

    max_attempts: int = 3
    backoff: float = 0.1
    request_timeout: float = 1200.0
    first_chunk_retry: bool = True


class Revision(Struct, frozen=True):
    """Another form of a request, without what the upstream refused.

    ``is_attempt``: it counts towards the allowed attempts. ``needs_same_key``: no other key is
    tried instead.
    """

    reason: str
    is_attempt: bool
    needs_same_key: bool


class Stop(Struct, frozen=True):
    """The outcome is final."""


class SameKey(Struct, frozen=True):
    """Send the request to the last key again, in the form of ``revision``.

    ``or_other``: if that key is not eligible, use another one.
    """

    revision: Revision
    or_other: bool


class OtherKey(Struct, frozen=True):
    """Send the request to another key.

    If none is eligible, use the last key again after ``or_same_after`` seconds; not if it is
    ``None``.
    """

    or_same_after: float | None


STOP: Final = Stop()


def decide(
    failed: Outcome,
    attempts: Sequence[PastAttempt],
    now: float,
    settings: RetrySettings,
    *,
    deadline: float,
    answered: bool = False,
    revision: Revision | None = None,
) -> Stop | SameKey | OtherKey:
    """What to do after ``failed``, the outcome of the last of ``attempts``.

    ``deadline`` is when the request times out. ``answered``: the upstream had begun to answer with
    a stream. ``revision`` is the form in which the request could be sent instead.
    """
    tries = len(attempts)
    if revision is not None and (not revision.is_attempt or tries < settings.max_attempts):
        return SameKey(revision, or_other=not revision.needs_same_key)
    if (
        failed.verdict not in _ANOTHER_KEY_MAY_SERVE
        or tries >= settings.max_attempts
        or unusable(attempts) >= MAX_UNUSABLE
        or _lost_on_the_way(attempts) >= MAX_LOST_ON_THE_WAY
        or now >= deadline
        or (answered and not settings.first_chunk_retry)
    ):
        return STOP
    if failed.verdict not in SAME_KEY_MAY_SERVE:
        return OtherKey(None)
    return OtherKey(settings.backoff * 2.0 ** (tries - 1))


def unusable(attempts: Sequence[PastAttempt]) -> int:
    """How many of ``attempts`` got an HTTP 200 without an answer."""
    return sum(attempt.outcome.verdict is Verdict.UNUSABLE for attempt in attempts)


def _lost_on_the_way(attempts: Sequence[PastAttempt]) -> int:
    """How many timed out before they reached the upstream, on the network that all keys share."""
    return sum(attempt.outcome.timed_out and attempt.outcome.spares_key for attempt in attempts)
