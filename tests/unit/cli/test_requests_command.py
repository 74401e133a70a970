"""``gemproxy requests`` against the real admin API."""

from __future__ import annotations

import json

from fakes.admin import context


def test_a_table_and_filters(daemon, gemproxy):
    broken = context("broken")
    broken.outcome, broken.client, broken.cost = "service", "ci", None
    daemon.stage.history.request_ended(broken, 503, 1.0)
    status, out, err = gemproxy("requests", "--since", "3h")
    assert (status, err) == (0, "")
    head, _, first, second = out.splitlines()
    assert head.split()[:4] == ["TIME", "ID", "CLIENT", "ENDPOINT"]
    assert first.split()[2:] == [
        *("broken", "ci", "chat", "gemini-3.8-flash", "503", "service", "beta", "2", "1000"),
        *("12", "34", "-"),
    ]
    assert "req_1" in second
    assert len(gemproxy("requests", "--failed")[1].splitlines()) == 3
    assert gemproxy("requests", "--client", "nobody")[1] == "There is no such request.\n"


def test_json_has_several_pages(daemon, gemproxy):
    for n in range(700):
        daemon.stage.history.request_ended(context(f"r{n}"), 200, n / 1000)
    _, out, _ = gemproxy("requests", "--json", "--limit", "600")
    # The daemon of the tests keeps the latest 500 in memory, and no others.
    assert [each["id"] for each in json.loads(out)["requests"]] == [
        f"r{n}" for n in range(699, 199, -1)
    ]
