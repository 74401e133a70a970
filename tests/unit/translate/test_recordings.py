"""Recorded traffic, read by the translators and by a plain reading of the same bytes."""

import json
from pathlib import Path

import pytest
from fakes.openai_errors import seen

from gemproxy.core.client_errors import error_for
from gemproxy.core.errors import ErrorInAnswer, StreamIncomplete, UnusableAnswer
from gemproxy.pool.outcome import SERVED, Verdict
from gemproxy.providers.gemini.classify import classify_response
from gemproxy.providers.gemini.wire.answers import decode_answer
from gemproxy.providers.gemini.wire.sse import EventStreamDecoder
from gemproxy.translate.openai_chat__gemini.answer import to_openai
from gemproxy.translate.openai_chat__gemini.context import AnswerContext
from gemproxy.translate.openai_chat__gemini.stream import ChatStreamTranslator
from gemproxy.translate.shared.signatures import SignatureStore

RECORDINGS = Path(__file__).resolve().parents[4] / "shared" / "recordings"
NAMES = sorted(path.name for path in RECORDINGS.glob("*.json"))
UNARY = [name for name in NAMES if name.startswith("unary_")]
STREAMS = [name for name in NAMES if name.startswith(("stream_", "error_499_midstream"))]
ARRAYS = [name for name in NAMES if name.startswith("streamarray_")]
ERRORS = [name for name in NAMES if name.startswith("error_") and name not in STREAMS]
#: Recordings of endpoints that this program does not speak with, or only lists models with.
ELSEWHERE = (
    "cachedContents",
    "countTokens",
    "embed",
    "fileSearchStores",
    "files",
    "interactions",
    "models",
    "openai",
    "operations",
    "predict",
    "uploadToFileSearchStore",
)
HEAD = 4096  # bytes of each stream in which every cut is tried

pytestmark = pytest.mark.skipif(not NAMES, reason=f"no recordings at {RECORDINGS}")


def load(name):
    return json.loads((RECORDINGS / name).read_text(encoding="utf-8"))


# --- the plain reading ----------------------------------------------------------------------------

STOPS = {"STOP": "stop", 1: "stop", "MAX_TOKENS": "length", 2: "length"}
FILTERS = {"SAFETY", "RECITATION", "MODEL_ARMOR"}
COUNTS = ("promptTokenCount", "toolUsePromptTokenCount", "candidatesTokenCount")


def plain_payloads(sse):
    """The JSON texts of a stream's events; a bare JSON text counts as one."""
    blocks = sse.replace("\r\n", "\n").split("\n\n")
    blocks = [block.strip("\n") for block in blocks if block.strip("\n")]
    return [block.removeprefix("data:").removeprefix(" ") for block in blocks]


def plain_code(part):
    code, result = part.get("executableCode"), part.get("codeExecutionResult")
    if code:
        return "\n```" + code["language"].lower() + "\n" + code["code"].rstrip("\n") + "\n```\n"
    if result:
        bad = "" if result["outcome"] == "OUTCOME_OK" else result["outcome"] + "\n"
        return "\n```\n" + bad + result.get("output", "").rstrip("\n") + "\n```\n"
    return ""


def plain_call(calls, part):
    """Add a call, or put together one that comes in pieces (flat string arguments only)."""
    call = part["functionCall"]
    if "name" in call:
        calls.append([call["name"], call.get("args", {})])
    for piece in call.get("partialArgs", []):
        name = piece["jsonPath"].removeprefix("$.")
        arguments = calls[-1][1]
        arguments[name] = arguments.get(name, "") + piece["stringValue"]


def plain_reading(chunks, *, stream):
    """What the chunks say: choices by index and usage; or why they are no answer."""
    choices, usage, block = {}, {}, None
    for chunk in chunks:
        if "error" in chunk:
            return "error"
        block = chunk.get("promptFeedback", {}).get("blockReason") or block
        if "promptTokenCount" in chunk.get("usageMetadata", {}):
            usage = chunk["usageMetadata"]
        for candidate in chunk.get("candidates", []):
            choice = choices.setdefault(
                candidate.get("index", 0),
                {"text": "", "thoughts": "", "calls": [], "media": 0, "finish": None},
            )
            for part in candidate.get("content", {}).get("parts", []):
                if "functionCall" in part:
                    plain_call(choice["calls"], part)
                elif part.get("thought"):
                    choice["thoughts"] += part["text"]
                else:
                    spoken = part.get("audioTranscription", {}).get("text", "")
                    choice["text"] += part.get("text", "") + spoken + plain_code(part)
                    choice["media"] += "inlineData" in part
            choice["finish"] = candidate.get("finishReason", choice["finish"])
    return conclude(choices, usage, block, stream=stream)


