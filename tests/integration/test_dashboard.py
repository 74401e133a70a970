"""The dashboard in a real browser, in front of the running daemon."""

import json
import re

import pytest
from fakes.browsing import CHROMIUM, is_not_wider_than_the_screen, violations
from fakes.running import ADMIN_TOKEN, RunningDaemon, keys_of, secret_of
from fakes.wire import CHAT, ask, chat, said
from playwright.sync_api import expect

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser: chromium is not installed")

NAMES = ("alpha", "beta", "gamma")
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
# Generous: a loaded machine may take its time to draw.
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def daemon(simulator, tmp_path_factory):
    running = RunningDaemon(
        tmp_path_factory.mktemp("daemon"), simulator.url, keys_of(*NAMES, weight=2)
    )
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def as_in_the_file(request, own_network, simulator):
    """Whatever the last test did to keys is undone. All is in one network, so that comes first."""
    simulator.reset()
    if "daemon" in request.fixturenames:
        daemon = request.getfixturevalue("daemon")
        for name in NAMES:
            daemon.admin("POST", f"keys/{name}/enable")
            daemon.admin("POST", f"keys/{name}/reset")
            daemon.admin("PUT", f"keys/{name}/weight", {"weight": None})


@pytest.fixture
def tab(open_tab, daemon):
    return open_tab(daemon.url)


@pytest.fixture
def page(tab):
    """The dashboard, signed in, with three keys."""
    page = tab.sign_in(ADMIN_TOKEN)
    expect(rows(page)).to_have_count(3)
    return page


def rows(page):
    return page.locator("#key-table tbody tr")


def row(page, name):
    return rows(page).filter(has=page.get_by_role("button", name=name, exact=True))


def button(page, words):
    return page.get_by_role("button", name=words, exact=True)


def break_key(daemon, simulator, name):
    """Let Google refuse a key, and requests come until it was that key's turn."""
    simulator.behave(name, "invalid")
    while daemon.key(name)["needs_attention"] is None:
        chat(daemon)


# -- who comes in ----------------------------------------------------------------------------------


def test_the_token_opens_the_page_and_stays_in_the_tab(tab):
    page = tab.sign_in(ADMIN_TOKEN)
    expect(rows(page)).to_have_count(3)
    expect(page.get_by_role("heading", name="All 3 keys serve.")).to_be_visible()
    stored = page.evaluate("[Object.values(sessionStorage), Object.keys(localStorage)]")
    assert stored == [[ADMIN_TOKEN], []]
    assert tab.context.cookies() == []
    assert ADMIN_TOKEN not in page.content()
    page.reload()
    expect(rows(page)).to_have_count(3)
    assert not any(ADMIN_TOKEN in url for url in tab.asked)


def test_who_signs_out_leaves_nothing_behind(page):
    button(page, "Sign out").click()
    expect(page.get_by_label("Admin token")).to_be_focused()
    expect(page.get_by_label("Admin token")).to_have_value("")
    assert page.evaluate("sessionStorage.length") == 0
    expect(page.locator("#dashboard")).to_be_hidden()
    expect(rows(page)).to_have_count(0)


def test_a_wrong_token_is_told_and_does_not_get_in(tab):
    page = tab.sign_in("not-the-token-of-this-daemon-é")
    expect(page.get_by_role("alert")).to_have_text("The daemon does not know this token.")
    expect(page.locator("#dashboard")).to_be_hidden()
    assert page.evaluate("sessionStorage.length") == 0
    # The browser itself tells the console of every answer that is an error.
    assert all("401" in complaint for complaint in tab.complaints)
    tab.complaints.clear()


def test_no_token_is_not_even_sent(tab):
    page = tab.sign_in("  ")
    expect(page.get_by_role("alert")).to_have_text("Type or paste the admin token.")
    assert not any(url.endswith("/health") for url in tab.asked)


def test_a_token_that_is_replaced_leads_back_to_the_sign_in(open_tab, start_daemon):
    daemon = start_daemon(keys_of(*NAMES))
    tab = open_tab(daemon.url)
    page = tab.sign_in(ADMIN_TOKEN)
    expect(rows(page)).to_have_count(3)
    daemon.configure(keys_of(*NAMES), proxy={"adminToken": "another-token-of-the-operator"})
    daemon.reload()
    expect(page.get_by_role("alert")).to_contain_text("does not know this token")
    expect(page.locator("#dashboard")).to_be_hidden()
    assert all("401" in complaint for complaint in tab.complaints)
    tab.complaints.clear()


