"""Resources of a project: uploads, downloads, and who may read what."""

import json

import pytest

ONE, TWO = ("test-key-one-0123456789abcdef", "test-key-two-0123456789abcdef")
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 300


def ask(client, method, url, body=b"", key=ONE, **headers):
    if key:
        headers["x_goog_api_key"] = key
    return client.request(method, url, body, **headers)


def head(reply):
    return reply.steps[0].headers


def uploaded(client, key=ONE):
    """A file that was uploaded in two pieces, the second call without a key."""
    begun = ask(
        client,
        "POST",
        "/upload/v1beta/files",
        b'{"file": {"display_name": "picture"}}',
        key,
        x_goog_upload_protocol="resumable",
        x_goog_upload_command="start",
        x_goog_upload_header_content_type="image/png",
    )
    _, _, url = head(begun)["x-goog-upload-url"].partition("//")
    path = url[url.index("/") :]
    half = len(PICTURE) // 2
    for command, offset, piece in (
        ("upload", 0, PICTURE[:half]),
        ("upload, finalize", half, PICTURE[half:]),
    ):
        reply = ask(
            client,
            "POST",
            path,
            piece,
            None,
            x_goog_upload_command=command,
            x_goog_upload_offset=str(offset),
        )
    assert head(reply)["x-goog-upload-status"] == "final"
    return reply.json["file"]


def test_a_file_is_its_projects(client):
    file = uploaded(client)
    assert (file["mimeType"], file["sizeBytes"]) == ("image/png", str(len(PICTURE)))
    url = f"/v1/{file['name']}"
    assert ask(client, "GET", url).json == file
    assert ask(client, "GET", "/v1/files").json == {"files": [file]}
    assert ask(client, "GET", "/v1/files", key=TWO).json == {}
    refused = ask(client, "GET", url, key=TWO)
    assert (refused.status, refused.error["status"]) == (403, "PERMISSION_DENIED")
    part = {"fileData": {"fileUri": file["uri"], "mimeType": "image/png"}}
    body = json.dumps({"contents": [{"parts": [{"text": "What is it?"}, part]}]}).encode()
    generate = "/v1/models/gemini-3.8-flash:generateContent"
    assert ask(client, "POST", generate, body).status == 200
    assert ask(client, "POST", generate, body, key=TWO).status == 403
    assert ask(client, "DELETE", url).status == 200
    assert ask(client, "GET", url).status == 403


def test_a_download_is_a_redirect_that_repeats_the_key(client):
    file = uploaded(client)
    redirect = ask(client, "GET", f"/v1beta/{file['name']}:download?alt=media", host="here:1")
    assert redirect.status == 302
    assert head(redirect)["x-goog-api-key"] == ONE
    location = head(redirect)["location"].removeprefix("http://here:1")
    assert ask(client, "GET", location).data == PICTURE


@pytest.mark.parametrize(
    ("url", "document", "collection"),
    [
        ("/v1/cachedContents", {"model": "models/gemini-3.8-flash"}, "cachedContents"),
        ("/v1/fileSearchStores", {"displayName": "books"}, "fileSearchStores"),
        ("/v1/models/gemini-3.8-flash:batchGenerateContent", {"batch": {}}, "operations"),
    ],
)
def test_what_is_made_is_listed_and_ended(client, url, document, collection):
    made = ask(client, "POST", url, json.dumps(document).encode()).json
    place = made["name"].partition("/")[0]
    assert ask(client, "GET", f"/v1/{place}").json[collection] == [made]
    assert ask(client, "GET", f"/v1/{made['name']}", key=TWO).status == 403
    assert ask(client, "DELETE", f"/v1/{made['name']}").json == {}


def test_interactions_are_kept_unless_the_client_does_not_want_it(client):
    body = {"model": "gemini-3.8-flash", "input": "hi"}
    made = ask(client, "POST", "/v1/interactions", json.dumps(body).encode()).json
    assert ask(client, "GET", f"/v1/interactions/{made['id']}").json == made
    unkept = ask(client, "POST", "/v1/interactions", json.dumps({**body, "store": False}).encode())
    assert ask(client, "GET", f"/v1/interactions/{unkept.json['id']}").status == 403
