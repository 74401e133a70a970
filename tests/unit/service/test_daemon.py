"""The daemon as a whole, before it serves anybody."""

import io

from fakes.running import keys_of, write_configuration
from twisted.internet.testing import MemoryReactorClock

from gemproxy.config.settings import LoggingSettings
from gemproxy.service.checkpoint import Checkpoint
from gemproxy.service.config_files import ConfigFiles
from gemproxy.service.daemon import Daemon
from gemproxy.service.notifying import SystemdNotifier
from gemproxy.telemetry import logs
from gemproxy.telemetry.scrubbing import Scrubber


def test_nothing_has_begun_when_the_state_refuses_the_start(tmp_path):
    """In maintenance mode it is tried again every five seconds: what had begun would pile up."""
    files = ConfigFiles(
        *write_configuration(tmp_path, "http://127.0.0.1:9", keys_of("alpha")), environ={}
    )
    sink = logs.install(LoggingSettings(), Scrubber([]), io.StringIO())
    daemon = Daemon(MemoryReactorClock(), files.read(), files, files.fingerprint(), sink=sink)
    kinds = [type(part) for part in daemon.parts]
    assert kinds[: kinds.index(Checkpoint)] == [SystemdNotifier]
