"""The Grafana board, the alert rules, the scrape example and the runbook, held against the metrics.

What is shown by ``gemproxy.telemetry`` decides: every name, label and label's value in a query
must be there. Where ``promtool`` is installed it judges the grammar and runs the rules' own tests.
"""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml
from fakes import promql
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gemproxy.config.settings import ProxySettings
from gemproxy.core.context import Attempt, RequestContext
from gemproxy.core.interfaces import StoreStatus
from gemproxy.core.limits import LimitShare
from gemproxy.pool.breaker import BreakerState
from gemproxy.pool.key import Key
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings
from gemproxy.pool.quota_ledger import ExceededQuota
from gemproxy.secret import Secret
from gemproxy.service.reload import ReloadStatus
from gemproxy.telemetry.metrics import Metrics
from gemproxy.telemetry.usage import UsageCounts
from gemproxy.translate.shared.usage import TokenUsage

REPOSITORY = Path(__file__).resolve().parents[3]
PROMETHEUS = REPOSITORY / "contrib" / "prometheus"
RULES = PROMETHEUS / "gemproxy.rules.yml"
RULE_TESTS = PROMETHEUS / "gemproxy.rules.test.yml"
SCRAPE = yaml.safe_load((PROMETHEUS / "scrape.yml").read_text())
BOARD = json.loads((REPOSITORY / "contrib" / "grafana" / "gemproxy.json").read_text())
RUNBOOK = (REPOSITORY / "docs" / "runbook.md").read_text()

GROUPS = yaml.safe_load(RULES.read_text())["groups"]
RECORDED = {rule["record"]: rule for group in GROUPS for rule in group["rules"] if "record" in rule}
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}
JOB = "gemproxy"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
NOW = 1_790_000_000.0


# -- what there is ---------------------------------------------------------------------------------


def exposition():
    """A scrape in which every metric has something to say."""
    metrics = Metrics(CollectorRegistry())
    names = ("alpha", "beta")
    pool = KeyPool(
        [Key(name, Secret(f"test-key-{name}-0123456789"), project=name) for name in names],
        PoolSettings(failure_threshold=1),
        metrics,
    )
    metrics.watch_keys(pool.statuses, lambda: NOW)
    metrics.watch_service(lambda: 1, lambda: ReloadStatus(loaded_at=NOW))
    for verdict in (Verdict.KEY, Verdict.QUOTA_MINUTE):
        quotas = (ExceededQuota("rpm", 5, "PerMinute"), ExceededQuota("rpd", 50, "PerDay"))
        outcome = Outcome(verdict, quotas=quotas if verdict is Verdict.QUOTA_MINUTE else ())
        pool.record(pool.acquire("gemini-3.8-flash", NOW), outcome, NOW)
    metrics.quotas.watch(pool.each_quota, lambda: NOW)
    for last in (Verdict.SUCCESS, Verdict.BROKEN_OFF):
        attempts = [Attempt("a", "alpha", NOW, Outcome(v)) for v in (Verdict.KEY, last)]
        finished = RequestContext(
            "r", "/v1/chat/completions", NOW, "gemini-3.8-flash", attempts=attempts
        )
        finished.stream, finished.first_byte = True, NOW + 0.5
        finished.usage = TokenUsage(input=10, cached=4, output=20, reasoning=5, total=30)
        metrics.request_ended(finished, 200, 2.0)
    metrics.clients.totals = lambda: {("ci", "chat"): UsageCounts(requests=2, unpriced=1)}
    metrics.clients.refusals = lambda: {("ci", "chat", "rpm"): 1, ("ci", "native", "rpm"): 1}
    metrics.clients.shares = lambda: [LimitShare("ci", "rpm", 1.0)]
    metrics.checkpoint_finished(StoreStatus("sqlite"), 0.01)
    return metrics.render("")[1].decode()


