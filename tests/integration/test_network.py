"""The way to the upstream vanishes, in network namespaces; names that hang, fail and change."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes.clients import post, said
from fakes.gemini_anywhere import Gemini, Server
from fakes.network import DaemonWithNames, Island, NameServer, why_not
from fakes.running import RunningDaemon, eventually, keys_of
from fakes.wire import CHAT, Wire, request
from fakes.wire import said as said_raw

pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "there are namespaces"),
    pytest.mark.usefixtures("own_network"),
]

KEYS = keys_of("alpha", "beta", "gamma")
#: What TCP needs to give a silent peer up with ``keepaliveSeconds: 2``: 2 s and three probes.
GIVEN_UP = 5.0
#: Far above what anything here may take, far below the upstream's 600 s.
ROOM = 60.0


@pytest.fixture
def island(tmp_path):
    made = Island(tmp_path)
    yield made
    made.close()


@pytest.fixture
def daemon(island, tmp_path):
    upstream = {"keepaliveSeconds": 2, "connectTimeoutSeconds": 2}
    # Breakers of models would answer in the way's place.
    made = RunningDaemon(
        tmp_path, island.url, KEYS, upstream=upstream, monitoring={"failureThreshold": 1000}
    )
    yield made
    made.stop()


def ask(daemon, text="hi", **more):
    return post(daemon, said(text, **more))


def ask_together(daemon, count, text="hi"):
    """So many answers at the same time, and how long the longest took."""
    began = time.monotonic()
    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(lambda number: ask(daemon, f"{text} {number}"), range(count)))
    return answers, time.monotonic() - began


def key_states(daemon):
    return {
        key["name"]: (key["status"], key["failure_count"])
        for key in daemon.admin("GET", "keys").json["keys"]
    }


def innocent():
    return dict.fromkeys(("alpha", "beta", "gamma"), ("active", 0))


def test_connections_that_a_firewall_forgot_cost_no_request_and_no_key(island, daemon):
    """Twelve requests on twelve connections that are dead: each is sent once more, and served."""
    answers, _ = ask_together(daemon, 12, "think 1")
    assert [answer.status for answer in answers] == [200] * 12
    island.forget_connections()
    answers, seconds = ask_together(daemon, 12)
    assert [answer.status for answer in answers] == [200] * 12
    assert {answer.headers["x-gemproxy-attempts"] for answer in answers} == {"1"}
    assert seconds < ROOM
    assert key_states(daemon) == innocent()


def test_a_way_that_vanished_is_noticed_by_all_requests_and_charged_to_no_key(island, daemon):
    answers, _ = ask_together(daemon, 12, "think 1")
    assert [answer.status for answer in answers] == [200] * 12
    island.cut()
    answers, seconds = ask_together(daemon, 12)
    assert {answer.status for answer in answers} <= {502, 504}
    assert seconds < ROOM
    assert key_states(daemon) == innocent()
    island.mend()
    assert eventually(lambda: ask(daemon).status == 200)


def test_a_way_that_vanishes_while_the_model_thinks_is_noticed(island, daemon):
    with ThreadPoolExecutor(3) as pool:
        began = time.monotonic()
        waiting = [pool.submit(ask, daemon, f"think 300 {each}") for each in range(2)]
        streaming = pool.submit(ask, daemon, "think 300", stream=True)
        eventually(lambda: island.asked() == 3)
        island.cut()
        for each in waiting:
            assert each.result().status == 504
            error = each.result().json["error"]
            assert error["code"] == "upstream_timeout"
        assert streaming.result().status == 504
        assert time.monotonic() - began < ROOM
    assert key_states(daemon) == innocent()
    request_id = waiting[0].result().headers["x-request-id"]
    attempts = daemon.admin("GET", f"requests/{request_id}").json["attempts"]
    assert "nothing was heard or acknowledged for" in attempts[0]["message"]
    assert "took longer than 2 s" in attempts[1]["message"]


def test_a_host_that_does_not_exist_any_more_is_unreachable(island, daemon):
    """The router says so; nobody's key is at fault."""
    assert ask(daemon).status == 200
    island.run(
        "iptables",
        "-A",
        "INPUT",
        "-p",
        "tcp",
        "-j",
        "REJECT",
        "--reject-with",
        "icmp-host-prohibited",
    )
    answer = ask(daemon)
    assert answer.status in (502, 504)
    line = daemon.request_line(answer.headers["x-request-id"])
    assert "No route to host" in str(line["failures"])
    assert key_states(daemon) == innocent()


