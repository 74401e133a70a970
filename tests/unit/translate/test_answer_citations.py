"""Sources of an answer become annotations with character offsets."""

import json
import time

from hypothesis import given
from hypothesis import strategies as st

from gemproxy.providers.gemini.wire.answers import decode_answer
from gemproxy.translate.openai_chat__gemini.answer import to_openai
from gemproxy.translate.openai_chat__gemini.context import AnswerContext
from gemproxy.translate.shared.citations import TextOffsets
from gemproxy.translate.shared.signatures import SignatureStore

CHUNKS = [
    {"web": {"uri": "https://a.example/", "title": "A"}},
    {"web": {"uri": "https://b.example/"}},
    {"retrievedContext": {"title": "a file without an address"}},
    {"maps": {"uri": "https://maps.example/", "title": "A place"}},
]


def support(start, end, *numbers, part=None):
    segment = {"startIndex": start, "endIndex": end, "partIndex": part}
    return {"segment": segment, "groundingChunkIndices": list(numbers)}


def grounded(texts, *supports, **fields):
    return {
        "candidates": [
            {
                "content": {"parts": [{"text": each} for each in texts]},
                "finishReason": "STOP",
                "groundingMetadata": {
                    "groundingChunks": CHUNKS,
                    "groundingSupports": list(supports),
                },
                **fields,
            }
        ]
    }


def message(*answers):
    completed = to_openai(
        [decode_answer(json.dumps(answer).encode()) for answer in answers],
        AnswerContext(model="m"),
        created=1,
        new_id=lambda: "call_1",
        signatures=SignatureStore(),
    )
    return json.loads(completed.body)["choices"][0]["message"]


def cited(*answers):
    """The annotations as (cited text, title, address)."""
    made = message(*answers)
    found = []
    for annotation in made.get("annotations", []):
        if annotation["type"] == "file_citation":
            continue
        citation = annotation["url_citation"]
        passage = made["content"][citation["start_index"] : citation["end_index"]]
        found.append((passage, citation["title"], citation["url"]))
    return found


def test_byte_offsets_become_character_offsets():
    text = "Käse aus Köln 😀, sagt man."
    start, end = text.encode().index("Köln".encode()), len("Käse aus Köln 😀".encode())
    assert cited(grounded([text], support(start, end, 0))) == [
        ("Köln 😀", "A", "https://a.example/")
    ]


def test_a_segment_without_a_start_begins_at_the_first_byte():
    made = grounded(["Öl. Wein."], support(None, 4, 0))
    metadata = made["candidates"][0]["groundingMetadata"]
    del metadata["groundingSupports"][0]["segment"]["startIndex"]
    del metadata["groundingSupports"][0]["segment"]["partIndex"]
    assert cited(made) == [("Öl.", "A", "https://a.example/")]


def test_offsets_count_from_the_part_that_is_named():
    assert cited(grounded(["Äpfel. ", "Birnen. ", "Öl."], support(0, 3, 0, part=2))) == [
        ("Öl", "A", "https://a.example/")
    ]


def test_offsets_that_name_no_part_count_from_the_first_text():
    made = grounded(["Äpfel."], support(0, 6, 0))
    made["candidates"][0]["content"]["parts"].insert(0, {"text": "Hm, hm, hm.", "thought": True})
    assert cited(made) == [("Äpfel", "A", "https://a.example/")]


def test_offsets_after_shown_code_still_fit():
    made = grounded(["Here: "], support(0, 4, 0, part=3))
    made["candidates"][0]["content"]["parts"] += [
        {"executableCode": {"code": "ö"}},
        {"codeExecutionResult": {"output": "1"}},
        {"text": "Done."},
    ]
    assert cited(made) == [("Done", "A", "https://a.example/")]


def test_each_source_of_a_segment_is_cited_and_needs_an_address():
    assert cited(grounded(["abcdef"], support(0, 3, 0, 1, 2, 3, 99, -1))) == [
        ("abc", "A", "https://a.example/"),
        ("abc", "https://b.example/", "https://b.example/"),
        ("abc", "A place", "https://maps.example/"),
    ]


def files(*answers):
    made = message(*answers)
    found = made.get("annotations", [])
    assert [each["index"] for each in found if "index" in each] == [
        place for place, each in enumerate(found) if each["type"] == "file_citation"
    ]
    return [each["filename"] for each in found if each["type"] == "file_citation"]


