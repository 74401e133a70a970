"""What a scrape of the running daemon shows: every metric, bounded labels, no secret."""

import re

import pytest
import yaml
from fakes.running import ADMIN_TOKEN, REPOSITORY, RunningDaemon, eventually, keys_of, secret_of
from fakes.wire import CHAT, MODEL, Wire, ask, chat, request, said
from prometheus_client.parser import text_string_to_metric_families as parse_text

DOCUMENTS = {
    "docs": REPOSITORY / "docs" / "metrics.md",
    "contract": REPOSITORY.parent / "shared" / "contracts" / "metrics.md",
}
NAMES = ("alpha", "beta", "gamma")
OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3"
#: Of a client that may ask once a minute.
TOKEN = "a-token-of-the-limited-client"
SUFFIXES = re.compile(r"_(bucket|count|sum)\Z")


@pytest.fixture(scope="module")
def daemon(simulator, tmp_path_factory):
    """One that has lived: failovers, cooldowns, an open breaker, a broken stream, a wrong token."""
    simulator.reset()
    folder = tmp_path_factory.mktemp("daemon")
    limited = {"name": "limited", "token": TOKEN, "limits": {"rpm": 1}}
    (folder / "clients.yaml").write_text(yaml.safe_dump({"clients": [limited]}))
    running = RunningDaemon(
        folder,
        simulator.url,
        keys_of(*NAMES, weight=3),
        proxy={"allowAnonymous": True},
        persistence={"checkpointSeconds": 0.1},
    )
    try:
        live(running, simulator)
        yield running
    finally:
        running.stop()
        simulator.reset()


def live(daemon, simulator):
    assert chat(daemon).status == 200
    texts = {"model": "gemini-embedding-001", "input": "Hello!"}
    for status in (200, 429):
        bearer = f"Bearer {TOKEN}"
        answer = ask(daemon, "POST", "/v1/embeddings", texts, authorization=bearer)
        assert answer.status == status
    assert stream(daemon).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    simulator.behave("alpha", "invalid")
    simulator.behave("beta", "rate-limited-minute")
    for _ in range(3):
        assert chat(daemon).status == 200
    simulator.behave("gamma", "truncated")
    assert b"stream_incomplete" in stream(daemon)
    simulator.reset()
    assert ask(daemon, "POST", CHAT, said("hi", "gemini-0-nothing")).status == 404
    assert daemon.admin("GET", "keys", token="wrong-token-of-somebody").status == 401
    assert daemon.reload().status == 200
    eventually(
        lambda: daemon.metric("gemproxy_checkpoint_duration_seconds_count", backend="sqlite")
    )


def stream(daemon):
    """A whole stream, as it came."""
    with Wire(daemon) as wire:
        wire.send(request("POST", CHAT, said("tell me", stream=True), connection="close"))
        return wire.rest()


def promised(document):
    """Name, type and labels of each row of the document's table."""
    rows = re.findall(r"^\| `(gemproxy_\w+)` \| (\w+)[^|]*\| ([^|]*)\|", document, re.MULTILINE)
    return {
        name: (kind, {word.strip() for word in re.sub(r"\(.*\)", "", labels).split(",")} - {""})
        for name, kind, labels in rows
    }


def scrape(daemon, accept=""):
    answer = daemon.admin("GET", "metrics", **({"accept": accept} if accept else {}))
    assert answer.status == 200
    return answer


def shown(daemon):
    """Name, type and labels of every series, in the shape of :func:`promised`."""
    found = {}
    for family in parse_text(scrape(daemon).body.decode()):
        for sample in family.samples:
            if sample.name.endswith("_created"):
                continue
            is_histogram = family.type == "histogram"
            name = SUFFIXES.sub("", sample.name) if is_histogram else sample.name
            found.setdefault(name, (family.type, set()))[1].update(sample.labels.keys() - {"le"})
    return found


@pytest.mark.parametrize("source", DOCUMENTS)
def test_every_promised_metric_is_there_with_its_type_and_labels(daemon, source):
    if not DOCUMENTS[source].is_file():
        pytest.skip(f"the contract is not beside this repository: {DOCUMENTS[source]}")
    rows = promised(DOCUMENTS[source].read_text())
    assert len(rows) >= 26
    found = shown(daemon)
    assert {name: found.get(name) for name in rows} == rows
    own = {name for name in found if name.startswith("gemproxy_")}
    if source == "docs":
        # The contract's own table does not have those that came after it.
        assert own == rows.keys()
    assert "process_resident_memory_bytes" in found
    assert "python_gc_collections_total" in found


