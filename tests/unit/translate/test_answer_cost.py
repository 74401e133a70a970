"""What an answer costs that no sane upstream sends, in processor time.

An upstream is only half trusted, and one that is broken must not freeze the daemon.
"""

import contextlib
import itertools
import time

import pytest
from fakes.hostile_answers import ANSWERS

from gemproxy.core.errors import GemproxyError, MalformedUpstreamResponse
from gemproxy.providers.gemini.wire.answers import (
    MAX_CANDIDATES,
    Candidate,
    GenerateContentResponse,
    decode_answer,
    merge_answers,
)
from gemproxy.translate.openai_chat__gemini.answer import to_openai
from gemproxy.translate.openai_chat__gemini.context import AnswerContext
from gemproxy.translate.openai_chat__gemini.stream import ChatStreamTranslator
from gemproxy.translate.shared.calls import MAX_CALLS
from gemproxy.translate.shared.continuation import MAX_EMPTY_EVENTS
from gemproxy.translate.shared.signatures import SignatureStore


def answered(*bodies, **context):
    return to_openai(
        list(map(decode_answer, bodies)),
        AnswerContext("m", **context),
        created=1,
        new_id=map("call_{}".format, itertools.count()).__next__,
        signatures=SignatureStore(),
    )


def stream(**context):
    return ChatStreamTranslator(
        AnswerContext("m", **context),
        created=1,
        new_id=map("call_{}".format, itertools.count()).__next__,
        signatures=SignatureStore(),
    )


@pytest.mark.parametrize("shape", ANSWERS)
def test_no_answer_takes_long(shape):
    """Two megabytes of each; before there were bounds, some took ten seconds."""
    body, logprobs = ANSWERS[shape](2_000_000), "logprobs" in shape
    begun = time.process_time()
    with contextlib.suppress(GemproxyError):
        answered(body, logprobs=logprobs)
    with contextlib.suppress(GemproxyError):
        translator = stream(logprobs=logprobs)
        translator.receive(body)
        translator.finish()
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("shape", ["candidates", "candidates-empty", "candidates-numbered", "parts",
                                   "parts-calls", "grounding", "citations", "list"])  # fmt: skip
def test_more_than_anybody_asks_for_is_no_answer(shape):
    """It is told what there is too much of, for the log and for the client's error."""
    with pytest.raises(MalformedUpstreamResponse, match=r"<= \d+|more than \d+"):
        answered(ANSWERS[shape](2_000_000))
    with pytest.raises(MalformedUpstreamResponse, match=r"<= \d+|more than \d+"):
        stream().receive(ANSWERS[shape](2_000_000))


def event(index=0, part='{"text":"x"}'):
    return (f'{{"candidates":[{{"content":{{"parts":[{part}]}},"index":{index}}}]}}').encode()


def test_a_stream_has_no_more_choices_than_an_answer():
    """Each event may name another one."""
    translator = stream()
    for index in range(MAX_CANDIDATES):
        assert translator.receive(event(index))
    with pytest.raises(MalformedUpstreamResponse, match="more than 64 candidates"):
        translator.receive(event(-1))


def test_a_stream_has_no_calls_without_end():
    """Each of them is remembered for the next turn."""
    translator = stream()
    call = '{"functionCall":{"name":"f"}}'
    for _ in range(MAX_CALLS):
        assert translator.receive(event(part=call))
    with pytest.raises(MalformedUpstreamResponse, match="more than 1000 function calls"):
        translator.receive(event(part=call))


@pytest.mark.parametrize("payload", [b"{}", b'{"candidates":[{}]}', b"[DONE]"])
def test_a_stream_that_says_nothing_ends(payload):
    """Its events are whole and well-formed, and there is no end to them."""
    translator = stream()
    translator.receive(event())
    with pytest.raises(MalformedUpstreamResponse, match="events without content"):
        any(map(translator.receive, itertools.repeat(payload, MAX_EMPTY_EVENTS + 1)))


def test_a_stream_cites_no_places_without_end():
    """Ten thousand in each event, over and over."""
    translator = stream()
    citing = ANSWERS["citations"](400_000)
    with pytest.raises(MalformedUpstreamResponse, match="more than 50000 citations"):
        list(map(translator.receive, [citing] * 10))


def test_chunks_of_a_list_are_merged_as_they_were():
    """A body without ``alt=sse``, of a thousand chunks, some of them without a candidate."""
    chunks = [decode_answer(event(n % 2, f'{{"text":"{n}"}}')) for n in range(999)]
    merged = merge_answers([*chunks, GenerateContentResponse()])
    texts = ["".join(part.text for part in candidate.parts) for candidate in merged.candidates]
    assert texts == ["".join(map(str, range(0, 999, 2))), "".join(map(str, range(1, 999, 2)))]
    alone = Candidate(finish_reason="STOP", index=3)
    assert merge_answers([GenerateContentResponse(candidates=[alone])]).candidates == [alone]
