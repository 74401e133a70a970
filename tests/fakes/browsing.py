"""A real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
