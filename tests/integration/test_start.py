"""How the daemon starts, refuses to start, and stops."""

import json
import re
import signal
import socket
import stat
import subprocess
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from fakes.running import (
    TWISTD,
    Process,
    RunningDaemon,
    keys_of,
    write_configuration,
)
from fakes.wire import CHAT, Wire, chat, request, said

from gemproxy import __version__
from gemproxy.simulator import DEMO_KEYS

NOWHERE = "http://127.0.0.1:9"


def run(folder, *options, **environ):
    """Start the daemon, which is expected to end by itself."""
    process = Process(*TWISTD, "gemproxy", *options, cwd=folder, **environ)
    try:
        return process, process.wait()
    finally:
        process.popen.kill()


def run_with(folder, keys=None, **settings):
    config, key_file = write_configuration(folder, NOWHERE, keys or keys_of("alpha"), **settings)
    return run(folder, "--config", config, "--keys", key_file)


# -- mistakes --------------------------------------------------------------------------------------


def test_every_mistake_in_the_files_is_one_line_and_the_status_is_78(tmp_path):
    (tmp_path / "proxy.yaml").write_text("proxy:\n  prot: 1\n  port: x\n  adminToken: short\n")
    (tmp_path / "keys.yaml").write_text(
        "keys:\n- name: a\n  key: YOUR_KEY\n  weight: two\n- name: a\n  key: k 1\n"
    )
    process, status = run(tmp_path, "--config", "proxy.yaml", "--keys", "keys.yaml")
    assert status == 78
    places = [line.split(": ")[:2] for line in process.errors]
    assert places == [
        ["proxy.yaml:2", "proxy.prot"],
        ["proxy.yaml:3", "proxy.port"],
        ["proxy.yaml:4", "proxy.adminToken"],
        ["keys.yaml:3", "keys[0].key"],
        ["keys.yaml:4", "keys[0].weight"],
        ["keys.yaml:5", "keys[1].name"],
        ["keys.yaml:6", "keys[1].key"],
    ]
    assert "keys[0].weight: expected a whole number of at least 1, got 'two'" in process.output
    assert process.lines == []


def test_a_missing_file_names_the_places_that_were_looked_at(tmp_path):
    process, status = run(tmp_path)
    assert status == 78
    assert [line.split(": ")[0] for line in process.errors] == ["proxy.yaml", "keys.yaml"]
    assert "config/proxy.yaml and /etc/gemproxy/proxy.yaml" in process.errors[0]
    assert process.lines == []


def test_a_public_listener_without_tokens_is_refused(tmp_path):
    process, status = run_with(tmp_path, proxy={"host": "0.0.0.0"})
    assert status == 78
    assert len(process.errors) == 1
    assert "proxy.accessTokens" in process.errors[0]


def test_an_open_admin_api_on_a_public_listener_is_refused(tmp_path):
    opened = {"host": "0.0.0.0", "allowAnonymous": True, "adminAuth": "disabled"}
    process, status = run_with(tmp_path, proxy=opened)
    assert status == 78
    assert "proxy.adminAuth" in process.output


@pytest.mark.parametrize(
    ("section", "setting"),
    [
        ({"proxy": {"tls": {"certFile": "rubbish.pem", "keyFile": "rubbish.pem"}}}, "proxy.tls"),
        ({"upstream": {"baseUrl": "https://localhost:9", "caFile": "rubbish.pem"}}, "caFile"),
    ],
)
def test_a_file_that_is_no_certificate_is_a_mistake_as_well(tmp_path, section, setting):
    (tmp_path / "rubbish.pem").write_text("rubbish")
    upstream = section.pop("upstream", {"baseUrl": NOWHERE})
    config, key_file = write_configuration(
        tmp_path, upstream.pop("baseUrl"), keys_of("alpha"), **section
    )
    if upstream:
        config.write_text(config.read_text() + f"  caFile: {upstream['caFile']}\n")
    process, status = run(tmp_path, "--config", config, "--keys", key_file)
    assert status == 78
    assert len(process.errors) == 1
    assert setting in process.errors[0]
    assert process.lines == []


