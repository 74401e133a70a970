"""``GET /v1/usage/me``: what the client that asks has used today and this month.

It counts against no limit, and is in no usage itself (:data:`gemproxy.telemetry.usage.MY_USAGE`).
Limits and budgets of clients do not exist yet: they are ``null``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import msgspec

from gemproxy.api.base import Head, Route
from gemproxy.api.openai.errors import OPENAI
from gemproxy.core.context import RequestContext

#: Name of the client -> its usage today and this month, as values that JSON can encode.
ReadUsage = Callable[[str], Awaitable["OwnUsage"]]


class OwnUsage(NamedTuple):
    """The usage of one client."""

    today: object
    month: object


class _Limits(msgspec.Struct, frozen=True):
    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None
    tpd: int | None = None
    concurrent: int | None = None


class _Budget(msgspec.Struct, frozen=True):
    usd_per_day: float | None = msgspec.field(default=None, name="usdPerDay")
    usd_per_month: float | None = msgspec.field(default=None, name="usdPerMonth")


class _Answer(msgspec.Struct, frozen=True):
    client: str
    limits: _Limits
    remaining: _Limits
    budget: _Budget
    today: object
    month: object


class MyUsageEndpoint:
    """See the module and :class:`gemproxy.api.base.LocalEndpoint`.

    ``anonymous`` is the name of clients without a token.
    """

    route: Final = Route("/v1/usage/me", (b"GET", b"HEAD"), OPENAI)

    def __init__(self, read: ReadUsage, anonymous: str) -> None:
        self._read = read
        self._anonymous = anonymous

    async def answer(self, body: bytes, head: Head, context: RequestContext) -> bytes:  # noqa: ARG002
        """See :meth:`gemproxy.api.base.LocalEndpoint.answer`."""
        client = context.client or self._anonymous
        own = await self._read(client)
        return msgspec.json.encode(_Answer(client, _Limits(), _Limits(), _Budget(), *own))
