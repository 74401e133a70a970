"""Read both files into :class:`Settings`, or report every mistake in them.

Paths of certificates, trust roots and secrets start at the folder of the file that names them;
the paths of ``persistence`` start at the working directory. ``$NAME`` and ``${NAME}`` are replaced
in all of them. Reading blocks; the daemon calls it in a thread.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gemproxy.config import credentials, rules, yaml_nodes
from gemproxy.config.client_file import RESERVED_NAMES, read_clients
from gemproxy.config.guessable import weakness
from gemproxy.config.kinds import (
    ExistingFile,
    Flag,
    IntRange,
    ListOf,
    ModelName,
    Nullable,
    Number,
    Text,
)
from gemproxy.config.price_file import read_prices, shipped_prices
from gemproxy.config.reading import FileReader
from gemproxy.config.settings import (
    SECTIONS,
    AccessToken,
    Settings,
    Special,
    TLSSettings,
    camel,
    described_fields,
)
from gemproxy.core.errors import ConfigError, Fault
from gemproxy.pool.key import Key, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import yaml

    from gemproxy.config.credentials import KnownSecrets
    from gemproxy.config.kinds import Shape
    from gemproxy.config.yaml_nodes import Entry
    from gemproxy.core.client_registry import ClientsFile
    from gemproxy.secret import Secret

SYSTEM_FOLDER = Path("/etc/gemproxy")
CLIENTS_FILE = "clients.yaml"
LOCAL_FOLDER = Path("config")

_NAME = Text("a name", 64)
#: The plain settings of a key: name in the file -> field, shape and default.
_KEY_FIELDS: dict[str, tuple[str, Shape, object]] = {
    "name": ("name", _NAME, None),
    "weight": ("weight", IntRange(1, 1000), 1),
    "cooldownSeconds": ("cooldown_seconds", Nullable(Number(above=True)), None),
    "project": ("project", Nullable(Text("a name", 200)), None),
    "enabled": ("enabled", Flag(), True),
    "models": ("models", ListOf(ModelName()), ()),
}
KEY_SETTINGS = (*_KEY_FIELDS, "limits", *credentials.source_names("key"))
_LIMITS = ("rpm", "tpm", "rpd")
_TOKEN_SETTINGS = ("name", "debug", *credentials.source_names("token"))


def load(
    config_path: Path,
    keys_path: Path,
    environ: Mapping[str, str],
    clients_path: Path | None = None,
) -> Settings:
    """Read and validate the files. Raises :class:`ConfigError` with all mistakes of them.

    Without ``clients_path`` there is no ``clients.yaml``.
    """
    known = credentials.KnownSecrets()
    proxy, keys = FileReader(config_path, environ), FileReader(keys_path, environ)
    sections = read_sections(proxy, known)
    readers = [proxy, keys]
    prices = shipped_prices()
    if (price_file := sections["pricing"].file) is not None:
        readers.append(FileReader(price_file, environ))
        prices = (*read_prices(readers[-1]), *prices)
    clients = None
    read_keys = _read_keys(keys, known)
    if clients_path is not None:
        readers.append(FileReader(clients_path, environ))
        clients = read_clients(readers[-1], str(clients_path), known)
        _refuse_names_of_tokens(readers[-1], clients, sections["proxy"].access_tokens)
    settings = Settings(keys=read_keys, prices=prices, clients=clients, **sections)
    rules.check(settings, proxy)
    faults = [fault for reader in readers for fault in reader.faults.found(known.values())]
    if faults:
        raise ConfigError(tuple(faults))
    return settings


def _refuse_names_of_tokens(
    reader: FileReader, clients: ClientsFile, tokens: Sequence[AccessToken]
) -> None:
    """Usage and limits are those of a name, so no access token may have the name of a client."""
    places = {token.name: place for place, token in enumerate(tokens)}
    for client in clients.clients:
        if client.name in places:
            message = f"the same name as proxy.accessTokens[{places[client.name]}]"
            reader.fault(client.place.path, message)


def locate_clients(option: str | None, config: Path, environ: Mapping[str, str]) -> Path | None:
    """Find ``clients.yaml``; the arguments are the option ``--clients`` and the path of proxy.yaml.

    A file that the option or ``GEMPROXY_CLIENTS`` names may be missing: reading it reports that.
    Without these it is beside proxy.yaml, else in ``/etc/gemproxy``, else there is none.
    """
    named = option or environ.get("GEMPROXY_CLIENTS")
    if named:
        return Path(named)
    places = (config.parent / CLIENTS_FILE, SYSTEM_FOLDER / CLIENTS_FILE)
    # A broken link is a mistake, which reading it reports.
    return next((place for place in places if os.path.lexists(place)), None)


def locate_files(
    config: str | None, keys: str | None, environ: Mapping[str, str]
) -> tuple[Path, Path]:
    """Find both files; the arguments are the options ``--config`` and ``--keys``.

    Raises :class:`ConfigError` if a file was not named and is in no default place.
    """
    found: list[Path] = []
    faults: list[Fault] = []
    for option, variable, name in (
        (config, "GEMPROXY_CONFIG", "proxy.yaml"),
        (keys, "GEMPROXY_KEYS", "keys.yaml"),
    ):
        try:
            found.append(locate(option, variable, name, environ))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(tuple(faults))
    return found[0], found[1]


def locate(option: str | None, variable: str, name: str, environ: Mapping[str, str]) -> Path:
    """Find one file: by the option, else the variable, else ``./config``, else ``/etc/gemproxy``.

    A named file is not checked here: reading it reports a failure. Raises :class:`ConfigError` that
    lists every place.
    """
    named = option or environ.get(variable)
    if named:
        return Path(named)
    places = (LOCAL_FOLDER / name, SYSTEM_FOLDER / name)
    for place in places:
        if place.is_file():
            return place
    tried = " and ".join(map(str, places))
    flag = f"--{'config' if name == 'proxy.yaml' else 'keys'}"
    advice = f"name one with {flag} or {variable}, or run `gemproxy init`"
    raise ConfigError((Fault(name, 0, "", f"no such file: looked at {tried}; {advice}"),))


def read_sections(reader: FileReader, known: KnownSecrets) -> dict[str, Any]:
    """The sections of ``proxy.yaml`` by name; ``reader`` collects mistakes."""
    entries = reader.entries(reader.root(), "", SECTIONS) or {}
    return {name: _read_section(reader, entries.get(name), name, known) for name in SECTIONS}


def _read_section(
    reader: FileReader, entry: Entry | None, name: str, known: KnownSecrets
) -> object:
    fields = {camel(f.name): (f.name, d.shape) for f, d in described_fields(SECTIONS[name])}
    secret = _SECRETS.get(name)
    sources = credentials.source_names(secret) if secret else ()
    entries = reader.entries(entry.value if entry else None, name, {*fields, *sources}) or {}
    values = {}
    defaults = SECTIONS[name]()
    for setting, (field, shape) in fields.items():
        path = f"{name}.{setting}"
        if isinstance(shape, Special):
            values[field] = _SPECIAL[setting](reader, entries, path, known)
        elif setting in entries:
            default = getattr(defaults, field)
            value = reader.value(shape, entries[setting].value, path, default)
            values[field] = MappingProxyType(value) if isinstance(value, dict) else value
    return SECTIONS[name](**values)


def _read_admin_token(
    reader: FileReader, entries: Mapping[str, Entry], path: str, known: KnownSecrets
) -> Secret | None:
    section, name = path.split(".")
    least = credentials.SHORTEST_ADMIN_TOKEN
    return credentials.read_source(reader, entries, name, section, known, least)


def _read_proxy_password(
    reader: FileReader, entries: Mapping[str, Entry], path: str, known: KnownSecrets
) -> Secret | None:
    section, name = path.split(".")
    return credentials.read_source(reader, entries, name, section, known)


def _read_access_tokens(
    reader: FileReader, entries: Mapping[str, Entry], path: str, known: KnownSecrets
) -> tuple[AccessToken, ...]:
    if "accessTokens" not in entries:
        return ()
    node = entries["accessTokens"].value
    nodes = yaml_nodes.items(node)
    if nodes is None:
        reader.refuse(node, path, "a list of tokens", secret=True)
        return ()
    tokens = [
        _read_access_token(reader, item, f"{path}[{i}]", known) for i, item in enumerate(nodes)
    ]
    if None in tokens:
        reader.distrust(path)
    return tuple(token for token in tokens if token is not None)


def _read_access_token(
    reader: FileReader, node: yaml.Node, path: str, known: KnownSecrets
) -> AccessToken | None:
    reader.note(path, yaml_nodes.line_of(node))
    number = int(path[path.rindex("[") + 1 : -1]) + 1
    if yaml_nodes.is_scalar(node):
        token = credentials.read_bare(reader, node, path, known)
        name = _default_name(token, number)
        return AccessToken(name, token, place=reader.place(path)) if token else None
    entries = reader.entries(node, path, _TOKEN_SETTINGS)
    if entries is None:
        return None
    token = credentials.read_source(reader, entries, "token", path, known)
    if not credentials.is_given(entries, "token"):
        reader.fault(f"{path}.token", credentials.needed("token"))
    name, debug = _default_name(token, number), False
    if "name" in entries:
        name = reader.value(_NAME, entries["name"].value, f"{path}.name", name)
        if name.lower() in RESERVED_NAMES:
            reader.fault(f"{path}.name", f"'{name}' is reserved; choose another name")
    if "debug" in entries:
        debug = reader.value(Flag(), entries["debug"].value, f"{path}.debug", debug)
    reader.claim(name, path[: path.rindex("[")], path)
    place = reader.place(f"{path}.name" if "name" in entries else path)
    return AccessToken(name, token, debug, place) if token else None


def _default_name(token: Secret | None, number: int) -> str:
    """The name of a token that has none.

    It is made of the token, so that usage and limits stay with it when the list changes. Of a weak
    token it would tell too much: who guesses the token could see that the guess is right.
    """
    text = token.reveal() if token else ""
    if weakness(text) is not None:
        return f"token-{number}"
    return f"token-{sha256(text.encode()).hexdigest()[:6]}"


def _read_tls(
    reader: FileReader, entries: Mapping[str, Entry], path: str, _known: KnownSecrets
) -> TLSSettings | None:
    if "tls" not in entries or yaml_nodes.is_null(entries["tls"].value):
        return None
    names = {"certFile", "keyFile"}
    files = reader.entries(entries["tls"].value, path, names)
    if files is None:
        return None
    for name in sorted(names - set(files)):
        reader.fault(f"{path}.{name}", "is missing; TLS needs both certFile and keyFile")
    found = {
        n: reader.value(ExistingFile(), e.value, f"{path}.{n}", None) for n, e in files.items()
    }
    cert, key = found.get("certFile"), found.get("keyFile")
    return TLSSettings(cert, key) if cert and key else None


#: Sections with a secret: its name, which may also end in Env or File.
_SECRETS = {"proxy": "adminToken", "upstream": "httpProxyPassword"}

#: Settings with a special reader.
_SPECIAL: dict[str, Callable[[FileReader, Mapping[str, Entry], str, KnownSecrets], object]] = {
    "adminToken": _read_admin_token,
    "accessTokens": _read_access_tokens,
    "httpProxyPassword": _read_proxy_password,
    "tls": _read_tls,
}


def _read_keys(reader: FileReader, known: KnownSecrets) -> tuple[Key, ...]:
    root = reader.root()
    entries = reader.entries(root, "", ("keys",))
    if entries is None or not reader.is_sound():
        return ()
    node = entries["keys"].value if "keys" in entries else None
    nodes = [] if node is None or yaml_nodes.is_null(node) else yaml_nodes.items(node)
    if node is not None and nodes is None:
        reader.refuse(node, "keys", "a list of keys", secret=True)
    elif not nodes:
        reader.fault("keys", "expected at least one key, got none")
    keys = [_read_key(reader, item, f"keys[{i}]", known) for i, item in enumerate(nodes or ())]
    _refuse_told_secrets(reader, keys, known)
    _refuse_names_of_others(reader, keys)
    return tuple(key for key in keys if key is not None)


def _refuse_names_of_others(reader: FileReader, keys: Sequence[Key | None]) -> None:
    """The admin API accepts a key's id or name, so no name may equal the id of another key."""
    places = {key.id: place for place, key in enumerate(keys) if key is not None}
    for place, key in enumerate(keys):
        if key is not None and places.get(key.name.lower(), place) != place:
            reader.fault(f"keys[{place}].name", f"is the id of keys[{places[key.name.lower()]}]")


