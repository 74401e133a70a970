"""Lines get out whole, at once and in their order, or are counted as lost."""

from __future__ import annotations

import gc
import io
import os

import pytest

from gemproxy.observability.output import LineOutput


class Disk(io.RawIOBase):
    """Takes what it is told to: so many bytes, ``None`` for none just now, or an error."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.taken = b""

    def writable(self):
        return True

    def write(self, data):
        answer = self.answers.pop(0) if self.answers else len(data)
        if isinstance(answer, Exception):
            raise answer
        self.taken += bytes(data[: answer or 0])
        return answer


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


@pytest.mark.parametrize("answers", [[OSError(28, "disk full")], [None, None]])
def test_a_line_that_cannot_be_written_is_counted_and_the_next_one_is_tried(answers):
    disk = Disk(*answers)
    output = output_to(disk)
    output.write(b"one\n")
    output.write(b"two\n")
    assert (disk.taken, output.lost) == (b"two\n", 1)


@pytest.mark.parametrize("end", [OSError(28, "disk full"), None])
def test_a_line_that_broke_off_does_not_spoil_the_next(end):
    disk = Disk(2, end, end)
    output = output_to(disk)
    for line in (b"broken\n", b"lost\n", b"whole\n", b"next\n"):
        output.write(line)
    assert disk.taken == b"br\nwhole\nnext\n"
    assert output.lost == 2


def test_a_full_pipe_costs_lines_and_no_time():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    line = b"x" * 4095 + b"\n"
    with os.fdopen(reader, "rb") as pipe, os.fdopen(writer, "w") as stream:
        output = LineOutput(stream)
        while not output.lost:
            output.write(line)
        held = pipe.read1(1 << 20)
        output.write(b"again\n")
        assert set(held.splitlines()) == {line[:-1]}
        assert pipe.read1(1 << 20) == b"again\n"
        assert output.lost == 1


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
