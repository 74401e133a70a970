"""What the documentation tells an operator to type, typed under the real systemd, with traffic.

A Debian machine boots with the shipped units (``fakes.machine``), is installed as
`docs/systemd.md` says and operated as `docs/operations.md` and `docs/runbook.md` say: the commands
are taken out of the pages, section by section. ``make systemd-test`` runs this; it takes minutes
and is skipped otherwise, and where no machine can be booted.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from contextlib import contextmanager

import pytest
from fakes.load import Knocks
from fakes.machine import Machine, Unavailable
from fakes.pages import Page, slug_of
from fakes.reader import alike, commands
from fakes.wire import CHAT, Wire, request, said

pytestmark = pytest.mark.skipif(
    not os.environ.get("GEMPROXY_SYSTEMD"), reason="boots a machine: make systemd-test"
)

KEY = "test-key-that-is-typed-0123456789"
SYSTEMD, OPERATIONS, RUNBOOK = "docs/systemd.md", "docs/operations.md", "docs/runbook.md"
BOTH = "gemproxy.socket gemproxy.service"
#: A corrected file is served within this time; the contract says 4 on a machine that is not busy.
SERVED_WITHIN = 8.0
#: Requests a second, enough to close a socket by the start limit within seconds.
RATE = 20


# -- the operator ----------------------------------------------------------------------------------


def section(page, title):
    """The blocks below the heading ``title``, down to the next heading of its rank."""
    lines = Page(page).prose
    ranks = [(n, len(m[1]), m[2]) for n, s in lines if (m := re.match(r"(#+) (.*)", s))]
    begin, rank = next((n, r) for n, r, t in ranks if slug_of(t) == slug_of(title))
    end = next((n for n, r, _ in ranks if n > begin and r <= rank), float("inf"))
    found = [block for block in Page(page).blocks if begin < block.line < end]
    assert found, f"{page} has no blocks below {title!r}"
    return found


class Operator:
    """Does what a page says, at the terminal of ``machine``."""

    def __init__(self, machine):
        self.machine = machine

    def follow(self, page, title, *, only=None, without=None):
        """Type the section: the blocks that hold ``only`` and do not hold ``without``."""
        for block in section(page, title):
            if only is not None and not re.search(only, block.text):
                continue
            if without is not None and re.search(without, block.text):
                continue
            if block.language in ("sh", "text"):
                self._script(block)
            elif block.language == "console":
                self._session(block)
            elif block.language == "yaml" and (path := re.match(r"# (/\S+)\n", block.text)):
                self.machine.write(path[1], block.text)

    def _script(self, block):
        self._typed(f"set -eu -o pipefail\n{block.text}", block)

    def _session(self, block):
        for command, wanted in commands(block.text):
            output = self._typed(command, block).replace("/root/", "/home/")
            assert not wanted.strip() or alike(wanted, output), (
                f"{block.place}: $ {command}\n{output}--- but the page shows:\n{wanted}"
            )

    def _typed(self, script, block):
        done = self.machine.type(script, f"{KEY}\n")
        said = done.stdout
        assert done.returncode == 0, f"{block.place}\n{said}status {done.returncode}"
        assert KEY not in said
        return said


class Installed:
    """A machine with gemproxy on it, in front of a simulated Gemini API."""

    def __init__(self, machine):
        self.machine = machine
        self.run = machine.run
        self.operator = Operator(machine)
        self.follow = self.operator.follow
        # For clients: where the service is.
        self.host, self.port = "127.0.0.1", 4806

    def simulate(self):
        """Google, as far as this machine is concerned."""
        self.machine.write("/srv/simulator.yaml", "acceptUnknownKeys: true\n")
        self.run(
            "systemd-run --quiet --unit=google /opt/gemproxy/bin/gemproxy simulate --port 4807"
            " --config /srv/simulator.yaml"
        )
        self.machine.wait_until("curl -sf http://127.0.0.1:4807/_simulator/requests")
        self.run(
            "printf 'upstream: {baseUrl: \"http://127.0.0.1:4807\"}\\n' >> /etc/gemproxy/proxy.yaml"
        )

    @property
    def token(self):
        return self.run("cat /etc/gemproxy/credentials/client-token").strip()

    @property
    def bearer(self):
        return {"authorization": f"Bearer {self.token}"}

    def knocks(self, rate=RATE):
        return Knocks(self, rate, **self.bearer)

    def ask(self, method, path, body=None, **headers):
        with Wire(self) as wire:
            return wire.ask(method, path, body, **headers)

    def shown(self, unit, name):
        return self.run(f"systemctl show --value -p {name} {unit}").strip()

    def is_active(self, unit):
        return self.shown(unit, "ActiveState")

    def since(self):
        """A place in the journal; see :meth:`journal`."""
        self.run("journalctl --sync")
        return self.run("journalctl -n 0 --show-cursor -o cat").rpartition("cursor: ")[2].strip()

    def journal(self, since=None):
        """The service's lines in the journal, from the place on."""
        self.run("journalctl --sync")
        after = f"--after-cursor='{since}'" if since else ""
        found = self.run(f"journalctl -u gemproxy.service -o json --no-pager {after}")
        return [json.loads(line) for line in found.splitlines() if line.startswith("{")]

    def messages(self, since=None):
        return "\n".join(str(line.get("MESSAGE")) for line in self.journal(since))

    @contextmanager
    def drop_in(self, *lines, restart=True):
        """A setting of the unit for a while, as `systemctl edit` puts it there."""
        path = "/etc/systemd/system/gemproxy.service.d/test.conf"
        self.machine.write(path, "\n".join(["[Service]", *lines, ""]))
        self.run("systemctl daemon-reload")
        if restart:
            self.run("systemctl restart gemproxy.service")
        try:
            yield
        finally:
            self.run(f"rm {path}; systemctl daemon-reload; systemctl restart gemproxy.service")

    @contextmanager
    def changed(self, path, expression):
        """A file of the configuration, edited by sed for a while."""
        before = self.run(f"cat {path}")
        self.run(f"sed -i '{expression}' {path}")
        assert self.run(f"cat {path}") != before
        try:
            yield lambda: self.machine.write(path, before)
        finally:
            self.machine.write(path, before)


