"""Whose address a request counts for."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.http.client_address import UNIX_SOCKET, client_address, network_of

PROXY, CLIENT, LIAR = "10.0.0.1", "192.0.2.7", "198.51.100.1"
TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def address(*headers, peer=PROXY, trusted=TRUSTED):
    fields = [
        (name.encode(), value.encode("latin-1"))
        for name, _, value in (header.partition(": ") for header in headers)
    ]
    return client_address(peer, fields, trusted)


def test_nobody_is_believed_by_default():
    for peer in (PROXY, CLIENT, "::1", "127.0.0.1"):
        assert address(f"X-Forwarded-For: {LIAR}", peer=peer, trusted=()) == peer
    assert address(f"X-Forwarded-For: {LIAR}", peer=None, trusted=()) == UNIX_SOCKET


def test_who_is_no_trusted_proxy_is_not_believed():
    for header in ("X-Forwarded-For: {}", "Forwarded: for={}"):
        assert address(header.format(LIAR), peer=CLIENT) == CLIENT


def test_without_a_header_it_is_the_peer():
    assert address() == PROXY
    assert address(peer=None) == UNIX_SOCKET
    assert address(peer="::ffff:10.0.0.1") == PROXY
    assert address(peer="fe80::1%eth0") == "fe80::1"


@pytest.mark.parametrize(
    "headers",
    [
        [f"X-Forwarded-For: {CLIENT}"],
        [f"x-forwarded-for: {CLIENT}"],
        [f"X-Forwarded-For: {LIAR}, {CLIENT}"],
        [f"X-Forwarded-For: {LIAR},{CLIENT},\t10.1.1.1 , 10.2.2.2"],
        [f"X-Forwarded-For: {LIAR}", f"X-Forwarded-For: {CLIENT}"],
        [f"X-Forwarded-For: {CLIENT}:4711"],
        [f"X-Forwarded-For: nonsense, {CLIENT}"],
        [f"X-Forwarded-For: ::ffff:{CLIENT}"],
        [f"X-Forwarded-For: {CLIENT}, fd00::1"],
        [f"X-Forwarded-For: {CLIENT}, [fd00::1]:4711"],
        [f"Forwarded: for={CLIENT}"],
        [f"Forwarded: For={CLIENT};proto=https;by=10.0.0.1"],
        [f'Forwarded: proto=https ; for="{CLIENT}:4711"'],
        [f"Forwarded: for={LIAR}, for={CLIENT}, for=10.9.9.9"],
        [f"Forwarded: for=unknown, for={CLIENT}"],
        [f"Forwarded: for=_hidden;by=x, for={CLIENT}"],
        [f'Forwarded: for="1,2;\\"3", for={CLIENT}'],
        [f"Forwarded: for={LIAR}", f"Forwarded: for={CLIENT}"],
        [f"Forwarded: for={CLIENT}", f"X-Forwarded-For: {LIAR}, {CLIENT}"],
    ],
)
def test_it_is_the_last_that_no_trusted_proxy_stands_for(headers):
    assert address(*headers) == CLIENT


@pytest.mark.parametrize("peer", [PROXY, "fd00::5", "::ffff:10.0.0.1", None])
def test_a_trusted_proxy_may_come_by_any_address_of_its_own(peer):
    for header in ("X-Forwarded-For: {}", "Forwarded: for={}"):
        assert address(header.format(CLIENT), peer=peer) == CLIENT


def test_ipv6_is_told_in_its_shortest_form():
    for header in ('Forwarded: for="[2001:DB8:0::1]:_x"', "X-Forwarded-For: 2001:db8:0:0::1"):
        assert address(header) == "2001:db8::1"


def test_where_all_are_proxies_it_is_the_first():
    assert address("X-Forwarded-For: 10.1.1.1, 10.2.2.2") == "10.1.1.1"


@pytest.mark.parametrize(
    "headers",
    [
        ["X-Forwarded-For: "],
        ["X-Forwarded-For: unknown"],
        [f"X-Forwarded-For: {CLIENT}, unknown"],
        [f"X-Forwarded-For: {CLIENT}, "],
        [f"X-Forwarded-For: {CLIENT}, 1.2.3"],
        [f"X-Forwarded-For: {CLIENT}, 10.0.0.999"],
        [f"X-Forwarded-For: {CLIENT} {LIAR}"],
        [f"X-Forwarded-For: {CLIENT}\u00e9"],
        ["Forwarded: "],
        [f"Forwarded: {CLIENT}"],
        ["Forwarded: proto=https"],
        ["Forwarded: for=unknown"],
        ["Forwarded: for=_gazonk"],
        [f"Forwarded: for={CLIENT}, for=unknown"],
        [f"Forwarded: for={CLIENT}, proto=https"],
        [f'Forwarded: for="x, for={CLIENT}'],
        [f"Forwarded: for={CLIENT} junk"],
        ["Forwarded: for=2001:db8::1"],  # must be quoted, in brackets
        [f"Forwarded: for={CLIENT}", f"X-Forwarded-For: {LIAR}"],
        [f"Forwarded: for={CLIENT}", "X-Forwarded-For: unknown"],
        [f"Forwarded: for={LIAR};proto=", f"X-Forwarded-For: {CLIENT}"],
    ],
)
def test_what_is_malformed_or_contradicts_itself_is_the_peers(headers):
    assert address(*headers) == PROXY
    assert address(*headers, peer=None) == UNIX_SOCKET


_NODES = st.ip_addresses().map(str)
_JUNK = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=40)


@given(st.lists(_JUNK, max_size=4), _NODES, st.lists(st.ip_addresses(network="10.0.0.0/8")))
def test_what_a_client_makes_up_changes_nothing(made_up, client, proxies):
    true = ip_address(client)
    if any(true in network for network in TRUSTED) or getattr(true, "ipv4_mapped", None):
        return
    said = ", ".join([*made_up, client, *map(str, proxies)])
    assert address(f"X-Forwarded-For: {said}") == str(true)


@given(_JUNK, _JUNK)
def test_whatever_is_said_the_address_is_one(forwarded, for_header):
    told = address(f"Forwarded: {forwarded}", f"X-Forwarded-For: {for_header}")
    assert str(ip_address(told)) == told


def test_an_ipv6_client_is_its_network():
    assert network_of("2001:db8:1:2:3::4") == network_of("2001:db8:1:2:ffff::1")
    assert network_of("2001:db8:1:3::4") != network_of("2001:db8:1:2::1")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of(UNIX_SOCKET) == UNIX_SOCKET
