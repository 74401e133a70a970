"""``/admin/clients``: show, make, change, rotate and delete clients.

A change is in force at once, and on the disk before it is answered. What cannot be written is
undone if somebody has to learn a token from the answer; a client that was restricted or deleted
stays so. A token is shown once, in the answer that made it.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec

from gemproxy.config import yaml_nodes
from gemproxy.config.client_file import SETTINGS, read_name, read_settings
from gemproxy.config.kinds import Number
from gemproxy.config.reading import FileReader
from gemproxy.core.audit import Actor, AuditEvent
from gemproxy.core.client_registry import ClientRegistry, ClientRow
from gemproxy.core.clients import (
    CLIENT_DEFAULTS,
    Budget,
    Client,
    ClientSettings,
    ClientValue,
    Limits,
)
from gemproxy.core.decode_errors import malformed
from gemproxy.core.errors import Conflict, InvalidRequest, NotFound, Unavailable
from gemproxy.core.limits import Used
from gemproxy.telemetry.usage_reports import Usage, UsageReports

#: Of a token, which has 43 characters more.
PREFIX: Final = "gpx_"
_TOKEN_BYTES: Final = 32
_ID_BYTES: Final = 16
#: A year; the longest grace.
_GRACE: Final = Number(most=366 * 86400.0)
_NESTED: Final = ("limits", "budget")
_NEVER_SHOWN: Final = "is one of the secrets; names and patterns are shown, secrets never"
#: Clients whose answers are made in one turn of the reactor.
_CLIENTS_AT_ONCE: Final = 100


class ClientAnswer(msgspec.Struct, frozen=True):
    """Schema ``Client``: with what the defaults say where the client says nothing."""

    name: str
    source: str
    enabled: bool
    expires: str | None
    models: tuple[str, ...]
    endpoints: tuple[str, ...]
    addresses: tuple[str, ...]
    limits: Limits
    budget: Budget
    priority: str
    debug: bool
    last_seen: datetime | None
    used: Used
    today: Usage


class ClientsAnswer(msgspec.Struct, frozen=True):
    """All clients: those of the file in its order, then the others by name."""

    clients: tuple[ClientAnswer, ...]


class TokenAnswer(msgspec.Struct, frozen=True):
    """A client with its new token, which is not shown again."""

    client: ClientAnswer
    token: str


class DeletedAnswer(msgspec.Struct, frozen=True):
    """A client was deleted."""

    success: bool
    message: str


@dataclass(frozen=True)
class ClientParts:
    """What the routes of clients need of the daemon.

    ``save`` writes the state, and tells whether it is on the disk. ``changed`` is called after each
    change, ``audit`` with its event. ``used`` tells what clients have used of their limits by their
    names, ``last_seen`` when the client of a name was seen last. ``scrub`` removes live secrets.
    Without a state (``has_state``) no client can be made.
    """

    registry: ClientRegistry
    save: Callable[[], Awaitable[bool]]
    changed: Callable[[], None]
    audit: Callable[[AuditEvent], None]
    usage: UsageReports
    used: Callable[[Sequence[Client]], Awaitable[Mapping[str, Used]]]
    last_seen: Callable[[str], float | None]
    wall: Callable[[], float]
    pause: Callable[[], Awaitable[None]]
    scrub: Callable[[str], str]
    has_state: bool = True


class ClientRoutes:
    """See the module. Each method raises :class:`~gemproxy.core.errors.ProxyError`."""

    def __init__(self, parts: ClientParts) -> None:
        self._parts = parts
        self._registry = parts.registry

    # -- what is shown ---------------------------------------------------------------------------

    async def all(self) -> ClientsAnswer:
        """Every client."""
        clients = self._registry.clients()
        today, used = await self._today(None), await self._parts.used(clients)
        shown = []
        for number, client in enumerate(clients):
            if number % _CLIENTS_AT_ONCE == 0:
                await self._parts.pause()
            shown.append(self._shown(client, today, used))
        return ClientsAnswer(tuple(shown))

    async def one(self, name: str) -> ClientAnswer:
        """The client of this name."""
        client = self._registry.client(name)
        today, used = await self._today(name), await self._parts.used([client])
        return self._shown(client, today, used)

    async def _today(self, name: str | None) -> Mapping[str, Usage]:
        """What each client, or one of them, has used today."""
        reports = self._parts.usage
        filters = {} if name is None else {"client": (name,)}
        now = reports.now()
        report = await reports.report(reports.days(now, now), ("client",), filters)
        return {client: usage for (client,), usage in report.take()}

    def _shown(
        self, client: Client, today: Mapping[str, Usage], used: Mapping[str, Used]
    ) -> ClientAnswer:
        name = client.name or ""
        seen = self._parts.last_seen(name)
        return ClientAnswer(
            name,
            client.source or "",
            client.enabled,
            client.expires and client.expires.text,
            client.models,
            client.endpoints,
            client.addresses,
            client.limits,
            client.budget,
            client.priority.value,
            client.debug,
            None if seen is None else datetime.fromtimestamp(int(seen), UTC),
            used[name],
            today.get(name, Usage()),
        )

    # -- what is changed -------------------------------------------------------------------------

    async def make(self, body: bytes, actor: Actor) -> TokenAnswer:
        """Make a client."""
        if not self._parts.has_state:
            raise _no_state()
        reader, entries = _entries(body, ("name", *SETTINGS))
        settings = self._read(reader, entries)
        name = read_name(reader, entries["name"], "name") if "name" in entries else None
        if "name" not in entries:
            reader.fault("name", "is missing")
        if name is not None and self._parts.scrub(name) != name:
            reader.fault("name", _NEVER_SHOWN)
        _raise_fault(reader)
        token = _new_token()
        self._registry.make(name or "", settings, _digest(token), secrets.token_hex(_ID_BYTES))
        self._record(actor, "client.create", name or "", {}, _shown_settings(settings))
        self._parts.changed()
        if not await self._parts.save():
            self._registry.delete(name or "")
            self._record(actor, "client.delete", name or "", {}, {"reason": "it was not written"})
            raise _unwritten("The client was not made")
        return TokenAnswer(await self.one(name or ""), token)

    def _read(
        self, reader: FileReader, entries: Mapping[str, yaml_nodes.Entry]
    ) -> dict[str, ClientValue]:
        """The settings in a body. A model's pattern is kept and shown, so it is no secret."""
        settings, scrub = read_settings(reader, entries, ""), self._parts.scrub
        patterns = settings.get("models")
        for place, pattern in enumerate(patterns if isinstance(patterns, tuple) else ()):
            if scrub(pattern) != pattern:
                reader.fault(f"models[{place}]", _NEVER_SHOWN)
        return settings

    async def change(self, name: str, body: bytes, actor: Actor) -> ClientAnswer:
        """Change the settings in the body; ``null`` for ``limits`` or ``budget`` drops them all."""
        row = self._changeable(name)
        reader, entries = _entries(body, ("name", *SETTINGS))
        given = self._read(reader, entries)
        if "name" in entries and read_name(reader, entries["name"], "name") != name:
            reader.fault("name", "a client keeps its name, under which its usage is counted")
        _raise_fault(reader)
        dropped = [f"{each}." for each in _NESTED if _is_null(entries, each)]
        kept = {
            setting: value
            for setting, value in row.settings.items()
            if not setting.startswith(tuple(dropped))
        }
        settings: dict[str, ClientValue] = {**kept, **given}
        if settings != row.settings:
            self._registry.change(name, settings)
            before, after = _difference(row.settings, settings)
            self._record(actor, "client.update", name, before, after)
            self._parts.changed()
        # Also if nothing is changed: the same change may have been made before and not be written.
        if not await self._parts.save():
            raise _unwritten("The change is in force")
        return await self.one(name)

    async def rotate(self, name: str, body: bytes, actor: Actor) -> TokenAnswer:
        """Give a client a new token."""
        row = self._changeable(name)
        grace = 0.0
        if body.strip():
            reader, entries = _entries(body, ("graceSeconds",))
            if "graceSeconds" in entries:
                grace = reader.value(_GRACE, entries["graceSeconds"].value, "graceSeconds", 0.0)
            _raise_fault(reader)
        token = _new_token()
        self._registry.rotate(name, _digest(token), grace)
        self._record(actor, "client.rotate", name, {}, {"grace_seconds": grace})
        if not await self._parts.save():
            self._undo_rotation(row, _digest(token), actor)
            raise _unwritten("The token was not rotated")
        return TokenAnswer(await self.one(name), token)

    def _changeable(self, name: str) -> ClientRow:
        try:
            return self._registry.changeable(name)
        except NotFound:
            if not self._parts.has_state:
                raise _no_state() from None
            raise

    def _undo_rotation(self, row: ClientRow, digest: str, actor: Actor) -> None:
        present = self._registry.row(row.name)
        # Unless somebody else has rotated or deleted it since.
        if present is not None and present.digest == digest:
            self._registry.put(row)
            self._record(actor, "client.rotate", row.name, {}, {"reason": "it was not written"})

    async def delete(self, name: str, actor: Actor) -> DeletedAnswer:
        """Revoke the tokens of a client."""
        row = self._registry.row(name)
        if row is not None and row.is_deleted and not await self._parts.save():
            # An earlier deletion was not written, and the operator repeats it.
            raise _unwritten("The client is deleted")
        row = self._registry.changeable(name)
        self._registry.delete(name)
        self._record(actor, "client.delete", name, _shown_settings(row.settings), {})
        if not await self._parts.save():
            raise _unwritten("The client is deleted")
        return DeletedAnswer(True, f"The client {name} is deleted; its usage stays.")

    def _record(
        self,
        actor: Actor,
        action: str,
        name: str,
        before: Mapping[str, ClientValue],
        after: Mapping[str, ClientValue],
    ) -> None:
        self._parts.audit(
            AuditEvent(
                at=self._parts.wall(),
                actor=actor,
                action=action,
                target=name,
                target_id=None,
                before=before,
                after=after,
            )
        )