def conclude(choices, usage, block, *, stream):
    if not choices:
        if block is None:
            return "incomplete" if stream else "unusable"
        choices = {0: {"text": "", "thoughts": "", "calls": [], "media": 0, "finish": "SAFETY"}}
    for choice in choices.values():
        content = choice["text"] or choice["calls"] or choice.pop("media")
        choice.pop("media", None)
        finish = choice["finish"]
        if finish is None and stream:
            return "incomplete"
        sent = content or (stream and choice["thoughts"])
        if finish not in STOPS and finish not in FILTERS and not sent:
            return "unusable"
        choice["finish"] = "content_filter" if finish in FILTERS else STOPS.get(finish, "stop")
        if choice["calls"] and choice["finish"] == "stop":
            choice["finish"] = "tool_calls"
    visible, thoughts = usage.get("candidatesTokenCount", 0), usage.get("thoughtsTokenCount", 0)
    numbers = {
        "prompt_tokens": usage.get("promptTokenCount", 0) + usage.get("toolUsePromptTokenCount", 0),
        "completion_tokens": visible + thoughts,
        "total_tokens": usage.get("totalTokenCount", 0),
        "cached_tokens": usage.get("cachedContentTokenCount", 0),
        "reasoning_tokens": thoughts,
    }
    return choices, numbers


# --- what the translators say, in the same shape --------------------------------------------------


def context():
    return AnswerContext(model="m", choices=2, include_usage=True, logprobs=True)


def openai_usage(usage):
    numbers = {key: usage[key] for key in ("prompt_tokens", "completion_tokens", "total_tokens")}
    numbers["cached_tokens"] = usage["prompt_tokens_details"]["cached_tokens"]
    numbers["reasoning_tokens"] = usage["completion_tokens_details"]["reasoning_tokens"]
    return numbers


def read_completion(body):
    completion = json.loads(body)
    choices = {}
    for choice in completion["choices"]:
        message = choice["message"]
        choices[choice["index"]] = {
            "text": message["content"] or "",
            "thoughts": message.get("reasoning_content", ""),
            "calls": openai_calls(message.get("tool_calls", [])),
            "finish": choice["finish_reason"],
        }
    return choices, openai_usage(completion["usage"])


def openai_calls(calls):
    return [[c["function"]["name"], json.loads(c["function"]["arguments"])] for c in calls]


def read_chunks(sent):
    """Accumulate chunks by hand."""
    events = sent.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert len({chunk["id"] for chunk in chunks}) == 1
    choices = {}
    for chunk in chunks[:-1]:
        assert chunk["usage"] is None
        (piece,) = chunk["choices"]
        delta = piece["delta"]
        if piece["index"] not in choices:
            assert delta == {"role": "assistant", "content": ""}
            choices[piece["index"]] = {"text": "", "thoughts": "", "calls": [], "finish": None}
        choice = choices[piece["index"]]
        assert choice["finish"] is None
        choice["text"] += delta.get("content", "")
        choice["thoughts"] += delta.get("reasoning_content", "")
        for call in delta.get("tool_calls", []):
            assert call["index"] == len(choice["calls"])
            choice["calls"] += openai_calls([call])
        choice["finish"] = piece["finish_reason"]
    assert chunks[-1]["choices"] == []
    return choices, openai_usage(chunks[-1]["usage"])


def translate_unary(body):
    try:
        answer = to_openai(
            [decode_answer(body)],
            context(),
            created=1,
            new_id=lambda: "call_new",
            signatures=SignatureStore(),
        )
    except UnusableAnswer:
        return "unusable"
    return read_completion(answer.body)


def translate_payloads(payloads):
    translator = ChatStreamTranslator(
        context(), created=1, new_id=lambda: "call_new", signatures=SignatureStore()
    )
    sent = b""
    try:
        for payload in payloads:
            sent += translator.receive(payload)
        sent += translator.finish()
    except ErrorInAnswer:
        return "error"
    except StreamIncomplete:
        return "incomplete"
    except UnusableAnswer:
        return "unusable"
    return read_chunks(sent)


