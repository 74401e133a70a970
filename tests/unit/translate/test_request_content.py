"""Content parts: images, audio, files, and what is refused among them."""

import base64
import json
import time

import pytest

from gemproxy.api.openai.schema.requests import decode_chat_completion
from gemproxy.core.errors import InvalidRequest
from gemproxy.translate.openai_chat__gemini.request import to_gemini
from gemproxy.translate.shared.signatures import SignatureStore

BEFORE_3, MODERN = "gemini-2.5-flash", "gemini-3.8-flash"
DATA = "QUJDRA=="
FILES = "https://generativelanguage.googleapis.com/v1beta/files/"


def translated(part, model=BEFORE_3):
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": [part]}]}).encode()
    return to_gemini(decode_chat_completion(body), model=model, signatures=SignatureStore())


def native(part, model=BEFORE_3):
    (content,) = json.loads(bytes(translated(part, model).body))["contents"]
    (only,) = content["parts"]
    return only


def refusal(part):
    with pytest.raises(InvalidRequest) as caught:
        native(part)
    return caught.value


def image(url, **more):
    return {"type": "image_url", "image_url": {"url": url, **more}}


def audio(data, kind="wav"):
    return {"type": "input_audio", "input_audio": {"data": data, "format": kind}}


def file(**fields):
    return {"type": "file", "file": fields}


def video(url):
    return {"type": "video_url", "video_url": {"url": url}}


def inline(mime_type, data=DATA):
    return {"inlineData": {"mimeType": mime_type, "data": data}}


def remote(uri, mime_type=None):
    return {"fileData": {"fileUri": uri} | ({"mimeType": mime_type} if mime_type else {})}


@pytest.mark.parametrize(
    ("url", "mime_type"),
    [
        (f"data:image/png;base64,{DATA}", "image/png"),
        (f"data:image/jpg;base64,{DATA}", "image/jpeg"),
        (f"data:IMAGE/JPEG;base64,{DATA}", "image/jpeg"),
        (f"DATA:image/webp;charset=utf-8;base64,{DATA}", "image/webp"),
        (f"data:image/heic;base64,{DATA}", "image/heic"),
        (f"data:image/heif;base64,{DATA}", "image/heif"),
    ],
)
def test_an_image_in_a_data_url(url, mime_type):
    assert native(image(url)) == inline(mime_type)


def test_an_image_as_a_bare_string():
    part = {"type": "image_url", "image_url": f"data:image/png;base64,{DATA}"}
    assert native(part) == inline("image/png")


def test_line_breaks_in_base64_are_taken_out():
    assert native(image("data:image/png;base64,QUJD\r\nRA==\n")) == inline("image/png")


@pytest.mark.parametrize(
    "data", ["", "QUJ", "QUJDR", "QUJ!", "Q=JD", "=UJD", "QU=D", "====", "QUJé", "QUJ-", "Q==="]
)
def test_malformed_base64_is_refused(data):
    error = refusal(image(f"data:image/png;base64,{data}"))
    assert error.param == "messages[0].content[0].image_url.url"
    assert "base64" in error.message


