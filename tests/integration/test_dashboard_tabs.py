"""The tabs of the dashboard in a real browser, with few keys and clients and with many."""

import json
import re
from pathlib import Path

import pytest
from fakes.browsing import CHROMIUM, is_not_wider_than_the_screen, violations
from fakes.running import ADMIN_TOKEN, RunningDaemon, keys_of
from fakes.wire import CHAT, ask, said
from playwright.sync_api import expect

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser: chromium is not installed")

NAMES = ("alpha", "beta", "gamma")
TABS = ("Overview", "Clients", "Usage", "Requests", "Quotas")
TOKENS = {"web": "token-of-web-0123456789", "ci, nightly": "token-of-ci-0123456789"}
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
WIDE = {"viewport": {"width": 1920, "height": 1080}, "color_scheme": "dark"}
#: What a request changes of a client.
VARYING = ("used", "today", "last_seen")
HOSTILE = "\"'><img src=x onerror=alert(1)>\u202e"
#: A client's name has no marks of direction.
PRINTABLE = HOSTILE[:-1]
# Generous: a loaded machine may take its time to draw.
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def daemon(simulator, tmp_path_factory):
    """Two clients, of whom one has asked three times and the other once."""
    simulator.reset()
    tokens = [{"name": name, "token": token} for name, token in TOKENS.items()]
    running = RunningDaemon(
        tmp_path_factory.mktemp("daemon"),
        simulator.url,
        keys_of(*NAMES, limits={"rpd": 1000}),
        proxy={"accessTokens": tokens},
    )
    for number, name in enumerate(["web", "web", "web", "ci, nightly"]):
        asked(running, name, f"req-{number}")
    yield running
    running.stop()


@pytest.fixture
def page(open_tab, daemon):
    page = open_tab(daemon.url).sign_in(ADMIN_TOKEN)
    expect(rows(page, "key")).to_have_count(3)
    return page


def asked(daemon, client, request_id, model="gemini-3.8-flash"):
    headers = {"authorization": f"Bearer {TOKENS[client]}", "x_request_id": request_id}
    return ask(daemon, "POST", CHAT, {**said("hi"), "model": model}, **headers)


def says(daemon, token):
    """The status of a request with this token."""
    return ask(daemon, "POST", CHAT, said("hi"), authorization=f"Bearer {token}").status


def rows(page, table):
    return page.locator(f"#{table}-table tbody tr:not(.group)")


def tab_of(page, name):
    return page.get_by_role("tab", name=name)


def giving(answer):
    body = json.dumps(answer)
    return lambda route: route.fulfill(status=200, content_type="application/json", body=body)


# -- the tabs --------------------------------------------------------------------------------------


def test_the_keyboard_and_the_address_lead_to_a_tab(page):
    tab_of(page, "Overview").focus()
    page.keyboard.press("End")
    expect(tab_of(page, "Quotas")).to_be_focused()
    expect(page.get_by_role("tabpanel", name="Quotas")).to_be_visible()
    expect(page.get_by_role("tabpanel")).to_have_count(1)
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("tabpanel", name="Requests")).to_be_visible()
    page.go_back()
    expect(tab_of(page, "Quotas")).to_have_attribute("aria-selected", "true")
    page.goto(f"{page.url.split('#')[0]}#usage?by=model&span=week")
    expect(page.get_by_role("tabpanel", name="Usage")).to_be_visible()
    expect(page.locator("#usage-by")).to_have_value("model")
    page.reload()
    expect(page.locator("#usage-span")).to_have_value("week")


def test_who_only_looks_is_sent_only_what_changes(page):
    def is_next(path):
        return lambda response: re.search(path, response.url)

    with page.expect_response(is_next(r"/keys\?since=.+")) as keys:
        pass
    assert keys.value.json()["keys"] == []
    with page.expect_response(is_next(r"/requests\?.*from=")) as requests:
        pass
    assert requests.value.status == 304 or len(requests.value.body()) < 3000
    with page.expect_response(is_next(r"/series\?since=")) as minutes:
        pass
    assert len(minutes.value.json()["minutes"]) <= 2