def test_where_no_token_is_asked_for_nobody_has_to_sign_in(open_tab, start_daemon):
    daemon = start_daemon(keys_of(*NAMES), proxy={"adminToken": None, "adminAuth": "disabled"})
    page = open_tab(daemon.url).open()
    expect(rows(page)).to_have_count(3)
    expect(button(page, "Sign out")).to_be_hidden()
    # A change comes with an Origin, which the daemon compares with its own.
    button(page, "Disable alpha").click()
    button(page, "Disable").click()
    expect(row(page, "alpha")).to_contain_text("Disabled")


def test_a_listener_of_its_own_serves_the_page(open_tab, start_daemon):
    endpoint = "tcp:0:interface=127.0.0.1"
    daemon = start_daemon(keys_of(*NAMES), proxy={"adminEndpoint": endpoint})
    page = open_tab(f"http://{daemon.admin_address}").sign_in(ADMIN_TOKEN)
    expect(rows(page)).to_have_count(3)
    for path in ("/admin", "/admin/", "/admin/page/main.js"):
        assert ask(daemon, "GET", path).status == 404


# -- what is seen ----------------------------------------------------------------------------------


def test_a_key_in_trouble_stands_first_and_tells_why_and_until_when(page, daemon, simulator):
    break_key(daemon, simulator, "beta")
    first = rows(page).first
    expect(first).to_contain_text("Needs a person")
    expect(first).to_contain_text("Google does not know this key · tried again in 4 min")
    expect(first).to_contain_text("API key not valid")
    expect(page.locator("#headline")).to_have_text("Serving with 2 of 3 keys.")
    expect(page.locator("#reasons")).to_contain_text("taken out because they failed: 1 of 3")
    expect(page.locator("#announcer")).to_have_text("beta: Needs a person.")
    countdown = first.locator("time[data-until]")
    seen = countdown.inner_text()
    expect(countdown).not_to_have_text(seen, timeout=2500)


def test_no_row_jumps_away_from_under_the_pointer(page, daemon, simulator):
    rows(page).last.hover()
    break_key(daemon, simulator, "gamma")
    expect(rows(page).last).to_contain_text("Needs a person")
    page.locator("#curves-title").hover()
    expect(rows(page).first).to_contain_text("Needs a person")


def test_only_the_keys_in_trouble_can_be_shown_and_any_found(page, daemon, simulator):
    break_key(daemon, simulator, "gamma")
    page.get_by_label("Keys to show").select_option("trouble")
    expect(rows(page)).to_have_count(1)
    expect(row(page, "gamma")).to_be_visible()
    page.get_by_label("Search keys").fill("alp")
    expect(page.locator("#key-place .empty")).to_have_text("No such key.")
    page.get_by_label("Keys to show").select_option("")
    expect(row(page, "alpha")).to_be_visible()
    expect(rows(page)).to_have_count(1)


def test_everything_about_a_key_can_be_read(page, daemon, simulator):
    break_key(daemon, simulator, "alpha")
    expect(row(page, "alpha")).to_contain_text("Needs a person")
    button(page, "alpha").click()
    details = page.get_by_role("dialog", name="alpha")
    expect(details).to_contain_text("API key not valid.")
    expect(details).to_contain_text(daemon.key("alpha")["id"])
    assert secret_of("alpha") not in page.content()
    page.keyboard.press("Escape")
    expect(details).to_be_hidden()
    expect(button(page, "alpha")).to_be_focused()


def test_the_curves_move_with_the_requests(page, daemon):
    curve = page.locator("#curves .plot").first
    expect(curve.locator("canvas")).to_be_visible()
    before = curve.get_attribute("aria-label")
    for number in range(6):
        assert ask(daemon, "POST", CHAT, said("hi", stream=number % 2 == 0)).status == 200
    expect(curve).not_to_have_attribute("aria-label", before)
    first_chunk = page.get_by_role("img", name=re.compile("Time to first chunk"))
    expect(first_chunk).to_have_attribute("aria-label", re.compile("first chunk now [0-9.]+ m?s"))
    expect(row(page, "alpha").locator(".sparkline")).to_be_visible()
    page.get_by_text("The figures as a table").click()
    expect(page.locator("#figures tbody tr")).to_have_count(61)


