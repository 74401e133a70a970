"""Read ``clients.yaml``, and the same settings of a client in a request to the admin API."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING

from gemproxy.config import credentials, yaml_nodes
from gemproxy.config.kinds import (
    Expires,
    Flag,
    IntRange,
    ListOf,
    NetworkText,
    Nullable,
    Number,
    OneOf,
    Text,
)
from gemproxy.core.client_registry import ClientsFile, FileClient
from gemproxy.core.clients import ClientSettings, ClientValue, Priority

if TYPE_CHECKING:
    from collections.abc import Mapping

    import yaml

    from gemproxy.config.credentials import KnownSecrets
    from gemproxy.config.kinds import Shape
    from gemproxy.config.reading import FileReader
    from gemproxy.config.yaml_nodes import Entry

CLIENT_NAME = Text("a name", 64)
#: Clients without a token, the operator, and the rest of a long list have these names.
RESERVED_NAMES = frozenset({"admin", "anonymous", "other"})
#: What ``endpoints`` may name.
ENDPOINTS = (
    "chat",
    "responses",
    "messages",
    "embeddings",
    "images",
    "audio",
    "files",
    "batches",
    "native",
)
SHA256 = "tokenSha256"

_COUNT = Nullable(IntRange(1))
_USD = Nullable(Number(most=1e9, noun="a number of US dollars"))
_SHAPES: dict[str, Shape] = {
    "enabled": Flag(),
    "expires": Nullable(Expires()),
    "models": ListOf(Text("a pattern of models", 200)),
    "endpoints": ListOf(OneOf(ENDPOINTS)),
    "addresses": ListOf(NetworkText()),
    "priority": OneOf(tuple(each.value for each in Priority)),
    "debug": Flag(),
}
_NESTED: dict[str, dict[str, Shape]] = {
    "limits": dict.fromkeys(("rpm", "tpm", "rpd", "tpd", "concurrent"), _COUNT),
    "budget": dict.fromkeys(("usdPerDay", "usdPerMonth"), _USD),
}
#: The settings of a client beside its name and token.
SETTINGS = (*_SHAPES, *_NESTED)
#: Those that may stand in ``defaults``.
_DEFAULTS = tuple(name for name in SETTINGS if name != "enabled")
_TOKEN = (*credentials.source_names("token"), SHA256)
CLIENT_SETTINGS = ("name", *_TOKEN, *SETTINGS)
_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")


def read_clients(reader: FileReader, path: str, known: KnownSecrets) -> ClientsFile:
    """The clients of the file, with every mistake noted."""
    root = reader.entries(reader.root(), "", ("clients", "defaults")) or {}
    defaults: ClientSettings = {}
    if "defaults" in root:
        entries = reader.entries(root["defaults"].value, "defaults", _DEFAULTS) or {}
        defaults = read_settings(reader, entries, "defaults")
    nodes: list[yaml.Node] | None = []
    if "clients" in root and not yaml_nodes.is_null(node := root["clients"].value):
        nodes = yaml_nodes.items(node)
        if nodes is None:
            reader.refuse(node, "clients", "a list of clients", secret=True)
    read = [
        _read_client(reader, node, f"clients[{place}]", known)
        for place, node in enumerate(nodes or ())
    ]
    clients = tuple(client for client in read if client is not None)
    for client in clients:
        if known.is_known(client.name):
            reader.fault(client.place.path, "is one of the secrets; names are shown, secrets never")
    return ClientsFile(path, clients, defaults)


def read_settings(
    reader: FileReader, entries: Mapping[str, Entry], path: str
) -> dict[str, ClientValue]:
    """The settings of a client that ``entries`` give, a mistaken one left out."""
    before = f"{path}." if path else ""
    found: dict[str, ClientValue] = {}
    for name, entry in entries.items():
        if name in _SHAPES:
            value = reader.value(_SHAPES[name], entry.value, f"{before}{name}", _MISTAKEN)
            if value is not _MISTAKEN:
                found[name] = value
        elif name in _NESTED:
            inner = reader.entries(entry.value, f"{before}{name}", _NESTED[name]) or {}
            for each, setting in inner.items():
                place = f"{name}.{each}"
                shape = _NESTED[name][each]
                value = reader.value(shape, setting.value, f"{before}{place}", _MISTAKEN)
                if value is not _MISTAKEN:
                    found[place] = value
    return found


def read_name(reader: FileReader, entry: Entry, path: str) -> str | None:
    """The name of a client; ``None`` for a mistaken one."""
    name: str | None = reader.value(CLIENT_NAME, entry.value, path, None)
    if name is not None and name.lower() in RESERVED_NAMES:
        reader.fault(path, f"'{name}' is reserved; choose another name")
        return None
    return name


def _read_client(
    reader: FileReader, node: yaml.Node, path: str, known: KnownSecrets
) -> FileClient | None:
    reader.note(path, yaml_nodes.line_of(node))
    if yaml_nodes.is_scalar(node):
        reader.refuse(node, path, "a mapping with name and token", secret=True)
        return None
    entries = reader.entries(node, path, CLIENT_SETTINGS)
    if entries is None:
        return None
    settings = read_settings(reader, entries, path)
    name = None
    if "name" in entries:
        name = read_name(reader, entries["name"], f"{path}.name")
    else:
        reader.fault(f"{path}.name", "expected a name, got none")
    if name is not None:
        reader.claim(name, "clients", path)
    given = [n for n in _TOKEN if n in entries and not yaml_nodes.is_null(entries[n].value)]
    if not given:
        reader.fault(f"{path}.token", credentials.needed("token", SHA256))
    digest, token = None, None
    if SHA256 in given:
        if len(given) > 1:
            message = f"cannot stand beside {given[0]}; give exactly one of them"
            reader.fault(f"{path}.{SHA256}", message)
        digest = _read_digest(reader, entries[SHA256], f"{path}.{SHA256}", known)
    else:
        token = credentials.read_source(reader, entries, "token", path, known)
        if token is not None:
            digest = sha256(token.reveal().encode()).digest()
    if name is None or digest is None:
        return None
    return FileClient(name, settings, digest, token, reader.place(f"{path}.name"))


def _read_digest(reader: FileReader, entry: Entry, path: str, known: KnownSecrets) -> bytes | None:
    node = entry.value
    # Digits alone are a number of YAML's.
    if not yaml_nodes.is_scalar(node) or not _DIGEST.fullmatch(str(node.value)):
        reader.refuse(node, path, "the 64 hex digits of a SHA-256", secret=True)
        return None
    # The id of a secret is the beginning of its SHA-256.
    twin = known.place_of_twin(str(node.value)[:12].lower(), path)
    if twin is not None:
        reader.fault(path, f"the same secret as {twin}")
        return None
    return bytes.fromhex(str(node.value))


_MISTAKEN = object()
