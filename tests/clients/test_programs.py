"""Programs that people work with, each nothing changed but its base URL, at a strict upstream.

`make clients PROGRAMS=claude-code` installs them into ``programs/NAME``; they are large. Each does
one task of three tool steps, the first with two tools at once, and sends all of it back lossless.
"""

import base64
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from fakes.pages import REPOSITORY
from fakes.running import RunningDaemon, keys_of

FOLDER = Path(__file__).parent / "programs"
TOKEN = "a-token-of-the-clients"
MODEL = "gemini-3.8-flash"
#: Real seconds for one task on a loaded machine; it takes a few.
PATIENCE = 300.0


@pytest.fixture(scope="module")
def guarded(simulator, tmp_path_factory):
    """A daemon that asks its clients for a token, and knows the names of Claude's models."""
    running = RunningDaemon(
        tmp_path_factory.mktemp("daemon"),
        simulator.url,
        keys_of("alpha", "beta"),
        proxy={"accessTokens": [TOKEN]},
        models={"aliases": {"claude-*": MODEL, "claude-haiku*": "gemini-3.5-flash-lite"}},
    )
    yield running
    running.stop()


def program(name, binary):
    """The path of a program, or a skip that says what is missing."""
    path = FOLDER / name / "node_modules" / ".bin" / binary
    if not path.exists():
        pytest.skip(f"{name} is not installed: make clients PROGRAMS={name}")
    return path


def run(command, folder, **environ):
    """Run a program in ``folder``, with nothing of this user's settings."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(home), **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )


def steps_of(simulator):
    """The calls of each step in the last request, whose signatures must be the model's own."""
    requests = [each for each in simulator.requests() if "enerateContent" in (each["call"] or "")]
    assert {request["status"] for request in requests} == {200}
    steps = []
    for content in requests[-1]["body"]["contents"]:
        called = [part for part in content["parts"] if "functionCall" in part]
        if called:
            signature = called[0]["thoughtSignature"]
            assert base64.b64decode(signature + "==", altchars=b"-_").startswith(b"simulated")
            steps.append([part["functionCall"]["args"] for part in called])
    return requests[-1], steps


CLAUDE_CODE = {
    "names of Claude's, bearer": {"ANTHROPIC_AUTH_TOKEN": TOKEN},
    "Gemini's name, x-api-key": {"ANTHROPIC_API_KEY": TOKEN, "ANTHROPIC_MODEL": MODEL},
}


