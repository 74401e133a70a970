"""twistd's own options and signals: where the log goes, the pid file, what ends the process."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from fakes.running import TWISTD, Process, RunningDaemon, eventually, keys_of, write_configuration
from fakes.wire import CHAT, Wire, said

#: Signals that end a process which does nothing about them.
DEADLY = [
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGQUIT,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPIPE,
    signal.SIGIO,
    signal.SIGXFSZ,
    signal.SIGXCPU,
    signal.SIGPWR,
    signal.SIGRTMIN + 3,
]


class Background:
    """``twistd gemproxy`` without ``-n``: it returns at once and leaves a daemon."""

    def __init__(self, folder, upstream, *options, **settings):
        self.folder = folder
        files = write_configuration(folder, upstream, keys_of("alpha"), **settings)
        self.started = subprocess.run(
            [TWISTD[0], *options, "gemproxy", "--config", files[0], "--keys", files[1]],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def pid(self):
        return int((self.folder / "twistd.pid").read_text())

    def events(self, name="twistd.log"):
        lines = (self.folder / name).read_text().splitlines()
        return [json.loads(line) for line in lines]

    def wait_for(self, words, name="twistd.log"):
        def look():
            found = [event for event in self.events(name) if words in event["event"]]
            return found[0] if found else None

        return eventually(look)

    def is_alive(self):
        try:
            os.kill(self.pid, 0)
        except (OSError, ValueError):
            return False
        return True

    def kill(self, number=signal.SIGKILL):
        pid = self.pid
        os.kill(pid, number)
        return pid

    def stop(self):
        if self.is_alive():
            self.kill(signal.SIGTERM)
            eventually(lambda: not (self.folder / "twistd.pid").exists())


def test_in_the_background_it_logs_where_twistds_user_looks(simulator, tmp_path):
    daemon = Background(tmp_path, simulator.url)
    try:
        assert (daemon.started.returncode, daemon.started.stderr) == (0, "")
        address = daemon.wait_for("listening on")["address"]
        with Wire(None, place=address) as wire:
            assert wire.ask("POST", CHAT, said("Hello!")).status == 200
        daemon.wait_for("request finished")
        # As logrotate does it.
        (tmp_path / "twistd.log").rename(tmp_path / "old.log")
        daemon.kill(signal.SIGUSR1)
        eventually((tmp_path / "twistd.log").exists)
        daemon.wait_for("the log goes on")
    finally:
        daemon.stop()
    assert "Server Shut Down." in (tmp_path / "twistd.log").read_text()


def test_a_second_one_is_refused_and_one_after_a_kill_is_not(simulator, tmp_path):
    first = Background(tmp_path, simulator.url)
    try:
        first.wait_for("listening on")
        second = Background(tmp_path, simulator.url)
        assert second.started.returncode == 1
        assert f"process {first.pid} runs already" in second.started.stderr
        assert first.is_alive()
        pid = first.kill()
        eventually(lambda: not first.is_alive())
        # In a container the number is always somebody's: here it is ours.
        (tmp_path / "twistd.pid").write_text(str(os.getpid()))
        third = Background(tmp_path, simulator.url)
        assert (third.started.returncode, third.started.stderr) == (0, "")
        eventually(lambda: third.pid not in {pid, os.getpid()})
    finally:
        first.stop()


def test_a_pid_file_that_was_named_holds_the_number(simulator, tmp_path):
    config, keys = write_configuration(tmp_path, simulator.url, keys_of("alpha"))
    (tmp_path / "mine.pid").write_text("1")
    process = Process(
        TWISTD[0],
        "-n",
        "--pidfile=mine.pid",
        "gemproxy",
        "--config",
        config,
        "--keys",
        keys,
        cwd=tmp_path,
    )
    process.wait_for_line("listening on")
    assert (tmp_path / "mine.pid").read_text() == str(process.popen.pid)
    assert process.stop() == 0
    assert not (tmp_path / "mine.pid").exists()


def test_a_named_log_file_gets_the_log_and_the_terminal_nothing(simulator, tmp_path):
    config, keys = write_configuration(tmp_path, simulator.url, keys_of("alpha"))
    options = ("-n", "--pidfile=", "--logfile", "mine.log", "gemproxy")
    process = Process(TWISTD[0], *options, "--config", config, "--keys", keys, cwd=tmp_path)
    log = tmp_path / "mine.log"
    eventually(lambda: log.exists() and "listening on" in log.read_text())
    assert process.stop() == 0
    assert process.output == ""


def test_a_log_that_cannot_be_written_refuses_the_start_in_a_line(simulator, tmp_path):
    daemon = Background(tmp_path, simulator.url, "--logfile", "missing/mine.log")
    assert daemon.started.returncode == 1
    expected = "gemproxy: cannot write the log to missing/mine.log: No such file or directory\n"
    assert daemon.started.stderr == expected


def test_why_it_cannot_listen_is_told_in_the_background_too(simulator, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        daemon = Background(tmp_path, simulator.url, proxy={"port": port})
    assert daemon.started.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in daemon.started.stderr + daemon.started.stdout
    told = daemon.wait_for("cannot listen")
    assert told["level"] == "critical"
    assert "another process listens there" in told["event"]


@pytest.mark.skipif(os.getuid() != 0, reason="making /dev/log needs root")
@pytest.mark.skipif(os.path.lexists("/dev/log"), reason="somebody has /dev/log already")
def test_syslog_gets_the_log(simulator, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind("/dev/log")
        syslog.settimeout(30)
        try:
            options = ("--syslog", "--prefix", "mine")
            daemon = Background(tmp_path, simulator.url, *options)
            got = b""
            while b"listening on" not in got:
                got = syslog.recv(10_000)
            assert got.startswith(b"<30>")
            assert f" mine[{daemon.pid}]: {{".encode() in got
            assert not (tmp_path / "twistd.log").exists()
        finally:
            daemon.stop()
            Path("/dev/log").unlink()


# -- signals ---------------------------------------------------------------------------------------


def test_no_signal_ends_it_but_those_two(start_daemon):
    daemon = start_daemon()
    for number in DEADLY:
        daemon.popen.send_signal(number)
    for _ in range(20):
        with Wire(daemon) as wire:
            assert wire.ask("POST", CHAT, said("Hello!")).status == 200
    assert daemon.stop() == 0


@pytest.mark.parametrize("wait", [0.0, 0.05, 0.15])
def test_no_signal_ends_a_start_from_the_plugin_on(simulator, tmp_path, wait):
    """From when twistd has loaded it, which a plugin beside it tells."""
    plugins = tmp_path / "path" / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    config, keys = write_configuration(tmp_path, simulator.url, keys_of("alpha"))
    # Python imports it at its start; it tells when our own modules begin to come.
    (tmp_path / "path" / "sitecustomize.py").write_text(
        "import sys\n"
        "class Tell:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'gemproxy.tap':\n"
        "            sys.stderr.write('the plugin is loaded\\n')\n"
        "            sys.stderr.flush()\n"
        "sys.meta_path.insert(0, Tell())\n"
    )
    from fakes.running import REPOSITORY

    process = Process(
        *TWISTD,
        "gemproxy",
        "--config",
        config,
        "--keys",
        keys,
        cwd=tmp_path,
        PYTHONPATH=f"{tmp_path / 'path'}:{REPOSITORY}",
    )
    try:
        eventually(lambda: any("the plugin is loaded" in line for line in process.errors))
        time.sleep(wait)
        for number in DEADLY:
            process.popen.send_signal(number)
        process.wait_for_line("listening on")
        assert process.stop() == 0
    finally:
        process.popen.kill()


def test_a_unix_socket_of_a_killed_daemon_is_taken_over(simulator, tmp_path):
    """And one of a live daemon is not."""
    proxy = {"endpoint": f"unix:{tmp_path / 's'}"}
    first = RunningDaemon(tmp_path, simulator.url, keys_of("alpha"), proxy=proxy)
    config, keys = tmp_path / "proxy.yaml", tmp_path / "keys.yaml"
    options = ("gemproxy", "--config", config, "--keys", keys)
    second = Process(*TWISTD, *options, cwd=tmp_path)
    assert second.wait() == 1
    assert "another process listens there" in second.output
    first.kill()
    # What Twisted's own lock would have left, if its number were that of a process that lives.
    third = RunningDaemon(tmp_path, simulator.url, keys_of("alpha"), proxy=proxy)
    # Somebody tidies up: the stop is a stop all the same.
    (tmp_path / "s").unlink()
    assert third.stop() == 0
    third.wait_for_line("draining 0 requests")
