"""The figures as Markdown, with the commit and the machine that they come from."""

import platform
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from checks import Row
from growth import Series
from scenarios import Results

BEGIN = "<!-- figures: begin -->"
END = "<!-- figures: end -->"
PACKAGES = ("twisted", "klein", "treq", "httptools", "msgspec")
MET = {True: "yes", False: "**no**", None: ""}
REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Report:
    """All that a run of the benchmark says."""

    origin: tuple[tuple[str, str], ...]
    targets: tuple[Row, ...]
    inside: tuple[Series, ...]
    growth: tuple[Series, ...]

    def markdown(self) -> str:
        """Tables under headings of the third level."""
        parts = [
            table(("", ""), self.origin),
            "### Targets",
            table(
                ("check", "target", "gemproxy", "nginx", "ratio", "met"), map(_cells, self.targets)
            ),
        ]
        for series in (*self.inside, *self.growth):
            parts += [f"### {series.title}", table(series.columns, series.lines)]
        return "\n\n".join(parts)


def write_into(page: Path, markdown: str) -> None:
    """Put the figures between the page's two marks, in place of those that stood there."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or not after:
        raise SystemExit(f"{page} has not both marks: {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n{markdown}\n{END}{after}")


def origin(results: Results, folder: Path, how: str) -> tuple[tuple[str, str], ...]:
    """Where figures come from: the commit, the moment, the machine, and how quiet it was."""
    foreign = [run.foreign for _, run in results.every_run()] or [0.0]
    return (
        ("commit", _commit()),
        ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("processor", f"{_processor()}, {_count_of_processors()} of them"),
        ("kernel", f"{platform.system()} {platform.release()}, state on {_filesystem(folder)}"),
        ("Python", ", ".join([platform.python_version(), *map(_package, PACKAGES)])),
        ("nginx", _first_line("nginx", "-v").removeprefix("nginx version: ")),
        ("runs", how),
        (
            "work of others meanwhile",
            f"{median(foreign):.2f} processors, at most {max(foreign):.2f}",
        ),
    )


def key_pool_series(results: Results) -> Series:
    """Choice and record by the state of ten thousand keys."""
    lines = tuple(
        (state, f"{cost.choice:.1f} us", f"{cost.record:.1f} us", f"{cost.longest / 1000:.1f} ms")
        for state, cost in results.key_pool.items()
    )
    return Series("Key pool, 10,000 keys", ("state", "choice", "record", "longest"), lines)


def parts_series(costs: dict[str, float]) -> Series:
    """What is decided about a request, and the sum."""
    sized = {**costs, "together": sum(costs.values())}
    lines = tuple((part, f"{cost:.1f} us") for part, cost in sized.items())
    return Series("Decisions about one request, without the network", ("part", "CPU"), lines)


def table(columns: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    """A table of Markdown."""
    head = [columns, ("---",) * len(columns)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (*head, *lines))


def _package(name: str) -> str:
    return f"{name} {version(name)}"


def _cells(row: Row) -> tuple[str, ...]:
    return (row.check, row.target, row.gemproxy, row.nginx, row.ratio, MET[row.met])


def _commit() -> str:
    commit = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    return f"`{commit}`" + (" with changes that are not committed" if changed else "")


def _git(*arguments: str) -> str:
    return _output("git", "-C", str(REPOSITORY), *arguments) or ""


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _count_of_processors() -> int:
    return Path("/proc/cpuinfo").read_text().count("processor\t")


def _filesystem(folder: Path) -> str:
    return _first_line("stat", "-f", "-c", "%T", str(folder))


def _first_line(*command: str) -> str:
    return (_output(*command).splitlines() or ["unknown"])[0]


def _output(program: str, *arguments: str) -> str:
    path = shutil.which(program)
    if path is None:
        return ""
    done = subprocess.run(
        [path, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""
