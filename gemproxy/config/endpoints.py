"""Find out from the description of a Twisted server endpoint who can reach it."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import NamedTuple

#: Wrappers: a prefix that is followed by a complete description.
_WRAPPERS = frozenset({"haproxy"})
_TCP = frozenset({"tcp", "tcp4", "tcp6", "ssl"})
#: Types that are reached through the file system or inherited descriptors, not the network.
_LOCAL = frozenset({"unix"})

#: Positional arguments of Twisted's types, in order.
_ORDER = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "ssl": ("port", "privateKey", "certKey", "sslmethod", "interface", "backlog"),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "systemd": ("domain", "index", "name"),
}

#: Further numeric arguments and their base: the mode of a file is octal.
_NUMBERS = {"backlog": r"[0-9]{1,9}", "mode": r"0?[0-7]{1,4}", "lockfile": r"[01]"}

_LONGEST = 500
_OPEN_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\\Z")


def is_description(description: str) -> bool:
    """Whether this can be an endpoint description at all: a type, a colon, arguments."""
    if len(description) > _LONGEST or not description.isprintable():
        return False
    # A daemon does not serve on standard input, and standard output is its log.
    if not re.match(r"(?!stdio:)[a-z][a-z0-9+_-]*:\S", description):
        return False
    if _OPEN_ESCAPE.search(description):
        return False
    read = _read(description)
    if read.kind in _WRAPPERS:
        return is_description(description.split(":", 1)[1])
    if read.kind in _TCP and not _is_port(read.argument("port")):
        return False
    # Twisted parses these only at the start, too late for `check`.
    return all(
        re.fullmatch(form, "0" if (value := read.argument(name)) is None else value)
        for name, form in _NUMBERS.items()
        if name in _ORDER.get(read.kind, ())
    )


def gives_twice(description: str) -> bool:
    """Whether an argument is given twice, by name or by position."""
    if len(description) > _LONGEST:
        return False
    read = _read(description)
    if read.kind in _WRAPPERS:
        return gives_twice(description.partition(":")[2])
    return read.gives_twice


def is_local(description: str) -> bool:
    """Whether, by its description, only this machine can reach the endpoint.

    A descriptor that systemd hands over may be bound to anything, so ``systemd:`` is not local;
    neither is a type that is not known here.
    """
    read = _read(description)
    if read.kind in _WRAPPERS:
        return is_local(description.split(":", 1)[1])
    if read.kind in _TCP:
        return is_loopback(read.argument("interface") or "")
    return read.kind in _LOCAL


def with_socket_mode(description: str) -> str:
    """``description``; a Unix socket without a mode gets 660.

    Twisted's default is 666, which lets every user connect.
    """
    read = _read(description)
    if read.kind in _WRAPPERS:
        wrapper, inner = description.split(":", 1)
        return f"{wrapper}:{with_socket_mode(inner)}"
    if read.kind != "unix" or read.argument("mode") is not None:
        return description
    return f"{description}:mode=660"


def brings_tls(description: str) -> bool:
    """Whether the endpoint itself uses TLS."""
    return split_description(description)[0] in {"ssl", "tls", "txsni", "le", "lets", "txacme"}


def is_open_and_plain(description: str) -> bool:
    """Whether others can reach the endpoint, and it speaks no TLS.

    False for a descriptor of systemd: its address is not known here.
    """
    parts = split_description(description)
    if parts[0] in _WRAPPERS:
        return is_open_and_plain(description.split(":", 1)[1])
    return parts[0] != "systemd" and not is_local(description) and not brings_tls(description)


def is_loopback(host: str) -> bool:
    """Whether listening on ``host`` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class _Description(NamedTuple):
    """A description as Twisted parses it: type, positional and named arguments."""

    places: list[str]
    names: dict[str, str]
    #: An argument is given twice: Twisted would take the last one, or fail.
    gives_twice: bool

    @property
    def kind(self) -> str:
        """The first word."""
        return self.places[0] if self.places else ""

    def argument(self, name: str) -> str | None:
        """The value of an argument, given by name or by position."""
        if name in self.names:
            return self.names[name]
        order = _ORDER.get(self.kind, ())
        place = order.index(name) + 1 if name in order else len(self.places)
        return self.places[place] if place < len(self.places) else None


def _read(description: str) -> _Description:
    """Parse as ``twisted.internet.endpoints._parse`` does.

    Colons separate arguments; the first equals sign separates name and value; a backslash escapes
    the next character.
    """
    places: list[str] = []
    names: dict[str, str] = {}
    gives_twice = False
    name: str | None = None
    current = ""

    def add() -> None:
        nonlocal gives_twice
        if name is None:
            places.append(current)
        else:
            gives_twice = gives_twice or name in names
            names[name] = current

    characters = iter(description)
    for character in characters:
        if character == "\\":
            current += next(characters, "")
        elif character == "=" and name is None:
            name, current = current, ""
        elif character == ":":
            add()
            name, current = None, ""
        else:
            current += character
    add()
    order = _ORDER.get(places[0] if places else "", ())
    given = set(order[: max(0, len(places) - 1)])
    return _Description(places, names, gives_twice or not given.isdisjoint(names))


def split_description(description: str) -> list[str]:
    """The parts between colons; a backslash keeps a colon (or itself) within its part."""
    return [
        re.sub(r"\\(.)", r"\1", part)
        for part in re.findall(r"(?:^|(?<=:))((?:\\.|[^:\\])*)", description)
    ]


def _is_port(text: str | None) -> bool:
    return bool(text and re.fullmatch(r"[0-9]{1,5}", text)) and int(text or 0) < 65536
