"""The prepared lines are those of the encoder, and as free of secrets."""

from __future__ import annotations

import re
import string

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gemproxy.core.context import Attempt, RequestContext
from gemproxy.pool.key import Affinity
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.secret import Secret
from gemproxy.telemetry.request_lines import PreparedLines, line_of
from gemproxy.telemetry.scrubbing import Scrubber
from gemproxy.telemetry.timestamps import timestamp
from gemproxy.translate.shared.usage import TokenUsage

NOON = 1_790_000_000.0
SECRET = "test-key-one-0123456789abcdef"


def context(**fields):
    told = {
        "id": "req_7f7412bc39cdfc7d",
        "route": "/v1/chat/completions",
        "started": NOON,
        "model": "gemini-2.5-flash",
        "outcome": "success",
        "first_byte": NOON + 0.0404,
        "usage": TokenUsage(input=3, output=4),
        "key": "one",
    }
    told |= fields
    attempt = Attempt("1", told.pop("key"), NOON, Outcome(Verdict.SUCCESS))
    attempt.sticky = told.pop("sticky", False)
    return RequestContext(**{"attempts": [attempt], **told})


def encoded(request, status=200, seconds=0.05):
    """The line as the encoder has it."""
    line = line_of(request, status, seconds)
    line.time = timestamp(request.started + seconds)
    return msgspec.json.encode(line) + b"\n"


def test_a_line_is_prepared_for_what_nearly_all_requests_are():
    lines = PreparedLines(Scrubber([Secret(SECRET)]))
    for stream in (False, True):
        request = context(stream=stream)
        assert lines.line(request, 200, 0.05) == encoded(request)


def test_a_line_says_why_the_key_was_chosen_out_of_turn():
    lines = PreparedLines(Scrubber())
    for request, chosen_for in (
        (context(sticky=True), "conversation"),
        (context(), None),
        (context(affinity=Affinity("team-a", "files/x")), "files/x"),
        (context(sticky=True), "conversation"),
    ):
        line = lines.line(request, 200, 0.05)
        assert line in (None, encoded(request))
        assert msgspec.json.decode(encoded(request)).get("chosen_for") == chosen_for


names = st.text(max_size=30) | st.sampled_from(["", "a", '"', "\\", "gemini-2.5-pro", "\u2028é"])
times = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e18, max_value=1e18) | (
    st.floats(0, 700)
)
counts = st.integers(-(10**30), 10**30) | st.integers(0, 10**6)


@given(
    st.builds(
        context,
        id=names,
        route=names,
        key=names,
        model=st.none() | names,
        stream=st.booleans(),
        outcome=names,
        client=st.none() | names,
        cost=st.none() | st.floats(0, 1) | st.floats(0, 1e17),
        sticky=st.booleans(),
        first_byte=st.none() | times | times.map(lambda wait: NOON + wait),
        usage=st.none() | st.builds(TokenUsage, input=counts, output=counts),
        started=st.just(NOON) | times,
    ),
    st.integers(100, 599),
    times,
)
def test_a_prepared_line_is_what_the_encoder_makes(request, status, seconds):
    lines = PreparedLines(Scrubber())
    for _ in range(2):
        line = lines.line(request, status, seconds)
        if line is not None:
            assert line == encoded(request, status, seconds)


YEAR = 366 * 86_400
durations = st.floats(0, 600) | st.floats(0, YEAR, exclude_max=True)


#: A cost of each form in which a number is written, and an unknown one.
costs = (
    st.none() | st.floats(0, 1e-5) | st.floats(0, 1e6) | st.integers(0, 9).map(lambda n: n / 1e9)
)


@given(durations, durations, st.integers(0, 2**63 - 1), st.integers(0, 10**6), costs)
def test_a_line_is_prepared_whatever_the_numbers(seconds, wait, prompt, completion, cost):
    assume(NOON + wait - NOON < YEAR)
    usage = TokenUsage(input=prompt, output=completion)
    request = context(first_byte=NOON + wait, usage=usage, cost=cost)
    line = PreparedLines(Scrubber([Secret(SECRET)])).line(request, 200, seconds)
    assert line == encoded(request, 200, seconds)
    # The scrubber relies on this.
    forms = [encoded(context(cost=each)) for each in (0.5, None)]
    assert re.sub(b"[0-9]+", b"0", line) in [re.sub(b"[0-9]+", b"0", form) for form in forms]


@pytest.mark.parametrize(
    "fields",
    [
        {"attempts": []},
        {"usage": None},
        {"first_byte": None},
        {"first_byte": NOON - 1},
        {"usage": TokenUsage(input=-1)},
        {"usage": TokenUsage(output=2**63)},
        {"id": "\ud800"},
        {"id": 'quo"ted'},
        {"id": "x" * 3000},
        {"model": "\ud800"},
        {"model": "x" * 3000},
        {"id": SECRET},
        {"id": f"req-{SECRET[-12:]}-1"},
        {"model": SECRET[:12]},
        {"key": SECRET},
        {"client": SECRET},
        {"cost": 1e16},
    ],
)
def test_anything_else_is_left_to_the_encoder(fields):
    lines = PreparedLines(Scrubber([Secret(SECRET)]))
    for _ in range(2):
        assert lines.line(context(**fields), 200, 0.05) is None
    assert lines.line(context(), 200, 0.05) is not None


@pytest.mark.parametrize("seconds", [-0.1, 1e12])
def test_a_clock_that_was_set_is_left_to_the_encoder(seconds):
    assert PreparedLines(Scrubber()).line(context(), 200, seconds) is None


@pytest.mark.parametrize("size", [1, 4, 11, 12, 13, 24])
def test_a_secret_is_noticed_wherever_it_stands(size):
    """Also where what varies meets what does not."""
    request = context(id="a-client.own_id")
    line = encoded(request).decode()[:-1]
    for begin in range(len(line) - size + 1):
        scrubber = Scrubber([Secret(line[begin : begin + size])])
        lines = PreparedLines(scrubber)
        # Another one comes first, and its middle is remembered.
        lines.line(context(id="other"), 200, 0.1)
        if scrubber.scrub(line) != line:
            assert lines.line(request, 200, 0.05) is None


ids = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=40)


@given(st.data(), ids, st.floats(0, 700), st.integers(0, 10**6), costs)
def test_no_part_of_any_line_can_be_a_secret(data, name, seconds, tokens, cost):
    request = context(id=name, usage=TokenUsage(input=tokens, output=7), cost=cost, client="ci")
    line = encoded(request, 200, seconds).decode()[:-1]
    begin = data.draw(st.integers(0, len(line) - 1))
    value = line[begin : begin + data.draw(st.integers(1, 40))]
    scrubber = Scrubber([Secret(value)])
    assume(scrubber.scrub(line) != line)
    lines = PreparedLines(scrubber)
    # Others come first, whose middle is remembered.
    lines.line(context(id="other"), 200, 0.1)
    assert lines.line(request, 200, seconds) is None


def test_what_becomes_a_secret_is_looked_for_at_once():
    scrubber = Scrubber()
    lines = PreparedLines(scrubber)
    assert lines.line(context(key=SECRET), 200, 0.05) is not None
    scrubber.replace([Secret(SECRET)])
    assert lines.line(context(key=SECRET), 200, 0.05) is None


def test_thousands_of_kinds_are_told_apart():
    lines = PreparedLines(Scrubber())
    for number in [*range(17_000), *range(100)]:
        request = context(key=f"key-{number}")
        assert lines.line(request, 200, 0.05) == encoded(request)
