"""Streams tell the truth: whole, in order, and never a good end that was none."""

import json
import time
from pathlib import Path

import openai
import pytest
from fakes.clients import post, said, sdk_of, send_only
from fakes.running import RunningDaemon, RunningSimulator, keys_of

PLAIN = "gemini-2.5-flash-lite"  # does not think, so that every chunk has text
SILENCE = 1.2
HEARTBEAT = 0.2


@pytest.fixture(scope="module")
def simulator(tmp_path_factory):
    running = RunningSimulator(tmp_path_factory.mktemp("simulator"), ("alpha", "beta"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def daemon(simulator, tmp_path_factory):
    """A daemon with a quick pulse and little patience."""
    running = RunningDaemon(
        tmp_path_factory.mktemp("daemon"),
        simulator.url,
        keys_of("alpha", "beta"),
        upstream={"idleTimeoutSeconds": SILENCE},
        streaming={"heartbeatSeconds": HEARTBEAT},
        # So many failures in a row are no outage here.
        monitoring={"failureThreshold": 1000},
    )
    yield running
    running.stop()


@pytest.fixture
def client(daemon, simulator):
    simulator.reset()
    with sdk_of(daemon) as client:
        yield client


def streamed(daemon, prompt, model=PLAIN, **more):
    """The raw stream that answers ``prompt``."""
    return post(daemon, said(prompt, model, stream=True, **more))


def text_of(events):
    deltas = [json.loads(event)["choices"] for event in events if event.startswith('{"id"')]
    return "".join(choice["delta"].get("content") or "" for choices in deltas for choice in choices)


# ---- what breaks off ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("truncated chunks=2", "stream_incomplete"),
        ("truncated chunks=999", "stream_incomplete"),  # all of the text, and no finish reason
        ("cut chunks=2", "stream_incomplete"),
        ("reset-mid-stream chunks=2", "stream_incomplete"),
        ("stall chunks=2", "upstream_timeout"),
        ("error-mid-stream chunks=2 code=503", "upstream_error"),
        ("error-mid-stream chunks=2 code=429", "rate_limit_exceeded"),
        ("error-mid-stream-raw chunks=2 code=499", "upstream_error"),
        ("error-mid-stream-raw chunks=2 code=503", "upstream_error"),
        ("garbage-json chunks=2", "upstream_error"),
    ],
)
def test_stream_that_breaks_off_ends_with_an_error(daemon, client, simulator, behaviour, code):
    prompt = f"[simulate:{behaviour}] [simulate:words n=40]"
    # A used-up quota is the key's and the model's: both keys can say it once of this model.
    model = "gemini-2.5-flash" if "429" in behaviour else PLAIN
    answer = streamed(daemon, prompt, model)
    assert answer.status == 200
    *before, last = answer.events
    error = json.loads(last)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["message"]
    assert all(json.loads(event)["object"] == "chat.completion.chunk" for event in before)
    assert {choice_finish(event) for event in before} == {None}
    assert text_of(before)

    stream = client.chat.completions.create(**said(prompt, model, stream=True))
    received = [next(stream) for _ in before]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in received) == text_of(before)
    with pytest.raises(openai.APIError) as caught:
        next(stream)
    assert caught.value.code == code
    # After the first byte no other key is tried.
    assert len(simulator.requests()) == 2
    line = daemon.request_line(answer.headers["x-request-id"])
    assert line["attempts"] == 1
    assert line["outcome"] != "success"


def test_good_end_is_told_with_done(daemon):
    answer = streamed(daemon, "[simulate:words n=40]")
    *chunks, last = answer.events
    assert last == "[DONE]"
    assert [choice_finish(chunk) for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]


def choice_finish(event):
    (choice,) = json.loads(event)["choices"]
    return choice["finish_reason"]


# ---- what comes in odd shapes -------------------------------------------------------------------


