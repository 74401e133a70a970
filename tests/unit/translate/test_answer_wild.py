"""Whatever Google may send is translated or refused in one of the few agreed ways."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from gemproxy.core.errors import ErrorInAnswer, StreamIncomplete, UnusableAnswer, UpstreamRejected
from gemproxy.providers.gemini.wire.answers import decode_answer
from gemproxy.translate.openai_chat__gemini.answer import to_openai
from gemproxy.translate.openai_chat__gemini.context import AnswerContext
from gemproxy.translate.openai_chat__gemini.stream import ChatStreamTranslator
from gemproxy.translate.shared.signatures import SignatureStore


def fields(**strategies):
    """An object of which any field may be missing, null or, at times, something else."""
    odd = st.sampled_from([0, -1, 1.5, "x", True, [], {}, [None], 10**30])
    wild = {
        name: st.one_of(*[strategy] * 12, st.none(), odd) for name, strategy in strategies.items()
    }
    return st.fixed_dictionaries({}, optional=wild)


numbers = st.integers(min_value=-3, max_value=40)
texts = st.text(max_size=12)
reasons = st.sampled_from(
    ["STOP", "MAX_TOKENS", "SAFETY", "OTHER", "CONTINUATION", "MISSING_THOUGHT_SIGNATURE", 1, 7, 99]
)
blobs = fields(mimeType=st.sampled_from(["image/png", "audio/L16", "video/mp4"]), data=texts)
partial = fields(
    jsonPath=st.sampled_from(["$.a", "$.a[0]", "$.a.b", "$[0]", "$.b[1].c", ""]),
    stringValue=texts,
    numberValue=numbers,
    boolValue=st.booleans(),
)
calls = fields(
    name=texts,
    id=texts,
    args=st.dictionaries(texts, texts | numbers, max_size=2),
    partialArgs=st.lists(partial, max_size=2),
    willContinue=st.booleans(),
)
parts = fields(
    text=texts,
    thought=st.booleans(),
    thoughtSignature=texts,
    functionCall=calls,
    inlineData=blobs,
    executableCode=fields(language=texts, code=texts),
    codeExecutionResult=fields(outcome=texts, output=texts),
)
segments = fields(partIndex=numbers, startIndex=numbers, endIndex=numbers)
sources = fields(uri=texts, title=texts)
grounding = fields(
    groundingChunks=st.lists(fields(web=sources, maps=sources), max_size=3),
    groundingSupports=st.lists(
        fields(segment=segments, groundingChunkIndices=st.lists(numbers, max_size=2)), max_size=3
    ),
)
citations = st.lists(fields(startIndex=numbers, endIndex=numbers, uri=texts), max_size=2)
tokens = st.lists(fields(token=texts, logProbability=st.floats(-9, 0)), max_size=2)
candidates = fields(
    content=fields(parts=st.lists(parts, max_size=3)),
    finishReason=reasons,
    finishMessage=texts,
    index=st.integers(min_value=-1, max_value=3),
    groundingMetadata=grounding,
    citationMetadata=fields(citationSources=citations, citations=citations),
    logprobsResult=fields(
        chosenCandidates=tokens, topCandidates=st.lists(fields(candidates=tokens), max_size=2)
    ),
    continuationToken=texts,
)
details = st.lists(fields(modality=texts | numbers, tokenCount=numbers), max_size=2)
answers = fields(
    candidates=st.lists(candidates, max_size=2),
    promptFeedback=fields(blockReason=reasons, blockReasonMessage=texts),
    usageMetadata=fields(
        promptTokenCount=numbers,
        candidatesTokenCount=numbers,
        totalTokenCount=numbers,
        promptTokensDetails=details,
        serviceTier=texts,
    ),
    responseId=texts,
)
contexts = st.builds(
    AnswerContext,
    model=texts,
    choices=st.integers(min_value=1, max_value=3),
    legacy_functions=st.booleans(),
    parallel_tool_calls=st.booleans(),
    include_usage=st.booleans(),
    logprobs=st.booleans(),
)


@given(st.lists(answers, min_size=1, max_size=3), contexts)
@settings(max_examples=150, deadline=None)
def test_unary_answers_are_translated_or_unusable(hops, context):
    try:
        completed = to_openai(
            [decode_answer(json.dumps(hop).encode()) for hop in hops],
            context,
            created=1,
            new_id=lambda: "call_1",
            signatures=SignatureStore(),
        )
    except (UnusableAnswer, UpstreamRejected):
        return
    completion = json.loads(completed.body)
    assert completion["choices"]
    for choice in completion["choices"]:
        content = choice["message"]["content"] or ""
        for annotation in choice["message"].get("annotations", []):
            cited = annotation["url_citation"]
            assert 0 <= cited["start_index"] <= cited["end_index"] <= len(content)


@given(st.lists(answers, max_size=5), contexts)
@settings(max_examples=150, deadline=None)
def test_streams_are_translated_or_end_in_an_agreed_error(chunks, context):
    stream = ChatStreamTranslator(
        context, created=1, new_id=lambda: "call_1", signatures=SignatureStore()
    )
    sent = b""
    try:
        for chunk in chunks:
            sent += stream.receive(json.dumps(chunk).encode())
            assert stream.started == bool(sent)
        sent += stream.finish()
    except (UnusableAnswer, UpstreamRejected, StreamIncomplete, ErrorInAnswer):
        return
    *events, done, rest = sent.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    objects = [json.loads(event.removeprefix("data: ")) for event in events]
    finished = [c["index"] for o in objects for c in o["choices"] if c["finish_reason"]]
    begun = [c["index"] for o in objects for c in o["choices"] if "role" in c["delta"]]
    assert finished == sorted(set(begun))
    assert len(begun) == len(set(begun))
