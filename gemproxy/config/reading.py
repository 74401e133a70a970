"""Read one file setting by setting, with places and mistakes.

A mistake does not stop the reading. An invalid setting gets its default for the moment, and its
path is noted so that rules between settings do not report it a second time.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemproxy.config import yaml_nodes
from gemproxy.config.faults import Faults, shown_text, suggestion
from gemproxy.config.files import read_regular
from gemproxy.config.kinds import (
    ExistingFile,
    InvalidValue,
    ListOf,
    Nullable,
    SettingKind,
    Shape,
    StrMap,
)
from gemproxy.core.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import yaml

    from gemproxy.config.yaml_nodes import Entry

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)


#: Suggestions for misspelt names; each takes a third of a millisecond. More means another file
#: format.
_MOST_SUGGESTIONS = 100


class Ungiven(InvalidValue):
    """The path uses a variable or credential that this process was not given at its start."""


class FileReader:
    """Reads one file; faults show ``path`` as it was given."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.faults = Faults(str(path))
        self._path = path
        self._environ = environ
        self._lines: dict[str, int] = {}
        self._unusable: set[str] = set()
        self._claimed: dict[tuple[str, str], str] = {}

    def root(self) -> yaml.Node | None:
        """The document's root node; ``None`` if the file is empty or cannot be read."""
        try:
            return yaml_nodes.compose(read_regular(self._path, yaml_nodes.LARGEST + 1))
        except OSError as error:
            self._fault(0, "", f"cannot be read: {error.strerror}")
        except yaml_nodes.Unreadable as error:
            self._fault(error.line, "", error.message)
        return None

    def entries(
        self, node: yaml.Node | None, path: str, known: Iterable[str]
    ) -> dict[str, Entry] | None:
        """The named settings of a mapping, unknown names refused; ``None`` if it is no mapping.

        An empty value (``proxy:`` with every line commented out) is an empty mapping.
        """
        if node is None or yaml_nodes.is_null(node):
            return {}
        found = yaml_nodes.entries(node, path, self.faults)
        if found is None:
            self.refuse(node, path, "a mapping of settings", secret=True)
            return None
        known = list(known)
        for name, entry in found.items():
            self._lines[yaml_nodes.join(path, name)] = entry.line
            if name not in known:
                near = suggestion(name, known) if len(self.faults) < _MOST_SUGGESTIONS else ""
                message = f"unknown setting{near}"
                self.faults.add(entry.line, yaml_nodes.join(path, name), message)
        return {name: entry for name, entry in found.items() if name in known}

    def value(self, shape: Shape, node: yaml.Node, path: str, default: Any) -> Any:
        """The value of ``node``; a mistake is noted and gives ``default``."""
        self._lines.setdefault(path, yaml_nodes.line_of(node))
        if isinstance(shape, ListOf):
            return self._list(shape.item, node, path, default)
        if isinstance(shape, StrMap):
            return self._names(shape.item, node, path, default)
        try:
            value = shape.read(node)
            return self._located(shape, value) if isinstance(value, Path) else value
        except InvalidValue as unfit:
            self.refuse(node, path, str(unfit), fixed=isinstance(unfit, Ungiven))
            return default

    def refuse(
        self,
        node: yaml.Node,
        path: str,
        expected: str,
        *,
        secret: bool = False,
        fixed: bool = False,
    ) -> None:
        """Note that the value is invalid; a ``secret`` value is not repeated.

        ``fixed``: only a restart changes it, see :class:`gemproxy.core.errors.FixedFault`.
        """
        got = yaml_nodes.kind_of(node) if secret else yaml_nodes.described(node)
        self._fault(yaml_nodes.line_of(node), path, f"expected {expected}, got {got}", fixed=fixed)

    def fault(self, path: str, message: str, *, fixed: bool = False) -> None:
        """Note a mistake at a path, or at its nearest parent that the file has."""
        self._fault(self.line(path), path, message, fixed=fixed)

    def line(self, path: str) -> int:
        """The line of the setting, or of its nearest parent that the file has; else 0."""
        while path and path not in self._lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self._lines.get(path, 0)

    def place(self, path: str) -> Fault:
        """The place of a setting, for a mistake that is found later."""
        return Fault(str(self._path), self.line(path), path, "")

    def note(self, path: str, line: int) -> None:
        """Remember the line of something without a name: an item of a list."""
        self._lines[path] = line

    def claim(self, name: str, where: str, path: str) -> None:
        """Reserve ``name`` for the item at ``path`` of list ``where``; a duplicate is a fault."""
        first = self._claimed.setdefault((where, name), path)
        if first != path:
            self.fault(f"{path}.name", f"the same name as {first}")

    def distrust(self, path: str) -> None:
        """Remember that something below ``path`` is invalid; it was reported at its own place."""
        self._unusable.add(path)

    def is_sound(self, *paths: str) -> bool:
        """Whether the file could be read and none of these settings has a mistake."""
        return self._unusable.isdisjoint(("", *paths))

    def resolved(self, path: Path) -> Path:
        """``path`` from the folder of this file, ``$NAME`` and ``${NAME}`` replaced.

        Raises :class:`Ungiven` for a variable that is not set.
        """
        return self._path.parent / self._expanded(path)

    def is_credential(self, path: Path) -> bool:
        """Whether systemd created this file when it started the process."""
        folder = self._environ.get("CREDENTIALS_DIRECTORY")
        return bool(folder) and path.is_relative_to(folder or "")

    def environment(self, name: str) -> str | None:
        """A variable of the environment."""
        return self._environ.get(name)

    def _located(self, shape: SettingKind, path: Path) -> Path:
        kind = shape.kind if isinstance(shape, Nullable) else shape
        if not isinstance(kind, ExistingFile):
            return self._expanded(path)
        resolved = self.resolved(path)
        if not resolved.is_file():
            missing = Ungiven if self.is_credential(resolved) else InvalidValue
            raise missing("the path of a file that is there")
        return resolved

    def _expanded(self, path: Path) -> Path:
        # systemd names the folders of credentials and state in variables only.
        return Path(_VARIABLE.sub(self._variable, str(path)))

    def _variable(self, match: re.Match[str]) -> str:
        name = match[1] or match[2]
        value = self._environ.get(name)
        if not value:
            raise Ungiven(f"a path whose variable {shown_variable(name)} is set")
        return value

    def _fault(self, line: int, path: str, message: str, *, fixed: bool = False) -> None:
        self.faults.add(line, path, message, fixed=fixed)
        self._unusable.add(path)

    def _list(self, kind: SettingKind, node: yaml.Node, path: str, default: Any) -> Any:
        nodes = yaml_nodes.items(node)
        if nodes is None:
            self.refuse(node, path, "a list")
            return default
        values = [self.value(kind, item, f"{path}[{i}]", None) for i, item in enumerate(nodes)]
        return tuple(value for value in values if value is not None)

    def _names(self, kind: SettingKind, node: yaml.Node, path: str, default: Any) -> Any:
        found = yaml_nodes.entries(node, path, self.faults)
        if found is None:
            self.refuse(node, path, "a mapping of names")
            return default
        values = {
            name: self.value(kind, entry.value, yaml_nodes.join(path, name), None)
            for name, entry in found.items()
        }
        return {name: value for name, value in values.items() if value is not None}


def shown_variable(name: str) -> str:
    """The name of a variable for a message, masked if it may be a secret in the wrong place."""
    if re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", name):
        return name
    return shown_text(name)
