"""Hosts that a listener answers for, and pages that may call it."""

import pytest
from fakes.openai_errors import seen
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.core.errors import Forbidden, MisdirectedRequest, ProxyError
from gemproxy.http.origins import OriginGuard, OriginSettings, Reach, check_host, reach_of

CHAT = b"/v1/chat/completions"
OPEN = OriginSettings(anonymous=True, admin_open=True)


def verdict(
    settings=OPEN,
    reach=Reach.LOOPBACK,
    method=b"POST",
    path=CHAT,
    host=b"localhost:4806",
    **headers,
):
    """The status of the refusal; ``None`` where the request is let pass."""
    values = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    if host is not None:
        values[b"host"] = host
    return judged(OriginGuard(settings, reach), method, path, values)


def judged(guard, method, path, values):
    try:
        guard.check(method, path, values)
    except ProxyError as refusal:
        return seen(refusal).status
    return None


# ---- hosts -------------------------------------------------------------------------------------

OWN = [
    b"localhost",
    b"localhost:4806",
    b"localhost:1",  # any port: a tunnel or a container's mapping may have another one
    b"localhost:",
    b"LOCALHOST:4806",
    b"localhost.",
    b"localhost.:4806",
    b"127.0.0.1",
    b"127.0.0.1:4806",
    b"127.0.0.1.",
    b"127.8.9.10",
    b"127.1",
    b"0x7f.1",
    b"2130706433",
    b"[::1]",
    b"[::1]:4806",
    b"[0:0:0:0:0:0:0:1]:4806",
    b"[::ffff:127.0.0.1]:4806",
    b"[::FFFF:7F00:1]",
]
FOREIGN = [
    b"",
    b".",
    b":4806",
    b"evil.example",
    b"evil.example:4806",
    b"localhost.evil.example",
    b"evil.localhost",
    b"xlocalhost",
    b"localhost..",
    b"localhost:4806:80",
    b"localhost:http",
    b"127.0.0.1.evil.example",
    b"127.0.0.1.nip.io:4806",
    b"evil.example.127",
    b"0.0.0.0:4806",  # which Linux connects to itself
    b"0",
    b"[::]",
    b"[::ffff:10.0.0.1]",
    b"::1",
    b"[::1",
    b"[::1]x",
    b"[localhost]",
    b"[127.0.0.1]",
    b"10.0.0.1",
    b"localhost%2e",
    b"127.0.0.1%00.evil.example",
]


@pytest.mark.parametrize("host", OWN)
def test_a_loopback_listener_answers_for_its_own_names(host):
    assert verdict(host=host) is None


@pytest.mark.parametrize("host", FOREIGN)
def test_it_answers_for_no_other(host):
    assert verdict(host=host) == 421


@pytest.mark.parametrize("path", [CHAT, b"/admin", b"/admin/keys/a/disable", b"/", b"/n"])
def test_it_answers_for_no_other_whether_tokens_are_asked_for_or_not(path):
    for settings in (OPEN, OriginSettings()):
        assert verdict(settings, host=b"evil.example", path=path) == 421


def test_a_host_that_was_good_once_does_not_make_another_one_good():
    guard = OriginGuard(OriginSettings())
    for _ in range(2):
        assert judged(guard, b"GET", b"/", {b"host": b"localhost"}) is None
        assert judged(guard, b"GET", b"/livez", {b"host": b"evil.example"}) is None
        assert judged(guard, b"GET", b"/", {b"host": b"evil.example"}) == 421


def test_more_hosts_than_are_remembered_are_still_answered():
    guard = OriginGuard(OriginSettings())
    for port in range(1000):
        assert judged(guard, b"GET", b"/", {b"host": b"localhost:%d" % port}) is None
    assert len(guard._known) <= 64


def test_http_1_0_may_come_without_a_host():
    assert verdict(host=None) is None


@pytest.mark.parametrize("path", [b"/livez", b"/readyz", b"/healthz"])
def test_probes_come_under_any_name(path):
    assert verdict(host=b"10.2.3.4:4806", path=path) is None
    assert verdict(host=b"10.2.3.4:4806", path=path + b"/x") == 421


def test_names_that_the_operator_allows():
    allowed = OriginSettings(allowed_hosts=frozenset({"gw.example", "10.0.0.1", "fe80::1"}))
    for host in (b"gw.example", b"GW.Example.:443", b"10.0.0.1:80", b"[FE80:0::1]:4806"):
        assert verdict(allowed, host=host) is None
    for host in (b"x.gw.example", b"gw.example.evil", b"10.0.0.2"):
        assert verdict(allowed, host=host) == 421


