"""The pages of the documentation, taken apart: blocks, links, anchors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"(?P<indent> *)```(?P<language>\S*)\s*$")
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HTML_LINK = re.compile(r"""\b(?:src|srcset|href)="(?P<target>[^"]+)\"""")
_HEADING = re.compile(r"#{1,6} +(?P<title>.+?) *#*$")
_CODE = re.compile(r"`[^`]*`")


@dataclass(frozen=True)
class Block:
    """A fenced block: ``language`` is the word behind the fence, ``line`` where its text begins."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """``docs/cli.md:12``, to be found by a click."""
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Link:
    """Where a page points to, as it is written there."""

    page: str
    line: int
    target: str


@dataclass(frozen=True)
class Page:
    """One file of Markdown; ``name`` is its path in the repository."""

    name: str

    @property
    def path(self) -> Path:
        return REPOSITORY / self.name

    @cached_property
    def lines(self) -> list[str]:
        return self.path.read_text("utf-8").splitlines()

    @cached_property
    def blocks(self) -> list[Block]:
        """The fenced blocks, from the top."""
        found: list[Block] = []
        opened: tuple[int, str, str] | None = None
        for number, line in enumerate(self.lines, 1):
            fence = _FENCE.match(line)
            if opened is None and fence is not None:
                opened = (number + 1, fence["language"], fence["indent"])
            elif opened is not None and line.strip() == "```":
                begin, language, indent = opened
                text = "".join(
                    f"{each.removeprefix(indent)}\n" for each in self.lines[begin - 1 : number - 1]
                )
                found.append(Block(self.name, begin, language, text))
                opened = None
        assert opened is None, f"{self.name}: the fence before line {opened[0]} is never closed"
        return found

    @property
    def links(self) -> Iterator[Link]:
        """Links and pictures, in prose only."""
        for number, line in self.prose:
            bare = _CODE.sub("", line)
            for pattern in (_LINK, _HTML_LINK):
                for link in pattern.finditer(bare):
                    yield Link(self.name, number, link["target"])

    @cached_property
    def anchors(self) -> set[str]:
        """What ``#...`` may follow the page's name, as forges make it of the headings."""
        found: set[str] = set()
        for _, line in self.prose:
            heading = _HEADING.match(line)
            if heading is not None:
                slug = slug_of(heading["title"])
                found.add(next(s for s in _numbered(slug) if s not in found))
        return found

    @cached_property
    def prose(self) -> list[tuple[int, str]]:
        """The lines outside of fenced blocks, each with its number."""
        inside = {
            number
            for block in self.blocks
            for number in range(block.line - 1, block.line + block.text.count("\n") + 1)
        }
        return [(n, line) for n, line in enumerate(self.lines, 1) if n not in inside]


def pages() -> list[Page]:
    """Every page of the repository, those at its top first."""
    top = sorted(REPOSITORY.glob("*.md"))
    return [
        Page(path.relative_to(REPOSITORY).as_posix())
        for path in (*top, *sorted((REPOSITORY / "docs").rglob("*.md")))
    ]


def slug_of(title: str) -> str:
    """A heading's anchor: small letters, dashes for spaces, no punctuation."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def _numbered(slug: str) -> Iterator[str]:
    """A heading that comes again gets a number."""
    yield slug
    number = 0
    while True:
        number += 1
        yield f"{slug}-{number}"