def test_a_port_that_is_taken_ends_the_process_with_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process, status = run_with(tmp_path, proxy={"port": port})
    assert status == 1
    assert process.errors == [
        f"gemproxy: cannot listen on 127.0.0.1:{port}: another process listens there\n"
    ]
    assert "Traceback" not in process.output


def test_a_socket_in_no_folder_ends_the_process_with_one_line(tmp_path):
    endpoint = f"unix:{tmp_path}/no/such/folder.sock"
    process, status = run_with(tmp_path, proxy={"endpoint": endpoint})
    assert status == 1
    assert process.errors == [f"gemproxy: cannot listen on {endpoint}: there is no such folder\n"]


# -- options ---------------------------------------------------------------------------------------


def test_version_and_help(tmp_path):
    process, status = run(tmp_path, "--version")
    assert (process.output, status) == (f"gemproxy {__version__}\n", 0)
    process, status = run(tmp_path, "--help")
    assert status == 0
    for option in ("--config", "--keys", "--demo", "--version", "GEMPROXY_CONFIG"):
        assert option in process.output


def test_an_option_beats_the_environment_and_that_the_default_place(tmp_path):
    """Each place holds a mistake of its own, so the message tells which was read."""
    (tmp_path / "config").mkdir()
    for name, mistake in (
        ("option", "in_option"),
        ("env", "in_env"),
        ("config/proxy", "in_config"),
    ):
        (tmp_path / f"{name}.yaml").write_text(f"{mistake}: 1\n")
    keys = tmp_path / "config" / "keys.yaml"
    keys.write_text("keys: [{name: a, key: test-key-of-a-0123456789}]\n")
    environ = {"GEMPROXY_CONFIG": "env.yaml"}

    process, _ = run(tmp_path, "--config", "option.yaml", **environ)
    assert "in_option" in process.output
    process, _ = run(tmp_path, **environ)
    assert "in_env" in process.output
    process, _ = run(tmp_path)
    assert "in_config" in process.output

    process, _ = run(tmp_path, "--config", "option.yaml", GEMPROXY_KEYS="no-such-keys.yaml")
    assert "no-such-keys.yaml" in process.output


def test_a_unix_socket_serves(tmp_path, simulator):
    path = tmp_path / "gemproxy.sock"
    daemon = RunningDaemon(
        tmp_path, simulator.url, keys_of("alpha"), proxy={"endpoint": f"unix:{path}"}
    )
    try:
        assert daemon.address == f"unix:{path}"
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(path))
            client.sendall(request("POST", CHAT, said("hi"), connection="close"))
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(path))
            client.sendall(request("POST", CHAT, content_length="99999999"))
            assert client.recv(65536).startswith(b"HTTP/1.1 413 ")
    finally:
        assert daemon.stop() == 0


def test_port_0_takes_a_free_port_and_tells_it(start_daemon):
    one, other = start_daemon(), start_daemon()
    assert one.port != other.port
    assert chat(one).status == chat(other).status == 200


# -- the demo --------------------------------------------------------------------------------------


def ask_with_the_printed_token(demo):
    """The demo's keys, as somebody who reads the terminal may ask for them."""
    invitation = demo.wait_for_line("Watch the keys")
    address = re.search(r"http://\S+/admin/", invitation)[0]
    place = demo.lines.index(invitation)
    token = demo.wait_for_line("  ", place + 1).strip()
    headers = {"Authorization": f"Bearer {token}"}
    page, keys = Request(address), Request(f"{address}keys", headers=headers)
    with urlopen(page, timeout=20) as answer:
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    with urlopen(keys, timeout=20) as answer:
        return json.load(answer)


