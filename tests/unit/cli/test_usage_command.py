"""``gemproxy usage`` against the real admin API."""

from __future__ import annotations

import json

from fakes.admin import NOON
from fakes.stores import used

from gemproxy.state.model import USAGE_DAY

DAY = int(NOON) // USAGE_DAY * USAGE_DAY


class TestCommand:
    def test_a_table(self, serve, configure, gemproxy):
        server = serve()
        configure(port=server.port)
        server.stage.stored_usage = [used(period=USAGE_DAY, start=DAY, cost=0.125, cached=40)]
        status, out, err = gemproxy("usage", "--by", "client,day", "--since", "yesterday")
        assert (status, err) == (0, "")
        head, _, row = out.splitlines()
        assert head.split()[:4] == ["CLIENT", "DAY", "REQUESTS", "FAILED"]
        assert row.split() == ["ci", "2026-11-22", "3", "0", "100", "40", "0", "0", "0.1250"]

    def test_json_and_csv(self, serve, configure, gemproxy):
        server = serve()
        configure(port=server.port)
        server.stage.stored_usage = [used(period=USAGE_DAY, start=DAY, unpriced=1)]
        _, out, _ = gemproxy("usage", "--json")
        (row,) = json.loads(out)["usage"]
        assert (row["client"], row["unpriced"]) == ("ci", 1)
        _, out, _ = gemproxy("usage", "--csv", "--client", "ci")
        assert out.startswith("client,requests,")

    def test_nothing_and_a_mistake(self, serve, configure, gemproxy):
        server = serve()
        configure(port=server.port)
        assert gemproxy("usage")[1] == "Nothing was used in this time.\n"
        status, _, err = gemproxy("usage", "--since", "soon")
        assert status == 1
        assert "from: expected a date" in err
