"""Lines get out whole, at once and in their order, or are counted as lost."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import pty
import socket
import threading
import time
import tty

import pytest

from gemproxy.telemetry.destinations import PRIORITIES, Destination, standard
from gemproxy.telemetry.line_writer import LineOutput


class Disk(io.RawIOBase):
    """Takes what it is told to: so many bytes, ``None`` for none just now, or an error."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.taken = b""
        self.is_stuck = False

    def writable(self):
        return True

    def write(self, data):
        if self.is_stuck:
            return None
        answer = self.answers.pop(0) if self.answers else len(data)
        if isinstance(answer, Exception):
            raise answer
        self.taken += bytes(data[: answer or 0])
        return answer


def note(count):
    return b"(%d lost)\n" % count


def destination_of(disk):
    return Destination(disk.write)


def output_to(disk):
    return LineOutput(io.TextIOWrapper(io.BufferedWriter(disk)))


def test_a_line_is_written_in_one_piece():
    disk = Disk()
    output_to(disk).write(b"one\n")
    assert disk.taken == b"one\n"


def test_a_stream_of_one_wrapper_less_is_written_to_as_well():
    """As the standard output is with PYTHONUNBUFFERED."""
    disk = Disk(3)
    output = LineOutput(io.TextIOWrapper(disk, write_through=True))
    output.write(b"one line\n")
    assert (disk.taken, output.lost) == (b"one line\n", 0)


def test_what_waits_in_the_stream_comes_first():
    disk = Disk()
    stream = io.TextIOWrapper(io.BufferedWriter(disk))
    stream.write("before\n")
    LineOutput(stream).write(b"after\n")
    assert disk.taken == b"before\nafter\n"


def test_a_stream_that_nobody_else_holds_stays_open():
    """What Python collects it closes, with all that it wraps."""
    disk = Disk()
    output = output_to(disk)
    gc.collect()
    output.write(b"one\n")
    assert (disk.closed, output.lost) == (False, 0)


@pytest.mark.parametrize("stream", [io.StringIO(), io.TextIOWrapper(io.BytesIO())])
def test_a_stream_without_buffers_will_do(stream):
    output = LineOutput(stream)
    output.write("größer\n".encode())
    stream.seek(0)
    assert stream.read() == "größer\n"


def test_what_was_not_taken_at_once_is_written_after_it():
    disk = Disk(3, 2)
    output = output_to(disk)
    output.write(b"one line\n")
    output.write(b"next\n")
    assert (disk.taken, output.lost) == (b"one line\nnext\n", 0)


def test_a_line_that_cannot_be_written_is_counted_and_the_next_one_is_tried():
    disk = Disk(OSError(28, "disk full"))
    output = output_to(disk)
    output.write(b"one\n")
    output.write(b"two\n")
    assert (disk.taken, output.lost) == (b"two\n", 1)


def test_what_was_lost_is_told_with_its_count_before_the_next_line():
    full = OSError(28, "disk full")
    disk = Disk(full, full, full)
    output = LineOutput(destination_of(disk), note)
    for line in (b"one\n", b"two\n", b"three\n", b"four\n", b"five\n"):
        output.write(line)
    assert disk.taken == b"(3 lost)\nfour\nfive\n"
    assert output.lost == 3


def test_a_line_that_broke_off_does_not_spoil_the_next():
    end = OSError(28, "disk full")
    disk = Disk(2, end, end)
    output = output_to(disk)
    for line in (b"broken\n", b"lost\n", b"whole\n", b"next\n"):
        output.write(line)
    assert disk.taken == b"br\nwhole\nnext\n"
    assert output.lost == 2


def test_what_is_not_taken_now_waits_and_nothing_goes_before_it():
    disk = Disk(None, 2, None, BlockingIOError(), None)
    output = output_to(disk)
    output.write(b"one\n")
    output.write(b"two\n")
    output.write(b"three\n")
    output.close()
    assert (disk.taken, output.lost) == (b"one\ntwo\nthree\n", 0)


def test_too_many_that_wait_are_dropped_until_half_of_them_is_gone():
    disk = Disk()
    disk.is_stuck = True
    output = LineOutput(destination_of(disk), note, limit=100)
    line = b"123456789\n"
    for _ in range(15):
        output.write(line)
    assert output.lost == 5
    disk.is_stuck = False
    output.close()
    output.write(b"after\n")
    assert disk.taken == line * 10 + b"(5 lost)\nafter\n"


# -- destinations that keep others waiting ---------------------------------------------------------

LINE = b"x" * 4095 + b"\n"


class Pipe:
    def __init__(self):
        self.reader, self.writer = os.pipe()