@pytest.fixture(scope="module")
def boot(tmp_path_factory):
    machines = []

    def start(name):
        try:
            machines.append(Machine(name, tmp_path_factory.mktemp(name)))
        except Unavailable as reason:
            pytest.skip(str(reason))
        return machines[-1]

    yield start
    for machine in machines:
        machine.power_off()


@pytest.fixture(scope="module")
def installed(boot):
    """Installed, checked and started as the page says."""
    stage = Installed(boot("first"))
    stage.follow(SYSTEMD, "Install")
    stage.simulate()
    stage.follow(SYSTEMD, "Check, and start", without=r"^\[Socket\]")
    with stage.machine.network():
        yield stage


@pytest.fixture
def service(installed):
    """It serves when a test begins, and nothing has failed when it ends."""
    assert installed.ask("POST", CHAT, said("hi"), **installed.bearer).status == 200
    yield installed
    for unit in BOTH.split():
        assert installed.is_active(unit) == "active"
    installed.machine.wait_until("curl -sf http://127.0.0.1:4806/readyz")


# -- it starts -------------------------------------------------------------------------------------


def test_the_lines_of_a_start_have_priorities_and_a_name_and_no_error(service):
    since = service.since()
    service.run("systemctl restart gemproxy.service")
    lines = [line for line in service.journal(since) if line["_COMM"] != "systemd"]
    assert {line["SYSLOG_IDENTIFIER"] for line in lines} == {"gemproxy"}
    worst = min(int(line["PRIORITY"]) for line in lines)
    assert worst >= 6, [line["MESSAGE"] for line in lines if int(line["PRIORITY"]) < 6]
    told = "\n".join(line["MESSAGE"] for line in lines)
    for wanted in ("0.1.0", "/etc/gemproxy/proxy.yaml", "/etc/gemproxy/keys.yaml"):
        assert wanted in told
    assert service.shown("gemproxy", "StatusText") == "1 of 1 keys healthy"
    assert service.shown("gemproxy", "NRestarts") == "0"


def test_systemd_finds_nothing_wrong_and_little_that_is_exposed(service):
    service.run("systemd-analyze verify gemproxy.service gemproxy.socket")
    told = service.run("systemd-analyze security --no-pager gemproxy.service")
    level = re.search(r"Overall exposure level for gemproxy.service: ([0-9.]+)", told)
    assert float(level[1]) < 2.0


def test_requests_come_through_the_socket(service):
    assert service.ask("POST", CHAT, said("hi")).status == 401
    answer = service.ask("POST", CHAT, said("hi", stream=True), **service.bearer)
    assert answer.body.endswith(b"data: [DONE]\n\n")


# -- it goes on ------------------------------------------------------------------------------------