@cache
def series():
    """For each name of a series its labels, each with the values that were seen."""
    found = {"up": {}}
    for family in text_string_to_metric_families(exposition()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    for labels in found.values():
        # Prometheus adds these two to whatever it scrapes.
        labels |= {"job": {JOB}, "instance": {"127.0.0.1:4806"}}
    for name, rule in RECORDED.items():
        labels = set().union(
            *(g.labels for g in promql.read(rule["expr"]).groupings if g.word == "by")
        )
        found[name] = {label: {JOB} for label in labels}
    return found


#: Values beyond those of one scrape. Labels whose values anybody may invent are not here.
VALUES = {
    "outcome": {verdict.value for verdict in Verdict},
    "from": {state.value for state in BreakerState},
    "to": {state.value for state in BreakerState},
    "route": {"/v1/chat/completions", "/v1/models", "/v1/models/{model}"},
    "dimension": {"rpm", "tpm", "rpd", "tpd"},
    "limit": {"rpm", "tpm", "rpd", "tpd", "concurrent", "usdPerDay", "usdPerMonth"},
    "status": {"200", "400", "401", "404", "429", "499", "500", "502", "503", "504"},
}
OPEN_VALUES = frozenset({"key", "model", "instance", "client", "project"})


def mistakes(text):
    """What a query speaks of that there is not; empty where it is good."""
    query = promql.read(text)
    return [
        *(
            mistake
            for selector in query.selectors
            for mistake in (
                wrong_labels(selector)
                if selector.metric in series()
                else [f"there is no metric {selector.metric}"]
            )
        ),
        *(
            f"nothing here has the label {label}: {grouping.word} {grouping.labels}"
            for grouping in query.groupings
            for label in grouping.labels
            if not any(label in series().get(s.metric, {}) for s in grouping.selectors)
        ),
    ]


def wrong_labels(selector):
    labels = series()[selector.metric]
    for matcher in selector.matchers:
        if matcher.label not in labels:
            yield f"{selector.metric} has no label {matcher.label}"
        elif matcher.label not in OPEN_VALUES:
            values = labels[matcher.label] | VALUES.get(matcher.label, set())
            for value in alternatives(matcher):
                if not any(re.fullmatch(value, each) for each in values):
                    yield f"{selector.metric}: {matcher.label} is never {value}"


def alternatives(matcher):
    """The values that are asked for, each as a regular expression."""
    return matcher.value.split("|") if "~" in matcher.operator else [re.escape(matcher.value)]


def labels_of_result(text):
    """Labels that the series of a query's result may have."""
    query = promql.read(text)
    grouped = {label for g in query.groupings if g.word == "by" for label in g.labels}
    if grouped:
        return grouped
    return {label for selector in query.selectors for label in series()[selector.metric]}


# -- the reading itself ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "mistake"),
    [
        ("gemproxy_request_total", "no metric"),
        ("sum(rate(gemproxy_requests[5m]))", "no metric"),
        ("gemproxy_overhead_seconds > 1", "no metric"),
        ("1 - up / gemproxy:unrecorded", "no metric"),
        ('gemproxy_requests_total{key="alpha"}', "no label key"),
        ('up{job="gemproxy"} == 0 or gemproxy_key_weight{model="x"}', "no label model"),
        ('gemproxy_key_state{state="open"}', "never open"),
        ('gemproxy_upstream_attempts_total{outcome=~"service|netwrok"}', "never netwrok"),
        ('gemproxy_requests_total{status=~"5..|6.."}', "never 6"),
        ('gemproxy_requests_total{route=~"/v2/.+"}', "never /v2"),
        ('gemproxy_reactor_lag_seconds_bucket{le="0.3"}', "never 0"),
        ('up{job="gemprox"}', "never gemprox"),
        ("sum by (key) (gemproxy_requests_total)", "label key"),
        ("sum(gemproxy_requests_total) without (key)", "label key"),
        ("gemproxy_key_weight * on (model) gemproxy_key_health_score", "label model"),
        ("gemproxy_key_weight * on (key) gemproxy_requests_in_flight", "label key"),
        (
            "histogram_quantile(0.9, sum by (le) (rate(gemproxy_overhead_seconds_sum[5m])))",
            "label le:",
        ),
    ],
)
def test_a_name_that_is_not_there_is_found(query, mistake):
    assert mistake in "\n".join(mistakes(query))