def _read_key(reader: FileReader, node: yaml.Node, path: str, known: KnownSecrets) -> Key | None:
    reader.note(path, yaml_nodes.line_of(node))
    if yaml_nodes.is_scalar(node):
        reader.refuse(node, path, "a mapping with name and key", secret=True)
        return None
    entries = reader.entries(node, path, KEY_SETTINGS)
    if entries is None:
        return None
    values: dict[str, Any] = {
        field: reader.value(shape, entries[name].value, f"{path}.{name}", default)
        for name, (field, shape, default) in _KEY_FIELDS.items()
        if name in entries
    }
    limits = _read_limits(reader, entries.get("limits"), f"{path}.limits")
    secret = credentials.read_source(reader, entries, "key", path, known)
    if "name" not in entries:
        reader.fault(f"{path}.name", "expected a name, got none")
    elif values["name"] is not None:
        reader.claim(values["name"], "keys", path)
    if not credentials.is_given(entries, "key"):
        reader.fault(f"{path}.key", credentials.needed("key"))
    if values.get("name") is None or secret is None:
        return None
    values["project"] = values.get("project") or values["name"]
    values["models"] = frozenset(values.get("models", ()))
    return Key(secret=secret, limits=limits, **values)


def _read_limits(reader: FileReader, entry: Entry | None, path: str) -> Limits:
    entries = reader.entries(entry.value if entry else None, path, _LIMITS) or {}
    shape = Nullable(IntRange(1))
    return Limits(
        **{n: reader.value(shape, e.value, f"{path}.{n}", None) for n, e in entries.items()}
    )


def _refuse_told_secrets(reader: FileReader, keys: list[Key | None], known: KnownSecrets) -> None:
    """A key's name is shown everywhere, so it must not be a secret."""
    for i, key in enumerate(keys):
        if key is not None and known.is_known(key.name):
            reader.fault(f"keys[{i}].name", "is one of the secrets; names are shown, secrets never")
