"""What the description of an endpoint says."""

import pytest

from gemproxy.config.endpoints import with_socket_mode


@pytest.mark.parametrize(
    ("description", "opened"),
    [
        ("unix:/run/g.sock", "unix:/run/g.sock:mode=660"),
        ("unix:address=/run/g.sock", "unix:address=/run/g.sock:mode=660"),
        (r"unix:/run/a\:b", r"unix:/run/a\:b:mode=660"),
        (r"unix:/run/a\=b", r"unix:/run/a\=b:mode=660"),
        ("unix:/run/g.sock:lockfile=0", "unix:/run/g.sock:lockfile=0:mode=660"),
        ("unix:/run/g.sock:backlog=9", "unix:/run/g.sock:backlog=9:mode=660"),
        ("haproxy:unix:/run/g.sock", "haproxy:unix:/run/g.sock:mode=660"),
        ("unix:/run/g.sock:mode=666", None),
        ("unix:mode=600:address=/run/g.sock", None),
        ("unix:/run/g.sock:600", None),
        ("unix:600:address=/run/g.sock", None),
        ("tcp:80", None),
        ("systemd:domain=UNIX:name=g", None),
    ],
)
def test_a_unix_socket_is_for_its_group_unless_it_says_otherwise(description, opened):
    assert with_socket_mode(description) == (opened or description)