# -- many keys -------------------------------------------------------------------------------------


def test_keys_are_sorted_grouped_selected_and_changed_together(page, daemon):
    daemon.admin("PUT", "keys/gamma/weight", {"weight": 9})
    page.get_by_role("columnheader", name="Weight").get_by_role("button").click()
    expect(rows(page, "key").first).to_contain_text("gamma")
    expect(page.get_by_role("columnheader", name="Weight")).to_have_attribute(
        "aria-sort", "descending"
    )
    page.get_by_label("Group keys").select_option("project")
    groups = page.locator("#key-table tr.group")
    expect(groups).to_have_count(3)
    expect(groups.first).to_contain_text("gamma 1 key · 1 serving")
    expect(page.locator("#key-bulk")).to_be_hidden()
    page.get_by_label("Select alpha").check()
    page.get_by_label("Select gamma").check()
    page.get_by_role("button", name="Disable these 2").click()
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    expect(page.locator("#toast")).to_have_text("Disabled 2 keys.")
    assert [daemon.key(name)["enabled"] for name in NAMES] == [False, True, False]
    page.get_by_label("Keys to show").select_option("disabled")
    page.get_by_role("button", name="Enable these 2").click()
    page.get_by_role("dialog").get_by_role("button", name="Enable").click()
    expect(page.locator("#toast")).to_contain_text("2 keys are enabled")
    assert all(daemon.key(name)["enabled"] for name in NAMES)


def test_the_words_are_explained_where_they_are_used(page):
    page.get_by_role("button", name="What do the words mean?").click()
    words = page.get_by_role("dialog", name="What the words mean")
    expect(words).to_contain_text("its breaker is open")


def test_the_ranges_reach_back_a_month(page):
    charts = page.locator("#curves figure:visible")
    for choice, words in (("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days")):
        page.get_by_label("Range").select_option(choice)
        expect(charts.first.locator(".plot")).to_have_attribute("aria-label", re.compile(words))
        expect(charts.nth(2)).to_contain_text("Cost (estimate)")
        expect(charts).to_have_count(4)
    page.get_by_text("The figures as a table").click()
    expect(page.locator("#figures tbody tr")).to_have_count(30)
    page.get_by_label("Range").select_option("1h")
    expect(page.locator("#figures tbody tr")).to_have_count(61)


# -- clients ---------------------------------------------------------------------------------------


def test_a_client_is_made_changed_rotated_and_revoked(page, daemon):
    tab_of(page, "Clients").click()
    page.get_by_role("button", name="New client").click()
    page.get_by_label("Name", exact=True).fill(PRINTABLE)
    page.get_by_label("Models", exact=True).fill("gemini-3*, gemini-2.5-*")
    page.get_by_label("Requests a day", exact=True).fill("1")
    page.get_by_role("button", name="Make the client").click()
    token = page.locator("#new-token").input_value()
    assert re.fullmatch(r"gpx_[A-Za-z0-9_-]{43}", token)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the token").click()
    expect(page.get_by_role("dialog")).to_contain_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == token
    page.get_by_role("button", name="Done").click()
    # A dialog is emptied by an event that follows its end.
    expect(page.locator("#new-token")).to_have_count(0)
    assert token not in page.content()
    (made,) = daemon.admin("GET", "clients").json["clients"]
    assert (made["name"], made["models"]) == (PRINTABLE, ["gemini-3*", "gemini-2.5-*"])
    row = rows(page, "client")
    expect(row.locator(".c-limits")).to_contain_text("rpd0 / 1")
    assert says(daemon, token) == 200
    expect(row.locator(".c-limits")).to_contain_text("rpd1 / 1")
    expect(row).to_contain_text("At a limit")
    expect(row.locator(".c-requests")).to_have_text("1")
    assert says(daemon, token) == 429

    row.locator(".name").click()
    page.get_by_role("button", name="Change", exact=True).click()
    page.get_by_label("Requests a day", exact=True).fill("")
    page.get_by_role("button", name="Change", exact=True).click()
    expect(row.locator(".c-limits")).to_have_text("no limits")
    changed = daemon.admin("GET", "clients").json["clients"][0]
    assert changed == {**made, **{name: changed[name] for name in ("limits", *VARYING)}}

    row.get_by_role("button", name="Rotate").click()
    page.get_by_label("Seconds that the old token stays valid").fill("0")
    page.get_by_role("button", name="Make a new token").click()
    newer = page.locator("#new-token").input_value()
    page.keyboard.press("Escape")
    assert (says(daemon, token), says(daemon, newer)) == (401, 200)

    row.get_by_role("button", name="Disable").click()
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    expect(row).to_contain_text("Disabled")
    assert says(daemon, newer) == 401
    row.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.locator("#client-place .empty")).to_contain_text("There are no clients yet")
    assert daemon.admin("GET", "clients").json["clients"] == []


