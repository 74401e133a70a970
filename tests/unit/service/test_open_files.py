"""The limit of open files, in a process of its own."""

import subprocess
import sys
import textwrap

import pytest
from twisted.logger import capturedLogs

from gemproxy.service import open_files
from gemproxy.service.open_files import connections_within_limit

PROGRAM = textwrap.dedent("""
    import resource
    from gemproxy.service.open_files import raise_open_file_limit

    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
    print(raise_open_file_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
    print(raise_open_file_limit())
""")


def test_the_soft_limit_is_raised_to_the_hard_one():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["300", "300", "300", "300"]


@pytest.mark.parametrize(
    ("limit", "room"),
    [
        (65536, 8192),
        (9320, 8192),
        (9319, 8191),
        (1024, 256),
        (open_files.resource.RLIM_INFINITY, 8192),
    ],
)
def test_descriptors_for_the_upstream_and_for_files_stay_in_reserve(monkeypatch, limit, room):
    monkeypatch.setattr(open_files.resource, "getrlimit", lambda _: (limit, limit))
    with capturedLogs() as events:
        assert connections_within_limit(8192, 1000) == room
    assert len(events) == (room < 8192)
    for event in events:
        assert "proxy.maxConnections" in event["log_format"]