def test_the_demo_prints_a_line_that_works_and_leaves_nothing_behind(tmp_path):
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 4806)) == 0:
            pytest.skip("port 4806 is in use on this machine")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    demo = Process(*TWISTD, "gemproxy", "--demo", cwd=tmp_path, TMPDIR=str(temporary))
    try:
        demo.wait_for_line('"content": "Hello!"')
        asked = ask_with_the_printed_token(demo)
        assert [key["name"] for key in asked["keys"]] == [name for name, _ in DEMO_KEYS]
        assert [path.name[:14] for path in temporary.iterdir()] == ["gemproxy-demo-"]
        printed = "".join(demo.lines)
        command = printed[printed.index("  curl ") : printed.rindex("}'") + 2]
        ran = subprocess.run(
            ["/bin/sh", "-c", command + " -s --max-time 20"],
            capture_output=True,
            check=True,
            text=True,
        )
        assert '"object":"chat.completion"' in ran.stdout
    finally:
        status = demo.stop()
    assert status == 0
    assert list(temporary.iterdir()) == []
    assert demo.errors == []


# -- stop ------------------------------------------------------------------------------------------


class Stream:
    """A stream in flight that began, and goes on for a while."""

    def __init__(self, daemon, simulator, name="alpha", behaviour="slow", **parameters):
        simulator.behave(name, behaviour, parameters=parameters)
        self.wire = Wire(daemon)
        self.wire.send(request("POST", CHAT, said("tell me", stream=True)))
        self.begin = self.wire._until(b"data: {")


def test_sigterm_lets_a_stream_end_whole_and_turns_the_rest_away(start_daemon, simulator):
    daemon = start_daemon(keys_of("alpha"))
    with Wire(daemon) as kept, Wire(daemon) as probing:
        check_drain(daemon, simulator, kept, probing)
    assert daemon.wait() == 0
    assert daemon.errors == []
    assert "Traceback" not in daemon.output


def check_drain(daemon, simulator, kept, probing):
    assert kept.ask("GET", "/livez").status == 200
    assert probing.ask("GET", "/readyz").status == 200
    stream = Stream(daemon, simulator, delay=0.0, chunkDelay=0.25)

    daemon.popen.terminate()
    daemon.wait_for_line("draining")
    turned_away = kept.ask("POST", CHAT, said("too late"))
    assert (turned_away.status, turned_away.error["code"]) == (503, "draining")
    assert turned_away.headers["connection"] == "close"
    assert int(turned_away.headers["retry-after"]) >= 1
    assert kept.rest() == b""
    not_ready = probing.ask("GET", "/readyz")
    assert (not_ready.status, not_ready.json) == (503, {"status": "draining"})
    assert probing.ask("GET", "/livez").status == 200
    with pytest.raises(ConnectionRefusedError):
        Wire(daemon)
    daemon.popen.terminate()  # a second one changes nothing

    with stream.wire as wire:
        rest = wire.rest()
    assert b'"finish_reason":"stop"' in rest
    assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


@pytest.mark.parametrize(("more", "mode"), [("", 0o660), (":mode=600", 0o600)])
def test_a_unix_socket_is_for_its_owner_and_group(start_daemon, tmp_path, more, mode):
    paths = [tmp_path / "public.sock", tmp_path / "admin.sock"]
    public, admin = (f"unix:{path}{more}" for path in paths)
    start_daemon(None, proxy={"endpoint": public, "adminEndpoint": admin}).stop()
    daemon = start_daemon(None, proxy={"endpoint": public, "adminEndpoint": admin})
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [mode] * 2
    assert daemon.stop() == 0


def test_what_is_hardly_meant_is_told_at_the_start_and_with_each_reload(start_daemon):
    daemon = start_daemon(None, proxy={"accessTokens": ["b"]})
    event = json.loads(daemon.wait_for_line("configuration warning"))
    assert event["level"] == "warn"
    assert "token-1 has fewer than 16 characters" in event["warning"]
    start = len(daemon.lines)
    daemon.configure(keys_of("alpha", "beta"), proxy={"adminToken": "a" * 16})
    assert daemon.admin("POST", "config/reload").status == 200
    assert "the admin token has too few" in daemon.wait_for_line("configuration warning", start)


