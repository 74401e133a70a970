"""Read secrets, and reject those that cannot be intended.

A secret is opaque: only characters that no HTTP header can carry are rejected. It is a
:class:`~gemproxy.secret.Secret` from the moment it is read, and no message contains any part of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gemproxy.config import yaml_nodes
from gemproxy.config.files import read_regular
from gemproxy.config.kinds import InvalidValue
from gemproxy.config.reading import FileReader, Ungiven, shown_variable
from gemproxy.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import yaml

    from gemproxy.config.yaml_nodes import Entry

#: Placeholders of the example files; ``gemproxy init`` replaces the token by a random one.
SAMPLE_ADMIN_TOKEN = "change-me-or-run-gemproxy-init"  # noqa: S105 - it is refused

#: The unit's ``SetCredential=`` gives this value when the file of the credential is missing.
MISSING_CREDENTIAL = "<missing>"

SHORTEST_ADMIN_TOKEN = 16
_LONGEST = 4096
_IS_PLACEHOLDER = "is a placeholder; the secret itself belongs here"

#: Placeholders that people and documentation write in place of a secret.
_PLACEHOLDER = re.compile(
    r"""
    (?: your|my|insert|put|paste|enter|replace)
        [-_ ]?(?:[^\W_]+[-_ ])*(?:api|key|token|secret|me|here)
    | .*(?:\.\.\.|…).* | <.*> | \$?\{.*\} | \[.*\]
    | change[-_ ]?(?:me|it|this).* | replace[-_ ]?(?:me|it|this).*
    | x{3,} | \*+ | \.+ | _+ | -+
    | (?:todo|tbd|fixme|placeholder|example|sample|redacted|secret|password|none|null|undefined)
    | (?:api)?[-_ ]?(?:key|token)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


@dataclass
class KnownSecrets:
    """The secrets found so far in both files: no two may be equal, and none may be shown."""

    #: The secret's id -> its place, for the message about a duplicate.
    _places: dict[str, str] = field(default_factory=dict)
    _values: set[str] = field(default_factory=set)

    def values(self) -> Iterable[str]:
        """Every value that was given as a secret, valid or not."""
        return self._values

    def keep_from_messages(self, value: str) -> None:
        """Mask ``value`` in every message from now on."""
        self._values.add(value)

    def is_known(self, value: str) -> bool:
        """Whether ``value`` was given as a secret."""
        return value in self._values

    def place_of_twin(self, identity: str, place: str) -> str | None:
        """The place of the secret with the same id; ``None`` if there is none."""
        first = self._places.setdefault(identity, place)
        return None if first == place else first


def read_source(
    reader: FileReader,
    entries: Mapping[str, Entry],
    name: str,
    path: str,
    known: KnownSecrets,
    least: int = 1,
) -> Secret | None:
    """The secret that ``name``, ``nameEnv`` or ``nameFile`` gives in the mapping at ``path``.

    It must have at least ``least`` characters. Returns ``None`` if none is given, which is no
    mistake yet, and after a mistake.
    """
    names = source_names(name)
    given = [n for n in names if n in entries and not yaml_nodes.is_null(entries[n].value)]
    if len(given) > 1:
        known.keep_from_messages(str(entries[given[0]].value.value))
        message = f"expected exactly one of {_listed(names)}, got {' and '.join(given)}"
        reader.fault(f"{path}.{given[-1]}", message)
    if len(given) != 1:
        return None
    place, node = f"{path}.{given[0]}", entries[given[0]].value
    read = {names[0]: _direct, names[1]: _from_environment, names[2]: _from_file}[given[0]]
    fixed = given[0] == names[1] or (given[0] == names[2] and _is_credential(reader, node))
    return accept(reader, read(reader, node, place), place, known, least, fixed=fixed)


def source_names(name: str) -> tuple[str, str, str]:
    """The three settings that can give one secret."""
    return name, f"{name}Env", f"{name}File"


def is_given(entries: Mapping[str, Entry], name: str) -> bool:
    """Whether any of the three settings is given, valid or not."""
    return any(
        n in entries and not yaml_nodes.is_null(entries[n].value) for n in source_names(name)
    )


