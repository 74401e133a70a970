"""openai-python's own tests of chat, Responses, embeddings and models, before the real daemon.

They are taken from the SDK's sdist, in the version that is pinned. Of its `tests/lib/chat`, which
is written for recorded answers, those run that can record new ones: they check what the SDK makes
of the daemon's answers, while the recordings themselves are taken anew.
"""

import re
import shutil
import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from fakes.client_environments import interpreter, run_pytest
from fakes.running import RunningDaemon, keys_of

DIFFERENCES = Path(__file__).with_name("openai_suite.yaml")
RESOURCES = Path("tests", "api_resources")
#: The suite asks for OpenAI's models; an operator would say with an alias what they stand for. This
#: one gives log probabilities in streams and knows `reasoning_effort: none`.
ALIASES = dict.fromkeys(
    ("gpt-6-astra", "gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-mini"), "gemini-2.5-flash-lite"
) | {"text-embedding-3-small": "gemini-embedding-2"}


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """A copy of the SDK's sdist; recordings are written into it."""
    unpacked = interpreter("openai").parents[2] / "suite"
    if not unpacked.is_dir():
        pytest.skip("the SDK's tests are not there: make clients")
    copy = tmp_path_factory.mktemp("suite") / "openai"
    shutil.copytree(unpacked / "tests", copy / "tests")
    shutil.copy(unpacked / "pyproject.toml", copy)
    return copy


@pytest.fixture(scope="module")
def daemon(simulator, tmp_path_factory):
    folder = tmp_path_factory.mktemp("daemon")
    running = RunningDaemon(
        folder, simulator.url, keys_of("alpha", "beta"), models={"aliases": ALIASES}
    )
    yield running
    running.stop()


@dataclass(frozen=True)
class Result:
    """One variant of a test; ``failure`` is empty where it passed."""

    test: str
    variant: str
    failure: str


