"""Everything that the documentation tells a reader to type, typed, and every file that it shows.

Each page is followed from its top to its end by one reader (``fakes.reader``), since a page is a
story: what an earlier block made, a later one uses. ``TREATMENTS`` says what is done with a block
of each language; one of another language is a failure. ``STAGES`` says what a page finds in place
before it begins.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import pytest
import yaml
from fakes.pages import REPOSITORY, Block, pages
from fakes.reader import (
    STAND_IN_FOLDER,
    STAND_INS,
    TYPED,
    Reader,
    alike,
    commands,
    differences,
    server,
)
from fakes.running import PATIENCE, RunningSimulator, secret_of

from gemproxy.config.client_file import read_clients
from gemproxy.config.credentials import KnownSecrets
from gemproxy.config.loading import load
from gemproxy.config.price_file import read_prices
from gemproxy.config.reading import FileReader
from gemproxy.config.settings import SECTIONS
from gemproxy.core.errors import ConfigError
from gemproxy.simulator.config import load as load_simulator

ADMIN_TOKEN = "an-admin-token-of-the-reader"
CLIENT_TOKEN = "a-client-token-of-the-reader"
#: The keys of an installed daemon, as the pages speak of them.
NAMES = ("primary-key", "second-key")

#: Its blocks are programs of other libraries, which ``tests/clients/test_page.py`` has and runs.
ELSEWHERE = "docs/clients.md"
PAGES = [page for page in pages() if page.blocks and page.name != ELSEWHERE]
#: Programs that pages ask their reader to have; `.ci/run` installs them.
TOOLS = ("curl", "jq", "sqlite3")


# -- what is done with a block -------------------------------------------------------------------


def treat_script(reader, block):
    """``sh``: run as it stands; every command must succeed."""
    reader.run_script(block)


def treat_session(reader, block):
    """``console``: each command is run, and its output compared with what is shown."""
    reader.run_session(block)


def treat_program(reader, block):
    """``python``: run as a program of its own."""
    reader.run_python(block)


def treat_answer(reader, block):
    """``json``: what the command before it printed has just these members, of these kinds."""
    try:
        real = json.loads(reader.output)
    except ValueError:
        pytest.fail(f"{block.place}: no JSON was printed before it, but:\n{reader.output}")
    found = differences(json.loads(block.text), real)
    assert not found, "\n".join([block.place, *found, json.dumps(real, indent=2)])


def treat_configuration(reader, block):
    """``yaml``: read by whoever it is for, which its topmost names tell; kept, if it has a name."""
    names = set(yaml.safe_load(block.text))
    if names == {"keys"} or names <= set(SECTIONS):
        load_settings(reader, block, keys=names == {"keys"})
    elif "scrape_configs" in names:
        check_with_promtool(reader, block)
    elif names <= {"clients", "defaults"}:
        read_listed_clients(reader, block)
    elif "prices" in names:
        path = reader.root / "listed-prices.yaml"
        path.write_text(block.text)
        prices = FileReader(path, {})
        assert read_prices(prices)
        assert list(prices.faults.found()) == []
    elif "default" in names or "seed" in names:
        path = reader.root / "simulator.yaml"
        path.write_text(block.text)
        load_simulator(path)
    else:
        pytest.fail(f"{block.place}: whose file has {sorted(names)}?")
    reader.keep_file(block)


def read_listed_clients(reader, block):
    """The block as a ``clients.yaml`` whose credentials are there."""
    folder = reader.root / "listed-clients"
    folder.mkdir(exist_ok=True)
    for name in re.findall(r"\$CREDENTIALS_DIRECTORY/([\w-]+)", block.text):
        (folder / name).write_text(f"token-of-{name}-0123456789")
    path = folder / "clients.yaml"
    path.write_text(block.text)
    clients = FileReader(path, {"CREDENTIALS_DIRECTORY": str(folder)})
    assert read_clients(clients, str(path), KnownSecrets()).clients
    assert list(clients.faults.found()) == []


def treat_drop_in(reader, block):
    """``ini``: a drop-in of the service or its socket, by systemd's own judgement."""
    units = reader.root / "units"
    name = "gemproxy.socket" if block.text.startswith("[Socket]") else "gemproxy.service"
    folder = units / f"{name}.d"
    folder.mkdir(parents=True, exist_ok=True)
    twistd = Path(sys.executable).parent / "twistd"
    unit = (REPOSITORY / "contrib/systemd/gemproxy.service").read_text()
    (units / "gemproxy.service").write_text(unit.replace("/opt/gemproxy/bin/twistd", str(twistd)))
    shutil.copy(REPOSITORY / "contrib/systemd/gemproxy.socket", units)
    (folder / "override.conf").write_text(block.text)
    program = shutil.which("systemd-analyze")
    if program is None:
        assert re.match(r"\[\w+\]\n(\w+=.*\n)+$", block.text), block.place
        return
    done = subprocess.run(
        [program, "verify", units / name],
        env={"SYSTEMD_UNIT_PATH": f"{units}:", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    said = [line for line in done.stderr.splitlines() if "override.conf" in line]
    assert said == [], block.place


def treat_query(reader, block):
    """``promql``: a rule of its own for each query, read by promtool."""
    queries = [query for query in block.text.split("\n\n") if query.strip()]
    rules = [{"record": f"documented:{n}", "expr": query} for n, query in enumerate(queries)]
    path = reader.root / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "documented", "rules": rules}]}))
    promtool("check", "rules", path)