def test_a_reload_withdraws_a_name():
    guard = OriginGuard(OriginSettings(allowed_hosts=frozenset({"gw.example"})))
    assert judged(guard, b"GET", b"/", {b"host": b"gw.example"}) is None
    guard.apply(OriginSettings())
    assert judged(guard, b"GET", b"/", {b"host": b"gw.example"}) == 421


@pytest.mark.parametrize("host", FOREIGN)
def test_public_listeners_and_unix_sockets_answer_for_every_host(host):
    assert verdict(reach=Reach.FILE, host=host) is None
    assert verdict(reach=Reach.PUBLIC, host=host) is None


def test_a_public_listener_with_names_answers_for_these_and_for_addresses():
    named = OriginSettings(allowed_hosts=frozenset({"gw.example"}))
    for host in (b"gw.example:4806", b"localhost", b"10.0.0.1", b"[2001:db8::1]:4806"):
        assert verdict(named, Reach.PUBLIC, host=host) is None
    for host in (b"evil.example", b"", b"10.0.0.1.evil.example"):
        assert verdict(named, Reach.PUBLIC, host=host) == 421


@pytest.mark.parametrize(
    ("host", "reach"),
    [
        (None, Reach.FILE),
        ("127.0.0.1", Reach.LOOPBACK),
        ("127.3.2.1", Reach.LOOPBACK),
        ("::1", Reach.LOOPBACK),
        ("::ffff:127.0.0.1", Reach.LOOPBACK),
        ("0.0.0.0", Reach.PUBLIC),
        ("::", Reach.PUBLIC),
        ("10.0.0.1", Reach.PUBLIC),
        ("fe80::1%eth0", Reach.PUBLIC),
    ],
)
def test_where_a_listener_stands_tells_who_reaches_it(host, reach):
    assert reach_of(host) is reach


@given(st.text(alphabet="localhst.127:[]0xf%-evi", max_size=24))
def test_only_names_of_this_machine_are_its_own(text):
    """An oracle of its own: what is let pass is localhost or parses to a loopback address."""
    import ipaddress
    import socket

    try:
        check_host(text.encode(), Reach.LOOPBACK, frozenset())
    except MisdirectedRequest:
        return
    name = text.rpartition(":")[0] if text.rpartition(":")[2].isdigit() else text.removesuffix(":")
    name = (name if "[" in text or ":" not in text else text.split(":")[0]).lower()
    if name.startswith("["):
        address = ipaddress.IPv6Address(name[1:-1])
        assert (address.ipv4_mapped or address).is_loopback
    elif name.removesuffix(".") != "localhost":
        assert socket.inet_aton(name.removesuffix("."))[0] == 127


# ---- pages -------------------------------------------------------------------------------------

ADMIN = b"/admin/keys/alpha/disable"
FOREIGN_PAGES = [
    {"origin": b"http://evil.example"},
    {"origin": b"null"},
    {"origin": b""},
    {"origin": b"http://localhost:3000"},  # another program's page on this machine
    {"origin": b"http://localhost"},
    {"origin": b"http://localhost:4806.evil.example"},
    {"origin": b"http://evil.example:4806"},
    {"origin": b"http://127.0.0.1:4806"},  # as the page's own names differ, so do the origins
    {"origin": b"localhost:4806"},
    {"origin": b"file://"},
    {"origin": b"chrome-extension://abcdef"},
    {"sec_fetch_site": b"cross-site"},
    {"sec_fetch_site": b"same-site"},
    {"sec_fetch_site": b"Something-New"},
    {"sec_fetch_site": b""},
    {"sec_fetch_site": b"cross-site", "origin": b"http://localhost:4806"},
    {"sec_fetch_site": b"same-origin", "origin": b"http://evil.example"},
]
OWN_PAGES = [
    {},
    {"origin": b"http://localhost:4806"},
    {"origin": b"HTTP://LocalHost:4806"},
    {"origin": b"https://localhost:4806"},
    {"sec_fetch_site": b"same-origin"},
    {"sec_fetch_site": b"none"},
    {"sec_fetch_site": b"same-origin", "origin": b"http://localhost:4806"},
]


