"""``gemproxy quotas`` against the real admin API."""

from __future__ import annotations

import json

from fakes.admin import key

from gemproxy.pool.key import Limits
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.quota_ledger import ExceededQuota


class TestCommand:
    def test_a_table_and_json(self, serve, configure, gemproxy):
        server = serve(key("alpha", limits=Limits(rpd=5)))
        configure(port=server.port)
        pool, now = server.stage.pool, server.stage.clock.seconds()
        quotas = (ExceededQuota("rpm", 20, "PerMinute"),)
        refused = Outcome(Verdict.QUOTA_MINUTE, 429, retry_after=1.0, quotas=quotas)
        pool.record(pool.acquire("gemini-3.8-flash", now), refused, now)
        status, out, err = gemproxy("quotas")
        assert (status, err) == (0, "")
        head, _, learned, configured = out.splitlines()
        assert head.split()[:6] == ["PROJECT", "MODEL", "QUOTA", "LIMIT", "USED", "LEFT"]
        assert learned.split()[:6] == ["alpha", "gemini-3.8-flash", "rpm", "20", "20", "0"]
        assert learned.split()[-1] == "learned"
        assert configured.split()[:6] == ["alpha", "*", "rpd", "5", "1", "4"]
        assert configured.split()[-1] == "alpha"
        (row,) = json.loads(gemproxy("quotas", "--json", "--source", "learned")[1])
        assert (row["limit"], row["quota_id"]) == (20, "PerMinute")

    def test_nothing(self, serve, configure, gemproxy):
        server = serve()
        configure(port=server.port)
        assert gemproxy("quotas")[1].startswith("No quota is known")