def _entries(body: bytes, known: tuple[str, ...]) -> tuple[FileReader, dict[str, yaml_nodes.Entry]]:
    """The fields of the body, as the settings of a file. Raises :class:`InvalidRequest`."""
    try:
        value: Any = msgspec.json.decode(body)
        node = yaml_nodes.node_of(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    reader = FileReader(Path("body"), {})
    return reader, reader.entries(node, "", known) or {}


def _is_null(entries: Mapping[str, yaml_nodes.Entry], name: str) -> bool:
    return name in entries and yaml_nodes.is_null(entries[name].value)


def _raise_fault(reader: FileReader) -> None:
    """Raise :class:`InvalidRequest` for the first mistake in a body."""
    for fault in reader.faults.found():
        place = f"{fault.path}: " if fault.path else ""
        raise InvalidRequest(f"{place}{fault.message}.", param=fault.path or None)


def _difference(
    before: ClientSettings, after: ClientSettings
) -> tuple[dict[str, ClientValue], dict[str, ClientValue]]:
    """What differs, on both sides."""
    names = [
        name
        for name in CLIENT_DEFAULTS
        if (name in before, before.get(name)) != (name in after, after.get(name))
    ]
    return (
        {name: before[name] for name in names if name in before},
        {name: after[name] for name in names if name in after},
    )


def _shown_settings(settings: ClientSettings) -> dict[str, ClientValue]:
    return {name: settings[name] for name in CLIENT_DEFAULTS if name in settings}


def _new_token() -> str:
    return PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def _digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()


def _no_state() -> Conflict:
    # Its token would be unknown after a restart, and anonymous requests might be let in again.
    return Conflict(
        "Clients that are made at run time need persistence.path, which is null; put them into"
        " clients.yaml.",
        reason="no_persistence",
    )


def _unwritten(what: str) -> Unavailable:
    return Unavailable(
        f"{what}, but the state cannot be written to the disk at present; see persistence in"
        " GET /admin/health.",
        reason="state_not_written",
        retry_after=5,
    )
