"""Tables that mirror the code have a row for everything in it, and for nothing else."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import yaml
from fakes.pages import REPOSITORY, Page

from gemproxy.admin.health import ServiceStatus, diagnose
from gemproxy.cli import COMMANDS
from gemproxy.cli.exits import ExitStatus
from gemproxy.core.interfaces import StoreStatus
from gemproxy.pool.eligibility import Reason
from gemproxy.pool.outcome import Verdict
from gemproxy.pool.status import PoolCounts
from gemproxy.telemetry.recent import RecentRequests

CONTRACT = REPOSITORY.parent / "shared" / "contracts" / "admin-api.yaml"


def rows(name, header):
    """The first cells of the table on page ``name`` whose header line begins so."""
    lines = [line for _, line in Page(name).prose]
    begin = next(number for number, line in enumerate(lines) if line.startswith(header))
    found = []
    for line in lines[begin + 2 :]:
        if not line.startswith("| "):
            break
        found.append(line.split(" | ")[0].removeprefix("| "))
    return found


def test_every_command_has_a_row():
    words = re.findall(r"`(\w+)", " ".join(rows("docs/cli.md", "| command | what it does")))
    assert set(words) == set(COMMANDS)


def test_every_target_of_the_makefile_has_a_row():
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = " ".join(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)).split()
    words = re.findall(r"`make ([\w-]+)", " ".join(rows("CONTRIBUTING.md", "| target | does")))
    assert sorted(words) == sorted(targets)


def test_every_exit_status_has_a_row():
    assert {int(cell) for cell in rows("docs/cli.md", "| exit status")} == set(ExitStatus)


def test_every_verdict_has_a_row():
    assert set(rows("docs/architecture.md", "| verdict")) == {verdict.value for verdict in Verdict}


def test_every_reason_to_pass_a_key_over_has_a_row():
    told = {cell.strip("`") for cell in rows("docs/admin-api.md", "| reason | the key")}
    assert told == {reason.value for reason in Reason}


def test_every_route_of_the_contract_has_a_section_and_no_other_has():
    if not CONTRACT.is_file():
        pytest.skip(f"the contract is not beside this repository: {CONTRACT}")
    titles = [line for _, line in Page("docs/admin-api.md").prose if line.startswith("## ")]
    documented = set()
    for title in titles:
        method, path, *more = re.findall(r"[A-Z]{3,}|/[\w/{}]+", title)
        documented.add((method, path))
        documented |= {(method, path.rpartition("/")[0] + other) for other in more}
    contract = yaml.safe_load(CONTRACT.read_text())
    promised = {
        (method.upper(), path)
        for path, item in contract["paths"].items()
        for method in item.keys() & {"get", "post", "put"}
    }
    assert documented - promised <= {
        # The dashboard's own, which may change with it.
        ("GET", "/admin/metrics/series"),
        # Beyond the contract, which names what others may rely on.
        *(("POST", f"/admin/keys/{action}") for action in ("enable", "disable", "reset")),
        ("POST", "/admin/keys/{keyId}/test"),
        ("GET", "/admin/usage"),
        ("GET", "/admin/quotas"),
        ("GET", "/admin/clients"),
        ("POST", "/admin/clients"),
        *((method, "/admin/clients/{name}") for method in ("GET", "PATCH", "DELETE")),
        ("POST", "/admin/clients/{name}/rotate"),
    }
    assert promised <= documented


def test_every_reason_of_the_health_page_is_explained():
    service = ServiceStatus(
        version="0",
        started_at=0.0,
        draining=False,
        in_flight=0,
        region_refused=True,
        persistence=StoreStatus("json", last_error="disk full", degraded_since=1.0),
        config=SimpleNamespace(generation=1, loaded_at=0.0, last_error="a mistake"),
        requests=RecentRequests(total=10, failed=10),
    )
    counts = PoolCounts(4, 0, 2, disabled=1, recovering=1, needs_attention=(("expired", 1),))
    reasons = diagnose(service, counts, [("some-model", 1.0)], can_serve=False, cooling=1).reasons
    told = [cell.split("…")[0].strip() for cell in rows("docs/operations.md", "| a reason begins")]
    unexplained = [r for r in reasons if not any(r.startswith(beginning) for beginning in told)]
    assert unexplained == []
    assert len(reasons) == len(told)