def treat_picture(reader, block):
    """``text``: to be looked at only; nothing in it is to be typed."""
    first = block.text.split()[:1]
    assert first not in (["$"], ["curl"], ["gemproxy"], ["make"]), f"{block.place} is a command"


def treat_clients_settings(reader, block):
    """``toml``: the settings of a client, which is tried with them in ``tests/clients``."""
    del reader
    assert tomllib.loads(block.text)


TREATMENTS = {
    "sh": treat_script,
    "console": treat_session,
    "python": treat_program,
    "json": treat_answer,
    "yaml": treat_configuration,
    "ini": treat_drop_in,
    "promql": treat_query,
    "text": treat_picture,
    "toml": treat_clients_settings,
}


def load_settings(reader, block, *, keys):
    """One of the two files by the real loader, with every secret that it names in place."""
    folder = reader.root / "loading"
    credentials = folder / "credentials"
    credentials.mkdir(parents=True, exist_ok=True)
    environ = {"CREDENTIALS_DIRECTORY": str(credentials), "STATE_DIRECTORY": str(folder)}
    for number, (name, value) in enumerate(named_secrets(yaml.safe_load(block.text))):
        secret = f"test-secret-number-{number}-0123456789"
        if name.endswith("Env"):
            environ[value] = secret
        else:
            path = folder / re.sub(r"\$\{?CREDENTIALS_DIRECTORY\}?", str(credentials), value)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{secret}\n")
    other = "keys: [{name: one, key: test-key-of-the-other-file}]"
    text = block.text
    if keys:
        text, other = f"proxy: {{adminToken: {ADMIN_TOKEN}}}", text
    elif "adminToken" not in text and "adminAuth" not in text:
        # A fragment leaves out what every file must have.
        fragment = yaml.safe_load(text)
        fragment["proxy"] = {**(fragment.get("proxy") or {}), "adminToken": ADMIN_TOKEN}
        text = yaml.safe_dump(fragment)
    (folder / "proxy.yaml").write_text(text)
    (folder / "keys.yaml").write_text(other)
    load(folder / "proxy.yaml", folder / "keys.yaml", environ)


def named_secrets(node):
    """Every ``...Env`` and ``...File`` with what it names."""
    if isinstance(node, list):
        for item in node:
            yield from named_secrets(item)
    elif isinstance(node, dict):
        for name, value in node.items():
            if isinstance(value, str) and re.search(r"(Env|File)$", name):
                yield name, value
            else:
                yield from named_secrets(value)


def check_with_promtool(reader, block):
    text = re.sub(r"(credentials_file: ).*", rf"\g<1>{reader.root}/journal", block.text)
    path = reader.root / "prometheus.yaml"
    path.write_text(text)
    promtool("check", "config", path)


def promtool(*arguments):
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (package prometheus)")
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr


# -- what a page finds in place ------------------------------------------------------------------