def decode_pieces(*pieces):
    decoder = EventStreamDecoder()
    return [payload for piece in pieces for payload in decoder.receive(piece)] + decoder.close()


# --- tests ----------------------------------------------------------------------------------------


def test_no_recording_is_passed_over():
    read = {*UNARY, *STREAMS, *ARRAYS, *ERRORS}
    left = [name for name in NAMES if name not in read]
    assert [name for name in left if not name.startswith(ELSEWHERE)] == []
    answers = [load(name) for name in (*UNARY, *STREAMS, *ARRAYS)]
    assert len(answers) > 250
    assert {"generateContent", "streamGenerateContent"} <= {each["endpoint"] for each in answers}


@pytest.mark.parametrize("name", ERRORS)
def test_error_recording_is_judged_and_told(name):
    recording = load(name)
    status, body = recording["status"], recording.get("response", recording.get("response_text"))
    text = body if isinstance(body, str) else json.dumps(body)
    outcome = classify_response(status, recording["headers"], text.encode(), now=1.8e9)
    assert outcome.status == status
    assert outcome.verdict not in SERVED
    if status >= 400 and isinstance(body, dict) and "error" in body:
        assert outcome.message[:100] == body["error"]["message"][:100]
    error = error_for(outcome)
    assert seen(error).status >= 400
    if outcome.verdict is Verdict.KEY:
        assert seen(error).status == 503
    # A redirect of Google's echoes the request's headers, the key among them.
    told = f"{error.message} {seen(error).headers} {outcome.message} {outcome.public}".lower()
    assert "x-goog-api-key" not in told


@pytest.mark.parametrize("name", UNARY)
def test_unary_recording_reads_alike(name):
    recording = load(name)
    if "response" not in recording:
        body, expected = recording["response_text"].encode(), "unusable"
    else:
        # Google sends unary answers indented.
        body = json.dumps(recording["response"], indent=2).encode()
        expected = plain_reading([recording["response"]], stream=False)
    assert translate_unary(body) == expected


@pytest.mark.parametrize("name", ARRAYS)
def test_array_recording_reads_alike_as_a_whole_and_chunk_by_chunk(name):
    chunks = load(name)["response"]
    body = json.dumps(chunks).encode()
    assert translate_unary(body) == plain_reading(chunks, stream=False)
    payloads = [json.dumps(chunk).encode() for chunk in chunks]
    assert translate_payloads(payloads) == plain_reading(chunks, stream=True)


@pytest.mark.parametrize("name", STREAMS)
def test_stream_recording_reads_alike(name):
    sse = load(name)["sse"]
    chunks = [json.loads(payload) for payload in plain_payloads(sse)]
    payloads = decode_pieces(sse.encode())
    assert [json.loads(payload) for payload in payloads] == chunks
    assert translate_payloads(payloads) == plain_reading(chunks, stream=True)


@pytest.mark.parametrize("name", STREAMS)
def test_stream_recording_may_be_cut_anywhere(name):
    body = load(name)["sse"].encode()
    whole = decode_pieces(body)
    for cut in range(min(len(body), HEAD) + 1):
        assert decode_pieces(body[:cut], body[cut:]) == whole, cut


@pytest.mark.parametrize("name", STREAMS)
def test_stream_recording_may_come_byte_by_byte(name):
    body = load(name)["sse"].encode()
    single = (body[place : place + 1] for place in range(len(body)))
    assert decode_pieces(*single) == decode_pieces(body)


@pytest.mark.parametrize("name", STREAMS)
def test_cut_stream_recording_translates_to_the_same(name):
    body = load(name)["sse"].encode()
    whole = translate_payloads(decode_pieces(body))
    for cut in range(1, min(len(body), HEAD), 509):
        assert translate_payloads(decode_pieces(body[:cut], body[cut:])) == whole


@pytest.mark.parametrize("name", STREAMS)
def test_stream_recording_that_stops_early_is_never_complete(name):
    """Up to the chunk with the first finish reason, an ended body is an error."""
    payloads = decode_pieces(load(name)["sse"].encode())
    for count, payload in enumerate(payloads):
        assert translate_payloads(payloads[:count]) == "incomplete"
        if b"finishReason" in payload or b"blockReason" in payload or b'"error"' in payload:
            break
