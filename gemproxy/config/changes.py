"""What a reload changes: compare two configurations."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from gemproxy.config.settings import SECTIONS, camel, described_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gemproxy.config.settings import Settings
    from gemproxy.core.clients import ClientSettings
    from gemproxy.pool.key import Key


@dataclass(frozen=True)
class KeyUpdate:
    """A key with the same secret and other ``settings``, named as in the file."""

    name: str
    settings: tuple[str, ...]


@dataclass(frozen=True)
class SettingsChange:
    """The changed settings by name, without values, so it may be shown.

    A client is identified by its name.

    ``settings`` are paths of proxy.yaml (``retry.maxAttempts``) and ``clients.defaults``;
    ``restart_required`` are those of them that a running process cannot take over.
    """

    keys_added: tuple[str, ...] = ()
    keys_removed: tuple[str, ...] = ()
    keys_updated: tuple[KeyUpdate, ...] = ()
    settings: tuple[str, ...] = ()
    restart_required: tuple[str, ...] = ()
    clients_added: tuple[str, ...] = ()
    clients_removed: tuple[str, ...] = ()
    clients_updated: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing has changed."""
        return self == SettingsChange()


def compare(old: Settings, new: Settings) -> SettingsChange:
    """What changes from ``old`` to ``new``. A key is identified by its secret, not by its name."""
    before = {key.id: key for key in old.keys}
    after = {key.id: key for key in new.keys}
    changed = tuple(_changed_settings(old, new))
    clients_before = {client.name: client for client in old.file_clients}
    clients_after = {client.name: client for client in new.file_clients}
    return SettingsChange(
        keys_added=tuple(key.name for key in new.keys if key.id not in before),
        keys_removed=tuple(key.name for key in old.keys if key.id not in after),
        keys_updated=tuple(_updates(before, new.keys)),
        settings=tuple(path for path, _ in changed),
        restart_required=tuple(path for path, restart in changed if restart),
        clients_added=tuple(name for name in clients_after if name not in clients_before),
        clients_removed=tuple(name for name in clients_before if name not in clients_after),
        clients_updated=tuple(
            name
            for name, client in clients_after.items()
            if name in clients_before and clients_before[name] != client
        ),
    )


def _defaults(settings: Settings) -> ClientSettings | None:
    return settings.clients.defaults if settings.clients is not None else None


def with_kept_keys(new: Settings, running: Settings) -> Settings:
    """``new``, with the objects of ``running`` for keys that have not changed.

    An identity check then tells which of ten thousand keys are unchanged.
    """
    before = {key.id: key for key in running.keys}
    kept = (before.get(key.id, key) for key in new.keys)
    pairs = zip(kept, new.keys, strict=True)
    return replace(new, keys=tuple(old if old == key else key for old, key in pairs))


def _changed_settings(old: Settings, new: Settings) -> Iterator[tuple[str, bool]]:
    for section, cls in SECTIONS.items():
        before, after = getattr(old, section), getattr(new, section)
        for field, description in described_fields(cls):
            if getattr(before, field.name) != getattr(after, field.name):
                yield f"{section}.{camel(field.name)}", description.restart
    if old.prices != new.prices and old.pricing == new.pricing:
        yield "pricing.file", False
    # Also if the file has appeared.
    if _defaults(old) != _defaults(new):
        yield "clients.defaults", False


def _updates(before: dict[str, Key], keys: tuple[Key, ...]) -> Iterator[KeyUpdate]:
    for key in keys:
        if key.id in before and before[key.id] != key:
            yield KeyUpdate(key.name, tuple(_changed_fields(before[key.id], key)))


def _changed_fields(old: Key, new: Key) -> Iterator[str]:
    for field in fields(new):
        if getattr(old, field.name) != getattr(new, field.name):
            yield camel(field.name)