class Installed:
    """A daemon as `docs/systemd.md` installs it, but for systemd, in front of a simulator."""

    def __init__(self, reader, simulator):
        configuration = reader.place("/etc/gemproxy")
        credentials = configuration / "credentials"
        credentials.mkdir()
        for name, secret in {
            "admin-token": ADMIN_TOKEN,
            "client-token": CLIENT_TOKEN,
            **{name: secret_of(name) for name in NAMES},
        }.items():
            (credentials / name).write_text(f"{secret}\n")
        proxy = {
            "proxy": {
                "port": int(reader.port),
                "adminTokenFile": "$CREDENTIALS_DIRECTORY/admin-token",
                "accessTokens": [
                    {"name": "default", "tokenFile": "$CREDENTIALS_DIRECTORY/client-token"}
                ],
            },
            "upstream": {"baseUrl": simulator.url},
            "persistence": {"checkpointSeconds": 1},
        }
        keys = [{"name": name, "keyFile": f"$CREDENTIALS_DIRECTORY/{name}"} for name in NAMES]
        (configuration / "proxy.yaml").write_text(yaml.safe_dump(proxy))
        (configuration / "keys.yaml").write_text(yaml.safe_dump({"keys": keys}, sort_keys=False))
        # Credentials of the unit that are this machine's own.
        drop_ins = reader.place("/etc/systemd/system/gemproxy.service.d")
        drop_ins.mkdir(parents=True)
        lines = [f"LoadCredential={n}:/etc/gemproxy/credentials/{n}\n" for n in NAMES]
        (drop_ins / "keys.conf").write_text("".join(["[Service]\n", *lines]))
        self._url = f"http://127.0.0.1:{reader.port}"
        service = reader.root / "service"
        service.write_text(
            "#!/bin/sh\n"
            f"cd {reader.place('/var/lib/gemproxy')}\n"
            f"export CREDENTIALS_DIRECTORY={credentials}\n"
            f"exec twistd -n --pidfile= gemproxy --config {configuration}/proxy.yaml"
            f" --keys {configuration}/keys.yaml\n"
        )
        service.chmod(0o755)
        (reader.root / "service.url").write_text(self._url)
        self._reader = reader
        self.run("python3 -m venv /opt/gemproxy\nsystemctl start gemproxy\n")
        self._serve_some_requests()

    def run(self, script):
        """What whoever has set it up types."""
        self._reader.run_script(Block("the stage", 1, "sh", script))

    def _serve_some_requests(self):
        """So that there is something to be seen: the first one fails over."""
        for number in range(3):
            body = {
                "model": "gemini-3.8-flash",
                "messages": [{"role": "user", "content": "Hello!"}],
            }
            request = urllib.request.Request(
                f"{self._url}/v1/chat/completions",
                json.dumps(body).encode(),
                {
                    "content-type": "application/json",
                    "authorization": f"Bearer {CLIENT_TOKEN}",
                    "x-request-id": f"req_example{number}",
                },
            )
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                response.read()

    def stop(self):
        self.run("systemctl stop gemproxy\n")


def nothing(reader, simulator):
    """The page starts what it needs by itself."""


def installed(reader, simulator):
    """A daemon runs, and its first key has run out of quota."""
    simulator.behave("primary-key", "rate-limited-minute", times=1)
    return Installed(reader, simulator)


def a_client(reader, simulator):
    """The same, and the shell of whoever calls it has the access token."""
    stage = installed(reader, simulator)
    stage.run(f"export GEMPROXY_TOKEN={CLIENT_TOKEN}\n")
    return stage


def at_work(reader, simulator):
    """The same, and the operator's shell knows where it is and brings its token."""
    stage = installed(reader, simulator)
    stage.run(
        "export CREDENTIALS_DIRECTORY=/etc/gemproxy/credentials\n"
        "export GEMPROXY_CONFIG=/etc/gemproxy/proxy.yaml GEMPROXY_KEYS=/etc/gemproxy/keys.yaml\n"
        f"export GEMPROXY_ADMIN_TOKEN={ADMIN_TOKEN}\n"
    )
    return stage


STAGES = {
    "docs/admin-api.md": installed,
    "docs/cli.md": installed,
    "docs/metrics.md": installed,
    "docs/operations.md": installed,
    "docs/quotas.md": installed,
    "docs/runbook.md": at_work,
    "docs/security.md": installed,
    "docs/switching.md": a_client,
    "docs/usage.md": at_work,
}


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    """A simulated Gemini API that knows the keys of an installed daemon, and any other."""
    running = RunningSimulator(tmp_path_factory.mktemp("upstream"), NAMES, acceptUnknownKeys=True)
    yield running
    running.stop()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_does_what_it_says(page, upstream, tmp_path):
    text = "".join(block.text for block in page.blocks)
    for tool in TOOLS:
        if re.search(rf"(?<![-\w]){tool} ", text) and shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    upstream.reset()
    reader = Reader(tmp_path, upstream.url)
    stage = STAGES.get(page.name, nothing)(reader, upstream)
    try:
        for block in page.blocks:
            assert block.language in TREATMENTS, f"{block.place}: what is {block.language!r}?"
            TREATMENTS[block.language](reader, block)
    finally:
        reader.stop()
        if stage is not None:
            stage.stop()


