"""``gemproxy serve`` and ``python -m gemproxy``: the daemon without twistd's options."""

import json
import re
import signal
import socket
import subprocess
import sys

from fakes.running import Process, RunningDaemon, keys_of, write_configuration
from fakes.wire import CHAT, Wire, said

from gemproxy import __version__
from gemproxy.simulator import DEMO_KEYS

PROGRAM = (sys.executable, "-m", "gemproxy")


def serve(folder, upstream, *options, **settings):
    config, keys = write_configuration(folder, upstream, keys_of("alpha", "beta"), **settings)
    return Process(*PROGRAM, "serve", "--config", config, "--keys", keys, *options, cwd=folder)


def start_line(process):
    line = process.wait_for_line(f"gemproxy {__version__} on Python")
    return json.loads(line)


def test_it_serves_and_stops_as_twistd_does(simulator, tmp_path):
    process = serve(tmp_path, simulator.url)
    try:
        address = start_line(process)["address"].removeprefix("http://")
        with Wire(None, place=address) as wire:
            assert wire.ask("POST", CHAT, said("Hello!")).status == 200
        process.popen.send_signal(signal.SIGHUP)
        process.wait_for_line("nothing to apply")
        # No pid file, nothing beside what it was given.
        assert {path.name for path in tmp_path.iterdir()} <= {"proxy.yaml", "keys.yaml", "state"}
    finally:
        assert process.stop() == 0
    assert process.errors == []


def test_a_port_of_the_command_line_is_stronger_than_the_file(simulator, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = serve(tmp_path, simulator.url, "--port", str(port), proxy={"port": 1})
    try:
        assert start_line(process)["address"] == f"http://127.0.0.1:{port}"
    finally:
        assert process.stop() == 0


def test_a_senseless_port_is_a_mistake_of_the_command_line(tmp_path):
    process = Process(*PROGRAM, "serve", "--port=65536", cwd=tmp_path)
    assert process.wait() == 64
    assert "--port" in process.errors[-1]


def test_mistakes_are_lines_and_status_78(simulator, tmp_path):
    process = serve(tmp_path, simulator.url, proxy={"prot": 1})
    assert process.wait() == 78
    assert len(process.errors) == 1
    assert "proxy.prot" in process.errors[0]


def test_why_it_cannot_listen_is_one_line_in_words(simulator, tmp_path):
    safe = {"allowAnonymous": True, "host": "203.0.113.7"}
    process = serve(tmp_path, simulator.url, proxy=safe)
    assert process.wait() == 1
    assert len(process.errors) == 1, process.output
    assert process.errors[0].startswith("gemproxy: cannot listen on ")
    assert "this machine has no such address" in process.errors[0]


def test_every_start_says_what_runs_with_what(simulator, tmp_path):
    """One line, whoever starts it."""
    (tmp_path / "a").mkdir()
    daemon = RunningDaemon(
        tmp_path / "a",
        simulator.url,
        keys_of("alpha", "beta"),
        proxy={"adminEndpoint": "tcp:0:interface=127.0.0.1"},
    )
    line = start_line(daemon)
    daemon.stop()
    assert line["level"] == "info"
    assert line["version"] == __version__
    assert line["python"] == ".".join(map(str, sys.version_info[:3]))
    assert line["config"] == str(tmp_path / "a" / "proxy.yaml")
    assert line["keys_file"] == str(tmp_path / "a" / "keys.yaml")
    assert line["keys"] == 2
    assert line["address"] == f"http://{daemon.address}"
    assert line["dashboard"] == f"http://{daemon.admin_address}/admin/"
    assert sum("on Python" in event["event"] for event in daemon.events()) == 1


def test_the_line_of_a_start_counts_in_plain_words(simulator, tmp_path):
    config, keys = write_configuration(tmp_path, simulator.url, keys_of("alpha"))
    process = Process(*PROGRAM, "serve", "--config", config, "--keys", keys, cwd=tmp_path)
    try:
        assert " serves 1 key at " in start_line(process)["event"]
    finally:
        process.stop()


def test_a_plugin_cache_that_cannot_be_written_is_no_line(simulator, tmp_path):
    """As under the shipped units, where the installation is read-only."""
    config, keys = write_configuration(tmp_path, simulator.url, keys_of("alpha"))
    script = (
        "import sys, runpy, errno\n"
        "from twisted.python.filepath import FilePath\n"
        "def refuse(self, *_, **__): raise OSError(errno.EROFS, 'read-only', self.path)\n"
        "FilePath.setContent = refuse\n"
        "FilePath.getModificationTime = refuse\n"
        "sys.argv = ['twistd', *sys.argv[1:]]\n"
        "from twisted.scripts.twistd import run\n"
        "run()\n"
    )
    options = ("-n", "--pidfile=", "gemproxy", "--config", config, "--keys", keys)
    process = Process(sys.executable, "-c", script, *options, cwd=tmp_path)
    try:
        start_line(process)
    finally:
        process.stop()
    assert not any("plugin cache" in line for line in process.lines)
    levels = {json.loads(line)["level"] for line in process.lines if line.startswith("{")}
    assert levels <= {"info", "warn"}


def test_the_demo_can_be_asked_by_the_operators_program(tmp_path):
    demo = Process(*PROGRAM, "serve", "--demo", "--port", "0", cwd=tmp_path)
    try:
        command = demo.wait_for_line(" keys --config ").strip()
        asked = subprocess.run(
            ["/bin/sh", "-c", f"{command} --json"],
            cwd=tmp_path,
            # Another terminal: it has no virtual environment, and nothing of its own.
            env={"PATH": "/nowhere"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        names = [key["name"] for key in json.loads(asked.stdout)["keys"]]
        assert names == [name for name, _ in DEMO_KEYS]
        assert re.search(r" --config /\S+/gemproxy-demo-\w+/proxy.yaml ", command)
    finally:
        assert demo.stop() == 0