def test_a_restart_under_load_refuses_nobody(service):
    with service.knocks(rate=50) as knocks:
        knocks.wait_for(200)
        pid = service.shown("gemproxy", "MainPID")
        service.follow(OPERATIONS, "Stop, start, restart", only=r"\Asystemctl restart gemproxy")
        knocks.wait_for(200, since=knocks.mark())
    results = Counter(knocks.results)
    # Who had connected to the old process and not asked yet is sent to the new one.
    assert results.pop("draining", 0) <= 10
    assert set(results) == {200}
    assert service.shown("gemproxy", "MainPID") != pid


def test_a_reload_applies_a_good_file_and_leaves_things_alone_for_a_bad_one(service):
    pid = service.shown("gemproxy", "MainPID")
    since = service.since()
    alias = "$ a models: {aliases: {my-model: gemini-2.5-flash-lite}}"
    with service.changed("/etc/gemproxy/proxy.yaml", alias):
        service.follow(SYSTEMD, "Reload")
        service.machine.wait_until(
            'curl -s -H "Authorization: Bearer $(cat /etc/gemproxy/credentials/client-token)"'
            " http://127.0.0.1:4806/v1/models | grep my-model"
        )
    assert "configuration applied" in service.messages(since)
    since = service.since()
    with service.changed("/etc/gemproxy/keys.yaml", "s/name:/nmae:/"):
        service.follow(SYSTEMD, "Reload")
        service.machine.wait_until("systemctl status gemproxy | grep 'last reload failed'")
        assert service.ask("POST", CHAT, said("hi"), **service.bearer).status == 200
        told = service.messages(since)
        assert "configuration not applied" in told
        assert "keys[0].nmae" in told
    assert service.shown("gemproxy", "MainPID") == pid


def test_a_process_that_is_stuck_is_killed_and_started_anew(service):
    with service.drop_in("WatchdogSec=4"):
        pid = service.shown("gemproxy", "MainPID")
        service.run(f"kill -STOP {pid}")
        # A client who comes meanwhile waits, and is served by the next process.
        assert service.ask("POST", CHAT, said("hi"), **service.bearer).status == 200
        assert service.shown("gemproxy", "MainPID") != pid
        assert service.shown("gemproxy", "NRestarts") == "1"


def test_a_clock_that_is_set_is_no_reason_to_kill_it(service):
    library = "/usr/lib/*/faketime/libfaketimeMT.so.1"
    with service.drop_in(
        "WatchdogSec=4",
        f"Environment=LD_PRELOAD={service.run(f'ls {library}').strip()}",
        "Environment=FAKETIME_TIMESTAMP_FILE=/etc/gemproxy/clock FAKETIME_NO_CACHE=1",
        "Environment=FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1",
    ):
        pid = service.shown("gemproxy", "MainPID")
        for step in ("-3600", "+259200"):
            service.machine.write("/etc/gemproxy/clock", f"{step}\n")
            begin = time.monotonic()
            while time.monotonic() - begin < 6:
                assert service.ask("POST", CHAT, said("hi"), **service.bearer).status == 200
                time.sleep(0.2)
        assert service.shown("gemproxy", "MainPID") == pid


def test_a_stream_ends_whole_while_the_service_is_restarted(service):
    prompt = "Tell me a story [simulate:slow delay=0 chunkDelay=0.4]"
    with Wire(service) as wire:
        wire.send(request("POST", CHAT, said(prompt, stream=True), **service.bearer))
        wire._until(b"data: {")
        with service.machine.start("systemctl restart gemproxy.service") as restarting:
            rest = wire.rest()
            assert restarting.wait(60) == 0
    assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


# -- mistakes --------------------------------------------------------------------------------------