@pytest.mark.parametrize("page", FOREIGN_PAGES)
def test_where_no_token_is_asked_for_pages_of_other_sites_are_refused(page):
    for path in (CHAT, ADMIN):
        assert verdict(path=path, **page) == 403


@pytest.mark.parametrize("path", [CHAT, b"/v1/models", ADMIN, b"/admin/requests", b"/unknown"])
def test_they_are_refused_whatever_they_ask_for_and_wherever(path):
    for reach in Reach:
        for method in (b"GET", b"POST", b"PUT", b"HEAD", b"X"):
            assert verdict(reach=reach, method=method, path=path, origin=b"null") == 403


@pytest.mark.parametrize("path", [CHAT, ADMIN])
@pytest.mark.parametrize("page", OWN_PAGES)
def test_programs_and_its_own_pages_are_served(page, path):
    assert verdict(path=path, **page) is None


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (b"https://gw.example", b"gw.example"),
        (b"https://gw.example", b"gw.example:443"),
        (b"http://gw.example:80", b"gw.example"),
        (b"https://gw.example:8443", b"GW.example:8443"),
        (b"http://[::1]:4806", b"[::1]:4806"),
    ],
)
def test_an_origin_is_compared_with_the_host_that_was_asked(origin, host):
    assert verdict(reach=Reach.FILE, host=host, origin=origin) is None


@pytest.mark.parametrize(
    ("origin", "host"),
    [(b"https://gw.example", b"gw.example:80"), (b"http://gw.example", None), (b"null", b"null")],
)
def test_and_differs_from_it_by_port_or_where_there_is_none(origin, host):
    assert verdict(reach=Reach.FILE, host=host, origin=origin) == 403


@pytest.mark.parametrize("page", FOREIGN_PAGES)
def test_where_a_token_is_asked_for_the_token_counts(page):
    assert verdict(OriginSettings(), **page) is None
    assert verdict(OriginSettings(admin_open=True), **page) is None
    assert verdict(OriginSettings(admin_open=True), path=ADMIN, **page) == 403
    assert verdict(OriginSettings(anonymous=True), path=ADMIN, **page) is None


def test_pages_that_the_operator_named_may_call_but_not_operate():
    named = OriginSettings(frozenset(), frozenset({"https://app.example"}), True, True)
    page = {"origin": b"https://app.example", "sec_fetch_site": b"cross-site"}
    assert verdict(named, **page) is None
    assert verdict(named, method=b"OPTIONS", **page) is None
    assert verdict(named, path=ADMIN, **page) == 403
    assert verdict(named, origin=b"https://app.example.evil") == 403
    # Who leaves the origin out cannot be told from others.
    assert verdict(named, sec_fetch_site=b"cross-site") == 403


def test_every_page_may_call_where_the_operator_says_so():
    every = OriginSettings(frozenset(), frozenset({"*"}), True, True)
    for page in FOREIGN_PAGES:
        assert verdict(every, **page) is None
        assert verdict(every, path=ADMIN, **page) == 403


@pytest.mark.parametrize("page", FOREIGN_PAGES)
def test_a_preflight_is_left_to_the_answer_that_gives_no_permission(page):
    assert verdict(method=b"OPTIONS", **page) is None
    assert verdict(method=b"OPTIONS", path=ADMIN, **page) == 403
    assert verdict(method=b"OPTIONS", host=b"evil.example", **page) == 421


def test_a_link_to_the_dashboard_may_be_followed():
    """Its files hold no data; what they show is fetched by the page itself."""
    link = {"sec_fetch_site": b"cross-site"}
    for path in (b"/admin", b"/admin/", b"/admin/page/page.js"):
        assert verdict(method=b"GET", path=path, **link) is None
        assert verdict(method=b"POST", path=path, **link) == 403
    assert verdict(method=b"GET", path=b"/admin/", host=b"evil.example", **link) == 421


def test_a_page_of_another_site_learns_of_the_host_first():
    """And never more than one of the two."""
    assert verdict(host=b"evil.example", origin=b"http://evil.example") == 421


def test_the_refusals_say_what_to_do():
    guard = OriginGuard(OPEN)
    with pytest.raises(MisdirectedRequest, match="allowedHosts"):
        guard.check(b"POST", CHAT, {b"host": b"evil.example"})
    with pytest.raises(Forbidden, match="corsOrigins"):
        guard.check(b"POST", CHAT, {b"host": b"localhost", b"origin": b"null"})