def test_a_mistake_is_told_in_the_form(open_tab, daemon):
    tab = open_tab(daemon.url)
    page = tab.sign_in(ADMIN_TOKEN)
    tab_of(page, "Clients").click()
    page.get_by_role("button", name="New client").click()
    page.get_by_label("Name", exact=True).fill("admin")
    page.get_by_role("button", name="Make the client").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("admin")
    expect(page.get_by_label("Name", exact=True)).to_have_value("admin")
    assert all(re.search("400|409", complaint) for complaint in tab.complaints)
    tab.complaints.clear()


# -- usage -----------------------------------------------------------------------------------------


def test_usage_is_drawn_listed_narrowed_and_taken_away(page, daemon):
    used = daemon.admin("GET", "usage?by=client").json["usage"]
    number = {each["client"]: each["requests"] for each in used}
    total = sum(number.values())
    tab_of(page, "Usage").click()
    table = rows(page, "usage")
    expect(table).to_have_count(len(used))
    web = table.filter(has=page.get_by_role("button", name="web", exact=True))
    expect(web.locator(".c-requests")).to_have_text(str(number["web"]))
    bars = page.locator("#usage-figure .plot")
    expect(bars.locator("canvas")).to_be_visible()
    page.locator("#usage-measure").select_option("requests")
    expect(bars).to_have_attribute("aria-label", re.compile(f"requests by client: {total} in all"))
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    text = Path(download.value.path()).read_text()
    assert text.startswith("hour,client,requests,")
    assert '"ci, nightly",1,' in text
    for span, words in (("week", "7 bars"), ("month", "30 bars")):
        page.locator("#usage-span").select_option(span)
        expect(bars).to_have_attribute("aria-label", re.compile(f"{total} in all, in {words}"))
    page.get_by_role("button", name="web", exact=True).click()
    expect(page.locator("#usage-filter")).to_contain_text("client: web")
    expect(table.first).to_contain_text("gemini-3.8-flash")
    page.get_by_role("button", name="Do not filter by the client web").click()
    expect(bars).to_have_attribute("aria-label", re.compile(f"requests by model: {total} in all"))


def test_a_share_changes_with_the_other_rows(open_tab, daemon):
    requests = {"web": 3, "ci, nightly": 1}

    def two_clients(route):
        answer = route.fetch().json()
        known = [row for row in answer["usage"] if row.get("client") in requests]
        for row in known:
            row["requests"] = requests[row["client"]]
        route.fulfill(json=answer | {"usage": known})

    tab = open_tab(daemon.url)
    tab.page.route("**/admin/usage?*", two_clients)
    page = tab.sign_in(ADMIN_TOKEN)
    page.goto(f"{page.url.split('#')[0]}#usage?measure=requests")
    share = rows(page, "usage").filter(has_text="web").locator(".c-measure")
    expect(share).to_have_text("75 %")
    requests["ci, nightly"] = 2
    tab_of(page, "Quotas").click()
    page.go_back()
    expect(share).to_have_text("60 %")