def test_a_request_is_explained_with_the_keyboard_alone(page, daemon, simulator):
    simulator.behave_all("rate-limited-minute")
    simulator.behave("gamma", "ok")
    while daemon.key("alpha")["cooldowns"] == []:
        chat(daemon)
    daemon.admin("POST", "keys/beta/disable")
    assert chat(daemon, x_request_id="the-story").status == 200
    explain = button(page, "Explain the-story")
    expect(explain).to_be_visible()
    explain.focus()
    page.keyboard.press("Enter")
    story = page.get_by_role("dialog", name="What became of a request")
    expect(story).to_contain_text("gamma served the request (success, status 200)")
    expect(story.locator(".steps > li")).to_have_count(1)
    expect(story).to_contain_text("alpha: out of quota until")
    expect(story).to_contain_text("beta: disabled")
    page.keyboard.press("Escape")
    expect(story).to_be_hidden()
    expect(explain).to_be_focused()


def test_a_request_that_is_forgotten_says_so(tab, page, daemon):
    assert chat(daemon, x_request_id="soon-forgotten").status == 200
    expect(button(page, "Explain soon-forgotten")).to_be_visible()
    page.route("**/admin/requests/soon-forgotten", answering(404, "Only the latest ones are."))
    button(page, "Explain soon-forgotten").click()
    expect(page.locator("#toast")).to_have_text("Only the latest ones are.")
    tab.complaints.clear()


# -- what is changed -------------------------------------------------------------------------------


def test_a_key_is_disabled_and_enabled(page, daemon):
    button(page, "Disable beta").click()
    question = page.get_by_role("dialog", name="Disable beta?")
    question.get_by_role("button", name="Disable").click()
    expect(question).to_be_hidden()
    expect(page.locator("#toast")).to_contain_text("The key beta is disabled")
    assert daemon.key("beta")["status"] == "disabled"
    expect(row(page, "beta")).to_contain_text("Disabled")
    button(page, "Enable beta").click()
    page.get_by_role("dialog").get_by_role("button", name="Enable").click()
    expect(row(page, "beta")).to_contain_text("Serving")
    assert daemon.key("beta")["status"] == "active"


