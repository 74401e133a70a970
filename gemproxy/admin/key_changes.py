"""Change many keys at once, and select keys.

Ten thousand keys are changed in steps of a hundred, between which other requests run.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from itertools import islice
from typing import Final

import msgspec

from gemproxy.core.decode_errors import malformed
from gemproxy.core.errors import InvalidRequest
from gemproxy.pool.pool import KeyPool, KeyStatus, UnknownKey
from gemproxy.pool.status import STATES, is_in, state_named

#: Keys that are changed in one turn of the reactor; takes a few milliseconds.
_AT_ONCE: Final = 100
_UNKNOWN_FIELD = re.compile(r"unknown field `(?P<field>.*?)`", re.DOTALL)


class KeySelection(msgspec.Struct, frozen=True):
    """The keys in ``state`` and of ``project``; ``None`` selects all."""

    state: str | None = None
    project: str | None = None

    def admits(self, key: KeyStatus) -> bool:
        """Whether ``key`` is selected."""
        if self.project is not None and key.project != self.project:
            return False
        return self.state is None or is_in(key, self.state)

    @property
    def words(self) -> dict[str, str]:
        """The conditions, for the audit event."""
        fields = {"state": self.state, "project": self.project}
        return {name: value for name, value in fields.items() if value is not None}


class _BulkBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    all: bool = False
    state: str | None = None
    project: str | None = None


def decode_selection(body: bytes) -> KeySelection:
    """Decode the body of a change of many keys: ``{"all": true}``, perhaps with conditions.

    Raises :class:`~gemproxy.core.errors.InvalidRequest`, also without ``all``: an empty body must
    not reset every key.
    """
    try:
        asked = _DECODER.decode(body or b"{}")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        unknown = _UNKNOWN_FIELD.search(str(error))
        if unknown is not None:
            field = unknown["field"][:100]
            known = "all, state and project are known"
            raise InvalidRequest(f"{field}: unknown field; {known}.", param=field) from None
        raise malformed(error) from None
    if not asked.all:
        raise InvalidRequest("all: expected true; many keys are about to change.", param="all")
    return selection(asked.state, asked.project)


def selection(state: str | None, project: str | None) -> KeySelection:
    """The selection of keys in ``state`` and of ``project``. Raises :class:`InvalidRequest`."""
    if state is None:
        return KeySelection(None, project)
    known = state_named(state)
    if known is None:
        raise InvalidRequest(f"state: expected one of {', '.join(STATES)}.", param="state")
    return KeySelection(known, project)


async def selected(
    pool: KeyPool, wanted: KeySelection, now: float, pause: Callable[[], Awaitable[None]]
) -> list[KeyStatus]:
    """The selected keys, in the file's order."""
    found: list[KeyStatus] = []
    statuses = pool.each_status(now)
    while some := list(islice(statuses, _AT_ONCE)):
        found += filter(wanted.admits, some)
        await pause()
    return found


async def change_many(
    pool: KeyPool, action: str, key_ids: Collection[str], pause: Callable[[], Awaitable[None]]
) -> None:
    """Apply ``action``, one of :data:`BULK_WORDS`, to each of these keys."""
    if action == "reset":
        steps = pool.reset_many(frozenset(key_ids), _AT_ONCE)
    else:
        steps = _each(pool.enable if action == "enable" else pool.disable, key_ids)
    for _ in steps:
        await pause()


def _each(act: Callable[[str], None], key_ids: Collection[str]) -> Iterator[None]:
    for number, key_id in enumerate(key_ids, 1):
        try:
            act(key_id)
        except UnknownKey:
            # A reload has removed the key in the meantime.
            continue
        if number % _AT_ONCE == 0:
            yield


BULK_WORDS: Final[Mapping[str, str]] = {
    "enable": "{keys} enabled.",
    "disable": "{keys} disabled until they are enabled again.",
    "reset": "{keys} reset: breakers are closed, cooldowns forgotten.",
}
"""What an operator is told was done to many keys, by the action."""

_DECODER = msgspec.json.Decoder(_BulkBody)