def test_a_request_that_was_never_acknowledged_spares_its_key_though_time_ran_out_first(
    island, tmp_path
):
    """``firstByteTimeoutSeconds`` below what TCP needs to give the peer up."""
    upstream = {"firstByteTimeoutSeconds": 2, "keepaliveSeconds": 30, "connectTimeoutSeconds": 1}
    daemon = RunningDaemon(tmp_path, island.url, KEYS, upstream=upstream)
    try:
        assert ask(daemon).status == 200
        island.cut()
        answer = ask(daemon)
        assert answer.status == 504
        line = daemon.request_line(answer.headers["x-request-id"])
        assert "the other side did not acknowledge it" in str(line["failures"][0])
        assert key_states(daemon) == innocent()
    finally:
        daemon.stop()


# -- names ---------------------------------------------------------------------------------------


@pytest.fixture
def name_server(tmp_path):
    made = NameServer(tmp_path, "127.0.0.1")
    yield made
    made.close()


@pytest.fixture
def start_named(name_server, tmp_path):
    """Start a daemon whose upstream is ``gemini.example``, at ``port``."""
    started = []

    def start(port, **settings):
        url = f"http://gemini.example:{port}"
        started.append(DaemonWithNames(name_server, tmp_path, url, KEYS, **settings))
        return started[-1]

    yield start
    for daemon in started:
        daemon.stop()


@pytest.fixture
def servers():
    """Two Gemini APIs on the same port of two addresses."""
    first = Server(("127.0.0.1", 0), Gemini)
    made = [first, Server(("127.0.0.2", first.server_port), Gemini)]
    for name, server in zip(("first", "second"), made, strict=True):
        server.name = name
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield made
    for server in made:
        server.shutdown()
        server.server_close()


def text_of(answer):
    return answer.json["choices"][0]["message"]["content"]


def test_a_name_server_that_never_answers_holds_up_nothing_else(name_server, start_named):
    name_server.address = None
    daemon = start_named(
        81,
        upstream={"connectTimeoutSeconds": 2},
        proxy={"drainSeconds": 1},
        retry={"maxAttempts": 2},
    )
    began = time.monotonic()
    answer = ask(daemon)
    assert time.monotonic() - began < 15
    assert answer.status == 504
    line = daemon.request_line(answer.headers["x-request-id"])
    assert "the look-up of the name gemini.example took longer than 2 s" in str(line["failures"])
    assert key_states(daemon) == innocent()
    with ThreadPoolExecutor(30) as pool:
        waiting = [pool.submit(ask, daemon) for _ in range(30)]
        time.sleep(0.5)
        began = time.monotonic()
        assert daemon.reload().status == 200
        assert time.monotonic() - began < 10
        assert all(each.result().status in (503, 504) for each in waiting)
        with Wire(daemon) as wire:
            assert wire.ask("GET", "/livez").status == 200
    began = time.monotonic()
    daemon.popen.terminate()
    assert daemon.wait() == 0
    assert time.monotonic() - began < 15


def test_a_stop_does_not_wait_for_a_name_server(name_server, start_named):
    name_server.address = None
    daemon = start_named(81, upstream={"connectTimeoutSeconds": 300}, proxy={"drainSeconds": 1})
    with Wire(daemon) as wire:
        wire.send(request("POST", CHAT, said_raw("hi")))
        assert name_server.asked.wait(30)
        began = time.monotonic()
        daemon.popen.terminate()
        assert daemon.wait() == 0
        assert time.monotonic() - began < 15


def test_a_changed_answer_is_followed_when_connections_have_aged(name_server, start_named, servers):
    daemon = start_named(servers[0].server_port, upstream={"connectionMaxAgeSeconds": 2})
    assert text_of(ask(daemon)) == "first"
    name_server.address = "127.0.0.2"
    began = time.monotonic()
    assert eventually(lambda: text_of(ask(daemon)) == "second")
    assert time.monotonic() - began < 30


def test_a_changed_answer_is_followed_by_a_reload_at_once(name_server, start_named, servers):
    daemon = start_named(servers[0].server_port)
    assert text_of(ask(daemon)) == "first"
    name_server.address = "127.0.0.2"
    assert text_of(ask(daemon)) == "first"
    assert daemon.reload().status == 200
    assert text_of(ask(daemon)) == "second"


def test_an_old_answer_serves_while_the_name_server_is_silent(name_server, start_named, servers):
    daemon = start_named(
        servers[0].server_port, upstream={"connectionMaxAgeSeconds": 1, "connectTimeoutSeconds": 4}
    )
    assert text_of(ask(daemon)) == "first"
    name_server.address = None
    name_server.asked.clear()
    eventually(lambda: ask(daemon).status == 200 and name_server.asked.is_set())
    assert [ask(daemon).status for _ in range(3)] == [200] * 3