@pytest.mark.parametrize(
    "query",
    [
        'sum by (le) (rate(gemproxy_overhead_seconds_bucket{route=~"/v1/.+"}[5m])) > 0.5',
        'gemproxy_key_state unless on (key) gemproxy_key_cooldown_seconds{model="*"}',
        "count(up == 1) by (job) / on (job) group_left () sum by (job) (up)",
    ],
)
def test_a_query_that_is_right_has_no_mistakes(query):
    assert mistakes(query) == []


@pytest.mark.parametrize(
    "query", ["sums(up)", "up{", "sum by (job (up)", 'up "x"', "up)", "sum(up", "?"]
)
def test_what_cannot_be_read_is_refused(query):
    with pytest.raises(ValueError, match=r"."):
        promql.read(query)


# -- the rules -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*RECORDED, *ALERTS])
def test_rules_speak_of_what_there_is(name):
    assert mistakes((RECORDED | ALERTS)[name]["expr"]) == []


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_what_to_do(name):
    alert = ALERTS[name]
    assert re.fullmatch(r"Gemproxy([A-Z][a-z]+)+", name)
    assert alert["labels"].keys() == {"severity"}
    notes = alert["annotations"]
    assert notes.keys() == {"summary", "description", "runbook"}
    assert len(notes["summary"]) > 20
    assert len(notes["description"]) > 60
    assert notes["description"].strip().endswith(".")
    assert notes["runbook"] == f"docs/runbook.md#{name.lower()}"


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_shows_labels_that_it_has(name):
    alert = ALERTS[name]
    shown = set(re.findall(r"\$labels\.(\w+)", " ".join(alert["annotations"].values())))
    assert shown <= labels_of_result(alert["expr"])


def test_severities_are_those_of_the_groups():
    found = {
        (group["name"], rule["labels"]["severity"])
        for group in GROUPS
        for rule in group["rules"]
        if "alert" in rule
    }
    assert found == {("gemproxy-page", "page"), ("gemproxy-ticket", "ticket")}


def test_names_are_given_once():
    names = [rule.get("alert") or rule["record"] for group in GROUPS for rule in group["rules"]]
    assert len(names) == len(set(names))


def test_the_limit_in_the_rules_is_the_default():
    limit = re.search(r"0\.8 \* (\d+)", ALERTS["GemproxyNearlyFull"]["expr"])
    assert int(limit[1]) == ProxySettings().max_concurrent_requests


def test_each_alert_is_tested_to_fire_and_not_to_fire():
    told = {True: set(), False: set()}
    for case in yaml.safe_load(RULE_TESTS.read_text())["tests"]:
        for test in case["alert_rule_test"]:
            told[bool(test["exp_alerts"])].add(test["alertname"])
    assert told == {True: ALERTS.keys(), False: ALERTS.keys()}


def test_the_series_of_the_tests_are_real():
    for case in yaml.safe_load(RULE_TESTS.read_text())["tests"]:
        for row in case["input_series"]:
            # Another job's series stands for all that is not gemproxy's.
            if 'job="node"' not in row["series"]:
                assert mistakes(row["series"]) == [], case["name"]


# -- the runbook -----------------------------------------------------------------------------------


def sections():
    """Text of each alert's section by severity and name, in the page's order."""
    found, severity = {}, ""
    for part in re.split(r"^(?=##+ )", RUNBOOK, flags=re.MULTILINE):
        head, _, text = part.partition("\n")
        if head.startswith("## "):
            severity = head.removeprefix("## ").lower()
        elif head.startswith("### "):
            found[severity, head.removeprefix("### ")] = text
    return found


