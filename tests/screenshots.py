"""``make screenshots``: the pictures of the dashboard for the README, taken of the real thing.

A daemon with an hour behind it, in front of the simulator, with keys in every kind of trouble.
"""

import math
import random
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fakes.browsing import CHROMIUM, Tab, running_browser
from fakes.running import ADMIN_TOKEN, RunningDaemon, RunningSimulator, keys_of
from fakes.wire import CHAT, ask, said
from playwright.sync_api import expect

from gemproxy.pool.snapshot import PoolSnapshot
from gemproxy.state.model import USAGE_DAY, USAGE_HOUR, MetricsRow, State, UsageRow
from gemproxy.state.sqlite.store import SQLiteStateStore

#: Short: a name of twelve characters would be masked, since the made-up secrets contain it.
KEYS = ("prod-east", "prod-west", "mobile-app", "batch", "sandbox")
#: Clients with what they send in comparison.
CLIENTS = {"checkout": 9.0, "search": 6.0, "support-bot": 3.5, "nightly-batch": 2.5, "ci": 1.0}
PROMPTS = (
    "Say hello",
    "Summarise this page for me",
    "A haiku about gateways, please [simulate:slow delay=0.6 chunkDelay=0.02]",
    "Name three rivers",
    "What does this function do? [simulate:words n=120]",
)
LIGHT = {"color_scheme": "light", "viewport": {"width": 1280, "height": 980}}
#: Name of the picture, the tab, and the reader's screen.
SHOTS = {
    "dashboard-light": ("", LIGHT),
    "dashboard-dark": ("", {**LIGHT, "color_scheme": "dark"}),
    "dashboard-phone": ("", {"color_scheme": "light", "viewport": {"width": 390, "height": 844}}),
    "dashboard-usage": ("usage?span=month", {**LIGHT, "viewport": {"width": 1280, "height": 760}}),
    "dashboard-clients": ("clients", {**LIGHT, "viewport": {"width": 1280, "height": 560}}),
}
#: What each tab shows once it is complete.
READY = {
    "": "#key-table tbody tr",
    "usage": "#usage-table tbody tr",
    "clients": "#client-table tbody tr",
}
EXPLANATION = "dashboard-explanation"


def main(folder: Path) -> None:
    """Take every picture into ``folder``."""
    if CHROMIUM is None:
        raise SystemExit("chromium is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        simulator = RunningSimulator(Path(scratch), KEYS, seed=7, firstByteDelaySeconds=0.17)
        database = Path(scratch, "state.db")
        remember_an_hour(database)
        daemon = RunningDaemon(
            Path(scratch), simulator.url, keys_of(*KEYS), persistence={"path": str(database)}
        )
        try:
            live(daemon, simulator)
            with running_browser() as browser:
                for name, (place, screen) in SHOTS.items():
                    take(Tab(browser, daemon.url, **screen), folder, name, place)
        finally:
            daemon.stop()
            simulator.stop()


def remember_an_hour(database: Path) -> None:
    """A day's ebb and flow in small, with an outage of some minutes in its middle."""
    dice = random.Random(7)
    this_minute = int(time.time() // 60) * 60
    rows = tuple(
        a_minute(this_minute - 60 * ago, ago, dice.uniform(0.85, 1.15)) for ago in range(62, 0, -1)
    )
    usage = tuple(
        used(client, share * dice.uniform(0.7, 1.3), period, start)
        for client, share in CLIENTS.items()
        for period, number in ((USAGE_DAY, 30), (USAGE_HOUR, 24))
        for start in range(this_minute // period * period, 0, -period)[:number]
    )
    store = SQLiteStateStore(database)
    store.replace(State(PoolSnapshot(taken_at=float(this_minute)), metrics=rows, usage=usage))
    store.close()


def a_minute(start: int, ago: int, luck: float) -> MetricsRow:
    requests = round((70 + 40 * math.sin(ago / 9)) * luck)
    outage = math.exp(-(((ago - 24) / 2.5) ** 2))
    streams = requests * 2 // 3
    return MetricsRow(
        period=60,
        start=start,
        route=CHAT,
        model="gemini-3.8-flash",
        status_class="2xx",
        key=KEYS[0],
        requests=requests,
        failures=round(requests * 0.3 * outage),
        prompt_tokens=round(requests * 180 * luck),
        completion_tokens=round(requests * 95 / luck),
        seconds=requests * 0.9,
        first_chunks=streams,
        first_chunk_seconds=streams * (0.32 + 0.06 * luck + 0.9 * outage),
    )


def used(client: str, share: float, period: int, start: int) -> UsageRow:
    weekend = time.gmtime(start).tm_wday > 4
    requests = round(share * (100 if weekend else 240) * period / USAGE_DAY * 10)
    return UsageRow(
        period,
        start,
        client,
        "chat",
        "gemini-3.8-flash",
        KEYS[0],
        requests=requests,
        theirs=requests // 90,
        upstream=requests // 300,
        input=requests * 900,
        cached=requests * 210,
        output=requests * 240,
        reasoning=requests * 60,
        cost=requests * 0.0011,
    )


def live(daemon: RunningDaemon, simulator: RunningSimulator) -> None:
    """Some traffic, and trouble of each kind."""
    simulator.behave("prod-west", "rate-limited-minute", parameters={"retryDelay": 52})
    simulator.behave("batch", "expired")
    daemon.admin("POST", "keys/sandbox/disable")
    daemon.admin("PUT", "keys/prod-east/weight", {"weight": 3})
    tokens = [make_client(daemon, name, number) for number, name in enumerate(CLIENTS)]

    def send(number: int) -> None:
        wanted = said(PROMPTS[number % len(PROMPTS)], stream=number % 3 > 0)
        token = tokens[number * number % len(tokens)]
        ask(daemon, "POST", CHAT, wanted, authorization=f"Bearer {token}")

    with ThreadPoolExecutor(3) as clients:
        list(clients.map(send, range(36)))


def make_client(daemon: RunningDaemon, name: str, number: int) -> str:
    """Make a client with some limits; gives its token."""
    limits = {"rpm": 60, "rpd": 20_000} if number % 2 else {"tpm": 40_000, "concurrent": 8}
    budget = {"usdPerDay": 50.0 - 9 * number}
    body = {"name": name, "limits": limits, "budget": budget}
    token: str = daemon.admin("POST", "clients", body).json["token"]
    return token


def take(tab: Tab, folder: Path, name: str, place: str) -> None:
    page = tab.sign_in(ADMIN_TOKEN)
    page.goto(f"{page.url}#{place}")
    expect(page.locator(READY[place.split("?", maxsplit=1)[0]])).to_have_count(len(KEYS))
    if place == "":
        expect(page.locator("#curves .plot").first).to_have_attribute(
            "aria-label", re.compile("/s")
        )
    page.mouse.move(0, 0)
    page.screenshot(path=folder / f"{name}.png")
    if name == "dashboard-light":
        page.get_by_label("Only failures and retries").check()
        page.locator("#request-table .id").first.click()
        expect(page.get_by_role("dialog")).to_be_visible()
        page.get_by_role("dialog").screenshot(path=folder / f"{EXPLANATION}.png")
    tab.close()
    if tab.complaints:
        raise SystemExit("\n".join(tab.complaints))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
