"""The address of a request's client, behind reverse proxies that the operator trusts.

Any sender can forge a header. It is used only if the peer is one of ``proxy.trustedProxies``, and
read from its end: what the last trusted proxy has added is true, what stands before the first
untrusted address may be forged.

An address grants no permission. It is logged and audited, and wrong tokens are counted by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network

#: The peer of a Unix socket, which has no address.
UNIX_SOCKET = "unix socket"

#: RFC 7239 section 6: an address, IPv6 in brackets, and perhaps a port, which may be a word.
_NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?")
#: RFC 7239 section 4: pairs of a token and a token or quoted string.
_PAIR = re.compile(
    r"""[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=([!#$%&'*+.^_`|~0-9A-Za-z-]+|"(?:[^"\\]|\\.)*")[ \t]*"""
)


def client_address(
    peer: str | None, fields: Iterable[tuple[bytes, bytes]], trusted: Sequence[_Network]
) -> str:
    """Return the address of the client of a request from ``peer``.

    ``peer`` is ``None`` for a Unix socket, which is trusted if any proxy is: its mode decides who
    may open it. ``fields`` are the request's headers. If ``Forwarded`` and ``X-Forwarded-For``
    differ, or hold no address, the peer's address is returned: a proxy that writes one of them may
    have passed on a forged other one.
    """
    address = _read(peer) if peer is not None else None
    name = UNIX_SOCKET if peer is None else str(address or peer)
    if not trusted or (peer is not None and not _is_in(address, trusted)):
        return name
    forwarded: list[str] = []
    for_header: list[str] = []
    for field, value in fields:
        match field.lower():
            case b"forwarded":
                forwarded.append(value.decode("latin-1"))
            case b"x-forwarded-for":
                for_header.append(value.decode("latin-1"))
    addresses = {
        _first_untrusted(nodes, trusted)
        for nodes in (
            [node for value in forwarded for node in _nodes(value)],
            [node.strip(" \t") for value in for_header for node in value.split(",")],
        )
        if nodes
    }
    if len(addresses) != 1:
        return name
    (client,) = addresses
    return name if client is None else str(client)


def network_of(address: str) -> str:
    """Return the network that counts as one client: an IPv4 address, or an IPv6 /64."""
    read = _read(address)
    if isinstance(read, IPv6Address):
        return str(IPv6Network((int(read) >> 64 << 64, 64)))
    return str(read or address)


def _first_untrusted(nodes: list[str], trusted: Sequence[_Network]) -> _Address | None:
    """Return the last node that is no trusted proxy, or the first one if all are."""
    address = None
    for node in reversed(nodes):
        match = _NODE.fullmatch(node)
        # X-Forwarded-For may have IPv6 without brackets.
        address = _read((match[1] or match[2]) if match else node)
        if address is None or not _is_in(address, trusted):
            break
    return address


def _nodes(value: str) -> list[str]:
    """Return the ``for`` of each element of a ``Forwarded`` header, or "" if it has none."""
    nodes, place, node = [], 0, ""
    while match := _PAIR.match(value, place):
        place = match.end()
        if match[1].lower() == "for":
            node = re.sub(r"\\(.)", r"\1", match[2].strip('"'))
        end = value[place : place + 1]
        if end != ";":
            nodes.append(node)
            node = ""
        if not end:
            return nodes
        if end not in ",;":
            break
        place += 1
    return [""]


def _read(text: str) -> _Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(address: _Address | None, networks: Sequence[_Network]) -> bool:
    return address is not None and any(address in network for network in networks)