def test_before_the_drain_it_serves_on_and_says_that_it_leaves(start_daemon, simulator):
    simulator.reset()
    daemon = start_daemon(keys_of("alpha"), proxy={"lameDuckSeconds": 3, "drainSeconds": 30})
    with Wire(daemon) as kept:
        assert kept.ask("GET", "/readyz").status == 200
        daemon.popen.terminate()
        daemon.wait_for_line("serving on for 3")
        # For probes on old and on new connections alike; nobody else is turned away.
        with Wire(daemon) as fresh:
            for wire in (kept, fresh):
                not_ready = wire.ask("GET", "/readyz")
                assert (not_ready.status, not_ready.json) == (503, {"status": "draining"})
        assert chat(daemon).status == 200
        assert "connection" not in kept.ask("GET", "/livez").headers
        assert daemon.health()["draining"] is False
        daemon.popen.terminate()  # a second one changes nothing
        stream = Stream(daemon, simulator, delay=0.0, chunkDelay=1.0)
        daemon.wait_for_line("draining")
        assert kept.ask("GET", "/readyz").status == 503
    with pytest.raises(ConnectionRefusedError):
        Wire(daemon)
    with stream.wire as wire:
        assert wire.rest().endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert daemon.wait() == 0
    assert "Traceback" not in daemon.output


def test_what_changes_while_it_leaves_is_kept(start_daemon):
    """A second SIGTERM loses nothing, and a reload takes place."""
    daemon = start_daemon(
        keys_of("alpha", "beta"),
        proxy={"lameDuckSeconds": 2},
        persistence={"path": "state/gemproxy.db", "checkpointSeconds": 1000},
    )
    daemon.popen.terminate()
    daemon.wait_for_line("serving on for 2")
    daemon.popen.terminate()
    assert daemon.admin("POST", "keys/alpha/disable").status == 200
    assert daemon.reload().status == 200
    assert daemon.wait() == 0
    again = RunningDaemon(
        daemon.folder,
        daemon.upstream,
        keys_of("alpha", "beta"),
        persistence={"path": "state/gemproxy.db"},
    )
    try:
        assert not again.key("alpha")["enabled"]
    finally:
        again.stop()


def test_a_drain_that_takes_too_long_is_cut_off(start_daemon, simulator):
    daemon = start_daemon(keys_of("alpha"), proxy={"drainSeconds": 0.3})
    stream = Stream(daemon, simulator, behaviour="stall")
    daemon.popen.terminate()
    assert daemon.wait() == 0
    assert "cutting off 1 requests" in daemon.output
    with stream.wire as wire:
        rest = wire.rest()
    assert b"[DONE]" not in rest
    last = json.loads(rest.split(b"data: ")[-1].split(b"\n\n")[0])
    assert last["error"]["code"] == "draining"


def test_who_still_waits_for_an_answer_when_the_time_is_up_is_told_so(start_daemon, simulator):
    daemon = start_daemon(keys_of("alpha"), proxy={"drainSeconds": 0.3})
    simulator.behave("alpha", "hang")
    with Wire(daemon) as wire:
        wire.send(request("POST", CHAT, said("hi"), x_request_id="cut-off"))
        simulator.wait_for_request(lambda _: True)
        daemon.popen.terminate()
        answer = wire.receive()
        assert wire.rest() == b""
    assert (answer.status, answer.error["code"]) == (503, "draining")
    assert daemon.wait() == 0
    line = daemon.request_line("cut-off")
    assert (line["status"], line["outcome"]) == (503, "draining")


def test_an_idle_daemon_stops_at_once_also_for_sigint(start_daemon):
    daemon = start_daemon()
    with Wire(daemon) as idle:
        assert idle.ask("GET", "/livez").status == 200
        daemon.popen.send_signal(signal.SIGINT)
        assert daemon.wait() == 0
    assert "Traceback" not in daemon.output


def test_nothing_is_left_in_the_working_directory(start_daemon):
    daemon = start_daemon()
    assert chat(daemon).status == 200
    assert daemon.stop() == 0
    assert {path.name for path in Path(daemon.folder).iterdir()} <= {
        *("proxy.yaml", "keys.yaml", "state")
    }
