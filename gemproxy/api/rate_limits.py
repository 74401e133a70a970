"""The headers that tell clients how much is left of their own limits.

OpenAI's names are used in every dialect but Anthropic's (platform.openai.com
``guides/rate-limits``, docs.anthropic.com ``api/rate-limits``). A limit that is not set has no
headers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from gemproxy.core.limits import Standing

#: Encodes a standing; the epoch time of the answer is for those that tell moments.
LimitHeaders = Callable[[Standing, float], Iterator[tuple[bytes, bytes]]]

_NAMES: Final = (b"requests", b"tokens")


def openai_limit_headers(standing: Standing, _wall: float) -> Iterator[tuple[bytes, bytes]]:
    """``x-ratelimit-remaining-requests`` and so on; ``reset`` is a duration such as ``6m0s``."""
    for name, window in zip(_NAMES, standing, strict=True):
        if window is not None:
            yield b"x-ratelimit-limit-" + name, b"%d" % window.limit
            yield b"x-ratelimit-remaining-" + name, b"%d" % window.remaining
            yield b"x-ratelimit-reset-" + name, _duration(window.reset)


def anthropic_limit_headers(standing: Standing, wall: float) -> Iterator[tuple[bytes, bytes]]:
    """``anthropic-ratelimit-requests-remaining`` and so on; ``reset`` is a time of RFC 3339."""
    for name, window in zip(_NAMES, standing, strict=True):
        if window is not None:
            begin = b"anthropic-ratelimit-%b-" % name
            yield begin + b"limit", b"%d" % window.limit
            yield begin + b"remaining", b"%d" % window.remaining
            yield begin + b"reset", _time(wall + window.reset)


def _duration(seconds: float) -> bytes:
    """As OpenAI writes it: ``17ms``, ``8.64s``, ``6m0s``, ``1h2m3s``; rounded up."""
    milliseconds = math.ceil(max(0.0, seconds) * 1000)
    if milliseconds < 1000:
        return b"%dms" % milliseconds
    whole, rest = divmod(milliseconds, 60_000)
    text = f"{rest / 1000:g}s"
    if whole:
        hours, minutes = divmod(whole, 60)
        text = (f"{hours}h" if hours else "") + f"{minutes}m" + text
    return text.encode("ascii")


def _time(wall: float) -> bytes:
    moment = _EPOCH + timedelta(seconds=math.ceil(wall))
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ").encode("ascii")


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