def test_a_misspelt_name_and_traffic_and_restarts_close_no_socket(service):
    """Five starts in 3.5 s once closed the port for good."""
    with service.changed("/etc/gemproxy/keys.yaml", "s/name:/nmae:/") as correct:  # noqa: SIM117
        with service.knocks() as knocks:
            knocks.wait_for(200)
            for _ in range(3):
                service.run("systemctl restart gemproxy.service")
            knocks.wait_for("configuration_invalid")
            since = service.since()
            service.run("systemctl reload gemproxy")
            status = service.run("systemctl status gemproxy")
            assert "Maintenance: 2 mistakes" in status
            assert "keys[0].nmae: unknown setting; did you mean 'name'?" in status
            service.machine.wait_until("journalctl -u gemproxy | grep -q 'keys\\[0\\].nmae'")
            mistakes = [line for line in service.journal(since) if "nmae" in str(line["MESSAGE"])]
            assert {line["PRIORITY"] for line in mistakes} == {"3"}
            assert service.ask("GET", "/livez").status == 200
            assert service.ask("GET", "/readyz").status == 503
            assert service.ask("GET", "/admin/health").error["code"] == "configuration_invalid"
            pid = service.shown("gemproxy", "MainPID")
            mark = knocks.mark()
            correct()
            assert knocks.wait_for(200, since=mark) < SERVED_WITHIN
            assert service.shown("gemproxy", "MainPID") == pid
    assert set(Counter(knocks.results)) <= {200, "configuration_invalid", "draining"}
    assert service.is_active("gemproxy.socket") == "active"


def test_a_program_that_ends_at_once_closes_no_socket(service):
    """A broken installation: the socket stays, and the commands of the page bring it back."""
    with service.drop_in("ExecStart=", "ExecStart=/bin/false", restart=False):
        with service.knocks() as knocks:
            service.machine.type("systemctl restart gemproxy.service")
            time.sleep(8)
            assert service.is_active("gemproxy.socket") == "active"
            service.run("rm /etc/systemd/system/gemproxy.service.d/test.conf")
            service.run("systemctl daemon-reload")
            knocks.wait_for(200, since=knocks.mark())
        assert set(knocks.results) <= {200, "draining"}
        service.run("touch /etc/systemd/system/gemproxy.service.d/test.conf")


def test_what_has_closed_the_socket_is_undone_by_the_pages_commands(service):
    limit = "[Unit]\\nStartLimitIntervalSec=60\\nStartLimitBurst=2\\n"
    folder = "/etc/systemd/system/gemproxy.service.d"
    broken = f"{limit}[Service]\\nExecStart=\\nExecStart=/bin/false\\nRestart=no\\n"
    service.run(f"mkdir -p {folder}; printf '{broken}' > {folder}/limit.conf")
    service.run("systemctl daemon-reload; systemctl stop gemproxy.service")
    with service.knocks():
        service.machine.wait_until("[ $(systemctl is-active gemproxy.socket) = failed ]")
    service.run(f"rm {folder}/limit.conf; systemctl daemon-reload")
    service.follow(RUNBOOK, "GemproxyDown", only="reset-failed")
    assert service.ask("POST", CHAT, said("hi"), **service.bearer).status == 200


def test_a_missing_credential_is_named_and_mended_by_a_restart(service):
    service.run("mv /etc/gemproxy/credentials/primary-key /root/aside")
    service.run("systemctl restart gemproxy.service")
    assert service.ask("GET", "/v1/models").error["code"] == "configuration_invalid"
    status = service.run("systemctl status gemproxy")
    assert "keys[0].keyFile: was missing when the service started" in status
    assert "needs a restart" in status
    found = service.machine.type("/opt/gemproxy/bin/gemproxy check --service")
    assert found.returncode == 78
    assert "keys[0].keyFile" in found.stdout
    service.run("mv /root/aside /etc/gemproxy/credentials/primary-key")
    service.follow(OPERATIONS, "Stop, start, restart", only=r"\Asystemctl restart gemproxy")


def test_the_check_of_the_runbook_finds_a_mistake_that_the_shell_hides(service):
    service.follow(OPERATIONS, "The operator's shell")
    service.run("gemproxy keys")
    service.follow(RUNBOOK, "GemproxyReloadFailed", only="check")
    with service.changed("/etc/gemproxy/proxy.yaml", "s/accessTokens:/acessTokens:/"):
        found = service.machine.type("gemproxy check --service")
        assert found.returncode == 78
        assert "acessTokens" in found.stdout
        service.machine.wait_until("systemctl status gemproxy | grep 'last reload failed'")
    service.machine.wait_until("! systemctl status gemproxy | grep 'last reload failed'")


# -- stop, restore, upgrade, back, move ------------------------------------------------------------


def test_the_documented_stop_stays_stopped_under_traffic_and_the_start_undoes_it(service):
    with service.knocks() as knocks:
        knocks.wait_for(200)
        service.follow(OPERATIONS, "Stop, start, restart", only=r"\Asystemctl stop")
        mark = knocks.mark()
        knocks.wait_for("ConnectionRefusedError", since=mark)
        time.sleep(3)
        for unit in BOTH.split():
            assert service.is_active(unit) == "inactive"
        assert set(knocks.results[mark + 1 :]) == {"ConnectionRefusedError"}
        service.follow(OPERATIONS, "Stop, start, restart", only=r"\Asystemctl start")
        knocks.wait_for(200, since=knocks.mark())
    assert set(knocks.results) <= {
        *(200, "draining", "ConnectionRefusedError", "ConnectionResetError", "AssertionError")
    }