def test_who_thinks_better_of_it_changes_nothing(page, daemon):
    button(page, "Disable beta").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(button(page, "Cancel")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(button(page, "Disable beta")).to_be_focused()
    assert daemon.key("beta")["enabled"]


def test_a_key_is_reset(page, daemon, simulator):
    break_key(daemon, simulator, "gamma")
    expect(row(page, "gamma")).to_contain_text("Needs a person")
    button(page, "Reset gamma").click()
    page.get_by_role("dialog").get_by_role("button", name="Reset").click()
    expect(row(page, "gamma")).to_contain_text("Serving")
    assert daemon.key("gamma")["status"] == "active"


def test_the_keys_that_are_shown_are_reset_together(page, daemon, simulator):
    expect(page.locator("#reset-shown")).to_be_hidden()
    for name in ("beta", "gamma"):
        break_key(daemon, simulator, name)
    page.get_by_label("Keys to show").select_option("attention")
    button(page, "Reset these 2").click()
    question = page.get_by_role("dialog", name="Reset 2 keys?")
    question.get_by_role("button", name="Reset").click()
    expect(page.locator("#toast")).to_contain_text("2 keys are reset")
    expect(page.locator("#key-place .empty")).to_have_text("No such key.")
    assert {daemon.key(name)["status"] for name in NAMES} == {"active"}
    # A search is not known to the daemon: each key that it finds is reset by itself.
    daemon.admin("POST", "keys/alpha/disable")
    break_key(daemon, simulator, "beta")
    page.get_by_label("Keys to show").select_option("")
    page.get_by_label("Search keys").fill("bet")
    expect(rows(page)).to_have_count(1)
    button(page, "Reset these 1").click()
    page.get_by_role("dialog").get_by_role("button", name="Reset").click()
    expect(page.locator("#toast")).to_have_text("Reset 1 key.")
    assert daemon.key("beta")["status"] == "active"
    assert daemon.key("alpha")["status"] == "disabled"


def test_who_thinks_better_of_a_reset_of_many_changes_nothing(page, daemon, simulator):
    break_key(daemon, simulator, "beta")
    page.get_by_label("Keys to show").select_option("open")
    button(page, "Reset these 1").click()
    button(page, "Cancel").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert daemon.key("beta")["status"] == "circuit_open"


@pytest.mark.parametrize("state", ["trouble", "attention", "open", "cooling", "disabled"])
def test_the_page_filters_as_the_admin_api_does(page, daemon, simulator, state):
    break_key(daemon, simulator, "beta")
    daemon.admin("POST", "keys/gamma/disable")
    wanted = [each["name"] for each in daemon.admin("GET", f"keys?state={state}").json["keys"]]
    expect(row(page, "gamma")).to_contain_text("Disabled")
    page.get_by_label("Keys to show").select_option(state)
    expect(rows(page)).to_have_count(len(wanted))
    for name in wanted:
        expect(row(page, name)).to_be_visible()


def test_the_headline_never_says_that_it_serves_while_nobody_is_served(
    open_tab, start_daemon, simulator
):
    daemon = start_daemon(keys_of(*NAMES))
    page = open_tab(daemon.url).sign_in(ADMIN_TOKEN)
    expect(page.locator("#headline")).to_have_text("All 3 keys serve.")
    simulator.behave_all("internal-error")
    for number in range(10):
        assert chat(daemon, f"hello {number}").status in (500, 503)
    expect(page.locator("#headline")).to_contain_text("Failing: 10 of 10 requests in the last 5")
    expect(page.locator("#headline")).to_contain_text("upstream 500")
    expect(page).to_have_title("gemproxy: unhealthy")
    page.locator("#request-table").get_by_role("button", name="Explain").last.click()
    told = page.get_by_role("dialog")
    expect(told).to_contain_text("status 500 INTERNAL")
    expect(told).to_contain_text("Google said: An internal error has occurred.")


def test_a_weight_is_changed_and_given_back_to_the_file(page, daemon):
    weigh = row(page, "alpha").get_by_role("button", name="change the weight")
    weigh.click()
    weight = page.get_by_label("Weight, 1 to 1,000")
    expect(weight).to_be_focused()
    weight.fill("7")
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_have_text("The key alpha weighs 7.")
    expect(weigh).to_have_text("7")
    assert daemon.key("alpha")["weight"] == 7
    weigh.click()
    button(page, "Go back to the file's weight").click()
    expect(weigh).to_have_text("2")
    assert daemon.key("alpha")["weight"] == 2


def test_a_weight_that_is_none_is_not_sent(page, daemon):
    row(page, "alpha").get_by_role("button", name="change the weight").click()
    page.get_by_label("Weight, 1 to 1,000").fill("0")
    button(page, "Change").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert daemon.key("alpha")["weight"] == 2


def test_a_change_that_is_refused_says_why_where_it_was_asked(tab, page):
    page.route("**/admin/keys/*/disable", answering(404, "No key has this id or name."))
    button(page, "Disable beta").click()
    question = page.get_by_role("dialog")
    question.get_by_role("button", name="Disable").click()
    expect(question.get_by_role("alert")).to_have_text("No key has this id or name.")
    expect(question.get_by_role("button", name="Disable")).to_be_enabled()
    tab.complaints.clear()


def test_a_reload_tells_what_it_changed_and_every_mistake_by_its_line(open_tab, start_daemon):
    daemon = start_daemon(keys_of(*NAMES))
    tab = open_tab(daemon.url)
    page = tab.sign_in(ADMIN_TOKEN)
    expect(rows(page)).to_have_count(3)
    daemon.configure(keys_of(*NAMES, "delta"), retry={"maxAttempts": 2})
    button(page, "Reload files").click()
    expect(page.locator("#toast")).to_contain_text("1 key added")
    expect(rows(page)).to_have_count(4)
    expect(page.locator("#config")).to_contain_text("Configuration 2")
    daemon.configure(keys_of(*NAMES), retry={"maxAttempts": "many"}, logging={"level": "loud"})
    button(page, "Reload files").click()
    faults = page.locator("#reload-result li")
    expect(faults).to_have_count(2)
    expect(faults.first.locator("code")).to_contain_text("proxy.yaml:")
    expect(page.locator("#reload-result")).to_contain_text("retry.maxAttempts")
    expect(page.locator("#reasons")).to_contain_text("last reload of the configuration failed")
    button(page, "Dismiss").click()
    expect(faults).to_have_count(0)
    assert all("400" in complaint for complaint in tab.complaints)
    tab.complaints.clear()


# -- when things are not well ----------------------------------------------------------------------


def test_a_daemon_that_is_gone_is_told_and_comes_back(tab, page):
    tab.context.set_offline(True)
    gone = page.locator("#gone")
    expect(gone).to_contain_text("The daemon does not answer. It has been so since")
    expect(page.locator("#headline")).to_have_text("The daemon does not answer.")
    button(page, "Disable beta").click()
    question = page.get_by_role("dialog")
    question.get_by_role("button", name="Disable").click()
    expect(question.get_by_role("alert")).to_have_text("The daemon does not answer.")
    page.keyboard.press("Escape")
    tab.context.set_offline(False)
    expect(gone).to_be_hidden()
    expect(page.locator("#headline")).to_have_text("All 3 keys serve.")
    assert all("ERR_INTERNET_DISCONNECTED" in complaint for complaint in tab.complaints)
    tab.complaints.clear()


HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "\"'><b onmouseover=alert(3)>",
    "javascript:alert(4)",
    "\u202egnp.elif\u202c \u200f\u2067 back",
    "x" * 10_240,
    "</title></textarea><svg/onload=alert(5)>" * 256,
)


