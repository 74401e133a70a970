"""A start that fails on a socket of systemd's: the process stays, answers, and mends itself."""

import json
import os
import signal
import socket
import sqlite3
import ssl
import sys
import threading
import time
from pathlib import Path

import pytest
import trustme
import yaml
from fakes.running import (
    PATIENCE,
    TWISTD,
    Process,
    eventually,
    keys_of,
    secret_of,
    write_configuration,
)
from fakes.wire import CHAT, Wire, chat, request, said

SUPERVISOR = Path(__file__).resolve().parents[1] / "fakes" / "supervisor.py"
ENDPOINT = "systemd:domain=INET:name=gemproxy"
#: A corrected file is served within this time, on a machine that is not busy.
SERVED_WITHIN = 4.0
BUSY = 6.0


class Manager:
    """systemd's end of the notify socket, read by a thread."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.lines = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            try:
                data = self.socket.recv(8192)
            except OSError:
                return
            self.lines += data.decode().split("\n")

    def wait_for(self, wanted, start=0):
        return eventually(
            lambda: next((line for line in self.lines[start:] if line.startswith(wanted)), None)
        )


class Stage:
    """The daemon below a supervisor that holds its sockets; the files may be anything."""

    def __init__(self, folder, upstream, sockets="gemproxy"):
        self.folder, self.upstream = folder, upstream
        self.manager = Manager(folder / "notify")
        self.sockets = sockets
        self.process = None

    def write(self, *names, **settings):
        proxy = {"endpoint": ENDPOINT, "allowAnonymous": True, **settings.pop("proxy", {})}
        return write_configuration(
            self.folder, self.upstream, keys_of(*names or ("alpha",)), proxy=proxy, **settings
        )

    def misspell(self):
        """The mistake of the issue: ``name`` of a key, and one more in the other file."""
        self.write(models={"alow": []})
        keys = self.folder / "keys.yaml"
        keys.write_text(keys.read_text().replace("name:", "nmae:"))

    def start(self, **environ):
        self.process = Process(
            sys.executable,
            SUPERVISOR,
            self.sockets,
            *TWISTD,
            "gemproxy",
            "--config",
            self.folder / "proxy.yaml",
            "--keys",
            self.folder / "keys.yaml",
            cwd=self.folder,
            NOTIFY_SOCKET=str(self.folder / "notify"),
            WATCHDOG_USEC="1000000",
            **environ,
        )
        seen, self.addresses = 0, []
        for _ in self.sockets.split(","):
            line = self.process.wait_for_line("address", seen)
            seen = self.process.lines.index(line) + 1
            self.addresses.append(line.split()[1])
        self.host, _, port = self.addresses[0].rpartition(":")
        self.port = int(port) if port.isdigit() else 0
        self.place = self.addresses[0]
        self.manager.wait_for("READY=1")
        return self

    def ask(self, *arguments, place=None, tls=None, **headers):
        with Wire(self, tls, place=place or self.place) as wire:
            return wire.ask(*arguments, **headers)

    def events(self):
        return [json.loads(line) for line in self.process.lines if line.startswith("{")]

    def mistakes(self):
        return [e["mistake"] for e in self.events() if "mistake" in e]

    def served_within(self, seconds):
        begin = time.monotonic()
        eventually(lambda: self.ask("POST", CHAT, said("hi")).status == 200, seconds)
        return time.monotonic() - begin

    def state(self):
        folder = self.folder / "state"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def make_stage(tmp_path, simulator):
    simulator.reset()
    made = []

    def make(sockets="gemproxy"):
        made.append(Stage(tmp_path, simulator.url, sockets))
        return made[-1]

    yield make
    for stage in made:
        if stage.process is not None:
            stage.process.stop()
        stage.manager.socket.close()


@pytest.fixture
def stage(make_stage):
    return make_stage()


# -- what is answered ----------------------------------------------------------------------------


def assert_maintenance(answer):
    assert answer.status == 503
    assert answer.error["code"] == "configuration_invalid"
    assert answer.error["type"] == "server_error"
    assert answer.headers["retry-after"] == "5"
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-request-id"]


def test_every_request_is_answered_and_nothing_of_the_state_is_touched(stage):
    stage.misspell()
    stage.start()
    assert_maintenance(stage.ask("POST", CHAT, said("hi")))
    assert_maintenance(stage.ask("GET", "/v1/models", x_request_id="mine"))
    assert_maintenance(stage.ask("GET", "/nowhere"))
    native = stage.ask("POST", "/v1/models/m:generateContent", said("hi"))
    assert (native.status, native.json["error"]["status"]) == (503, "UNAVAILABLE")
    messages = stage.ask("POST", "/v1/messages", said("hi"))
    assert (messages.status, messages.json["error"]["type"]) == (503, "api_error")
    assert messages.json["request_id"] == messages.headers["request-id"]
    for path in ("/admin/health", "/admin/", "/admin/metrics"):
        # Nobody is asked for a token, and no token is an answer to this.
        assert_maintenance(stage.ask("GET", path))
        assert_maintenance(stage.ask("GET", path, authorization="Bearer wrong"))
    assert stage.ask("GET", "/v1/models", x_request_id="mine").headers["x-request-id"] == "mine"
    assert stage.ask("GET", "/livez").json == {"status": "live"}
    assert stage.ask("GET", "/healthz").status == 200
    assert stage.ask("GET", "/readyz").status == 503
    assert stage.ask("HEAD", "/readyz").body == b""
    assert stage.state() == []
    assert "Traceback" not in stage.process.output


def test_a_body_is_neither_waited_for_nor_kept(stage):
    stage.misspell()
    stage.start()
    with Wire(stage) as wire:
        wire.send(request("POST", CHAT, content_length="9999999999"))
        assert_maintenance(wire.receive())
    with Wire(stage) as wire:
        wire.send(request("POST", CHAT, transfer_encoding="chunked") + b"5\r\nhello")
        assert_maintenance(wire.receive())


def test_the_mistakes_are_told_one_a_line_and_to_systemd_with_pings(stage):
    stage.misspell()
    stage.start()
    status = stage.manager.wait_for("STATUS=")
    assert status.startswith("STATUS=Maintenance: 3 mistakes; ")
    assert len(stage.mistakes()) == 3
    assert any("keys[0].nmae: unknown setting; did you mean 'name'?" in m for m in stage.mistakes())
    assert any("models.alow" in m for m in stage.mistakes())
    for mistake in stage.mistakes():
        assert mistake in status
    assert all(e["level"] == "error" for e in stage.events() if "mistake" in e)
    stage.manager.wait_for("WATCHDOG=1")
    assert secret_of("alpha") not in stage.process.output + status


def test_however_many_mistakes_there_are_what_is_told_is_bounded(stage):
    stage.write()
    keys = [{"name": f"k{n}", "key": f"test-key-{n:06}", "wieght": 1} for n in range(3000)]
    (stage.folder / "keys.yaml").write_text(yaml.safe_dump({"keys": keys}))
    stage.start()
    assert len(stage.manager.wait_for("STATUS=")) < 2000
    stage.process.wait_for_line("more mistakes than the log lists")
    told = [line for line in stage.process.lines if "wieght" in line]
    assert len(told) < 40
    assert sum(map(len, told)) < 200_000
    assert_maintenance(stage.ask("GET", "/v1/models"))


def test_sigterm_ends_it_with_status_0(stage):
    stage.misspell()
    stage.start()
    assert stage.process.stop() == 0
    assert "ended with status 0" in stage.process.output
    assert "STOPPING=1" in stage.manager.lines
    assert stage.state() == []


def test_a_request_that_is_on_the_way_at_sigterm_is_answered(stage):
    stage.misspell()
    stage.start()
    with Wire(stage) as wire:
        # The answer shows that the daemon has accepted the connection before this one.
        with Wire(stage) as later:
            assert later.ask("POST", CHAT, said("Hello!")).status == 503
        stage.process.popen.terminate()
        stage.manager.wait_for("STOPPING=1")
        assert wire.ask("POST", CHAT, said("Hello!")).error["code"] == "configuration_invalid"


def test_without_a_socket_it_ends_with_status_78(stage):
    stage.misspell()
    config, keys = stage.folder / "proxy.yaml", stage.folder / "keys.yaml"
    process = Process(*TWISTD, "gemproxy", "--config", config, "--keys", keys, cwd=stage.folder)
    assert process.wait() == 78
    # Sockets that were meant for another process are no sockets of this one.
    process = Process(
        *(*TWISTD, "gemproxy", "--config", config, "--keys", keys),
        cwd=stage.folder,
        LISTEN_PID="1",
        LISTEN_FDS="1",
        LISTEN_FDNAMES="gemproxy",
    )
    assert process.wait() == 78


# -- how it ends -----------------------------------------------------------------------------------


def test_a_corrected_file_is_served_by_the_same_process(stage):
    stage.misspell()
    stage.start()
    assert_maintenance(stage.ask("POST", CHAT, said("hi")))
    before = len(stage.manager.lines)
    stage.write()
    assert stage.served_within(BUSY) < BUSY
    assert "READY=1" in stage.manager.lines[before:]
    assert stage.manager.wait_for("STATUS=1 of 1 keys healthy", before)
    assert stage.ask("GET", "/readyz").status == 200
    assert stage.process.lines.count("ended") == 0
    # It reloads, and stops with its state written, as any other.
    os.kill(child_of(stage), signal.SIGHUP)
    stage.process.wait_for_line("configuration read again")
    stage.process.stop()
    assert "ended with status 0" in stage.process.output
    assert "gemproxy.db" in stage.state()
    # Whoever spoke to systemd before is silent now.
    assert not any("Maintenance" in line for line in stage.manager.lines[before + 4 :])
    assert stage.manager.lines.count("STOPPING=1") == 1


def child_of(stage):
    path = Path(f"/proc/{stage.process.popen.pid}/task/{stage.process.popen.pid}/children")
    return int(path.read_text().split()[0])


def test_no_client_is_refused_while_the_file_is_corrected_and_wrong_again(stage):
    stage.misspell()
    stage.start()
    results, stop = [], threading.Event()

    def clients():
        while not stop.is_set():
            try:
                results.append(stage.ask("POST", CHAT, said("hi")).status)
            except (AssertionError, OSError) as broken:
                results.append(repr(broken))

    threads = [threading.Thread(target=clients) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: results.count(503) > 10)
        (stage.folder / "proxy.yaml").write_text("proxy: [")
        stage.process.wait_for_line("not valid YAML")
        stage.write()
        eventually(lambda: results.count(200) > 10)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(results) == {503, 200}
    assert results.index(200) > 10
    assert 503 not in results[results.index(200) + len(threads) :]


def test_a_connection_from_before_is_sent_to_the_daemon(stage):
    stage.misspell()
    stage.start()
    with Wire(stage) as early:
        eventually(lambda: "READY=1" in stage.manager.lines)
        stage.write()
        stage.served_within(PATIENCE)
        answer = early.ask("POST", CHAT, said("hi"))
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert early.rest() == b""


def test_sighup_reads_the_files_again_and_tells_again(stage):
    stage.misspell()
    stage.start()
    assert len(stage.mistakes()) == 3
    before = len(stage.manager.lines)
    os.kill(child_of(stage), signal.SIGHUP)
    eventually(lambda: len(stage.mistakes()) == 6)
    stage.manager.wait_for("RELOADING=1", before)
    stage.manager.wait_for("READY=1", before)


# -- what else keeps it from starting --------------------------------------------------------------


def test_what_only_a_restart_can_mend_is_named_as_such(stage):
    credentials = stage.folder / "credentials"
    credentials.mkdir()
    (credentials / "empty").write_text("")
    stage.write()
    (stage.folder / "keys.yaml").write_text(
        yaml.safe_dump(
            {
                "keys": [
                    {"name": "a", "keyFile": "$CREDENTIALS_DIRECTORY/gone"},
                    {"name": "b", "keyFile": "$CREDENTIALS_DIRECTORY/empty"},
                    {"name": "c", "keyEnv": "GEMINI_KEY_THAT_IS_NOT_SET"},
                    {"name": "d", "keyFile": "$NO_SUCH_VARIABLE/key"},
                    {"name": "e", "keyFile": "no-such-file"},
                ]
            }
        )
    )
    stage.start(CREDENTIALS_DIRECTORY=str(credentials))
    told = stage.mistakes()
    assert len(told) == 5
    assert ["needs a restart" in mistake for mistake in told] == [True] * 4 + [False]


def test_a_secret_file_of_the_operators_own_that_is_missing_is_noticed_when_it_comes(stage):
    stage.write()
    (stage.folder / "keys.yaml").write_text("keys: [{name: alpha, keyFile: alpha.key}]\n")
    stage.start()
    assert "cannot be read" in stage.mistakes()[0]
    (stage.folder / "alpha.key").write_text(secret_of("alpha"))
    stage.served_within(BUSY)


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda f: (f / "proxy.yaml").unlink(), "proxy.yaml: cannot be read"),
        (lambda f: (f / "proxy.yaml").write_bytes(b"\xff\xfe\x00proxy"), "proxy.yaml"),
        (lambda f: swap(f / "proxy.yaml", "name=gemproxy", "name=gemprxy"), "proxy.endpoint"),
        (lambda f: swap(f / "proxy.yaml", "endpoint", "endpont"), "proxy.endpont"),
    ],
)
def test_whatever_is_wrong_with_the_files_the_socket_is_answered(stage, break_it, told):
    stage.write()
    break_it(stage.folder)
    stage.start()
    assert_maintenance(stage.ask("GET", "/v1/models"))
    assert any(told in mistake for mistake in stage.mistakes())
    stage.write()
    stage.served_within(BUSY)


def swap(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_files_that_are_good_and_a_port_that_is_taken_are_no_reason_to_end(stage):
    """Without an endpoint the daemon would listen where systemd does, and end, again and again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        stage.write(proxy={"endpoint": None, "port": taken.getsockname()[1]})
        stage.start()
        assert_maintenance(stage.ask("GET", "/v1/models"))
        assert "another process listens there" in stage.mistakes()[0]
        stage.write()
        stage.served_within(BUSY)


