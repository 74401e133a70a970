"""The glossary can be looked up in, and has the words that operators meet."""

from __future__ import annotations

import re

from fakes.pages import Page

from gemproxy.pool.outcome import Charge

PAGE = Page("docs/glossary.md")
TERMS = re.findall(r"^\| ([^|]+?) \| [^-]", PAGE.path.read_text(), re.MULTILINE)[1:]


def test_terms_stand_in_alphabetical_order_once_each():
    assert sorted(set(TERMS)) == TERMS


def test_every_state_of_a_breaker_and_every_payer_is_explained():
    text = PAGE.path.read_text()
    for word in ("closed", "open", "half-open", *(charge.value for charge in Charge)):
        assert word in text
