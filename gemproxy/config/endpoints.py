"""What the description of a Twisted server endpoint says of who can reach it.

The descriptions themselves are opened by Twisted; here they are only looked at, since a reactor
is no business of a file's reader. Source: ``twisted.internet.endpoints.serverFromString``.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

#: Wrappers that are followed by a whole description of their own.
_WRAPPERS = frozenset({"haproxy"})
_TCP = frozenset({"tcp", "tcp4", "tcp6", "ssl"})
#: Reached through the file system or the process's own descriptors, not the network.
_LOCAL = frozenset({"unix", "stdio"})

_LONGEST = 500


def is_description(description: str) -> bool:
    """Whether this can be an endpoint description at all: a type, a colon, arguments."""
    if len(description) > _LONGEST or not description.isprintable():
        return False
    if not re.match(r"[a-z][a-z0-9+_-]*:\S", description):
        return description == "stdio:"
    parts = split_description(description)
    if parts[0] in _WRAPPERS:
        return is_description(description.split(":", 1)[1])
    if parts[0] in _TCP:
        return _is_port(_argument(parts, "port", 1))
    return True


def is_local(description: str) -> bool:
    """Whether only this machine can reach the endpoint, as far as the description tells.

    A descriptor that systemd hands over may be bound to anything, so ``systemd:`` is not local;
    neither is a type that is not known here.
    """
    parts = split_description(description)
    if parts[0] in _WRAPPERS:
        return is_local(description.split(":", 1)[1])
    if parts[0] in _TCP:
        return is_loopback(_argument(parts, "interface", None) or "")
    return parts[0] in _LOCAL


def with_socket_mode(description: str) -> str:
    """``description``, by which a Unix socket is for its owner and group where it does not say.

    Twisted would let everybody in: mode 666.
    """
    parts = split_description(description)
    if parts[0] in _WRAPPERS:
        wrapper, inner = description.split(":", 1)
        return f"{wrapper}:{with_socket_mode(inner)}"
    if parts[0] != "unix" or _argument(parts, "mode", None) is not None:
        return description
    # The mode may also stand in the second place.
    plain = [part for part in parts[1:] if not _is_named(part)]
    named_address = _argument(parts, "address", None) is not None
    if len(plain) + named_address > 1:
        return description
    return f"{description}:mode=660"


def brings_tls(description: str) -> bool:
    """Whether the endpoint speaks TLS by itself."""
    return split_description(description)[0] in {"ssl", "tls", "txsni", "le", "lets", "txacme"}


def is_open_and_plain(description: str) -> bool:
    """Whether others can reach the endpoint, and it speaks no TLS.

    Not of a descriptor that systemd hands over: where it is bound to is not known here.
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


def split_description(description: str) -> list[str]:
    """The parts between colons; a backslash keeps a colon (or itself) within its part."""
    return [
        re.sub(r"\\(.)", r"\1", part)
        for part in re.findall(r"(?:^|(?<=:))((?:\\.|[^:\\])*)", description)
    ]


def _argument(parts: list[str], name: str, position: int | None) -> str | None:
    for part in parts[1:]:
        if part.startswith(f"{name}="):
            return part.removeprefix(f"{name}=")
    if position is not None and len(parts) > position and "=" not in parts[position]:
        return parts[position]
    return None


def _is_named(part: str) -> bool:
    return re.match(r"[A-Za-z]+=", part) is not None


def _is_port(text: str | None) -> bool:
    return bool(text and re.fullmatch(r"[0-9]{1,5}", text)) and int(text or 0) < 65536