@pytest.mark.parametrize("settings", CLAUDE_CODE.values(), ids=CLAUDE_CODE)
def test_claude_code_does_a_task_of_three_steps(request, tmp_path, settings):
    claude = program("claude-code", "claude")
    guarded, simulator = (request.getfixturevalue(name) for name in ("guarded", "simulator"))
    simulator.reset()
    note = tmp_path / "note.txt"
    note.write_text("Ducks quack.\n")
    calls = [
        ("Bash", {"command": "echo first"}),
        ("Read", {"file_path": str(note)}),
        ("Bash", {"command": "echo second"}),
        ("Bash", {"command": "echo third"}),
    ]
    first, read, second, third = (f"call {name} with {json.dumps(args)}" for name, args in calls)
    task = f"{first} and {read}, then {second}, then {third}"
    command = [claude, "-p", task, "--allowedTools", "Bash", "Read", "--output-format", "json"]
    done = run(
        command,
        tmp_path,
        ANTHROPIC_BASE_URL=guarded.url,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        DISABLE_AUTOUPDATER="1",
        **settings,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["is_error"] is False
    assert "third" in told["result"]
    last, steps = steps_of(simulator)
    wanted = [args for _, args in calls]
    assert [[fields_of(call, wanted) for call in step] for step in steps] == [
        wanted[:2],
        wanted[2:3],
        wanted[3:],
    ]
    assert "Ducks quack." in json.dumps(last["body"]["contents"])
    assert last["model"] == MODEL


def test_claude_code_searches_the_web(request, tmp_path):
    """It asks for the search in a request of its own, after it has loaded the tool."""
    claude = program("claude-code", "claude")
    guarded, simulator = (request.getfixturevalue(name) for name in ("guarded", "simulator"))
    simulator.reset()
    task = (
        'call ToolSearch with {"query": "select:WebSearch"}, then call WebSearch with'
        ' {"query": "ducks"}'
    )
    command = [claude, "-p", task, "--allowedTools", "ToolSearch", "WebSearch"]
    done = run(
        command,
        tmp_path,
        ANTHROPIC_BASE_URL=guarded.url,
        ANTHROPIC_AUTH_TOKEN=TOKEN,
        ANTHROPIC_MODEL=MODEL,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        DISABLE_AUTOUPDATER="1",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, search, last = simulator.requests()
    assert search["body"]["tools"] == [{"googleSearch": {}}]
    assert "https://example.org/grounding/0" in json.dumps(last["body"]["contents"][-1])


def fields_of(call, wanted):
    """What was asked for of a call, without what the program adds."""
    return next((each for each in wanted if each.items() <= call.items()), call)


CODEX = [
    ["echo one > one", "echo two > two"],
    ["cat one two > three"],
    ["cat three"],
]


def codex_settings(daemon):
    """The settings that ``docs/responses.md`` gives, for this daemon."""
    page = (REPOSITORY / "docs" / "responses.md").read_text("utf-8")
    given = re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1]
    # Within the sandbox of the tests there is none of its own.
    free = 'approval_policy = "never"\nsandbox_mode = "danger-full-access"\n'
    return free + given.replace("http://127.0.0.1:4806", daemon.url)


@pytest.mark.parametrize("run_number", [1, 2])
def test_codex_does_a_task_of_three_steps(request, tmp_path, run_number):
    codex = program("codex", "codex")
    guarded, simulator = (request.getfixturevalue(name) for name in ("guarded", "simulator"))
    simulator.reset()
    settings = tmp_path / "settings"
    settings.mkdir()
    (settings / "config.toml").write_text(codex_settings(guarded))
    steps = (
        " and ".join(f"call exec_command with {json.dumps({'cmd': cmd})}" for cmd in step)
        for step in CODEX
    )
    done = run(
        [codex, "exec", "--skip-git-repo-check", " then ".join(steps)],
        tmp_path,
        CODEX_HOME=str(settings),
        GEMPROXY_TOKEN=TOKEN,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "three").read_text() == "one\ntwo\n"
    assert "exec_command returned" in done.stdout
    last, called = steps_of(simulator)
    assert [[call["cmd"] for call in step] for step in called] == CODEX
    assert last["model"] == MODEL


GEMINI_CLI = {
    "security": {"auth": {"selectedType": "gemini-api-key"}},
    "privacy": {"usageStatisticsEnabled": False},
    "general": {"disableAutoUpdate": True},
}


@pytest.mark.parametrize("run_number", [1, 2])
def test_gemini_cli_does_a_task_of_three_steps(request, tmp_path, run_number):
    gemini = program("gemini-cli", "gemini")
    guarded, simulator = (request.getfixturevalue(name) for name in ("guarded", "simulator"))
    simulator.reset()
    settings = tmp_path / "home" / ".gemini"
    settings.mkdir(parents=True)
    (settings / "settings.json").write_text(json.dumps(GEMINI_CLI))
    (tmp_path / "note.txt").write_text("Ducks quack.\n")
    calls = [
        ("run_shell_command", {"command": "echo first"}),
        ("read_file", {"file_path": "note.txt"}),
        ("run_shell_command", {"command": "echo second"}),
        ("run_shell_command", {"command": "echo third"}),
    ]
    first, read, second, third = (f"call {name} with {json.dumps(args)}" for name, args in calls)
    task = f"{first} and {read}, then {second}, then {third}"
    done = run(
        [gemini, "-p", task, "-m", MODEL, "--yolo", "--output-format", "json"],
        tmp_path,
        GOOGLE_GEMINI_BASE_URL=guarded.url,
        GEMINI_API_KEY=TOKEN,
        GEMINI_CLI_TRUST_WORKSPACE="true",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "third" in json.loads(done.stdout)["response"]
    last, steps = steps_of(simulator)
    wanted = [args for _, args in calls]
    assert [[fields_of(call, wanted) for call in step] for step in steps] == [
        wanted[:2],
        wanted[2:3],
        wanted[3:],
    ]
    assert "Ducks quack." in json.dumps(last["body"]["contents"])
    assert last["path"] == f"/v1beta/models/{MODEL}:streamGenerateContent"
