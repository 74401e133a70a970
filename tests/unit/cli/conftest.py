"""A folder with both files, and a daemon's admin API that they lead to."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from fakes.admin import TOKEN
from fakes.admin_server import AdminServer

from gemproxy.cli import main


@pytest.fixture
def serve():
    """Start an admin API of one's own: ``serve(*keys, context=..., path=...)``."""
    started = []

    def start(*keys, **options):
        started.append(AdminServer(*keys, **options))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def daemon(serve, configure):
    """The admin API with the keys alpha, beta and gamma; ``config/proxy.yaml`` names it."""
    server = serve()
    configure(port=server.port)
    return server


@pytest.fixture
def configure(tmp_path, monkeypatch):
    """Write ``config/proxy.yaml`` with these settings of its section ``proxy``."""
    monkeypatch.chdir(tmp_path)
    for variable in ("GEMPROXY_CONFIG", "GEMPROXY_KEYS"):
        monkeypatch.delenv(variable, raising=False)
    Path("config").mkdir()

    def write(**proxy):
        proxy.setdefault("adminToken", TOKEN)
        path = Path("config/proxy.yaml")
        path.write_text(yaml.safe_dump({"proxy": proxy}))
        path.chmod(0o600)
        return path

    return write


@pytest.fixture
def write_keys(configure):
    """Write ``config/keys.yaml`` with these entries."""

    def write(*entries):
        path = Path("config/keys.yaml")
        path.write_text(yaml.safe_dump({"keys": list(entries)}))
        return path

    return write


@pytest.fixture
def gemproxy(capsys):
    """Run the program: ``status, out, err = gemproxy("keys", "--json")``."""

    def run(*argv):
        capsys.readouterr()
        status = main(argv)
        out, err = capsys.readouterr()
        assert TOKEN not in out + err
        return status, out, err

    return run
