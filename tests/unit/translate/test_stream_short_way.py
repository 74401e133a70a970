"""Plain texts of a stream have a short way; it leads where the long one does."""

import json
from itertools import count, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.core.errors import GemproxyError
from gemproxy.translate.openai_chat__gemini.context import AnswerContext
from gemproxy.translate.openai_chat__gemini.stream import ChatStreamTranslator
from gemproxy.translate.shared.signatures import SignatureStore

SOURCE = {"web": {"uri": "https://a.example"}}
SUPPORT = {"segment": {"startIndex": 1, "endIndex": 9}, "groundingChunkIndices": [0]}
CITED = {"startIndex": 2, "endIndex": 8, "uri": "https://b.example"}
LOGPROBS = {"chosenCandidates": [{"token": "x", "logProbability": -1}], "topCandidates": []}
BESIDE = [
    {},
    {"index": 0},
    {"index": 1},
    {"finishReason": "STOP"},
    {"finishReason": "MAX_TOKENS"},
    {"finishReason": "CONTINUATION", "continuationToken": "on"},
    {"continuationToken": "further"},
    {"groundingMetadata": {"groundingChunks": [SOURCE], "groundingSupports": [SUPPORT]}},
    {"citationMetadata": {"citationSources": [CITED]}},
    {"logprobsResult": LOGPROBS},
]
CALL = {"functionCall": {"name": "f", "args": {}}}
CONTENTS = [
    {},
    {"parts": []},
    {"parts": [{"text": "Sö "}]},
    {"parts": [{"text": ""}]},
    {"parts": [{"text": "Hm. ", "thought": True}]},
    {"parts": [{"text": "Signed.", "thoughtSignature": "c2ln"}]},
    {"parts": [{"text": "Calls.", **CALL}]},
    {"parts": [{"text": "One. "}, {"text": "Two. "}]},
    {"parts": [{"text": "Before. "}, CALL]},
    {"parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]},
    {"parts": [{"executableCode": {"language": "PYTHON", "code": "1"}}]},
]
AROUND = [
    {},
    {"responseId": "abc"},
    {"usageMetadata": {"promptTokenCount": 2, "candidatesTokenCount": 3}},
    {"usageMetadata": {"totalTokenCount": 9}},
    {"usageMetadata": {"trafficType": "ON_DEMAND"}},
    {"promptFeedback": {"blockReason": "SAFETY"}},
]
CONTEXTS = [{}, {"include_usage": True}, {"logprobs": True, "choices": 2}]
#: Each says nothing, but makes a candidate take the long way.
NOT_PLAIN = [
    {"citationMetadata": {}},
    {"groundingMetadata": {}},
    {"logprobsResult": {}},
    {"continuationToken": ""},
]


def event(content, beside, around):
    return {"candidates": [{"content": content, **beside}], **around}


TEXT = event({"parts": [{"text": "Wörd "}]}, {}, {})
ENDS = [event({}, {"finishReason": reason}, {}) for reason in ("STOP", "CONTINUATION")] + [{}]


def said(told, context):
    """What a translator gives out for each event, and how it ends. ``None`` is the next hop."""
    numbers = count(1)
    translator = ChatStreamTranslator(
        AnswerContext(model="asked-model", **context),
        created=1700,
        new_id=lambda: f"call_{next(numbers)}",
        signatures=SignatureStore(),
    )
    story = []
    for each in told:
        if each is None:
            story.append((translator.continuation, translator.usage))
            translator.resume()
        else:
            story.append(translator.receive(json.dumps(each).encode()))
    story.append((translator.empty, translator.blocked, translator.continuation))
    try:
        story.append(translator.finish())
    except GemproxyError as error:
        story.append(str(error))
    return [*story, translator.usage]


def the_long_way(told, not_plain):
    return [
        each and {**each, "candidates": [not_plain | one for one in each.get("candidates", [])]}
        for each in told
    ]


@pytest.mark.parametrize("beside", BESIDE)
def test_what_stands_beside_a_text_is_not_overlooked(beside):
    for before, content, around, end in product([[TEXT], []], CONTENTS, AROUND, ENDS):
        told = [*before, event(content, beside, around), TEXT, end]
        for context in CONTEXTS:
            assert said(told, context) == said(the_long_way(told, NOT_PLAIN[0]), context)


events = st.builds(
    event, st.sampled_from(CONTENTS), st.sampled_from(BESIDE), st.sampled_from(AROUND)
)


@given(
    told=st.lists(events | st.just(TEXT) | st.none(), max_size=10),
    repeated=st.integers(min_value=0, max_value=40),
    end=st.sampled_from(ENDS),
    not_plain=st.sampled_from(NOT_PLAIN),
    context=st.sampled_from(CONTEXTS),
)
def test_plain_texts_are_translated_as_all_others_are(told, repeated, end, not_plain, context):
    told = [*[TEXT] * repeated, *told, end]
    assert said(told, context) == said(the_long_way(told, not_plain), context)


def test_choice_of_which_nothing_was_given_out_begins_with_its_role():
    second = [event(content, {"index": 1}, {}) for content in (CONTENTS[0], CONTENTS[2])]
    story = said([TEXT, *second, *ENDS], {"choices": 2})
    assert b'{"index":1,"delta":{"role":"assistant","content":""}' in story[2]


def test_candidates_of_one_event_are_all_read():
    further = event(CONTENTS[2], {"index": 1}, {})
    both = {"candidates": TEXT["candidates"] + further["candidates"]}
    story = said([both, both, *ENDS], {})
    assert [story[1].decode().count(text) for text in ("Wörd", "Sö")] == [1, 1]


def test_sources_of_many_plain_texts_stand_where_they_did():
    """So many that they are read in several pieces."""
    told = [event({"parts": [{"text": "ä " * each}]}, {}, {}) for each in range(99)]
    support = {"segment": {"startIndex": 300, "endIndex": 9000}, "groundingChunkIndices": [0]}
    cited = {"groundingMetadata": {"groundingChunks": [SOURCE], "groundingSupports": [support]}}
    told += [event({}, cited, {}), ENDS[0]]
    story = said(told, {})
    assert b'"start_index":200,"end_index":6000' in story[-2]
    assert story == said(the_long_way(told, NOT_PLAIN[0]), {})