def test_a_long_name_hides_no_column_of_the_usage(open_tab, daemon):
    def renamed(route):
        text = route.fetch().text()
        route.fulfill(body=text.replace('"web"', f'"{"W" * 64}"'), content_type="application/json")

    tab = open_tab(daemon.url, viewport={"width": 1280, "height": 800})
    tab.page.route("**/admin/usage?*", renamed)
    page = tab.sign_in(ADMIN_TOKEN)
    tab_of(page, "Usage").click()
    long = rows(page, "usage").filter(has_text="W" * 64)
    expect(long.locator(".c-cost")).to_be_visible()
    place = page.locator("#usage-place")
    assert place.evaluate("place => place.scrollWidth <= place.clientWidth")
    assert long.locator(".name").get_attribute("title").startswith("W" * 64)


# -- requests --------------------------------------------------------------------------------------


def test_requests_are_searched_followed_and_explained(page, daemon, open_tab):
    tab_of(page, "Requests").click()
    found = rows(page, "found")
    expect(page.get_by_role("button", name="Explain req-3")).to_be_visible()
    before = found.count()
    asked(daemon, "web", "req-live")
    expect(found.first).to_contain_text("req-live")
    expect(found).to_have_count(before + 1)
    page.get_by_label("Client", exact=True).fill("ci")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator("#request-place .empty")).to_have_text("No such request is recorded.")
    page.get_by_label("Client", exact=True).fill("web")
    page.get_by_label("Only failures", exact=True).check()
    page.get_by_role("button", name="Search", exact=True).click()
    assert asked(daemon, "web", "req-bad", model="no-such-model").status == 404
    expect(found).to_have_count(1)
    expect(found.first).to_contain_text("404")
    found.first.click()
    story = page.get_by_role("dialog")
    expect(story).to_contain_text("req-bad came from web at")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Clear", exact=True).click()
    expect(page.get_by_label("Client", exact=True)).to_have_value("")
    page.get_by_label("Id of a request").fill("req-1")
    page.get_by_role("button", name="Explain", exact=True).click()
    expect(page.get_by_role("dialog")).to_contain_text("req-1 came from web")


def test_a_search_that_makes_no_sense_says_so(open_tab, daemon):
    tab = open_tab(daemon.url)
    page = tab.sign_in(ADMIN_TOKEN)
    tab_of(page, "Requests").click()
    page.get_by_label("Status").fill("often")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="status:")).to_contain_text("such as 503")
    expect(page.locator("#gone")).to_be_hidden()
    assert all("400" in complaint for complaint in tab.complaints)
    tab.complaints.clear()


def test_older_requests_are_loaded_by_the_page(page):
    record = {
        "id": "r",
        "time": "2026-11-22T20:00:00Z",
        "route": CHAT,
        "endpoint": "chat",
        "client": HOSTILE,
        "model": HOSTILE,
        "key": HOSTILE,
        "stream": False,
        "status": 200,
        "outcome": "success",
        "attempts": 1,
        "retries": 0,
        "duration_ms": 1.0,
        "first_byte_ms": None,
        "prompt_tokens": None,
        "completion_tokens": None,
        "cost_usd": None,
        "queue_ms": 0.0,
    }
    newer = [{**record, "id": f"new-{number}"} for number in range(100)]
    older = [{**record, "id": f"old-{number}"} for number in range(30)]
    page.route("**/admin/requests?*", giving({"requests": newer, "next_cursor": "17"}))
    page.route("**/admin/requests?*cursor=17*", giving({"requests": older, "next_cursor": None}))
    tab_of(page, "Requests").click()
    words = page.locator("#request-place .page-words")
    expect(words).to_have_text("1 to 25 of 100 requests")
    page.get_by_role("button", name="Load older ones").click()
    expect(words).to_have_text("1 to 25 of 130 requests")
    expect(page.get_by_role("button", name="Load older ones")).to_be_hidden()
    assert page.locator("#found-table img").count() == 0


# -- quotas ----------------------------------------------------------------------------------------