def test_a_file_without_an_address_is_cited_by_its_name():
    made = message(grounded(["abcdef"], support(0, 3, 2)))
    assert made["annotations"] == [
        {
            "index": 0,
            "type": "file_citation",
            "filename": "a file without an address",
            "file_id": "",
        }
    ]


def test_a_file_is_named_once_however_often_it_is_cited():
    supports = [support(0, 3, 0, 2), support(3, 6, 2), support(0, 6, 1)]
    assert files(grounded(["abcdef"], *supports)) == ["a file without an address"]
    assert files(grounded(["abc"], support(0, 3, 2)), grounded(["def"], support(0, 3, 2))) == [
        "a file without an address"
    ]


def test_a_document_with_an_address_is_a_page_and_a_nameless_one_is_nothing():
    made = grounded(["abcdef"], support(0, 3, 0, 1))
    made["candidates"][0]["groundingMetadata"]["groundingChunks"] = [
        {"retrievedContext": {"title": "T", "uri": "https://t.example/"}},
        {"retrievedContext": {"fileSearchStore": "fileSearchStores/x"}},
    ]
    assert cited(made) == [("abc", "T", "https://t.example/")]
    assert files(made) == []


def test_the_same_place_and_address_is_cited_once():
    made = grounded(["abcdef"], support(0, 3, 0), support(0, 3, 0), support(3, 6, 0))
    assert [passage for passage, *_ in cited(made)] == ["abc", "def"]


def test_offsets_outside_of_the_text_are_moved_to_its_edge():
    made = message(grounded(["abc"], support(1, 900, 0), support(700, 900, 0), support(2, 1, 0)))
    places = [
        (a["url_citation"]["start_index"], a["url_citation"]["end_index"])
        for a in made["annotations"]
    ]
    assert places == [(1, 3), (3, 3), (2, 2)]


def test_citations_of_both_spellings_count_from_the_start():
    sources = [{"endIndex": 3, "uri": "https://c.example/"}, {"startIndex": 1, "endIndex": 2}]
    more = [{"startIndex": 3, "endIndex": 6, "uri": "https://d.example/", "title": "D"}]
    made = grounded(
        ["abc", "def"], citationMetadata={"citationSources": sources, "citations": more}
    )
    assert cited(made) == [
        ("abc", "https://c.example/", "https://c.example/"),
        ("def", "D", "https://d.example/"),
    ]


def test_offsets_and_source_numbers_begin_again_with_each_hop():
    first = grounded(["Größe. "], support(0, 7, 1), finishReason="CONTINUATION")
    second = grounded(["Maß."], support(0, 4, 0))
    assert cited(first, second) == [
        ("Größe", "https://b.example/", "https://b.example/"),
        ("Maß", "A", "https://a.example/"),
    ]


def test_citations_of_a_later_hop_count_from_its_start():
    first = {"candidates": [{"content": {"parts": [{"text": "Öl. "}]}, "finishReason": "STOP"}]}
    source = {"endIndex": 3, "uri": "https://c.example/"}
    second = grounded(["Maß."], citationMetadata={"citationSources": [source]})
    assert [passage for passage, *_ in cited(first, second)] == ["Ma"]


def test_answer_without_sources_has_no_annotations():
    assert "annotations" not in message(grounded(["abc"]))


@given(st.lists(st.text(max_size=8)))
def test_every_character_boundary_is_found(pieces):
    offsets = TextOffsets()
    for piece in pieces:
        offsets.append(piece)
    text = "".join(pieces)
    boundaries = {len(text[:place].encode()): place for place in range(len(text) + 1)}
    assert offsets.characters_at(boundaries) == boundaries
    assert offsets.characters_at([10_000, -5]) == {-5: 0, 10_000: len(text)}


@given(st.text(max_size=20), st.lists(st.integers(min_value=0, max_value=100)))
def test_offset_within_a_character_is_moved_to_its_start(text, wanted):
    offsets = TextOffsets()
    offsets.append(text)
    expected = {each: len(text.encode()[:each].decode(errors="ignore")) for each in wanted}
    assert offsets.characters_at(wanted) == expected


def test_thousands_of_sources_of_a_long_text_cost_one_reading_of_it():
    """Reading the text again for each source would take minutes."""
    text = "Käse, " * 200_000
    offsets = TextOffsets()
    offsets.append(text)
    began = time.process_time()
    found = offsets.characters_at(range(0, offsets.bytes, 70))
    assert time.process_time() - began < 5
    assert all(found[7 * each] == 6 * each for each in range(0, 200_000, 10))
