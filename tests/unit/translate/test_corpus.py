"""Every pair of ``tests/corpus``: what Gemini sends or gets, and what the client sends or gets."""

import json
import re
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from corpus import FILES, SHAPES, answers_of_google, field_paths, json_texts
from fakes.openai_errors import seen

from gemproxy.api.openai.schema.answers import encode_model_list
from gemproxy.api.openai.schema.embeddings import decode_embeddings
from gemproxy.api.openai.schema.requests import decode_chat_completion
from gemproxy.core.client_errors import error_for
from gemproxy.core.errors import ErrorInAnswer, StreamIncomplete, UnusableAnswer
from gemproxy.pool.outcome import Outcome
from gemproxy.providers.gemini.classify import classify_error_event, classify_response
from gemproxy.providers.gemini.provider import GeminiProvider
from gemproxy.providers.gemini.wire.sse import EventStreamDecoder
from gemproxy.translate import openai_embeddings__gemini as embeddings
from gemproxy.translate.openai_chat__gemini.answer import WholeChat
from gemproxy.translate.openai_chat__gemini.context import AnswerContext
from gemproxy.translate.openai_chat__gemini.request import to_gemini
from gemproxy.translate.openai_chat__gemini.stream import ChatStreamTranslator
from gemproxy.translate.openai_models__gemini import CREATED, to_openai_models
from gemproxy.translate.shared.listed_names import listed_names
from gemproxy.translate.shared.signatures import SignatureStore
from gemproxy.translate.shared.translated import TranslatedRequest

SHARED = Path(__file__).resolve().parents[4] / "shared"
# 2026-11-22 12:00 in Los Angeles: twelve hours before the daily quotas return.
NOON = datetime(2026, 11, 22, 20, tzinfo=UTC).timestamp()
HEAD = 4096  # bytes of each stream in which every cut is tried
#: Of other dialects; their own tests read these.
ELSEWHERE_READ = {"messages": "test_messages.py"}
PAIRS = [(kind, pair) for kind, pairs in FILES.items() for pair in pairs]


# --- what the client gets, without what is the same in every answer -----------------------------


def without(whole, **same):
    """``whole`` without the fields of ``same``, which it must hold."""
    assert {name: whole[name] for name in same} == same
    return {name: value for name, value in whole.items() if name not in same}


def compact(value):
    """``value`` without fields that are null, zero or empty."""
    if isinstance(value, dict):
        fields = {name: compact(field) for name, field in value.items()}
        return {name: field for name, field in fields.items() if field not in (None, 0, {}, [])}
    return [compact(each) for each in value] if isinstance(value, list) else value


def new_ids():
    numbers = count(1)
    return lambda: f"call_{next(numbers)}"


def read_answer(pair):
    """An answer in one body, or in several hops."""
    asked = AnswerContext(model="asked", **pair.get("asked", {}))
    chat = WholeChat(
        TranslatedRequest(b'{"contents":[]}', asked, 0, (), None, signed=False, stream=False),
        created=1700,
        new_id=new_ids(),
        signatures=SignatureStore(),
    )
    hops = pair["upstream"] if isinstance(pair["upstream"], list) else [pair["upstream"]]
    asked_next = [chat.receive(hop.encode()) for hop in hops]
    assert asked_next.pop() is None
    made = chat.encode()
    told = without(json.loads(made.body), object="chat.completion", created=1700, model="asked")
    for choice in told["choices"]:
        choice["message"] = without(choice["message"], role="assistant")
    told = compact(told)
    for place, choice in enumerate(told["choices"]):
        assert choice.pop("index", 0) == place
    if asked_next:
        told["next"] = [json.loads(body) for body in asked_next]
    return told | compact({"blocked": made.blocked, "empty": made.empty})


