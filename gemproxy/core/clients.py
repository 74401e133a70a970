"""Who sends a request: what a client may ask, and how much.

A :class:`Client` is a value. It comes from ``proxy.accessTokens``, from ``clients.yaml`` or from
the admin API, or it stands for everybody without a token, or for the operator. A reload makes new
values; a request keeps the one that it began with. Its limits and its budget are encoded in answers
as they are, with the names of the settings.

What nearly no client has is summed up in a flag, so that a request of any other client pays for one
look: :attr:`Client.is_restricted` for what is checked with the head, :attr:`Client.is_limited` for
limits and budgets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, tzinfo
from enum import Enum
from fnmatch import translate
from functools import lru_cache
from math import inf
from typing import Any, Final, NamedTuple

from msgspec import Struct
from msgspec import field as json_field

from gemproxy.core.errors import Forbidden
from gemproxy.core.owner import NOBODY, Owner

#: The value of one setting of a client.
ClientValue = str | int | float | bool | None | tuple[str, ...]
ClientSettings = Mapping[str, ClientValue]
"""The settings of a client that somebody has given, by their names in the file.

A nested one has both names: ``limits.rpm``. What is left out is that of ``defaults``.
"""


class Limits(Struct, frozen=True):
    """What a client may use; ``None``: no limit.

    Requests and tokens in 60 seconds, requests and tokens on a calendar day, requests in flight.
    """

    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None
    tpd: int | None = None
    concurrent: int | None = None


class Budget(Struct, frozen=True):
    """The estimated cost, in US dollars, that a client may cause; ``None``: no limit."""

    usd_per_day: float | None = json_field(default=None, name="usdPerDay")
    usd_per_month: float | None = json_field(default=None, name="usdPerMonth")


class Priority(Enum):
    """Whose requests are served first while keys are short."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


#: What holds where neither a client nor ``defaults`` says anything.
CLIENT_DEFAULTS: Final[ClientSettings] = {
    "enabled": True,
    "expires": None,
    "models": (),
    "endpoints": (),
    "addresses": (),
    "limits.rpm": None,
    "limits.tpm": None,
    "limits.rpd": None,
    "limits.tpd": None,
    "limits.concurrent": None,
    "budget.usdPerDay": None,
    "budget.usdPerMonth": None,
    "priority": Priority.NORMAL.value,
    "debug": False,
}


class Expiry(NamedTuple):
    """When a token ends: as the operator wrote it, and the epoch time from which it is invalid."""

    text: str
    at: float


_LIMITS = Limits.__struct_fields__
_BUDGETS = Budget.__struct_fields__
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
            getattr(some, name) is not None
            for some, names in ((self.limits, _LIMITS), (self.budget, _BUDGETS))
            for name in names
        )
        object.__setattr__(self, "is_restricted", restricted)
        object.__setattr__(self, "is_limited", limited)


#: Everybody without a token, where no limits were set for them.
ANONYMOUS = Client()


def make_client(
    name: str | None,
    source: str | None,
    settings: ClientSettings,
    owner: Owner,
    zone: tzinfo,
    *,
    debug: bool | None = None,
) -> Client:
    """The client with all these ``settings``, its missing ones from :data:`CLIENT_DEFAULTS`.

    Dates end in ``zone``. Raises :class:`ValueError` and :class:`TypeError` for settings that no
    file and no request can have given.
    """
    whole: dict[str, Any] = {**CLIENT_DEFAULTS, **settings}
    expires = whole["expires"]
    return Client(
        name,
        whole["debug"] if debug is None else debug,
        owner=owner,
        source=source,
        enabled=whole["enabled"],
        expires=None if expires is None else expiry_of(expires, zone),
        models=whole["models"],
        endpoints=whole["endpoints"],
        addresses=whole["addresses"],
        limits=Limits(*(whole[f"limits.{name}"] for name in _LIMITS)),
        budget=Budget(whole["budget.usdPerDay"], whole["budget.usdPerMonth"]),
        priority=Priority(whole["priority"]),
    )


def expiry_of(text: str, zone: tzinfo) -> Expiry:
    """When a token with this ``expires`` ends: a date at its end in ``zone``, or an RFC 3339 time.

    Raises :class:`ValueError` for any other text.
    """
    if _DATE.fullmatch(text):
        day = date.fromisoformat(text)
        if day == date.max:
            return Expiry(text, inf)
        # A day may begin later than at midnight, where the clocks are put forward at that time.
        return Expiry(text, datetime.combine(day + timedelta(days=1), time(), zone).timestamp())
    if not _TIME.fullmatch(text):
        raise ValueError(text)
    # Python has no leap seconds.
    moment = datetime.fromisoformat(_LEAP_SECOND.sub(":59", text.upper()))
    return Expiry(text, moment.timestamp())


def require_model(client: Client, asked: str, model: str) -> None:
    """Raise :class:`Forbidden` unless ``client`` may ask the model.

    ``asked`` is the name that the client has used, ``model`` the upstream's. Call this only if the
    client has ``models``.
    """
    if not may_ask(client.models, asked, model):
        raise Forbidden(
            f"The client '{client.name or 'anonymous'}' may not use the model '{asked[:200]}'.",
            param="model",
            reason="model_not_allowed",
        )


def may_ask(patterns: Sequence[str], *names: str) -> bool:
    """Whether one of ``names`` matches one of the shell-style ``patterns``, or there are none.

    ``models/`` in front of a name makes no difference.
    """
    matches = _matcher(tuple(patterns)) if patterns else None
    return matches is None or any(matches(name.removeprefix("models/")) for name in names)


@lru_cache(maxsize=1024)
def _matcher(patterns: tuple[str, ...]) -> Callable[[str], object]:
    bare = (pattern.removeprefix("models/") for pattern in patterns)
    return re.compile("|".join(map(translate, bare))).match


_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_LEAP_SECOND = re.compile(r"(?<=T[0-9]{2}:[0-9]{2}):60")