def test_quotas_are_shown_grouped_and_found(page, daemon):
    known = daemon.admin("GET", "quotas").json
    tab_of(page, "Quotas").click()
    found = rows(page, "quota")
    expect(found).to_have_count(len(known))
    most = max(known, key=lambda quota: quota["used"])
    expect(found.first.locator(".c-used")).to_have_text(f"{most['used']} / 1,000")
    expect(found.first.locator(".c-left")).to_contain_text(str(1000 - most["used"]))
    expect(found.first.locator(".c-source")).to_contain_text("keys.yaml")
    page.get_by_label("Group quotas").select_option("project")
    expect(page.locator("#quota-table tr.group")).to_have_count(3)
    page.get_by_label("Search quotas").fill("gam")
    expect(found).to_have_count(1)
    page.get_by_label("Quotas to show").select_option("near")
    expect(page.locator("#quota-place .empty")).to_have_text("No such quota.")


# -- few and many, for everybody -------------------------------------------------------------------


def a_client(number, name):
    near = number % 3 == 0
    return {
        "name": name,
        "source": "file" if number % 2 else "api",
        "enabled": number % 5 != 4,
        "expires": "2026-01-31" if number % 7 == 6 else None,
        "models": ["gemini-3*"],
        "endpoints": [],
        "addresses": [],
        "limits": {"rpm": 60, "tpm": None, "rpd": None, "tpd": None, "concurrent": 4},
        "budget": {"usdPerDay": 5.0, "usdPerMonth": None},
        "priority": "normal",
        "debug": False,
        "last_seen": None,
        "used": {
            "requests_minute": 60 if near else 3,
            "tokens_minute": 0,
            "requests_day": 0,
            "tokens_day": 0,
            "usd_day": 0.5,
            "usd_month": 0.5,
            "concurrent": 1,
        },
        "today": {
            "requests": number,
            "failures": {"theirs": 0, "ours": 0, "upstream": 0},
            "tokens": {"input": 5, "cached": 0, "output": 6, "reasoning": 0},
            "cost_usd": None,
            "unpriced": 0,
        },
    }


def a_quota(number, project):
    return {
        "project": project,
        "model": "*" if number % 2 else "gemini-3.8-flash",
        "dimension": "rpd",
        "limit": 100,
        "source": "configured" if number % 2 else "learned",
        "used": number % 101,
        "remaining": 100 - number % 101,
        "ends": "2099-01-01T08:00:00Z",
        "exhausted_at": "2099-01-01T07:00:00Z" if number % 4 == 3 else None,
        "key": project,
        "quota_id": None,
    }


@pytest.mark.parametrize(("options", "keys", "clients"), [(PHONE, 5, 3), (WIDE, 500, 200)])
def test_every_tab_is_for_everybody(open_tab, daemon, options, keys, clients):
    """No serious violation of the rules that axe-core knows, no markup of names, no sideways."""
    names = [HOSTILE, "x" * 64, *(f"name-{number}" for number in range(clients))]
    key = daemon.key("alpha")
    quota = {"model": "*", "until": "2099-01-01T00:00:00Z", "reason": "quota_day"}
    many = [
        {**key, "id": f"{n:012}", "name": f"{HOSTILE}{n}", "cooldowns": [quota] * (n % 3 == 1)}
        for n in range(keys)
    ]
    tab = open_tab(daemon.url, **options)
    page = tab.page
    page.route("**/admin/keys?*", giving({"keys": many}))
    shown = [a_client(number, name) for number, name in enumerate(names[:clients])]
    page.route("**/admin/clients?*", giving({"clients": shown}))
    quotas = [a_quota(number, names[number % len(names)] + str(number)) for number in range(keys)]
    page.route("**/admin/quotas", giving(quotas))
    tab.sign_in(ADMIN_TOKEN)
    tables = {
        "Overview": ("key", min(25, keys)),
        "Clients": ("client", min(25, clients)),
        "Usage": ("usage", None),
        "Requests": ("found", None),
        "Quotas": ("quota", min(25, keys)),
    }
    for name, (table, number) in tables.items():
        tab_of(page, name).click()
        if number is None:
            expect(rows(page, table).first).to_be_visible()
        else:
            expect(rows(page, table)).to_have_count(number)
        assert violations(page) == [], name
        assert is_not_wider_than_the_screen(page), name
        assert page.locator("main img").count() == 1, name
