"""Measure gemproxy beside nginx on this machine and print the table of targets.

``python benchmarks/bench.py`` from the repository's root; ``--help`` says what can be chosen. The
exit status says whether it could measure, never whether the figures are good.
"""

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from checks import rows
from gateways import HERE
from growth import run_growth
from parts import parts
from processes import ProgramEnded
from report import Report, key_pool_series, origin, parts_series, write_into
from scenarios import NAMES, Plan, Results, Session, run_scenarios

NEEDED = ("nginx", "make", "cc")


def main(arguments: list[str]) -> int:
    options = read_options(arguments)
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing:
        print(f"not installed: {', '.join(missing)} (Debian: nginx, gcc, make)", file=sys.stderr)
        return 2
    subprocess.run(["make", "-s", "-C", HERE], check=True)
    with tempfile.TemporaryDirectory(prefix="gemproxy-bench-", dir=options.folder) as folder:
        results, report = measure_all(options, Path(folder))
    print(report.markdown())
    keep(options, results, report)
    return 0


def read_options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each comparison (3)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of one run (4)")
    parser.add_argument("--only", default=",".join(NAMES), help="scenarios, by commas (all)")
    parser.add_argument("--no-growth", action="store_true", help="without the growth of cost")
    parser.add_argument("--quick", action="store_true", help="one round of one second, no growth")
    parser.add_argument("--folder", help="where the state is kept meanwhile (the system's /tmp)")
    parser.add_argument("--write", type=Path, help="put the figures into this page")
    parser.add_argument("--json", type=Path, help="put every run into this file")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds, options.no_growth = 1, 1.0, True
    if unknown := set(options.only.split(",")) - set(NAMES):
        parser.error(
            f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}"
        )
    return options


def measure_all(options: argparse.Namespace, folder: Path) -> tuple[Results, Report]:
    plan = Plan(options.rounds, options.seconds, tuple(options.only.split(",")))
    with Session(folder, say, plan.seconds) as session:
        results = run_scenarios(session, plan)
        growth = () if options.no_growth else tuple(run_growth(session, options.seconds))
    how = f"rounds: {plan.rounds}, each run {plan.seconds:g} s; medians of the rounds"
    inside = (parts_series(parts()), key_pool_series(results))
    report = Report(origin(results, folder, how), tuple(rows(results)), inside, growth)
    return results, report


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def keep(options: argparse.Namespace, results: Results, report: Report) -> None:
    if options.write:
        write_into(options.write, report.markdown())
    if options.json:
        values = {"results": dataclasses.asdict(results), "report": dataclasses.asdict(report)}
        options.json.write_text(json.dumps(values, indent=1))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ProgramEnded as ended:
        sys.exit(str(ended))