def needed(name: str, *others: str) -> str:
    """The message for a missing secret; ``others`` can give it as well."""
    return f"expected exactly one of {_listed((*source_names(name), *others))}, got none"


def read_bare(
    reader: FileReader, node: yaml.Node, place: str, known: KnownSecrets
) -> Secret | None:
    """A secret that is an item of a list."""
    return accept(reader, _direct(reader, node, place), place, known)


def accept(
    reader: FileReader,
    value: str | None,
    place: str,
    known: KnownSecrets,
    least: int = 1,
    *,
    fixed: bool = False,
) -> Secret | None:
    """``value`` as a secret, or ``None`` with a fault if it is invalid or a duplicate.

    ``fixed``: this process was given it when it started.
    """
    if value is None:
        return None
    reason = _why_unusable(value, least)
    if reason != _IS_PLACEHOLDER and value != MISSING_CREDENTIAL:
        known.keep_from_messages(value)
    if reason is not None:
        reader.fault(place, reason, fixed=fixed)
        return None
    secret = Secret(value)
    twin = known.place_of_twin(secret.id, place)
    if twin is not None:
        reader.fault(place, f"the same secret as {twin}")
        return None
    return secret


def _why_unusable(value: str, least: int) -> str | None:
    if not value:
        return "is empty"
    if value == MISSING_CREDENTIAL:
        return "was missing when the service started: LoadCredential= names no file that was there"
    if value == SAMPLE_ADMIN_TOKEN:
        return "is the sample's; `gemproxy init` writes a file with a fresh random one"
    if _PLACEHOLDER.fullmatch(value):
        return _IS_PLACEHOLDER
    if any(c.isspace() or not c.isprintable() for c in value):
        return "holds white space or control characters"
    if not value.isascii():
        return "holds characters that are not ASCII"
    if len(value) < least:
        return f"is shorter than {least} characters"
    if len(value) > _LONGEST:
        return f"is longer than {_LONGEST} characters"
    return None


def _direct(reader: FileReader, node: yaml.Node, place: str) -> str | None:
    try:
        value = yaml_nodes.scalar(node)
    except yaml_nodes.OddNumber:
        value = node.value
    except ValueError:
        value = None
    if value is None or isinstance(value, bool):
        reader.refuse(node, place, "text", secret=True)
        return None
    # YAML reads a secret of digits as a number; take the text instead.
    return str(node.value)


def _from_environment(reader: FileReader, node: yaml.Node, place: str) -> str | None:
    name = _text(reader, node, place, "the name of an environment variable")
    if name is None:
        return None
    value = reader.environment(name)
    if value is None:
        message = f"the environment variable {shown_variable(name)} is not set"
        reader.fault(place, message, fixed=True)
    return value


def _from_file(reader: FileReader, node: yaml.Node, place: str) -> str | None:
    name = _text(reader, node, place, "the path of a file")
    if name is None:
        return None
    try:
        data = read_regular(reader.resolved(Path(name)), _LONGEST + 3)
        return data.decode().rstrip("\r\n")
    except InvalidValue as unfit:
        fixed = isinstance(unfit, Ungiven)
        reader.refuse(node, place, str(unfit), secret=True, fixed=fixed)
    except UnicodeDecodeError:
        reader.fault(place, "the file holds no text", fixed=_is_credential(reader, node))
    except OSError as error:
        message = f"the file cannot be read: {error.strerror}"
        reader.fault(place, message, fixed=_is_credential(reader, node))
    return None


def _is_credential(reader: FileReader, node: yaml.Node) -> bool:
    """Whether the path in ``node`` is a credential that systemd gave at the start."""
    try:
        return reader.is_credential(reader.resolved(Path(str(node.value))))
    except (InvalidValue, ValueError):
        return False


def _text(reader: FileReader, node: yaml.Node, place: str, expected: str) -> str | None:
    try:
        value = yaml_nodes.scalar(node)
    except ValueError:
        value = None
    # A NUL in a path raises ValueError, not OSError.
    if not isinstance(value, str) or not value or not value.isprintable():
        reader.refuse(node, place, expected, secret=True)
        return None
    return value


def _listed(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
