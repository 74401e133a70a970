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
from gemproxy.state.model import MetricsRow, State
from gemproxy.state.sqlite.store import SQLiteStateStore

KEYS = ("production-1", "production-2", "mobile-app", "nightly-batch", "sandbox")
PROMPTS = (
    "Say hello",
    "Summarise this page for me",
    "A haiku about gateways, please [simulate:slow delay=0.6 chunkDelay=0.02]",
    "Name three rivers",
    "What does this function do? [simulate:words n=120]",
)
#: Name of the picture, and the reader's screen.
SHOTS = {
    "dashboard-light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dashboard-dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "dashboard-phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
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
                for name, screen in SHOTS.items():
                    take(Tab(browser, daemon.url, **screen), folder, name)
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
    store = SQLiteStateStore(database)
    store.replace(State(PoolSnapshot(taken_at=float(this_minute)), metrics=rows))
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


def live(daemon: RunningDaemon, simulator: RunningSimulator) -> None:
    """Some traffic, and trouble of each kind."""
    simulator.behave("production-2", "rate-limited-minute", parameters={"retryDelay": 52})
    simulator.behave("nightly-batch", "expired")
    daemon.admin("POST", "keys/sandbox/disable")
    daemon.admin("PUT", "keys/production-1/weight", {"weight": 3})

    def send(number: int) -> None:
        wanted = said(PROMPTS[number % len(PROMPTS)], stream=number % 3 > 0)
        ask(daemon, "POST", CHAT, wanted)

    with ThreadPoolExecutor(3) as clients:
        list(clients.map(send, range(36)))


def take(tab: Tab, folder: Path, name: str) -> None:
    page = tab.sign_in(ADMIN_TOKEN)
    rows = page.locator("#key-table tbody tr")
    expect(rows).to_have_count(len(KEYS))
    expect(page.locator("#curves .line").first).to_have_attribute("d", re.compile("M0 "))
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
