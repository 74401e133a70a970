"""The headers that tell clients how much is left of their own limits.

OpenAI's names are used in every dialect but Anthropic's (platform.openai.com
``guides/rate-limits``, docs.anthropic.com ``api/rate-limits``). A limit that is not set has no
headers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from gemproxy.core.limits import Standing

#: Encodes a standing as lines of a head; the epoch time of the answer is for those that tell
#: moments.
LimitHeaders = Callable[[Standing, float], bytes]

_OPENAI: Final = (
    b"x-ratelimit-limit-%b: %%d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%b\r\n"
)
_ANTHROPIC: Final = (
    b"anthropic-ratelimit-%b-limit: %%d\r\nanthropic-ratelimit-%b-remaining: %%d\r\n"
    b"anthropic-ratelimit-%b-reset: %%b\r\n"
)
_OPENAI_REQUESTS, _OPENAI_TOKENS = (_OPENAI % ((name,) * 3) for name in (b"requests", b"tokens"))
_ANTHROPIC_REQUESTS, _ANTHROPIC_TOKENS = (
    _ANTHROPIC % ((name,) * 3) for name in (b"requests", b"tokens")
)


def openai_limit_headers(standing: Standing, _wall: float) -> bytes:
    """``x-ratelimit-remaining-requests`` and so on; ``reset`` is a duration such as ``6m0s``."""
    headers = b""
    requests, tokens = standing.requests, standing.tokens
    if requests is not None:
        reset = _duration(requests.reset)
        headers = _OPENAI_REQUESTS % (requests.limit, requests.remaining, reset)
    if tokens is not None:
        reset = _duration(tokens.reset)
        headers += _OPENAI_TOKENS % (tokens.limit, tokens.remaining, reset)
    return headers


def anthropic_limit_headers(standing: Standing, wall: float) -> bytes:
    """``anthropic-ratelimit-requests-remaining`` and so on; ``reset`` is a time of RFC 3339."""
    headers = b""
    requests, tokens = standing.requests, standing.tokens
    if requests is not None:
        reset = _time(wall + requests.reset)
        headers = _ANTHROPIC_REQUESTS % (requests.limit, requests.remaining, reset)
    if tokens is not None:
        reset = _time(wall + tokens.reset)
        headers += _ANTHROPIC_TOKENS % (tokens.limit, tokens.remaining, reset)
    return headers


def _duration(seconds: float) -> bytes:
    """As OpenAI writes it: ``17ms``, ``8.64s``, ``6m0s``, ``1h2m3s``; rounded up."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return b"%dms" % max(0, milliseconds)
    if milliseconds < 60_000:
        return b"%gs" % (milliseconds / 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    if minutes < 60:
        return b"%dm%gs" % (minutes, rest / 1000)
    return b"%dh%dm%gs" % (minutes // 60, minutes % 60, rest / 1000)


def _time(wall: float) -> bytes:
    moment = datetime.fromtimestamp(math.ceil(wall), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ").encode("ascii")