def test_every_stage_is_that_of_a_page():
    there = {page.name for page in pages()}
    assert set(STAGES) - {"docs/runbook.md"} <= there


def test_every_stand_in_has_a_reason_and_a_use():
    """One that no page needs would hide that a program is missing."""
    assert {path.name for path in STAND_IN_FOLDER.iterdir()} == set(STAND_INS)
    text = "\n".join(block.text for page in PAGES for block in page.blocks)
    # This runs it.
    text = text.replace("gemproxy check --service", "gemproxy check --service; systemd-run ")
    unused = {name for name in STAND_INS if not re.search(rf"(?<![-\w]){name} ", text)}
    assert not unused


# -- the reader can be disappointed --------------------------------------------------------------


@pytest.fixture
def reader(upstream, tmp_path):
    at_work = Reader(tmp_path, upstream.url)
    yield at_work
    at_work.stop()


def block(language, text):
    return Block("a page", 1, language, text)


@pytest.mark.parametrize(
    ("treat", "text", "said"),
    [
        (treat_script, "true\nfalse\ntrue\n", "status 1"),
        (treat_script, "systemctl restart nginx\n", "no unit nginx"),
        (treat_script, "make no-such-target\n", "No rule to make target"),
        (treat_session, "$ echo one\ntwo\n", "but the page shows"),
        (treat_session, "$ gemproxy check\n", "status 78"),
        (treat_session, "$ gemproxy no-such-command\n$ echo $?\n0\n", "but the page shows"),
        (treat_program, "raise SystemExit('no')\n", "no"),
        (treat_answer, "{}\n", "no JSON was printed"),
        (treat_configuration, "proxy: {prot: 4806}\n", "did you mean"),
        (treat_configuration, "keys: [{name: one, key: YOUR_KEY}]\n", "placeholder"),
        (treat_configuration, "something: else\n", "whose file"),
        (treat_picture, "$ rm -r /\n", "is a command"),
    ],
)
def test_what_does_not_work_is_noticed(reader, treat, text, said):
    failed = (AssertionError, ConfigError, pytest.fail.Exception)
    with pytest.raises(failed, match=said):
        treat(reader, block("any", text))


def test_a_session_goes_on_where_it_stood(reader):
    treat_script(reader, block("sh", "mkdir there && cd there\nexport WORD=hello\n"))
    treat_session(reader, block("console", "$ echo $WORD from ${PWD##*/}\nhello from there\n"))


def test_what_is_typed_is_read_and_never_shown(reader):
    treat_script(reader, block("sh", "cat > typed\n"))
    assert (reader.folder / "typed").read_text().startswith(TYPED)
    with pytest.raises(AssertionError, match="shows a secret"):
        treat_script(reader, block("sh", "cat typed\n"))


def test_commands_of_a_session_may_have_several_lines():
    text = "$ one \\\n>   two\nthree\n$ four\n"
    assert commands(text) == [("one \\\n  two", "three\n"), ("four", "")]


@pytest.mark.parametrize(
    ("wanted", "got", "same"),
    [
        ("at 2026-11-22 19:59:50Z after 12 ms", "at 2027-01-01 00:00:00Z after 3.5 ms", True),
        ("a ... z", "a b c z", True),
        ("-------  --", "---------  --", True),
        ("2 keys: 2 active", "2 keys: 1 active", False),
    ],
)
def test_output_is_the_same_but_for_what_varies(wanted, got, same):
    assert alike(wanted, got) is same


@pytest.mark.parametrize(
    ("shown", "real", "found"),
    [
        ({"a": 1}, {"a": 2.5}, []),
        ({"a": None}, {"a": "x"}, []),
        ({"a": 1}, {"a": "x"}, ['$.a is "x", not as shown']),
        ({"a": 1}, {}, ["$.a is not there"]),
        ({}, {"a": 1}, ["$.a is not shown"]),
        ({"a": [{"b": 1}]}, {"a": [{"c": 1}, {"b": 2}]}, []),
        ({"a": [{"b": 1}]}, {"a": []}, ["$.a is empty"]),
    ],
)
def test_shapes_are_compared(shown, real, found):
    assert differences(shown, real) == found


def test_servers_are_told_from_commands():
    assert server("twistd -n gemproxy --demo")
    assert server("gemproxy simulate")
    assert not server("gemproxy simulate --keys")
    assert not server("gemproxy keys")