@pytest.mark.parametrize("size", [1, 2, 3, 65_533, 65_536, 65_537, 131_072, 200_001])
def test_base64_of_any_size_passes_and_one_wrong_character_does_not(size):
    data = base64.b64encode(bytes(size)).decode()
    assert native(image(f"data:image/png;base64,{data}")) == inline("image/png", data)
    for place in (0, len(data) // 2):
        wrong = data[:place] + "!" + data[place + 1 :]
        assert refusal(image(f"data:image/png;base64,{wrong}")).param.endswith("url")


@pytest.mark.parametrize(
    "url",
    ["data:", "data:image/png", "data:image/png,QUJD", "data:;base64,QUJD", "data:x;base64,Q"],
)
def test_a_malformed_data_url_is_refused(url):
    assert refusal(image(url)).param == "messages[0].content[0].image_url.url"


@pytest.mark.parametrize("kind", ["svg+xml", "bmp", "tiff"])
def test_images_that_gemini_cannot_read_are_refused(kind):
    error = refusal(image(f"data:image/{kind};base64,{DATA}"))
    assert error.param == "messages[0].content[0].image_url.url"
    assert f"image/{kind}" in error.message
    assert "png, jpeg, webp" in error.message


def test_something_else_than_an_image_is_refused_as_an_image():
    assert "expected an image" in refusal(image(f"data:video/mp4;base64,{DATA}")).message


@pytest.mark.parametrize(
    ("url", "mime_type"),
    [
        ("https://a.example/b/c.png", "image/png"),
        ("https://a.example/b/c.JPG?size=3#x", "image/jpeg"),
        ("http://a.example/b%2Ewebp", "image/webp"),
        ("https://a.example/picture", "image/jpeg"),
        ("gs://bucket/c.png", "image/png"),
        (FILES + "abc", None),
        ("https://www.youtube.com/watch?v=abc", None),
        ("https://youtu.be/abc", None),
    ],
)
def test_an_image_elsewhere_is_named_to_google(url, mime_type):
    assert native(image(url)) == remote(url, mime_type)


def test_a_bitmap_elsewhere_is_refused():
    assert "image/bmp" in refusal(image("https://a.example/b.bmp")).message


@pytest.mark.parametrize(
    "url", ["ftp://a.example/b.png", "file:///etc/passwd", "b.png", "https://", "http://[", "x"]
)
def test_other_addresses_are_refused(url):
    assert refusal(image(url)).param == "messages[0].content[0].image_url.url"


@pytest.mark.parametrize(
    ("detail", "level"),
    [
        ("low", "MEDIA_RESOLUTION_LOW"),
        ("high", "MEDIA_RESOLUTION_HIGH"),
        ("original", "MEDIA_RESOLUTION_ULTRA_HIGH"),
    ],
)
def test_detail_is_a_resolution_on_3_and_nothing_before(detail, level):
    part = image(f"data:image/png;base64,{DATA}", detail=detail)
    assert native(part, MODERN) == inline("image/png") | {"mediaResolution": {"level": level}}
    assert native(part, BEFORE_3) == inline("image/png")


def test_detail_auto_is_left_to_the_model():
    part = image(f"data:image/png;base64,{DATA}", detail="auto")
    assert native(part, MODERN) == inline("image/png")


@pytest.mark.parametrize("kind", ["wav", "mp3", "aiff", "aac", "ogg", "flac"])
def test_audio(kind):
    assert native(audio(DATA, kind)) == inline(f"audio/{kind}")


def test_audio_in_a_data_url():
    assert native(audio(f"data:audio/x-wav;base64,{DATA}")) == inline("audio/wav")


def test_malformed_audio_is_refused():
    assert refusal(audio("!!!!")).param == "messages[0].content[0].input_audio.data"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"file_data": f"data:application/pdf;base64,{DATA}"}, inline("application/pdf")),
        ({"file_data": DATA, "filename": "a.PDF"}, inline("application/pdf")),
        ({"file_data": DATA, "filename": "notes.md"}, inline("text/markdown")),
        ({"file_data": DATA, "format": "video/mp4"}, inline("video/mp4")),
        ({"file_id": "abc-1"}, remote(FILES + "abc-1")),
        ({"file_id": "files/abc-1"}, remote(FILES + "abc-1")),
        ({"file_id": FILES + "abc-1"}, remote(FILES + "abc-1")),
        ({"file_id": "abc", "filename": "a.pdf"}, remote(FILES + "abc", "application/pdf")),
        (
            {"file_id": "https://a.example/b.pdf"},
            remote("https://a.example/b.pdf", "application/pdf"),
        ),
    ],
)
def test_files(fields, expected):
    assert native(file(**fields)) == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "file"),
        ({"filename": "a.pdf"}, "file"),
        ({"file_data": DATA}, "file.filename"),
        ({"file_data": DATA, "filename": "a.unheard"}, "file.filename"),
        ({"file_data": "!", "filename": "a.pdf"}, "file.file_data"),
        ({"file_data": f"data:image/bmp;base64,{DATA}"}, "file.file_data"),
        ({"file_id": "../models"}, "file.file_id"),
        ({"file_data": DATA, "format": "a/b/c"}, "file.format"),
    ],
)
def test_files_that_are_refused(fields, param):
    assert refusal(file(**fields)).param == f"messages[0].content[0].{param}"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"data:video/mp4;base64,{DATA}", inline("video/mp4")),
        ("https://a.example/b.webm", remote("https://a.example/b.webm", "video/webm")),
        ("https://a.example/b", remote("https://a.example/b", "video/mp4")),
        ("https://youtu.be/b", remote("https://youtu.be/b")),
    ],
)
def test_videos(url, expected):
    assert native(video(url)) == expected


@pytest.mark.parametrize(
    ("part", "resources"),
    [
        (file(file_id="abc"), ["files/abc"]),
        (image("gs://bucket/c.png"), ["gs://bucket/c.png"]),
        (image(FILES + "abc"), ["files/abc"]),
        (image("https://a.example/c.png"), []),
        (image(f"data:image/png;base64,{DATA}"), []),
    ],
)
def test_files_of_a_project_bind_the_request_to_it(part, resources):
    assert list(translated(part).resources) == resources


def test_media_counts_as_media_and_not_as_text():
    big = base64.b64encode(bytes(300_000)).decode()
    tokens = translated(image(f"data:image/png;base64,{big}")).estimated_tokens
    assert 500 < tokens < 5_000


def test_five_megabytes_are_translated_quickly():
    part = image("data:image/png;base64," + base64.b64encode(bytes(3_900_000)).decode())
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": [part]}]}).encode()
    request = decode_chat_completion(body)
    begun = time.process_time()
    to_gemini(request, model=MODERN, signatures=SignatureStore())
    # Some 5 ms where this was written; a second look at every byte in Python would take 500.
    assert time.process_time() - begun < 0.1
