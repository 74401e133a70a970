"""The page on clients: each of its examples is a program, and runs as it stands there.

A Python example runs in the environment that `make clients` makes for it, a JavaScript example
with the packages of ``node``. They speak to a daemon whose access token is that of the page; only
the port is another one.
"""

import ast
import contextlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass

import pytest
from fakes.client_environments import interpreter
from fakes.node import MODULES, node
from fakes.pages import Block, Page
from fakes.running import RunningDaemon, eventually, keys_of

PAGE = Page("docs/clients.md")
NATIVE = "/{version}/models/{model}:{verb}"
PLACE, TOKEN = "127.0.0.1:4806", "an-access-token"
CHAT, EMBEDDINGS, MESSAGES = "/v1/chat/completions", "/v1/embeddings", "/v1/messages"
#: Real seconds for one example on a loaded machine; some frameworks take many for their imports.
PATIENCE = 300.0

#: The environment of each section's examples: one of `requirements/clients`, or ``node``.
ENVIRONMENTS = {
    "OpenAI SDK for Python": "openai",
    "OpenAI SDK for JavaScript": "node",
    "AI SDK": "node",
    "LangChain": "langchain",
    "LangChain.js": "node",
    "OpenAI Agents SDK": "openai-agents",
    "Pydantic AI": "pydantic-ai",
    "Instructor": "instructor",
    "LlamaIndex": "llama-index",
    "Guidance": "guidance",
    "Haystack": "haystack",
    "LiteLLM": "litellm",
    "Anthropic SDK for Python": "anthropic",
    "Google Gen AI SDK for Python": "google-genai",
}


@dataclass(frozen=True)
class Example:
    """A block, and the title of the section that it stands in."""

    section: str
    block: Block


def examples():
    titles = {
        number: match[1]
        for number, line in PAGE.prose
        if (match := re.match(r"##? (.+)$", line)) is not None
    }
    for block in PAGE.blocks:
        above = max(number for number in titles if number < block.line)
        yield Example(titles[above], block)


EXAMPLES = list(examples())
#: The first block says what to export, and asks for nothing.
SETTINGS, *PROGRAMS = EXAMPLES


def program(example):
    """What runs an example's file, and the file's name; or a skip."""
    if example.block.language == "sh":
        return ["bash", "-eu", "-o", "pipefail"], "example.sh"
    environment = ENVIRONMENTS[example.section]
    if example.block.language == "js":
        assert environment == "node", example.block.place
        return [node()], "example.mjs"
    assert example.block.language == "python", example.block.place
    return [interpreter(environment)], "example.py"