def test_no_metric_is_told_of_twice(daemon):
    heads = re.findall(r"^# TYPE (\S+)", scrape(daemon).body.decode(), re.MULTILINE)
    assert len(heads) == len(set(heads))


def test_values_tell_what_happened(daemon):
    metric = daemon.metric
    assert metric("gemproxy_requests_total", route=CHAT, model=MODEL, status="200") == 6
    assert metric("gemproxy_requests_total", route=CHAT, model="other", status="404") == 1
    attempts = {
        (key, outcome): metric(
            "gemproxy_upstream_attempts_total", key=key, model=MODEL, outcome=outcome
        )
        for key, outcome in (("alpha", "key"), ("beta", "quota_minute"))
    }
    assert attempts == {("alpha", "key"): 1, ("beta", "quota_minute"): 1}
    assert metric("gemproxy_retries_total", outcome="key") == 1
    assert metric("gemproxy_retries_total", outcome="quota_minute") == 1
    assert metric("gemproxy_key_state", key="alpha", state="circuit_open") == 1
    assert metric("gemproxy_key_state", key="alpha", state="active") == 0
    assert metric("gemproxy_key_needs_attention", key="alpha") == 1
    assert metric("gemproxy_key_weight", key="beta") == 3
    assert 0 < metric("gemproxy_key_cooldown_seconds", key="beta", model=MODEL) <= 60
    changed = {"key": "alpha", "from": "closed", "to": "open"}
    assert metric("gemproxy_breaker_transitions_total", **changed) == 1
    assert metric("gemproxy_streams_incomplete_total", model=MODEL) == 1
    assert metric("gemproxy_time_to_first_chunk_seconds_count", model=MODEL) == 2
    assert metric("gemproxy_tokens_total", model=MODEL, direction="input") > 0
    assert metric("gemproxy_tokens_total", model=MODEL, direction="output") > 0
    assert metric("gemproxy_auth_failures_total", api="admin") == 1
    assert metric("gemproxy_requests_in_flight") == 0
    assert metric("gemproxy_config_generation") == 1
    assert metric("gemproxy_config_reloads_total", result="success") == 1
    assert metric("gemproxy_config_last_reload_successful") == 1
    assert metric("gemproxy_persistence_backend", backend="sqlite") == 1
    eventually(lambda: metric("gemproxy_reactor_lag_seconds_count"))


def test_our_own_share_of_the_time_is_small(daemon):
    """The wait for the upstream is not counted as ours."""
    spent = daemon.metric("gemproxy_request_duration_seconds_sum", route=CHAT, model=MODEL)
    own = daemon.metric("gemproxy_overhead_seconds_sum", route=CHAT)
    assert 0 < own < spent


def test_a_failed_reload_is_seen(start_daemon):
    daemon = start_daemon()
    (daemon.folder / "keys.yaml").write_text("keys: 7\n")
    assert daemon.reload().status == 400
    assert daemon.metric("gemproxy_config_reloads_total", result="failure") == 1
    assert daemon.metric("gemproxy_config_last_reload_successful") == 0
    assert daemon.metric("gemproxy_config_generation") == 1


def test_a_client_without_a_token_is_counted(start_daemon):
    token = "a-client-token-for-the-tests"
    daemon = start_daemon(None, proxy={"accessTokens": [token]})
    assert daemon.metric("gemproxy_auth_failures_total", api="public") == 0
    assert chat(daemon).status == 401
    assert chat(daemon, authorization="Bearer wrong").status == 401
    assert chat(daemon, authorization=f"Bearer {token}").status == 200
    assert daemon.metric("gemproxy_auth_failures_total", api="public") == 2


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_a_scrape_shows_no_secret(daemon, accept):
    text = scrape(daemon, accept).body.decode()
    for secret in (*map(secret_of, NAMES), ADMIN_TOKEN):
        assert secret not in text
    assert secret_of("alpha")[-12:] not in text