def test_the_runbook_has_a_section_for_each_alert_and_no_other():
    assert list(sections()) == [
        (alert["labels"]["severity"], name) for name, alert in ALERTS.items()
    ]


@pytest.mark.parametrize(("severity", "name"), sections())
def test_a_section_tells_everything_in_order(severity, name):
    words = re.findall(r"^\*\*(.+?):\*\*", sections()[severity, name], re.MULTILINE)
    assert words == ["It means", "Users notice", "Look at", "Do", "It goes away"]


def test_what_the_runbook_points_to_is_there():
    targets = re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", RUNBOOK)
    assert len(targets) > 10
    for path, anchor in targets:
        page = (REPOSITORY / "docs" / path).resolve() if path else REPOSITORY / "docs/runbook.md"
        assert page.is_file(), path
        heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE) if anchor else []
        anchors = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
        assert not anchor or anchor in anchors, anchor


def test_the_runbook_asks_where_the_daemon_listens_by_default():
    default = ProxySettings()
    addresses = set(re.findall(r"http://[\d.]+:\d+", RUNBOOK))
    assert addresses == {f"http://{default.host}:{default.port}"}


# -- the scrape ------------------------------------------------------------------------------------


def test_the_scrape_is_of_the_default_address_and_the_job_of_the_rules():
    [job] = SCRAPE["scrape_configs"]
    default = ProxySettings()
    assert job["job_name"] == JOB
    assert job["static_configs"] == [{"targets": [f"{default.host}:{default.port}"]}]
    assert [PROMETHEUS / name for name in SCRAPE["rule_files"]] == [RULES]


def test_the_daemon_answers_such_a_scrape_and_no_other(shared_daemon):
    [job] = SCRAPE["scrape_configs"]
    path = job["metrics_path"].removeprefix("/admin/")
    assert job["authorization"]["type"] == "Bearer"
    answer = shared_daemon.admin("GET", path)
    assert answer.status == 200
    names = {name for name, _ in shared_daemon.metrics()}
    assert "gemproxy_build_info" in names
    assert shared_daemon.admin("GET", path, token=None).status == 401


# -- the board -------------------------------------------------------------------------------------

PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
NOTES = BOARD["annotations"]["list"]
VARIABLES = {variable["name"]: variable for variable in BOARD["templating"]["list"]}


def plain(expression):
    """A query of the board as Prometheus gets it."""
    return expression.replace("$__rate_interval", "5m")


#: Every query of the board, with where it stands.
QUERIES = [
    *((panel["title"], plain(target["expr"])) for panel in PANELS for target in panel["targets"]),
    *((note["name"], plain(note["expr"])) for note in NOTES),
]


def by_title(panel):
    return panel["title"]


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_the_board_speaks_of_what_there_is(title, query):
    assert mistakes(query) == []
    assert 'instance=~"$instance"' in query


@pytest.mark.parametrize("panel", PANELS, ids=by_title)
def test_a_panel_says_what_it_shows_and_in_which_unit(panel):
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for target in panel["targets"]:
        legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert target["legendFormat"]
        assert legend <= labels_of_result(plain(target["expr"]))


@pytest.mark.parametrize("panel", PANELS, ids=by_title)
def test_a_panel_asks_the_chosen_source(panel):
    assert panel["datasource"] == DATASOURCE
    references = [target["refId"] for target in panel["targets"]]
    assert len(references) == len(set(references))
    assert [target["datasource"] for target in panel["targets"]] == [DATASOURCE] * len(references)


def test_variables_and_annotations_ask_the_chosen_source():
    assert list(VARIABLES) == ["datasource", "instance", "key", "model"]
    asking = [variable for variable in VARIABLES.values() if variable["type"] == "query"]
    assert [each["datasource"] for each in (*asking, *NOTES)] == [DATASOURCE] * 6
    assert VARIABLES["datasource"]["type"] == "datasource"
    assert VARIABLES["datasource"]["query"] == DATASOURCE["type"]


