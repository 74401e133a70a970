"""Every link of the documentation leads somewhere, and every page can be reached."""

from __future__ import annotations

import re

import pytest
from fakes.pages import REPOSITORY, Page, pages, slug_of

PAGES = pages()
#: Addresses outside are not asked for: a test must not need the Internet.
OUTSIDE = ("https://", "mailto:")


def leads_to(page, target):
    """The file and the anchor that a link names."""
    path, _, anchor = target.partition("#")
    return (page.path.parent / path).resolve() if path else page.path, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_to_a_heading(page):
    for link in page.links:
        if link.target.startswith(OUTSIDE):
            continue
        path, anchor = leads_to(page, link.target)
        where = f"{link.page}:{link.line}: {link.target}"
        assert path.is_relative_to(REPOSITORY), f"{where} leaves the repository"
        assert path.exists(), f"{where} is not there"
        if anchor:
            name = path.relative_to(REPOSITORY).as_posix()
            assert anchor in Page(name).anchors, f"{where} has no such heading"


def test_no_page_speaks_plain_http_to_the_outside():
    for page in PAGES:
        for link in page.links:
            assert not link.target.startswith("http://"), f"{link.page}:{link.line}"


def test_every_page_can_be_reached_from_the_readme():
    """A link to a folder, which a forge shows as a list, leads to every page in it."""
    reached, waiting = set(), ["README.md"]
    while waiting:
        name = waiting.pop()
        reached.add(name)
        page = Page(name)
        for link in page.links:
            if not link.target.startswith(OUTSIDE):
                path, _ = leads_to(page, link.target)
                found = path.glob("*.md") if path.is_dir() else [path]
                names = {other.relative_to(REPOSITORY).as_posix() for other in found}
                waiting += {each for each in names if each.endswith(".md")} - reached
    assert {page.name for page in PAGES} <= reached


def test_no_code_hides_outside_of_a_fence():
    """Four spaces make a block as well, and such a block says nothing of its language."""
    for page in PAGES:
        before = ""
        for number, line in page.prose:
            indented = re.match(r" {4}\S", line) and not before.strip()
            assert not indented, f"{page.name}:{number} is a block without a fence"
            before = line


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Backup and restore", "backup-and-restore"),
        ("`explain`", "explain"),
        ("What it doesn't do", "what-it-doesnt-do"),
        ("Disk full: what then?", "disk-full-what-then"),
    ],
)
def test_a_heading_becomes_an_anchor(title, slug):
    assert slug_of(title) == slug