def read_stream(payloads, pair):
    """The increments of the only choice, its finish reason, and the usage; or how it failed."""
    asked = AnswerContext(model="asked", include_usage=True, **pair.get("asked", {}))
    translator = ChatStreamTranslator(
        asked, created=1700, new_id=new_ids(), signatures=SignatureStore()
    )
    sent, ending = b"", {}
    try:
        for payload in payloads:
            sent += translator.receive(payload)
        sent += translator.finish()
    except ErrorInAnswer as error:
        ending = {"error": fields_of(classify_error_event(error.payload, now=NOON))}
    except StreamIncomplete:
        ending = {"error": "incomplete"}
    except UnusableAnswer:
        ending = {"error": "unusable"}
    events = [event.removeprefix("data: ") for event in sent.decode().split("\n\n")]
    assert events.pop() == ""
    if not ending:
        assert events.pop() == "[DONE]"
        ending = compact({"usage": json.loads(events.pop())["usage"]})
        ending |= compact({"blocked": translator.blocked, "empty": translator.empty})
    told = []
    for event in events:
        (choice,) = json.loads(event)["choices"]
        assert choice["index"] == 0
        told += [choice["delta"]] if choice["delta"] else []
        told += [choice["finish_reason"]] if choice["finish_reason"] else []
    if told:
        assert told.pop(0) == {"role": "assistant", "content": ""}
    return {"deltas": told, **ending}


def fields_of(outcome):
    """What a judgement says beside the text, with times in seconds from now."""
    fields = {name: getattr(outcome, name) for name in Outcome.__dataclass_fields__}
    fields = {
        name: value
        for name, value in fields.items()
        if value != Outcome.__dataclass_fields__[name].default and name != "message"
    }
    fields["verdict"] = outcome.verdict.value
    if "until" in fields:
        fields["until"] = round(fields["until"] - NOON)
    if "quotas" in fields:
        fields["quotas"] = {quota.dimension: quota.limit for quota in fields["quotas"]}
    return fields


def read_error(pair):
    outcome = classify_response(
        pair["status"], pair.get("headers", {}), pair["upstream"].encode(), now=NOON
    )
    error = seen(error_for(outcome))
    client = compact({"status": error.status, "type": error.type, "code": error.code})
    return {"judged": fields_of(outcome), "seen": client}


def read_request(pair):
    request = decode_chat_completion(json.dumps(pair["client"]).encode())
    made = to_gemini(request, model=pair["client"]["model"], signatures=SignatureStore())
    return json.loads(bytes(made.body))


def read_embeddings(pair):
    request = decode_embeddings(json.dumps(pair["client"]).encode())
    translated = embeddings.to_gemini(request, model=pair["client"]["model"])
    (batch,) = translated.batches
    told = {"upstream": json.loads(batch.body)}
    if "upstream" in pair:
        made = embeddings.read_batch(pair["upstream"].encode(), batch, base64=translated.base64)
        body = bytes(embeddings.to_openai(translated.model, [made.items], made.usage))
        answer = json.loads(body, parse_float=lambda text: round(float(text), 6))
        told["client"] = without(answer, object="list", model=pair["client"]["model"])
    return told


def read_models(pair):
    page = GeminiProvider().read_models(pair["upstream"].encode())
    served = [each for each in page.models if each.is_served]
    models = to_openai_models(listed_names(served, pair.get("aliases", {}), ()))
    whole = without(json.loads(encode_model_list(models)), object="list")["data"]
    same = {"object": "model", "created": CREATED, "owned_by": "google"}
    return {"ids": [without(each, **same)["id"] for each in whole], "next": page.next_page_token}


def decode(*pieces):
    decoder = EventStreamDecoder()
    return [payload for piece in pieces for payload in decoder.receive(piece)] + decoder.close()


READ = {
    "answers": read_answer,
    "errors": read_error,
    "requests": read_request,
    "embeddings": read_embeddings,
    "models": read_models,
    "streams": lambda pair: read_stream(decode(pair["upstream"].encode()), pair),
}


def named(kind):
    return pytest.mark.parametrize("pair", FILES[kind], ids=lambda pair: pair["name"])


