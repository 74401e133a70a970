"""What a distributor gets: the sdist, the wheel, and their metadata."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
METADATA = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
#: What is imported -> the distribution that brings it, where the names differ.
DISTRIBUTIONS = {
    "OpenSSL": "pyopenssl",
    "yaml": "pyyaml",
    "prometheus_client": "prometheus-client",
    "zope": "zope.interface",
}


def tracked() -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this is no checkout of git")
    return {name for name in listed.stdout.splitlines() if (REPOSITORY / name).exists()}


def build(kind: str, source: Path, out: Path) -> Path:
    """An sdist or a wheel of ``source``, by the backend that pyproject.toml names."""
    script = f"import setuptools.build_meta as b; print(b.build_{kind}({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


def copy_of_the_tree(folder: Path, *more: tuple[str, str]) -> Path:
    """The tracked files, and ``more``: building leaves files behind."""
    for name in tracked():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((REPOSITORY / name).read_bytes())
    for name, text in more:
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    secrets = [("config/proxy.yaml", "proxy: {}\n"), ("config/second-key.txt", "a-secret\n")]
    return build("sdist", copy_of_the_tree(folder / "tree", *secrets), folder)


@pytest.fixture(scope="module")
def unpacked(sdist, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    return top


def files_of(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_sdist_holds_the_repository_and_no_secret_of_the_operator(unpacked):
    held = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    assert tracked() - held == {".gitignore"}
    assert not {name for name in held if name.startswith("config/") and "example" not in name}


def test_the_sdist_builds_the_same_wheel_as_the_repository(unpacked, tmp_path):
    here = build("wheel", copy_of_the_tree(tmp_path / "tree"), tmp_path)
    (tmp_path / "out").mkdir()
    there = build("wheel", unpacked, tmp_path / "out")
    assert files_of(there) == files_of(here)


def test_the_wheel_holds_all_that_runs(unpacked, tmp_path):
    files = files_of(build("wheel", unpacked, tmp_path))
    runs = {
        name
        for name in tracked()
        if name.startswith(("gemproxy/", "twisted/")) and not name.endswith(".md")
    }
    assert runs <= set(files)
    (name,) = [name for name in files if name.endswith(".dist-info/METADATA")]
    told = Parser().parsestr(files[name].decode())
    assert told["License-Expression"] == "MIT"
    assert {url.split(",")[0] for url in told.get_all("Project-URL")} >= {
        "Source", "Documentation", "Changelog",
    }  # fmt: skip
    assert "Framework :: Twisted" in told.get_all("Classifier")


def imported() -> set[str]:
    names: set[str] = set()
    for path in [*REPOSITORY.glob("gemproxy/**/*.py"), *REPOSITORY.glob("twisted/plugins/*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add((node.module or "").split(".")[0])
    return names - set(sys.stdlib_module_names) - {"gemproxy", "__future__"}


def declared() -> dict[str, str]:
    """Distribution -> its lowest version."""
    return {
        (found := re.match(r"([\w.-]+)(?:\[\w+\])?>=([\d.]+)", requirement))[1].lower(): found[2]
        for requirement in METADATA["dependencies"]
    }


def test_every_package_that_is_imported_is_declared():
    assert {DISTRIBUTIONS.get(name, name) for name in imported()} <= set(declared())


def test_the_lowest_versions_that_are_tested_are_the_bounds_of_the_metadata():
    lines = (REPOSITORY / "requirements/lowest.txt").read_text("utf-8")
    pinned = dict(re.findall(r"^([\w.-]+)==([\d.]+)", lines, re.MULTILINE))
    for name, bound in declared().items():
        lowest = pinned[name.replace(".", "-")]
        assert re.fullmatch(rf"{re.escape(bound)}(\.0)*", lowest), f"{name}: {lowest}"


@pytest.mark.parametrize(
    "name",
    [
        "config/proxy.yaml",
        "config/second-key.txt",
        "config/a/b.pem",
        "state/gemproxy.db",
        "twistd.pid",
    ],
)
def test_what_an_operator_writes_is_ignored_by_git(name):
    tracked()
    done = subprocess.run(
        ["git", "check-ignore", "-q", "--no-index", name], cwd=REPOSITORY, check=False
    )
    assert done.returncode == 0


def test_the_examples_are_not_ignored_by_git():
    assert {"config/proxy.example.yaml", "config/keys.example.yaml"} <= tracked()
