"""Python frameworks, each nothing changed but its base URL, in front of the real daemon.

The tests themselves are in ``python/with_*.py`` and run in the framework's own environment; each
file is one test here. `make clients` makes the environments.
"""

import re
from pathlib import Path

import pytest
from fakes.client_environments import interpreter, run_pytest
from fakes.running import REPOSITORY, RunningDaemon, keys_of

FOLDER = Path(__file__).parent / "python"
PINNED = REPOSITORY / "requirements" / "clients"
TOKEN = "a-token-of-the-clients"


def test_every_pinned_client_is_tried():
    pinned = {path.stem for path in PINNED.glob("*.in")}
    assert pinned == {path.stem for path in PINNED.glob("*.txt")}
    tried = {path.stem.removeprefix("with_").replace("_", "-") for path in FOLDER.glob("with_*.py")}
    assert pinned == tried | {"openai"}


@pytest.fixture
def guarded(simulator, tmp_path_factory):
    """A daemon that asks for a token, one for each framework: wrong tokens lock an address out."""
    folder = tmp_path_factory.mktemp("daemon")
    proxy = {"accessTokens": [TOKEN]}
    running = RunningDaemon(folder, simulator.url, keys_of("alpha", "beta"), proxy=proxy)
    yield running
    running.stop()


@pytest.mark.parametrize("file", sorted(path.name for path in FOLDER.glob("with_*.py")))
def test_framework_notices_nothing(file, request):
    python = interpreter(file.removeprefix("with_").removesuffix(".py").replace("_", "-"))
    guarded, simulator = (request.getfixturevalue(name) for name in ("guarded", "simulator"))
    simulator.reset()
    done = run_pytest(
        python,
        FOLDER,
        "--rootdir=.",
        "--confcutdir=.",
        file,
        GEMPROXY_URL=guarded.url,
        GEMPROXY_TOKEN=TOKEN,
        SIMULATOR_URL=simulator.url,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"\b(\d+) passed", done.stdout)[1]) > 0