class Socket:
    """As journald gives one: a stream between two processes."""

    def __init__(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.reader, self.writer = ours.detach(), theirs.detach()


class Terminal:
    def __init__(self):
        self.reader, self.writer = pty.openpty()
        tty.setraw(self.writer)


class _Foreign:
    """Made by another user, so that it cannot be opened anew."""

    def __init__(self, monkeypatch):
        super().__init__()

        def refuse(*_, **__):
            raise PermissionError

        monkeypatch.setattr(os, "open", refuse)


class ForeignPipe(_Foreign, Pipe):
    pass


class ForeignTerminal(_Foreign, Terminal):
    pass


@pytest.fixture(params=[Pipe, Socket, Terminal, ForeignPipe, ForeignTerminal])
def place(request, monkeypatch):
    kind = request.param
    made = kind(monkeypatch) if issubclass(kind, _Foreign) else kind()
    yield made
    for descriptor in (made.reader, made.writer):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def close(output):
    """What the output has opened itself, which otherwise lives as long as the process."""
    kept = output._destination.kept
    if isinstance(kept, tuple):
        kept[1].close()


def read_up_to(descriptor, end):
    """What was written, up to a line that begins with ``end``."""
    got = b""
    os.set_blocking(descriptor, True)
    while not got.rpartition(b"\n" + end)[1] or not got.endswith(b"\n"):
        got += os.read(descriptor, 1 << 20)
    return got


def test_nobody_waits_for_a_reader_that_does_not_read(place):
    """Each write would take for ever; what does not go out is told once it is read again."""
    was_blocking = os.get_blocking(place.writer)
    with os.fdopen(place.writer, "w", closefd=False) as stream:
        output = LineOutput(stream, note, limit=100_000)
        written = 0
        while output.lost < 3:
            output.write(b"%d:%b" % (written, LINE))
            written += 1
        # It is the shell's as well.
        assert os.get_blocking(place.writer) is was_blocking
        got = read_up_to(place.reader, b"(3 lost)")
        output.write(b"after\n")
        got += read_up_to(place.reader, b"") if b"after" not in got else b""
    lines = got.splitlines()
    numbers = [int(line.partition(b":")[0]) for line in lines if line.endswith(b"x")]
    assert numbers == list(range(written - 3))
    assert all(line.endswith(LINE[:-1]) for line in lines[: len(numbers)])
    assert lines[len(numbers) :] == [b"(3 lost)", b"after"]
    close(output)


def test_the_end_waits_for_a_moment_and_no_longer(place):
    with os.fdopen(place.writer, "w", closefd=False) as stream:
        output = LineOutput(stream)
        while not output.lost:
            output.write(LINE)
        begun = time.monotonic()
        output.close(0.2)
        assert 0.2 <= time.monotonic() - begun < 5
        close(output)


def test_a_reader_that_is_gone_costs_lines_and_no_error():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        output = LineOutput(stream, note, limit=100_000)
        while output.lost < 2:
            output.write(LINE)
        os.close(reader)
        output.write(b"next\n")
        output.close(0)
        assert output.lost > 2


def test_lines_from_several_threads_stay_whole_while_the_reader_is_slow():
    place = Pipe()
    with os.fdopen(place.writer, "w") as stream, os.fdopen(place.reader, "rb") as pipe:
        output = LineOutput(stream, note)
        each = [bytes([letter]) * 700 + b"\n" for letter in b"abcd"]
        threads = [
            threading.Thread(target=lambda line=line: [output.write(line) for _ in range(300)])
            for line in each
        ]
        for thread in threads:
            thread.start()
        got = [pipe.readline() for _ in range(1200)]
        for thread in threads:
            thread.join()
    assert sorted(got) == sorted(each * 300)


def test_a_socket_that_is_the_journals_gets_priorities():
    ours, theirs = socket.socketpair()
    with ours, os.fdopen(theirs.detach(), "w") as stream:
        seen = os.fstat(stream.fileno())
        journal = standard(stream, {"JOURNAL_STREAM": f"{seen.st_dev}:{seen.st_ino}"})
        other = standard(stream, {"JOURNAL_STREAM": f"{seen.st_dev}:1"})
        for each in (journal, other):
            each.kept[1].close()
        assert [journal.head(level) for level in PRIORITIES] == [
            b"<7>",
            b"<6>",
            b"<4>",
            b"<3>",
            b"<2>",
        ]
        assert other.head is None


def test_a_closed_stream_costs_lines(tmp_path):
    stream = (tmp_path / "log").open("w")
    output = LineOutput(stream)
    stream.close()
    output.write(b"one\n")
    assert output.lost == 1


def test_whoever_logs_while_a_line_is_written_is_not_kept_waiting():
    """A finalizer may run anywhere, also there."""

    class Interrupted(Disk):
        def write(self, data):
            if not self.taken:
                self.taken = b"-"
                output.write(b"inner\n")
            return super().write(data)

    disk = Interrupted()
    output = output_to(disk)
    output.write(b"outer\n")
    assert disk.taken == b"-inner\nouter\n"


def test_a_process_without_standard_output_has_nothing_to_say():
    output = LineOutput(standard(None))
    output.write(b"one\n")
    assert output.lost == 0