@pytest.mark.parametrize("name", ["instance", "key", "model"])
def test_a_variable_takes_its_values_from_a_label_that_there_is(name):
    selector, label = re.fullmatch(
        r"label_values\((.+), (\w+)\)", VARIABLES[name]["query"]["query"]
    ).groups()
    assert mistakes(selector) == []
    assert label in labels_of_result(selector)
    assert VARIABLES[name]["definition"] == VARIABLES[name]["query"]["query"]


def test_every_variable_of_a_query_is_defined():
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(BOARD))) - {"__rate_interval", "__all"}
    assert used == VARIABLES.keys()


def test_panels_have_ids_of_their_own():
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    titles = list(map(by_title, BOARD["panels"]))
    assert len(titles) == len(set(titles))


def test_panels_do_not_overlap():
    taken = {}
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((x, y), panel["title"])
                assert other == panel["title"]


def test_the_rows_stand_in_the_order_in_which_one_looks():
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Is it well?", "Keys", "Models", "Tokens", "Clients and quotas", "The daemon"]


def test_the_board_can_be_imported():
    """No id of another Grafana, and the model of the version that it was made for."""
    assert BOARD["id"] is None
    assert BOARD["uid"] == "gemproxy"
    assert BOARD["schemaVersion"] >= 41


def test_alerts_that_the_board_names_are_there():
    named = set(re.findall(r"runbook: (\w+)", json.dumps(BOARD)))
    assert named
    assert named <= ALERTS.keys()


# -- by promtool -----------------------------------------------------------------------------------


def promtool(*arguments):
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (package prometheus)")
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
    )


def assert_succeeds(result):
    assert result.returncode == 0, result.stdout + result.stderr


def test_promtool_finds_nothing_wrong_with_the_rules():
    assert_succeeds(promtool("check", "rules", RULES))


def test_the_alerts_fire_when_they_should_and_only_then():
    assert_succeeds(promtool("test", "rules", RULE_TESTS))


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("GemproxyDown", 'up{job="gemproxy"} == 0', 'up{job="gemproxy"} == 1'),
        ("GemproxyErrorShareHigh", "> 0.05", "> 0.5"),
        ("GemproxyErrorShareHigh", "get 5xx", "get 4xx"),
    ],
)
def test_a_mistake_in_a_rule_would_be_found(tmp_path, name, before, after):
    text = RULES.read_text()
    assert before in text
    (tmp_path / RULES.name).write_text(text.replace(before, after))
    tests = yaml.safe_load(RULE_TESTS.read_text())
    tests["tests"] = [test for test in tests["tests"] if test["name"].startswith(name)]
    (tmp_path / RULE_TESTS.name).write_text(yaml.safe_dump(tests))
    result = promtool("test", "rules", tmp_path / RULE_TESTS.name)
    assert result.returncode != 0
    assert name in result.stdout + result.stderr


def test_promtool_finds_nothing_wrong_with_the_scrape(tmp_path):
    token = tmp_path / "token"
    token.write_text("an-admin-token-for-the-tests")
    [job] = SCRAPE["scrape_configs"]
    text = (PROMETHEUS / "scrape.yml").read_text()
    text = text.replace(job["authorization"]["credentials_file"], str(token))
    (tmp_path / "prometheus.yml").write_text(text)
    shutil.copy(RULES, tmp_path)
    assert_succeeds(promtool("check", "config", tmp_path / "prometheus.yml"))


def test_promtool_reads_every_query_of_the_board(tmp_path):
    rules = [{"record": f"board:{n}", "expr": query} for n, (_, query) in enumerate(QUERIES)]
    path = tmp_path / "board.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    assert_succeeds(promtool("check", "rules", path))