@pytest.mark.parametrize("usage", [False, True], ids=["", "usage"])
@pytest.mark.parametrize("extra", ["", "[simulate:usage-last]"], ids=["", "usage-last"])
@pytest.mark.parametrize(
    "style",
    ["finish-last", "finish-extra", "finish-no-parts", "finish-no-content", "finish-twice"],
)
def test_finish_reason_comes_once_and_last(daemon, client, style, extra, usage):
    prompt = f"[simulate:{style}] {extra} [simulate:words n=40]"
    more = {"stream_options": {"include_usage": True}} if usage else {}
    *chunks, done = streamed(daemon, prompt, **more).events
    assert done == "[DONE]"
    if usage:
        told = json.loads(chunks.pop())
        assert told["choices"] == []
        assert told["usage"]["completion_tokens"] > 40
        assert all(json.loads(chunk)["usage"] is None for chunk in chunks)
    assert [choice_finish(chunk) for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    unary = client.chat.completions.create(**said(prompt, PLAIN)).choices[0].message.content
    assert text_of(chunks) == unary


SEPARATORS = "a\u2028b\u2029c\u0085d"


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_characters_that_come_in_pieces_stay_whole(daemon, client, size):
    text = f"żółć 東京 🙂 {SEPARATORS} → Ελλάδα"
    prompt = f"[simulate:echo] [simulate:fragmented size={size}] {text}"
    answer = streamed(daemon, prompt)
    assert text_of(answer.events) == text
    assert answer.events[-1] == "[DONE]"
    chunks = client.chat.completions.create(**said(prompt, PLAIN, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text


def test_tool_call_that_comes_in_pieces_stays_whole(client):
    tool = {
        "type": "function",
        "function": {"name": "note", "parameters": {"properties": {"text": {"type": "string"}}}},
    }
    prompt = '[simulate:fragmented size=1] call note with {"text": "żółć 🙂"}'
    chunks = list(client.chat.completions.create(**said(prompt, PLAIN, stream=True, tools=[tool])))
    (call,) = [c for chunk in chunks for c in chunk.choices[0].delta.tool_calls or []]
    assert json.loads(call.function.arguments) == {"text": "żółć 🙂"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


# ---- time --------------------------------------------------------------------------------------


def test_heartbeats_stand_between_events(daemon, client):
    slow = (
        "[simulate:slow delay=0 chunkDelay=0.5] [simulate:chunks n=3] [simulate:fragmented size=40]"
    )
    answer = streamed(daemon, slow)
    comments = [block for block in answer.blocks if block.startswith(":")]
    assert len(comments) >= 2
    assert all("\n" not in comment for comment in comments)
    for event in answer.events[:-1]:
        json.loads(event)
    assert answer.events[-1] == "[DONE]"
    unary = client.chat.completions.create(**said(slow, PLAIN)).choices[0].message.content
    assert text_of(answer.events) == unary
    chunks = client.chat.completions.create(**said(slow, PLAIN, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == unary


def test_nothing_is_sent_before_the_upstreams_first_event(daemon):
    """Three heartbeats long: a heartbeat would commit to status 200."""
    body = said("[simulate:slow delay=0.7]", PLAIN, stream=True)
    with send_only(daemon, body, "held-back") as client:
        client.settimeout(0.4)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("fault", ["truncated", "cut", "reset-mid-stream", "error-mid-stream"])
def test_stream_that_fails_before_its_first_event_gets_a_real_status(daemon, simulator, fault):
    """The upstream's status and headers were good, on both keys."""
    simulator.reset()
    answer = streamed(daemon, f"[simulate:slow delay=0.1] [simulate:{fault} chunks=0]")
    assert answer.status == (503 if fault == "error-mid-stream" else 502)
    assert answer.json["error"]["code"] == "upstream_error"
    assert answer.headers["content-type"] == "application/json"
    assert {request["status"] for request in simulator.requests()} == {200}
    assert {request["key"] for request in simulator.requests()} == {"alpha", "beta"}


def test_first_chunk_is_not_held_back(client):
    slow = "[simulate:slow delay=0 chunkDelay=0.5] [simulate:chunks n=4]"
    started = time.monotonic()
    stream = client.chat.completions.create(**said(slow, PLAIN, stream=True))
    first = next(iter(stream))
    took = time.monotonic() - started
    assert first.choices
    list(stream)
    assert took < 1.0 < time.monotonic() - started


# ---- a stream that does not begin ---------------------------------------------------------------

PATIENCE_UPSTREAM = 1.5


@pytest.fixture(scope="module")
def early(simulator, tmp_path_factory):
    """A daemon that sends the head of a silent stream soon, long before it gives a key up."""
    running = RunningDaemon(
        tmp_path_factory.mktemp("daemon"),
        simulator.url,
        keys_of("alpha", "beta"),
        upstream={"firstByteTimeoutSeconds": PATIENCE_UPSTREAM},
        streaming={"heartbeatSeconds": HEARTBEAT, "headersAfterSeconds": 0.3},
        monitoring={"failureThreshold": 1000},
    )
    yield running
    running.stop()


def test_a_silent_stream_gets_its_head_and_heartbeats_and_then_its_content(early, simulator):
    simulator.reset()
    body = said("[simulate:slow delay=1] Hello", PLAIN, stream=True)
    with send_only(early, body, "early-1") as client:
        began = client.recv(65536)
        assert began.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nx-gemproxy-attempts: 1\r\n" in began
        rest = began + b"".join(iter(lambda: client.recv(65536), b""))
    assert rest.partition(b"\r\n\r\n")[2].startswith(b"d\r\n: heartbeat\n\n\r\n")
    assert rest.count(b": heartbeat\n\n") > 1
    assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert early.request_line("early-1")["outcome"] == "success"


def test_another_key_is_tried_behind_the_head(early, simulator):
    simulator.reset()
    simulator.behave("alpha", "hang")
    body = said("Hello", PLAIN, stream=True)
    with sdk_of(early) as client:
        for _ in range(2):  # One of them comes to the hanging key first.
            chunks = list(client.chat.completions.create(**body))
            assert chunks[-1].choices[0].finish_reason == "stop"
    assert {request["key"] for request in simulator.requests()} == {"alpha", "beta"}


def test_what_fails_behind_the_head_raises_in_the_sdk(early, simulator):
    simulator.reset()
    simulator.behave_all("hang")
    answer = streamed(early, "Hello")
    assert answer.status == 200
    (event,) = answer.events
    assert json.loads(event)["error"]["code"] == "upstream_timeout"
    line = early.request_line(answer.headers["x-request-id"])
    assert (line["status"], line["attempts"]) == (504, 3)
    with sdk_of(early) as client:
        stream = client.chat.completions.create(**said("Hello", PLAIN, stream=True))
        with pytest.raises(openai.APIError) as caught:
            list(stream)
    assert caught.value.code == "upstream_timeout"


def test_what_is_refused_before_that_keeps_its_status(early, simulator):
    simulator.reset()
    simulator.behave_all("bad-request")
    assert streamed(early, "Hello").status == 400
    simulator.reset()
    assert post(early, said("[simulate:slow delay=0.7] Hello", PLAIN)).status == 200


# ---- a client that reads slowly ----------------------------------------------------------------

MEBIBYTES = 3
CHOICES = 8
#: A model that gives several choices; newer ones do not.
CHOOSING = "gemini-2.5-pro"


def test_reader_that_stalls_holds_the_upstream_back(daemon, simulator):
    """Each of 8 choices is one chunk of 3 MiB: far more than the sockets on the way can hold."""
    simulator.reset()
    text = "a" + " " * (MEBIBYTES << 20) + "b"
    body = said(f"[simulate:echo] [simulate:chunks n=3] {text}", CHOOSING, stream=True, n=CHOICES)
    before = memory(daemon)
    with send_only(daemon, body, "slow-reader", receive_buffer=4096) as client:
        assert client.recv(1024).startswith(b"HTTP/1.1 200 OK\r\n")
        # Longer than upstream.idleTimeoutSeconds: it is the client who is silent.
        time.sleep(2 * SILENCE)
        (request,) = simulator.requests()
        assert not request["finished"]
        grown = memory(daemon) - before
        # The request itself takes some 25 MiB; without back-pressure the answer would come on top.
        assert grown < (MEBIBYTES * CHOICES * 3 // 2) << 20
        rest = b"".join(iter(lambda: client.recv(1 << 20), b""))
    assert rest.count(b" ") > CHOICES * MEBIBYTES << 20
    assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    simulator.wait_for_request(lambda request: request["finished"])
    assert daemon.request_line("slow-reader")["outcome"] == "success"


def memory(daemon):
    """The resident memory of the process in bytes (proc(5))."""
    status = Path(f"/proc/{daemon.popen.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def test_reader_that_stalls_does_not_hold_others_up(daemon, client):
    text = "a" + " " * (MEBIBYTES << 20) + "b"
    body = said(f"[simulate:echo] [simulate:chunks n=3] {text}", CHOOSING, stream=True, n=CHOICES)
    with send_only(daemon, body, "stalled", receive_buffer=4096) as stalled:
        assert stalled.recv(1024)
        started = time.monotonic()
        assert client.chat.completions.create(**said("Hello", PLAIN)).choices
        assert time.monotonic() - started < 2
    assert daemon.request_line("stalled")["status"] == 499
