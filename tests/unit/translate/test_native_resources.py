"""What is read from answers about resources, which pass as they came."""

import json

import pytest

from gemproxy.core.errors import ErrorInAnswer, MalformedUpstreamResponse, StreamIncomplete
from gemproxy.translate.gemini_native__gemini.requests import interaction_resources, named_resources
from gemproxy.translate.gemini_native__gemini.resources import (
    StreamedInteraction,
    WholeResource,
    read_page,
    with_downloads_from,
    write_page,
)

USAGE = {"total_input_tokens": 5, "total_thought_tokens": 2, "total_output_tokens": 7}
FILE = "https://generativelanguage.googleapis.com/v1beta/files/abc"


ORIGIN = "https://proxy.example:8443"


@pytest.fixture
def learned():
    return []


@pytest.fixture
def learn(learned):
    return lambda name, _description: learned.append(name)


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        ({"name": "files/x", "sizeBytes": "9"}, ["files/x"]),
        ({"file": {"name": "files/y"}}, ["files/y"]),
        ({"id": "i1", "status": "completed"}, ["interactions/i1"]),
        ({"name": "batches/b", "done": True, "error": {"code": 3}}, ["batches/b"]),
        ({}, []),
        ({"name": 7}, []),
    ],
)
def test_a_resource_passes_and_its_name_is_learned(learn, learned, answer, names):
    body = json.dumps(answer, indent=3).encode()
    whole = WholeResource(learn)
    whole.receive(body)
    assert whole.encode().body == body
    assert learned == names


def test_downloads_lead_to_this_proxy():
    google = "https://generativelanguage.googleapis.com"
    answer = {
        "name": "files/x",
        "uri": f"{google}/v1beta/files/x",
        "downloadUri": f"{google}/download/v1beta/files/x:download?alt=media",
        "outputs": [{"uri": f"{google}/v1/files/y:download?alt=media"}],
        "text": f'See "{google}/v1/files/y:download".',
        "other": "https://example.org/v1/files/y:download",
    }
    body = json.dumps(answer)
    wanted = body.replace(f'"{google}/download', f'"{ORIGIN}/download')
    wanted = wanted.replace(f'"uri": "{google}/v1/', f'"uri": "{ORIGIN}/v1/')
    assert with_downloads_from("", body.encode()) == body.encode()
    assert with_downloads_from(ORIGIN, body.encode()) == wanted.encode()
    whole = WholeResource(lambda *_: None, ORIGIN)
    whole.receive(body.encode())
    assert whole.encode().body == wanted.encode()
    stream = StreamedInteraction(lambda *_: None, ORIGIN)
    sent = stream.receive(f"data: {body}\n\n".encode())
    assert sent == f"data: {wanted}\n\n".encode()


def test_an_error_in_place_of_a_resource_is_none(learn):
    with pytest.raises(ErrorInAnswer):
        WholeResource(learn).receive(b'{"error": {"code": 500}}')
    with pytest.raises(MalformedUpstreamResponse):
        WholeResource(learn).receive(b"<html>")


def event(name, **fields):
    data = json.dumps({"event_type": name, **fields})
    return f"event: {name}\ndata: {data}\n\n".encode()


def test_the_stream_of_an_interaction_passes(learn, learned):
    stream = StreamedInteraction(learn)
    events = [
        event("interaction.created", interaction={"id": "i1"}),
        event("step.delta", delta={"text": "hi"}),
        event("interaction.completed", interaction={"id": "i1", "usage": USAGE}),
    ]
    assert [stream.receive(each) for each in events] == events
    assert stream.finish() == b""
    assert (stream.usage.input, stream.usage.output, stream.usage.reasoning) == (5, 9, 2)
    assert set(learned) == {"interactions/i1"}


def test_the_ends_of_the_stream_of_an_interaction(learn):
    with pytest.raises(ErrorInAnswer):
        StreamedInteraction(learn).receive(event("error", error={"code": "internal"}))
    for last in (
        event("error", error={"code": "internal"}),
        event("interaction.status_update", status="failed"),
    ):
        stream = StreamedInteraction(learn)
        stream.receive(event("interaction.created", interaction={"id": "i1"}))
        with pytest.raises(StreamIncomplete):
            stream.finish()
        assert stream.receive(last) == last
        stream.finish()


def test_a_list_is_put_together_of_the_entries_as_they_came():
    page = read_page(b'{"files": [{"n" : 1.0}, {"m":"2"}], "nextPageToken": "t"}', "files")
    assert page.next_page_token == "t"
    assert write_page("files", page.items, "") == b'{"files":[{"n" : 1.0},{"m":"2"}]}'
    assert read_page(b"{}", "files").items == []
    with pytest.raises(MalformedUpstreamResponse):
        read_page(b"[]", "files")


def test_what_interactions_and_batches_name():
    body = {
        "previous_interaction_id": "i0",
        "input": [{"type": "image", "uri": FILE}, {"type": "image", "uri": "https://x.example/y"}],
    }
    names = interaction_resources(json.dumps(body).encode())
    assert sorted(names) == ["files/abc", "interactions/i0"]
    batch = {"batch": {"input_config": {"file_name": "files/in"}}}
    assert named_resources(json.dumps(batch).encode()) == ["files/in"]
