"""``GET /v1/usage/me``: what the client that asks has used today and this month.

It counts against no limit, and is in no usage itself (:data:`gemproxy.telemetry.usage.MY_USAGE`).
What is not limited is ``null``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import msgspec

from gemproxy.api.base import Head, Route
from gemproxy.api.openai.errors import OPENAI
from gemproxy.core.clients import Budget, Client, Limits
from gemproxy.core.context import RequestContext
from gemproxy.core.limits import ANONYMOUS, Used, each_limit

#: Name of the client -> its usage today and this month, as values that JSON can encode.
ReadUsage = Callable[[str], Awaitable["OwnUsage"]]


class OwnUsage(NamedTuple):
    """The usage of one client."""

    today: object
    month: object


class _Answer(msgspec.Struct, frozen=True):
    client: str
    limits: Limits
    #: By the names in the settings.
    remaining: dict[str, float | None]
    budget: Budget
    today: object
    month: object


class MyUsageEndpoint:
    """See the module and :class:`gemproxy.api.base.LocalEndpoint`.

    ``used`` returns what a client has used of its own limits.
    """

    route: Final = Route("/v1/usage/me", (b"GET", b"HEAD"), OPENAI, is_limited=False)

    def __init__(self, read: ReadUsage, used: Callable[[Client], Used]) -> None:
        self._read = read
        self._used = used

    async def answer(self, head: Head, context: RequestContext) -> bytes:
        """See :meth:`gemproxy.api.base.LocalEndpoint.answer`."""
        del head
        caller = context.caller
        name = caller.name or ANONYMOUS
        own = await self._read(name)
        used = self._used(caller)
        left = {name: _left(most, taken) for name, most, taken in each_limit(caller, used)}
        return msgspec.json.encode(_Answer(name, caller.limits, left, caller.budget, *own))


def _left(limit: float | None, used: float) -> float | None:
    """What is left of a limit."""
    if limit is None:
        return None
    return round(max(limit - used, 0), 9)
