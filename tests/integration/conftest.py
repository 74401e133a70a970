"""What the tests of the dashboard share: one browser, and tabs that complain of nothing."""

import pytest
from fakes.browsing import Tab, running_browser


@pytest.fixture(scope="module")
def browser():
    with running_browser() as running:
        yield running


@pytest.fixture
def open_tab(browser):
    """``open_tab(origin)``; what its page complains of fails the test."""
    tabs = []

    def open_one(origin, **options):
        tabs.append(Tab(browser, origin, **options))
        return tabs[-1]

    yield open_one
    complaints = [complaint for tab in tabs for complaint in tab.complaints]
    for tab in tabs:
        tab.close()
    assert complaints == []
