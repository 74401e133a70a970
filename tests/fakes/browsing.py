"""A real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium")
#: No sandbox: the tests may run as root. And no word to anybody outside.
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

#: How bad a violation is that nobody may meet, in the words of axe-core.
SERIOUS = {"serious", "critical"}


@contextmanager
def running_browser() -> Iterator[Browser]:
    """The browser, for as long as it is needed."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """One reader's page of the dashboard at ``origin``, in a profile of its own.

    ``complaints`` are errors that the page or the console told, and requests to other origins.
    """

    def __init__(self, browser: Browser, origin: str, **options: Any) -> None:
        self.origin = origin
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.page.on("console", self._told)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.context.on("request", self._requested)

    def open(self) -> Page:
        """Go to the dashboard."""
        self.page.goto(f"{self.origin}/admin/")
        return self.page

    def sign_in(self, token: str) -> Page:
        """Go to the dashboard and type the token."""
        page = self.open()
        page.get_by_label("Admin token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        return page

    def close(self) -> None:
        self.context.close()

    def _told(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _requested(self, request: Any) -> None:
        self.asked.append(request.url)
        if not request.url.startswith(f"{self.origin}/admin/"):
            self.complaints.append(f"request to {request.url}")


def is_not_wider_than_the_screen(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def violations(page: Page) -> list[tuple[str, list[str]]]:
    """The serious violations of the rules that axe-core knows, with the places."""
    found = Axe().run(page).response["violations"]
    return [
        (each["id"], [node["html"][:200] for node in each["nodes"]])
        for each in found
        if each["impact"] in SERIOUS
    ]
