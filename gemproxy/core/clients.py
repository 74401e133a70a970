"""Who sends a request: what a client may ask, and how much.

A :class:`Client` is a value. It comes from ``proxy.accessTokens``, from ``clients.yaml`` or from
the admin API, or it stands for everybody without a token, or for the operator. A reload makes new
values; a request keeps the one that it began with.

What nearly no client has is summed up in a flag, so that a request of any other client pays for one
look: :attr:`Client.is_restricted` for what is checked with the head, :attr:`Client.is_limited` for
limits and budgets.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import NamedTuple

from gemproxy.core.owner import NOBODY, Owner


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may use; ``None``: no limit.

    Requests and tokens in 60 seconds, requests and tokens on a calendar day, requests in flight.
    """

    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None
    tpd: int | None = None
    concurrent: int | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """The estimated cost, in US dollars, that a client may cause; ``None``: no limit."""

    usd_per_day: float | None = None
    usd_per_month: float | None = None


class Priority(Enum):
    """Whose requests are served first while keys are short."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Expiry(NamedTuple):
    """When a token ends: as the operator wrote it, and the epoch time from which it is invalid."""

    text: str
    at: float


NO_LIMITS = Limits()
NO_BUDGET = Budget()


@dataclass(frozen=True)
class Client:
    """The sender of a request.

    ``name`` is ``None`` for all without a token. A ``debug`` client is told which key served it.
    ``admin`` is the operator. ``owner`` is for what is kept for the client.
    """

    name: str | None = None
    debug: bool = False
    admin: bool = False
    owner: Owner = field(default=NOBODY, compare=False)
    #: ``file`` (clients.yaml) or ``api``; ``None`` for any other.
    source: str | None = None
    enabled: bool = True
    expires: Expiry | None = None
    #: Shell-style patterns of the models that it may ask; empty: all.
    models: tuple[str, ...] = ()
    #: Names of the endpoints that it may use (:mod:`gemproxy.core.endpoint_names`); empty: all.
    endpoints: tuple[str, ...] = ()
    #: Networks in CIDR notation that its token is valid from; empty: all.
    addresses: tuple[str, ...] = ()
    limits: Limits = NO_LIMITS
    budget: Budget = NO_BUDGET
    priority: Priority = Priority.NORMAL
    #: Whether its enabling, expiry, endpoints or addresses have to be checked.
    is_restricted: bool = field(init=False, repr=False, compare=False, default=False)
    #: Whether it has a limit or a budget.
    is_limited: bool = field(init=False, repr=False, compare=False, default=False)

    def __post_init__(self) -> None:
        """Sum up what most clients do not have."""
        restricted = not self.enabled or self.expires is not None
        restricted = restricted or bool(self.endpoints or self.addresses)
        limited = any(
            getattr(some, each.name) is not None
            for some in (self.limits, self.budget)
            for each in fields(some)
        )
        object.__setattr__(self, "is_restricted", restricted)
        object.__setattr__(self, "is_limited", limited)


#: Everybody without a token, where no limits were set for them.
ANONYMOUS = Client()