def results_of(suite, daemon, *arguments, **environ):
    """What became of each test, by JUnit's report. What was skipped is left out."""
    report = suite / "report.xml"
    done = run_pytest(
        interpreter("openai"),
        suite,
        "--override-ini=addopts=",
        "--override-ini=junit_family=xunit1",
        "--tb=short",
        f"--junitxml={report}",
        *arguments,
        TEST_API_BASE_URL=f"{daemon.url}/v1",
        OPENAI_BASE_URL=f"{daemon.url}/v1",
        OPENAI_API_KEY="unused",
        **environ,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = []
    for case in ET.parse(report).iter("testcase"):
        if case.find("skipped") is not None:
            continue
        path = case.get("file")
        classes = case.get("classname").removeprefix(path.removesuffix(".py").replace("/", "."))
        name, _, variant = case.get("name").partition("[")
        test = "::".join((path, *filter(None, classes.split(".")), name))
        found.append(Result(test, variant.rstrip("]"), _failure(case)))
    return found


def _failure(case):
    """The test's own failure, or an error before it; not what a recording says afterwards."""
    for element in (*case.iter("failure"), *case.iter("error")):
        if "failed on teardown" not in element.get("message", ""):
            return f"{element.get('message')}\n{element.text}"
    return ""


def listed_differences(*files):
    """What each test of these files says that fails, by the test."""
    return {
        f"{RESOURCES.as_posix()}/{test}": group["says"]
        for group in yaml.safe_load(DIFFERENCES.read_text())
        for test in group["tests"]
        if test.partition("::")[0] in files
    }


def assert_as_listed(results, *files):
    """Exactly the listed tests fail, as the list says, and each test runs in all its variants."""
    listed = listed_differences(*files)
    unlisted = [r for r in results if r.failure and r.test not in listed]
    assert unlisted == []
    assert [r for r in results if not r.failure and r.test in listed] == []
    assert [r for r in results if r.failure and listed[r.test] not in r.failure] == []
    variants = defaultdict(set)
    for result in results:
        variants[result.test].add(result.variant)
    assert listed.keys() <= variants.keys()
    assert {frozenset(names) for names in variants.values()} == {
        frozenset({"loose", "strict"}),
        frozenset({"loose", "strict", "aiohttp"}),
    }
    return len(variants) - len(listed)


def test_each_difference_is_listed_once_with_its_reason():
    groups = yaml.safe_load(DIFFERENCES.read_text())
    listed = [test for group in groups for test in group["tests"]]
    assert len(listed) == len(set(listed))
    assert all(group["reason"].strip() and group["says"].strip() for group in groups)


def test_suite_for_chat_and_models_differs_as_listed(suite, daemon):
    results = results_of(
        suite,
        daemon,
        str(RESOURCES / "chat" / "test_completions.py"),
        str(RESOURCES / "test_models.py"),
    )
    assert assert_as_listed(results, "chat/test_completions.py", "test_models.py") >= 16


#: What the suite sends to its mock server and nobody can serve, and what is sent instead.
SERVABLE = (
    # Requests without a model and without any input.
    (r"\b(create|count)\(\)", r'\1(model="gpt-6-astra", input="string")'),
    (
        r"\bcreate\(\n +stream=True,\n +\)",
        'create(model="gpt-6-astra", input="string", stream=True)',
    ),
    (r'\bmodel="model",\n( +parallel)', r'model="gpt-6-astra",\n\1'),
    # What Gemini has not, and what excludes each other with OpenAI as well.
    (r"\bbackground=True,", "background=False,"),
    (r'\n +conversation="string",', ""),
    (r"\n +prompt=\{\n.*?\n            \},", ""),
    (r'\n +previous_response_id="\w+",', ""),
    # Ids of responses that are not there.
    (r'(response_id=)?"(?:response_id|resp_677efb5139a88190b512bc3fef8e535d)"', r"\1stored()"),
    (r'\n +after="after",', ""),
    (r"\blimit=0,", "limit=10,"),
)
STORED = """

def stored():
    return OpenAI().responses.create(model="gpt-6-astra", input="string").id

"""
RESPONSES = ("responses.py", "responses/input_items.py", "responses/input_tokens.py")


def test_suite_for_responses_differs_as_listed(suite, daemon):
    """With requests that can be served: most of the suite's own have no model or no response."""
    paths, seen = [], set()
    for name in RESPONSES:
        folder, _, file = name.rpartition("/")
        source = (suite / RESOURCES / folder / f"test_{file}").read_text()
        for pattern, instead in SERVABLE:
            source, count = re.subn(pattern, instead, source, flags=re.DOTALL)
            seen |= {pattern} if count else set()
        place = suite / RESOURCES / folder / f"test_served_{file}"
        source = source.replace("\nclass Test", f"{STORED}\nclass Test", 1)
        place.write_text(source)
        paths.append(place)
    assert seen == {pattern for pattern, _ in SERVABLE}
    results = results_of(suite, daemon, *map(str, paths))
    files = [path.relative_to(suite / RESOURCES).as_posix() for path in paths]
    assert assert_as_listed(results, *files) >= 50


def test_suite_for_embeddings(suite, daemon):
    """The SDK asks for base64 by itself, and then its strict validation wants a list of numbers.

    So what does not ask for numbers fails there, with answers of OpenAI's as with ours.
    """
    results = results_of(suite, daemon, str(RESOURCES / "test_embeddings.py"))
    failed = [result for result in results if result.failure]
    assert {result.variant for result in failed} == {"strict", "aiohttp"}
    assert {result.test.rpartition("::")[2] for result in failed} == {
        "test_method_create",
        "test_raw_response_create",
        "test_streaming_response_create",
    }
    assert all("invalid for expected schema" in result.failure for result in failed)
    assert len(results) - len(failed) >= 11


def test_every_parameter_at_once(suite, daemon):
    """The suite's longest request, with a limit that leaves room, and without `functions`.

    These are what became of `tools`, and cannot be combined with them.
    """
    source = (suite / RESOURCES / "chat" / "test_completions.py").read_text()
    source, limits = re.subn(r"\bmax_(completion_)?tokens=0", r"max_\1tokens=16", source)
    source, functions = re.subn(
        r'\n +function_call="none",\n +functions=\[\n.*?\n            \],',
        "",
        source,
        flags=re.DOTALL,
    )
    assert (limits, functions) == (8, 4)
    (suite / RESOURCES / "chat" / "test_served.py").write_text(source)
    path = str(RESOURCES / "chat" / "test_served.py")
    results = results_of(suite, daemon, path, "-k", "with_all_params_overload")
    assert [result for result in results if result.failure] == []
    assert len(results) == 10


def test_helpers_take_the_daemons_answers_for_new_recordings(suite, daemon, simulator):
    simulator.reset()
    # No prompt of theirs mentions a function, as the simulator otherwise needs.
    simulator.control("PUT", "default", {"behaviour": "eager-call"})
    results = results_of(
        suite,
        daemon,
        "--inline-snapshot=fix",
        "-W",
        "ignore::ResourceWarning",
        "-W",
        "ignore::pytest.PytestUnraisableExceptionWarning",
        "tests/lib/chat/test_completions.py",
        "tests/lib/chat/test_completions_streaming.py",
        OPENAI_LIVE="1",
    )
    asked = len(simulator.requests())
    simulator.reset()
    assert [result for result in results if result.failure] == []
    assert asked >= 25
