"""Whether a request is sent once more, and with which key: the one place of that decision.

Pure: it sees the attempts so far, what the operator allows and the time, and gives one of
:class:`Stop`, :class:`SameKey` and :class:`OtherKey`. Whether a key can be had is the pool's
knowledge, so the last two say what to do if it cannot.

Nothing is repeated that would fail alike with every key: the client's own mistakes, a refused
region, a host without resources. A refused option may be left out (:class:`Revision`); that is
another request to the same key. Everything else goes to another key, as long as there are attempts
and time left. Where nothing speaks against the key (the service failed, or the network) it may be
asked again after a pause, if it is the only one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from msgspec import Struct

from gemproxy.pool.outcome import Outcome, Verdict

#: An HTTP 200 without an answer in it is asked for once more, not as often as there are keys.
MAX_UNUSABLE: Final = 2
#: A connection that dies in silence takes half a minute to be noticed, and one that cannot be made
#: ``upstream.connectTimeoutSeconds``: the client should hear of it before a minute is over.
MAX_LOST_ON_THE_WAY: Final = 2
#: They speak against the key or its project: only another key may serve.
KEYS_FAULT: Final = frozenset(
    {
        Verdict.QUOTA_MINUTE,
        Verdict.QUOTA_DAY,
        Verdict.KEY,
        Verdict.MODEL_DENIED,
        Verdict.FORBIDDEN,
    }
)
#: Nothing speaks against the key itself: where it is the only one it may be tried again.
SAME_KEY_MAY_SERVE: Final = frozenset({Verdict.SERVICE, Verdict.NETWORK, Verdict.UNUSABLE})
_ANOTHER_KEY_MAY_SERVE: Final = KEYS_FAULT | SAME_KEY_MAY_SERVE


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """What the operator allows. Times in seconds.

    ``backoff`` is the pause before the same key is used again; it doubles with each attempt.
    ``first_chunk_retry`` allows another attempt after a stream had begun upstream, as long as the
    client has seen nothing of it.
    """

    max_attempts: int = 3
    backoff: float = 0.1
    request_timeout: float = 1200.0
    first_chunk_retry: bool = True


class Revision(Struct, frozen=True):
    """Another form of a request, in which what the upstream refused is left out.

    ``is_attempt`` tells that it is one of those that the operator allows. ``needs_same_key`` tells
    that no other key is tried in its place.
    """

    reason: str
    is_attempt: bool
    needs_same_key: bool


class Stop(Struct, frozen=True):
    """The outcome is final."""


class SameKey(Struct, frozen=True):
    """The last key again, in the form of ``revision``; or another key, where that is allowed."""

    revision: Revision
    or_other: bool


class OtherKey(Struct, frozen=True):
    """Another key; or, where there is none, the last one after so many seconds.

    ``or_same_after`` is ``None`` where the last one may not be used again.
    """

    or_same_after: float | None


class PastAttempt(Protocol):
    """An attempt that has come to its end."""

    @property
    def outcome(self) -> Outcome:
        """The judgement on it."""


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

    ``deadline`` is the end of the request's time. ``answered`` tells that the upstream had begun to
    answer with a stream. ``revision`` is the form that the request could take instead.
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
    """How many of ``attempts`` brought an answer with nothing in it."""
    return sum(attempt.outcome.verdict is Verdict.UNUSABLE for attempt in attempts)


def _lost_on_the_way(attempts: Sequence[PastAttempt]) -> int:
    """How many waited in vain for a way to the upstream, which all keys share."""
    return sum(attempt.outcome.timed_out and attempt.outcome.spares_key for attempt in attempts)
