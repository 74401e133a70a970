"""Read the configuration files again, and notice when their content changes.

Everything here blocks; call it in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from gemproxy.config import credentials, rules, yaml_nodes
from gemproxy.config.files import read_regular
from gemproxy.config.kinds import InvalidValue
from gemproxy.config.loading import load, locate_clients
from gemproxy.config.reading import FileReader
from gemproxy.config.settings import SECTIONS, Settings, described_fields
from gemproxy.core.errors import ConfigError, Fault

if TYPE_CHECKING:
    from os import stat_result

#: The settings that name the file of a secret, or of prices (``pricing.file``).
_FILE_SETTINGS = frozenset(
    ("file", *(credentials.source_names(secret)[2] for secret in ("adminToken", "token", "key")))
)
#: Also the files of certificates, which a start reads and a reload does not.
FILES_OF_A_START = _FILE_SETTINGS | {"certFile", "caFile"}
#: Bytes. A larger file cannot be a configuration or a secret.
_LOOKED_AT = 16 * 1024 * 1024
_MISSING = b"missing"
_GONE = "is gone; put it back, if only with `clients: []`, or restart to run without it"


class ConfigFiles:
    """``proxy.yaml``, ``keys.yaml``, ``clients.yaml``, and what their ``watched`` settings name.

    ``port`` stands in the place of ``proxy.port``: the command line is stronger than the file.
    ``clients`` is the option ``--clients``: without it the file is looked for at each reading, if
    there may be one (``has_clients``).
    """

    def __init__(
        self,
        config: Path,
        keys: Path,
        environ: Mapping[str, str],
        watched: frozenset[str] = _FILE_SETTINGS,
        *,
        port: int | None = None,
        clients: str | None = None,
        has_clients: bool = True,
    ) -> None:
        self._config = config
        self._keys = keys
        self._environ = environ
        self._watched = watched
        self._port = port
        self._clients = clients
        self._has_clients = has_clients
        self._named: dict[Path, _Named] = {}
        self._secrets: dict[Path, _Seen] = {}

    def read(self) -> Settings:
        """The files, checked whole. Raises :class:`ConfigError` with every mistake."""
        settings = load(self._config, self._keys, self._environ, self._clients_path())
        if self._port is None:
            return settings
        if settings.proxy.endpoint is not None:
            reason = "says where to listen, so that --port cannot"
            raise ConfigError((Fault(str(self._config), 0, "proxy.endpoint", reason),))
        return replace(settings, proxy=replace(settings.proxy, port=self._port))

    @property
    def places(self) -> tuple[str, str]:
        """Where ``proxy.yaml`` and ``keys.yaml`` are."""
        return str(self._config), str(self._keys)

    def _clients_path(self) -> Path | None:
        if not self._has_clients:
            return None
        return locate_clients(self._clients, self._config, self._environ)

    def read_over(self, running: Settings) -> tuple[Settings, Settings]:
        """The files as they are, and as a process with ``running`` settings can take them over.

        The second value keeps the running value of every setting that needs a restart. Raises
        :class:`ConfigError`, also where this combination breaks a rule that each of the two keeps:
        a listener that stays public must not lose its tokens because the file makes it local. A
        ``clients.yaml`` that is gone is a mistake too: it may be lost, and nobody would need a
        token without it.
        """
        written = self.read()
        if running.clients is not None and written.clients is None:
            raise ConfigError((Fault(running.clients.path, 0, "", _GONE),))
        applicable = keep_fixed(running, written)
        reader = FileReader(self._config, self._environ)
        rules.check(applicable, reader)
        faults = tuple(
            Fault(f.file, f.line, f.path, f"{f.message} (until a restart changes the listener)")
            for f in reader.faults.found()
        )
        if faults:
            raise ConfigError(faults)
        return written, applicable

    def fingerprint(self) -> bytes:
        """Changes exactly when the content of one of the files changes."""
        digest = sha256()
        secrets: list[Path] = []
        for path in (self._config, self._keys, self._clients_path()):
            if path is None:
                continue
            content = _content(path)
            # With its path: the file of clients may appear in another place.
            digest.update(sha256(bytes(path) + b"\0" + content).digest())
            secrets += self._files_named_in(path, content)
        self._secrets = {path: self._look_at(path) for path in secrets}
        for seen in self._secrets.values():
            digest.update(seen.digest)
        return digest.digest()

    def _files_named_in(self, path: Path, content: bytes) -> tuple[Path, ...]:
        """Parsed again only when the content has changed; a half-written file names none."""
        digest = sha256(content).digest()
        known = self._named.get(path)
        if known is None or known.digest != digest:
            reader = FileReader(path, self._environ)
            named = tuple(_named_files(reader, content, self._watched))
            known = self._named[path] = _Named(digest, named)
        return known.files

    def _look_at(self, path: Path) -> _Seen:
        """There may be thousands, so a file is read only if its inode data has changed."""
        inode = _inode(path)
        known = self._secrets.get(path)
        if known is not None and inode is not None and known.inode == inode:
            return known
        return _Seen(inode, sha256(_content(path)).digest())


def keep_fixed(running: Settings, written: Settings) -> Settings:
    """``written``, with the value of ``running`` for each setting that needs a restart."""
    sections = {}
    for name, section in SECTIONS.items():
        before = getattr(running, name)
        fixed = {f.name: getattr(before, f.name) for f, d in described_fields(section) if d.restart}
        sections[name] = replace(getattr(written, name), **fixed)
    return replace(written, **sections)


class _Named:
    """The files that the configuration names."""

    __slots__ = ("digest", "files")

    def __init__(self, digest: bytes, files: tuple[Path, ...]) -> None:
        self.digest = digest
        self.files = files


class _Seen:
    """A file of a secret when it was last read."""

    __slots__ = ("digest", "inode")

    def __init__(self, inode: tuple[int, ...] | None, digest: bytes) -> None:
        self.inode = inode
        self.digest = digest


def _content(path: Path) -> bytes:
    try:
        return read_regular(path, _LOOKED_AT)
    except (OSError, ValueError):
        return _MISSING


def _inode(path: Path) -> tuple[int, ...] | None:
    """Changes with every write and rename: nobody can set ``ctime`` back."""
    try:
        found: stat_result = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _named_files(reader: FileReader, content: bytes, settings: frozenset[str]) -> Iterator[Path]:
    try:
        root = yaml_nodes.compose(content)
    except yaml_nodes.Unreadable:
        return
    for name in _values_of(root, settings):
        try:
            yield reader.resolved(Path(name))
        except InvalidValue:
            continue


def _values_of(root: yaml.Node | None, settings: frozenset[str]) -> Iterator[str]:
    """The values of these settings anywhere in the file; each node is visited once."""
    waiting = [root] if root is not None else []
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if not isinstance(value, yaml.ScalarNode):
                    waiting.append(value)
                elif isinstance(key, yaml.ScalarNode) and key.value in settings:
                    yield value.value