def test_hostile_words_are_shown_as_text(tab, page, daemon):
    """Whatever the API tells, in every field that somebody else may fill."""
    key = {**daemon.key("alpha"), "recent_latencies_ms": [3.0, 1.0]}
    keys = []
    for number, text in enumerate(HOSTILE):
        error = {"at": key_time(key), "outcome": text, "status": 400, "message": text}
        rest = {"model": text, "until": "2099-01-01T00:00:00Z", "reason": text}
        names = {"id": str(number), "name": text, "project": text + "!", "masked": text}
        keys.append({**key, **names, "last_error": error, "cooldowns": [rest]})
        keys[-1]["denied_models"] = [text]
    record = {
        "route": HOSTILE[0],
        "stream": False,
        "status": 500,
        "attempts": 1,
        "retries": 0,
        "duration_ms": 1.0,
        "first_byte_ms": None,
        "prompt_tokens": None,
        "completion_tokens": None,
        "time": key_time(key),
    }
    records = [
        {**record, "id": f"{n}{text}", "model": text, "key": text, "outcome": text}
        for n, text in enumerate(HOSTILE)
    ]
    health = {**daemon.health(), "status": "degraded", "reasons": HOSTILE}
    page.route("**/admin/keys?*", giving({"keys": keys}))
    page.route("**/admin/requests?*", giving({"requests": records}))
    page.route("**/admin/health", giving(health))
    expect(rows(page)).to_have_count(len(HOSTILE))
    for number, text in enumerate(HOSTILE):
        assert rows(page).nth(number).locator(".name").text_content() == text
        assert page.locator("#reasons li").nth(number).text_content() == text
        assert rows(page).nth(number).locator(".message bdi").text_content() == text
        page.locator(".name").nth(number).click()
        details = page.get_by_role("dialog")
        assert details.locator("h2").text_content() == text
        assert details.locator(".whole").text_content() == text
        page.keyboard.press("Escape")
    assert page.locator("script, img, svg[onload], b").count() == 3
    assert is_not_wider_than_the_screen(page)
    page.set_viewport_size({"width": 360, "height": 740})
    assert is_not_wider_than_the_screen(page)