def test_a_port_that_becomes_free_is_taken_without_a_change(stage):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stage.write(proxy={"adminEndpoint": f"tcp:interface=127.0.0.1:port={port}"})
        stage.start()
        assert_maintenance(stage.ask("GET", "/v1/models"))
    stage.served_within(PATIENCE)
    assert stage.ask("GET", "/admin/", place=f"127.0.0.1:{port}").status == 200


def test_a_database_of_a_newer_program_is_left_as_it_is(stage):
    (stage.folder / "state").mkdir()
    database = stage.folder / "state" / "gemproxy.db"
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = database.read_bytes()
    stage.write()
    stage.start()
    assert_maintenance(stage.ask("GET", "/v1/models"))
    assert "gemproxy.db" in stage.mistakes()[0]
    assert database.read_bytes() == before
    database.rename(stage.folder / "put-aside.db")
    stage.served_within(PATIENCE)


# -- how it listens --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def certificate(authority, folder):
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    return {"certFile": "cert.pem", "keyFile": "key.pem"}


def test_a_client_that_speaks_tls_is_answered_where_the_certificate_can_be_used(stage, authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    tls = certificate(authority, stage.folder)
    stage.write(proxy={"tls": tls})
    swap(stage.folder / "keys.yaml", "name:", "nmae:")
    stage.start()
    assert_maintenance(stage.ask("GET", "/v1/models", tls=context))

    # Without one there is nothing to speak TLS with; probes may still ask in plain text.
    (stage.folder / "cert.pem").rename(stage.folder / "aside.pem")
    stage.write(proxy={"tls": tls})
    eventually(lambda: any("certFile" in mistake for mistake in stage.mistakes()))
    assert stage.ask("GET", "/livez").status == 200
    with pytest.raises((ssl.SSLError, OSError)):
        stage.ask("GET", "/livez", tls=context)

    # A certificate that comes back is noticed, although no file of the configuration changes.
    (stage.folder / "aside.pem").rename(stage.folder / "cert.pem")
    eventually(lambda: stage.process.wait_for_line("maintenance mode is over"))
    assert stage.ask("POST", CHAT, said("hi"), tls=context).status == 200


def test_every_socket_is_answered_also_those_that_no_endpoint_names(make_stage):
    stage = make_stage("gemproxy,admin")
    stage.misspell()
    stage.start()
    for place in stage.addresses:
        assert_maintenance(stage.ask("GET", "/admin/health", place=place))
    stage.write(proxy={"adminEndpoint": "systemd:domain=INET:name=admin"})
    stage.served_within(BUSY)
    assert stage.ask("GET", "/admin/health", place=stage.addresses[1]).status == 401
    assert stage.ask("GET", "/admin/health").status == 404


def test_a_socket_that_no_endpoint_names_is_told_of(make_stage):
    stage = make_stage("gemproxy,forgotten")
    stage.write()
    stage.start()
    line = json.loads(stage.process.wait_for_line("nobody answers there"))
    assert (line["level"], line["socket"]) == ("warn", "forgotten")
    assert chat(stage).status == 200


def test_a_unix_socket_of_systemds_outlives_maintenance_and_a_restart(make_stage, tmp_path):
    path = tmp_path / "gemproxy.sock"
    stage = make_stage(f"gemproxy@{path}")
    stage.write(proxy={"endpoint": "systemd:domain=UNIX:name=gemproxy"})
    swap(stage.folder / "keys.yaml", "name:", "nmae:")
    stage.start()
    assert_maintenance(stage.ask("GET", "/v1/models"))
    stage.write(proxy={"endpoint": "systemd:domain=UNIX:name=gemproxy"})
    stage.served_within(BUSY)
    start = len(stage.process.lines)
    stage.process.popen.send_signal(signal.SIGUSR1)
    stage.process.wait_for_line("listening on", start)
    assert stage.ask("POST", CHAT, said("hi")).status == 200
    # The mode is systemd's to say (SocketMode=).
    assert path.stat().st_mode & 0o777 == 0o600
