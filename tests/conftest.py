"""What all tests share: the way to the fakes, one simulator, one daemon."""

import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A shell that runs the tests in the background lets them ignore SIGINT, and their children inherit
# that; a daemon respects it, and then does not stop where a test wants it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The fakes are code of the tests, not of the package.
sys.path.insert(0, str(Path(__file__).parent))

from fakes import network
from fakes.network import why_not
from fakes.running import RunningDaemon, RunningSimulator, keys_of

from gemproxy.clock import use_monotonic_time

# Where Python may keep no compiled modules, each daemon compiles all of gemproxy anew, which takes
# four times as long as its start, and pytest rewrites the assertions of every file.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# How long an example takes says nothing where four processes share two cores.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

NAMES = ("alpha", "beta", "gamma", "delta")


def pytest_sessionstart():
    """As every program of ours does, before anything is scheduled."""
    from twisted.internet import reactor

    use_monotonic_time(reactor)


@pytest.fixture(scope="module")
def own_network():
    """A network of the module's own where that is possible, also for its simulator and daemons.

    For tests that change interfaces, and for a browser: Chromium gives up its connections when an
    interface comes or goes, and other tests make some.
    """
    with nullcontext() if why_not() else network.own_network():
        yield


@pytest.fixture(scope="module")
def simulator(tmp_path_factory):
    """A simulated Gemini API with four keys; reset it with the fixture ``fresh``."""
    running = RunningSimulator(tmp_path_factory.mktemp("simulator"), NAMES)
    yield running
    running.stop()


@pytest.fixture
def start_daemon(simulator, tmp_path_factory):
    """Start a daemon of one's own: ``start_daemon(keys, section={...})``."""
    started = []

    def start(keys=None, *options, **settings):
        folder = tmp_path_factory.mktemp("daemon")
        upstream = settings.pop("base_url", simulator.url)
        chosen = keys_of("alpha", "beta") if keys is None else keys
        started.append(RunningDaemon(folder, upstream, chosen, *options, **settings))
        return started[-1]

    simulator.reset()
    yield start
    for daemon in started:
        daemon.stop()


@pytest.fixture(scope="module")
def shared_daemon(simulator, tmp_path_factory):
    """A daemon with default settings and two keys, for tests that leave no trace in it."""
    folder = tmp_path_factory.mktemp("daemon")
    running = RunningDaemon(folder, simulator.url, keys_of("alpha", "beta"))
    yield running
    running.stop()