def test_hostile_names_come_through_the_daemon_as_they_are(open_tab, start_daemon):
    names = HOSTILE[:3]
    keys = [{"name": name, "key": secret_of("alpha") + str(n)} for n, name in enumerate(names)]
    daemon = start_daemon(keys)
    ask(daemon, "POST", CHAT, {**said("hi"), "model": HOSTILE[1]})
    page = open_tab(daemon.url).sign_in(ADMIN_TOKEN)
    expect(rows(page)).to_have_count(3)
    assert page.locator("#key-table .name").all_text_contents() == list(names)
    expect(page.locator("#request-table tbody tr")).to_have_count(1)
    page.get_by_role("button", name=f"Disable {names[0]}").click()
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    expect(page.locator("#toast")).to_contain_text(f"The key {names[0]} is disabled")
    assert daemon.key(names[0])["status"] == "disabled"


def test_ten_thousand_keys_do_not_freeze_the_page(tab, page, daemon):
    key = daemon.key("alpha")
    keys = [{**key, "id": str(n), "name": f"key-{n}"} for n in range(10_000)]
    keys[9_000]["status"] = "circuit_open"
    page.route("**/admin/keys?*", giving({"keys": keys}))
    words = page.locator("#key-place .page-words")
    expect(words).to_have_text("1 to 25 of 10,000 keys")
    expect(rows(page)).to_have_count(25)
    expect(rows(page).first).to_contain_text("key-9000")
    took = page.evaluate(
        """() => new Promise((done) => {
            const began = performance.now();
            const search = document.getElementById("search");
            search.value = "key-77";
            search.dispatchEvent(new Event("input"));
            requestAnimationFrame(() => done(performance.now() - began));
        })"""
    )
    expect(words).to_have_text("1 to 25 of 111 keys")
    assert took < 2000
    page.locator("#key-place").get_by_label("Rows").select_option("100")
    page.locator("#key-place").get_by_role("button", name="Next").click()
    expect(rows(page)).to_have_count(11)


# -- for everybody ---------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"color_scheme": "light"}, {"color_scheme": "dark"}, PHONE])
def test_nothing_stands_in_anybodys_way(open_tab, daemon, simulator, options):
    """No serious violation of the rules that axe-core knows, wherever a reader may get to."""
    simulator.behave("beta", "rate-limited-minute")
    break_key(daemon, simulator, "alpha")
    daemon.admin("POST", "keys/gamma/disable")
    tab = open_tab(daemon.url, **options)
    page = tab.open()
    expect(page.get_by_label("Admin token")).to_be_visible()
    assert violations(page) == []
    tab.sign_in(ADMIN_TOKEN)
    expect(rows(page)).to_have_count(3)
    assert violations(page) == []
    button(page, "Reset alpha").click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    button(page, "alpha").click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.locator("#request-table .id").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert violations(page) == []
    assert is_not_wider_than_the_screen(page)


def test_the_keyboard_reaches_the_keys_at_once(page):
    page.locator("body").press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Keys", exact=True)).to_be_focused()


def test_focus_stays_when_the_page_is_drawn_anew(page, daemon):
    button(page, "Reset gamma").focus()
    daemon.admin("POST", "keys/beta/disable")
    expect(row(page, "beta")).to_contain_text("Disabled")
    expect(button(page, "Reset gamma")).to_be_focused()


# -- over a restart --------------------------------------------------------------------------------


def test_a_restart_does_not_empty_the_curves(simulator, tmp_path):
    daemon = RunningDaemon(tmp_path, simulator.url, keys_of(*NAMES))
    for _ in range(5):
        assert chat(daemon).status == 200
    daemon.stop()
    daemon = RunningDaemon(tmp_path, simulator.url, keys_of(*NAMES))
    try:
        minutes = daemon.admin("GET", "metrics/series").json["minutes"]
        assert sum(minute["requests"] for minute in minutes) == 5
        assert sum(minute["completion_tokens"] for minute in minutes) > 0
    finally:
        daemon.stop()


# -- the small ones --------------------------------------------------------------------------------


def giving(answer):
    """A route that answers with ``answer``."""
    body = json.dumps(answer)
    return lambda route: route.fulfill(status=200, content_type="application/json", body=body)


def answering(status, message):
    """A route that refuses."""
    error = {"message": message, "type": "t", "param": None, "code": None}
    body = json.dumps({"error": error})
    return lambda route: route.fulfill(status=status, content_type="application/json", body=body)


def key_time(key):
    return key["last_used"] or "2026-11-22T20:00:00Z"