# --- tests ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "pair"),
    [pytest.param(*each, id=f"{each[0]}: {each[1]['name']}") for each in PAIRS if each[0] in READ],
)
def test_pair_reads_as_it_says(kind, pair):
    try:
        made = READ[kind](pair)
    except UnusableAnswer:
        made = {"error": "unusable"}
    except ErrorInAnswer as error:
        made = {"error": fields_of(classify_error_event(error.payload, now=NOON))}
    assert made == pair["expected"]


def line_ends(pair):
    """The body as Google frames it, and with the line ends that proxies make of them."""
    body = pair["upstream"].encode()
    return body.replace(b"\n", b"\r\n"), body


@named("streams")
def test_stream_may_be_cut_anywhere(pair):
    whole = decode(*line_ends(pair)[1:])
    assert read_stream(whole, pair) == pair["expected"]
    for body in line_ends(pair):
        head = min(len(body), HEAD) + 1
        for cut in range(head):
            payloads = decode(body[:cut], body[cut:])
            # Of equal payloads the translator, which sees nothing else, makes the same.
            if list(map(same_json, payloads)) != list(map(same_json, whole)):
                pytest.fail(f"cut at {cut} of {head}: {payloads}")
        single = (body[place : place + 1] for place in range(len(body)))
        assert list(map(same_json, decode(*single))) == list(map(same_json, whole))


def same_json(payload):
    """An error in several lines keeps its line ends, which mean nothing in JSON."""
    return payload.replace(b"\r\n", b"\n")


@named("streams")
def test_stream_that_stops_early_is_never_complete(pair):
    """Up to the chunk with the first finish reason, an ended body is an error."""
    payloads = decode(pair["upstream"].encode())
    for number, payload in enumerate(payloads):
        assert read_stream(payloads[:number], pair)["error"] == "incomplete"
        if b"finishReason" in payload or b"blockReason" in payload or b'"error"' in payload:
            break


def test_every_shape_has_a_pair_and_every_pair_shows_one():
    assert set(FILES) == {*READ, *ELSEWHERE_READ}
    names = [(kind, pair["name"]) for kind, pair in PAIRS]
    assert len(names) == len(set(names))
    assert all(pair["shows"] and "expected" in pair for _, pair in PAIRS)
    assert {shape for _, pair in PAIRS for shape in pair["shows"]} == set(SHAPES)


#: Recordings and samples of endpoints that this program does not call.
ELSEWHERE = (
    *("batch_", "cachedContents", "compat_", "countTokens", "fileSearch", "files", "filesearch_"),
    *("imagen_", "interactions", "openai_", "operations", "predict", "sse_interactions", "veo_"),
    *("embed_single", "embed_vertex", "err_interactions", "ok_batch_", "ok_cached_content_create"),
    *("ok_count_tokens", "ok_file_upload", "ok_interactions", "req_batch_create"),
    *("req_count_tokens", "uploadToFileSearchStore"),
)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no recordings or samples at {SHARED}")
def test_every_kind_of_recording_and_every_sample_has_a_pair():
    kinds = {path.name.split("__")[0] for path in (SHARED / "recordings").glob("*.json")}
    samples = {path.stem for path in (SHARED / "samples").iterdir()} - {"index"}
    seen_in = {name for _, pair in PAIRS for name in pair.get("seen", [])}
    wanted = {name for name in kinds | samples if not name.startswith(ELSEWHERE)}
    assert wanted - seen_in == set()
    assert seen_in - kinds - samples == set()


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no recordings or samples at {SHARED}")
def test_pairs_have_no_field_that_was_never_seen():
    listed = (SHARED / "recordings" / "SHAPES.md").read_text("utf-8")
    known = set(re.findall(r"^- `([^`]+)` \d+", listed, re.MULTILINE))
    for sample in (SHARED / "samples").iterdir():
        if sample.suffix in {".json", ".txt"}:
            for text in json_texts(sample.read_text("utf-8")):
                value = json.loads(text)
                if isinstance(value, dict) and "_source" in value and "response" in value:
                    value = value["response"].get("body")
                known |= set(field_paths(value[0] if isinstance(value, list) else value))
    made = {path for value in answers_of_google() for path in field_paths(value)}
    assert {path for path in made - known if not path.startswith("birds")} == set()
