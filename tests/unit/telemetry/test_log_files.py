"""The file and the syslog that twistd's user may ask for."""

import os
import re
import socket
from pathlib import Path

import pytest

from gemproxy.telemetry.line_writer import LineOutput
from gemproxy.telemetry.log_files import RotatedFile, Syslog

LINE = b"123456789\n"


def test_a_full_file_is_moved_on_and_the_oldest_goes(tmp_path):
    output = LineOutput(RotatedFile(tmp_path / "log", most=30, kept=2).destination())
    for number in range(12):
        output.write(b"%09d\n" % number)
    assert {path.name for path in tmp_path.iterdir()} == {"log", "log.1", "log.2"}
    kept = [(tmp_path / name).read_bytes() for name in ("log.2", "log.1", "log")]
    assert b"".join(kept).split() == [b"%09d" % number for number in range(3, 12)]


def test_it_goes_on_behind_what_is_there(tmp_path):
    (tmp_path / "log").write_bytes(LINE)
    LineOutput(RotatedFile(tmp_path / "log").destination()).write(b"next\n")
    assert (tmp_path / "log").read_bytes() == LINE + b"next\n"


def test_after_logrotate_has_moved_it_a_new_one_is_begun(tmp_path):
    file = RotatedFile(tmp_path / "log")
    output = LineOutput(file.destination())
    output.write(b"one\n")
    (tmp_path / "log").rename(tmp_path / "log.old")
    output.write(b"two\n")
    file.reopen()
    output.write(b"three\n")
    assert (tmp_path / "log.old").read_bytes() == b"one\ntwo\n"
    assert (tmp_path / "log").read_bytes() == b"three\n"


def test_where_no_new_one_can_be_made_the_old_one_goes_on(tmp_path):
    (tmp_path / "folder").mkdir()
    file = RotatedFile(tmp_path / "folder" / "log")
    output = LineOutput(file.destination())
    (tmp_path / "folder").rename(tmp_path / "moved")
    file.reopen()
    output.write(b"one\n")
    assert (tmp_path / "moved" / "log").read_bytes() == b"one\n"
    assert output.lost == 0


def test_it_stays_where_it_was_opened_when_the_process_goes_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = RotatedFile("log")
    monkeypatch.chdir("/")
    file.reopen()
    LineOutput(file.destination()).write(b"one\n")
    assert (tmp_path / "log").read_bytes() == b"one\n"


# -- syslog ----------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "syslog")


def daemon_at(place):
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(place)
    made.settimeout(5)
    return made


def send(output, syslog, text, level="info"):
    output.write(syslog.destination().head(level) + text)


@pytest.mark.parametrize(
    ("level", "number"),
    [("debug", 31), ("info", 30), ("warn", 28), ("error", 27), ("critical", 26)],
)
def test_a_line_is_a_datagram_with_priority_time_and_name(place, level, number):
    syslog = Syslog("gemproxy", place)
    with daemon_at(place) as daemon:
        send(LineOutput(syslog.destination()), syslog, b"one\n", level)
        got = daemon.recv(1000).decode()
    pattern = rf"<{number}>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d gemproxy\[{os.getpid()}\]: one"
    assert re.fullmatch(pattern, got)
    syslog._disconnect()


def test_a_syslog_that_was_started_anew_gets_the_next_line(place):
    syslog = Syslog("gemproxy", place)
    output = LineOutput(syslog.destination())
    with daemon_at(place) as daemon:
        send(output, syslog, b"one\n")
        assert daemon.recv(1000).endswith(b"one")
    Path(place).unlink()
    send(output, syslog, b"lost\n")
    assert output.lost == 1
    with daemon_at(place) as daemon:
        send(output, syslog, b"two\n")
        assert daemon.recv(1000).endswith(b"two")
    syslog._disconnect()


def test_a_syslog_that_reads_nothing_is_not_waited_for(place):
    syslog = Syslog("gemproxy", place)
    output = LineOutput(syslog.destination(), limit=100_000)
    with daemon_at(place) as daemon:
        while not output.lost:
            send(output, syslog, b"x" * 1000 + b"\n")
        for _ in range(20):
            assert daemon.recv(2000).endswith(b"x")
    syslog._disconnect()
