"""The page, the linter's layers and the code have the same modules."""

from __future__ import annotations

import re
import tomllib

from fakes.pages import REPOSITORY, Page

PAGE = Page("docs/architecture.md")


def drawn():
    """The modules of the picture, a row for each line."""
    rows = [re.split(r" {2,}", line)[0] for line in PAGE.blocks[0].text.splitlines()]
    return [set(re.split(r" [|:] ", row)) for row in rows]


def linted():
    """The layers that import-linter holds."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [set(re.split(r" [|:] ", layer.replace("gemproxy.", ""))) for layer in layers]


def test_the_picture_has_the_arrows_that_the_linter_holds():
    assert drawn() == linted()


def test_every_module_is_in_the_picture():
    built = {
        path.stem
        for path in (REPOSITORY / "gemproxy").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists())
        and not path.stem.startswith("__")
    }
    assert {module.partition(".")[0] for module in set().union(*drawn())} == built


def test_every_module_says_why_it_exists():
    """But for the programs, which `docs/cli.md` and the README are about."""
    described = set(re.findall(r"^\| `(\w+)` \|", PAGE.path.read_text(), re.MULTILINE))
    modules = {module.partition(".")[0] for module in set().union(*drawn())}
    assert modules - described == {"cli"}


def test_where_to_look_names_files_that_are_there():
    """A newcomer follows the table; each path in it leads to something."""
    section = PAGE.path.read_text().split("## Where to look")[1].split("\n## ")[0]
    table = section[section.index("|") :]
    paths = re.findall(r"`([a-z_/.]+/[a-z_/.A-Z]*)`", table)
    assert len(paths) >= 20
    assert [path for path in paths if not (REPOSITORY / "gemproxy" / path).exists()] == []