def run(command, folder):
    """Run a program that may speak to this machine only, without settings of whoever tests."""
    outside = ("OPENAI_", "PYTEST_", "PYTHON", "LITELLM_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        # Nobody listens there: what a framework wants from the Internet fails at once. LiteLLM
        # would try again and again.
        env={**kept, "HTTPS_PROXY": "http://127.0.0.1:9", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )


def written(folder, name, text):
    """A file of a program, where it finds the JavaScript packages."""
    (folder / name).write_text(text)
    (folder / "node_modules").symlink_to(MODULES)
    return name


@pytest.fixture(scope="module")
def pages_daemon(simulator, tmp_path_factory):
    """A daemon that wants the page's token."""
    folder = tmp_path_factory.mktemp("daemon")
    proxy = {"accessTokens": [TOKEN]}
    running = RunningDaemon(folder, simulator.url, keys_of("alpha", "beta"), proxy=proxy)
    yield running
    running.stop()


def requests_of(daemon):
    """The log lines of all requests so far."""
    return [event for event in daemon.events() if event["event"] == "request finished"]


@pytest.mark.parametrize("example", PROGRAMS, ids=lambda e: f"{e.section}:{e.block.line}")
def test_an_example_runs_and_is_answered(example, tmp_path, request):
    command, name = program(example)
    daemon, simulator = (request.getfixturevalue(n) for n in ("pages_daemon", "simulator"))
    simulator.reset()
    before = len(requests_of(daemon))
    assert PLACE in example.block.text, f"{example.block.place} says no address"
    text = example.block.text.replace(PLACE, daemon.address)
    done = run([*command, written(tmp_path, name, text)], tmp_path)
    assert done.returncode == 0, f"{example.block.place}\n{done.stdout}{done.stderr}"
    assert done.stdout.strip()
    finished = eventually(lambda: requests_of(daemon)[before:])
    route = EMBEDDINGS if "gemini-embedding" in example.block.text else CHAT
    if "anthropic" in example.block.text:
        route = MESSAGES
    elif "genai" in example.block.text:
        route = NATIVE
    assert {(line["route"], line["status"]) for line in finished} == {(route, 200)}
    # A tool that is offered is called, and its result told.
    if "get_weather" in example.block.text:
        assert "get_weather returned" in done.stdout


def test_the_environment_alone_points_a_program_here(pages_daemon, simulator, tmp_path):
    simulator.reset()
    settings = SETTINGS.block.text.replace(PLACE, pages_daemon.address)
    asking = (
        "import openai; print(openai.OpenAI().chat.completions.create("
        "model='gemini-3.8-flash', messages=[{'role': 'user', 'content': 'Hello!'}]))"
    )
    name = written(tmp_path, "example.sh", f'{settings}exec "$0" -c "$1"\n')
    done = run(["bash", "-eu", "-c", f". ./{name}", sys.executable, asking], tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(simulator.requests()) == 1


def test_python_examples_are_python():
    """Also where nothing is installed that they import."""
    for example in PROGRAMS:
        if example.block.language == "python":
            ast.parse(example.block.text)


def test_every_section_with_an_environment_has_an_example():
    assert set(ENVIRONMENTS) | {"curl"} == {example.section for example in PROGRAMS}


# -- what clients do by themselves ---------------------------------------------------------------

#: What an example says of timeouts and retries, which is left out to see the client's own.
SETTING = re.compile(r"^ +(timeout|max_retries|maxRetries)[=:].*\n", re.MULTILINE)
#: Loaded by Node.js first: what a client waits between two requests it need not wait here, and how
#: long it would wait for an answer is told.
HURRY = """
const wait = setTimeout;
globalThis.setTimeout = (f, ms, ...more) => {
  if (ms > 90_000) console.log(`waits ${ms / 1000} s`);
  return wait(f, ms > 90_000 ? ms : ms / 1000, ...more);
};
"""


class Overloaded(http.server.ThreadingHTTPServer):
    """A server that has nothing but a 503 for anybody, and keeps the headers of each request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Refusal)
        self.asked = []

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.shutdown()
        self.server_close()


class Refusal(http.server.BaseHTTPRequestHandler):
    """One request to it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.server.asked.append({name.lower(): value for name, value in self.headers.items()})
        self.rfile.read(int(self.headers["content-length"]))
        error = {"message": "No.", "type": "server_error", "param": None, "code": "any"}
        body = json.dumps({"error": error}).encode()
        self.send_response(503)
        for name, value in {
            "content-type": "application/json",
            "content-length": len(body),
            "retry-after": "0",
        }.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Nobody reads that."""

    def handle(self):
        # A client that has ended may reset its connection.
        with contextlib.suppress(ConnectionResetError):
            super().handle()


def told():
    """Seconds and requests by section, as the table has them."""
    found = {}
    for _, line in PAGE.prose:
        row = re.match(r"\| \[(.+)\]\(#.*\) \| (?:(\d+) s|never) \| (\d+) \|$", line)
        if row is not None:
            found[row[1]] = (float(row[2]) if row[2] else None, int(row[3]))
    return found


def test_the_table_has_every_client():
    assert set(told()) == set(ENVIRONMENTS)


@pytest.mark.parametrize("section", ENVIRONMENTS)
def test_a_client_waits_and_asks_again_as_the_table_says(section, tmp_path):
    example = next(example for example in PROGRAMS if example.section == section)
    command, name = program(example)
    if example.block.language == "js":
        (tmp_path / "hurry.mjs").write_text(HURRY)
        command += ["--import", "./hurry.mjs"]
    with Overloaded() as server:
        text = SETTING.sub("", example.block.text)
        text = text.replace(PLACE, f"127.0.0.1:{server.server_port}")
        done = run([*command, written(tmp_path, name, text)], tmp_path)
    assert done.returncode != 0, done.stdout
    assert server.asked, done.stderr
    # OpenAI's SDK for Python, and what is built on it, tells the server.
    seconds = server.asked[0].get("x-stainless-read-timeout")
    if example.block.language == "js":
        waiting = re.search(r"^waits (\d+) s$", done.stdout, re.MULTILINE)
        seconds = waiting and waiting[1]
    waits = float(seconds) if seconds else None
    assert (waits, len(server.asked)) == told()[section]