def test_a_restore_brings_back_what_was_set_by_hand_although_clients_come(service):
    service.follow(OPERATIONS, "The operator's shell")
    service.run("export CREDENTIALS_DIRECTORY=/etc/gemproxy/credentials")
    service.run("gemproxy keys weight primary-key 7")
    service.run("systemctl restart gemproxy.service")
    service.follow(OPERATIONS, "Backup and restore", without="state import")
    service.run("gemproxy keys weight primary-key 3")
    with service.knocks() as knocks:
        knocks.wait_for(200)
        service.follow(OPERATIONS, "Backup and restore", only="state import")
        knocks.wait_for(200, since=knocks.mark())
    keys = json.loads(service.run("gemproxy keys --json"))["keys"]
    assert [key["weight"] for key in keys] == [7]
    owners = service.run("stat -c %U /var/lib/gemproxy/state/*").split()
    assert set(owners) == {"gemproxy"}


def test_an_upgrade_loses_no_connection_and_the_way_back_is_the_backup(service):
    service.run("cp -r /root/gemproxy /root/older")
    version = "/root/gemproxy/gemproxy/__init__.py"
    service.run(f"sed -i 's/0.1.0/0.1.1/' {version} && cd /root/gemproxy")
    with service.knocks() as knocks:
        knocks.wait_for(200)
        service.follow(SYSTEMD, "Upgrade without losing a connection")
        knocks.wait_for(200, since=knocks.mark())
    assert set(knocks.results) <= {200, "draining"}
    assert "0.1.1" in service.run("/opt/gemproxy/bin/gemproxy version")
    # A newer program may have changed the database as well.
    service.run("systemctl stop gemproxy.socket gemproxy.service")
    service.run("sqlite3 /var/lib/gemproxy/state/gemproxy.db 'PRAGMA user_version = 99'")
    service.run("systemctl start gemproxy.socket gemproxy.service")
    service.machine.wait_until("systemctl status gemproxy | grep Maintenance")
    assert service.ask("GET", "/v1/models").error["code"] == "configuration_invalid"

    service.run("rm -r /root/gemproxy && mv /root/older /root/gemproxy")
    service.follow(OPERATIONS, "Go back")
    assert "0.1.0" in service.run("/opt/gemproxy/bin/gemproxy version")
    assert service.ask("POST", CHAT, said("hi"), **service.bearer).status == 200
    keys = json.loads(service.run("gemproxy keys --json"))["keys"]
    assert [key["weight"] for key in keys] == [7]


def test_it_moves_to_another_machine_with_all_that_it_knows(installed, boot):
    token = installed.token
    installed.run("cd /root")
    pack, unpack = section(OPERATIONS, "Move to another machine")
    installed.operator._script(pack)
    archive = installed.machine.root / "root/gemproxy-move.tar.gz"
    other = Installed(boot("second"))
    other.machine.copy_from(installed.machine, "opt/gemproxy")
    # The program is there already, since installing it takes long; the units as the page says.
    install = section(SYSTEMD, "Install")[0].text.splitlines()[-1]
    assert install.startswith("install -m 0644 contrib/systemd/")
    other.run(install)
    (other.machine.root / "root/gemproxy-move.tar.gz").write_bytes(archive.read_bytes())
    other.run("mkdir -p /etc/gemproxy")
    other.machine.write("/srv/simulator.yaml", "acceptUnknownKeys: true\n")
    other.run(
        "systemd-run --quiet --unit=google /opt/gemproxy/bin/gemproxy simulate --port 4807"
        " --config /srv/simulator.yaml"
    )
    other.operator._script(unpack)
    with other.machine.network():
        assert other.token == token
        answer = other.ask("POST", CHAT, said("hi"), **other.bearer)
        assert answer.status == 200
    other.follow(OPERATIONS, "The operator's shell")
    keys = json.loads(other.run("gemproxy keys --json"))["keys"]
    assert [(key["name"], key["weight"]) for key in keys] == [("primary-key", 7)]
    assert other.is_active("gemproxy.socket") == "active"
    for unit in BOTH.split():
        assert installed.is_active(unit) == "inactive"
