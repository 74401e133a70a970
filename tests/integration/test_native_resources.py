"""Files, caches, batches, stores and interactions at the daemon, over keys of several projects."""

import base64
import json

import pytest
from fakes.running import RunningDaemon, keys_of, secret_of
from fakes.wire import MODEL, Wire, ask

GENERATE = f"/v1beta/models/{MODEL}:generateContent"
PROJECTS = ("alpha", "beta", "gamma")


@pytest.fixture(scope="module")
def shared(simulator, tmp_path_factory):
    """A daemon with keys of three projects."""
    running = RunningDaemon(tmp_path_factory.mktemp("daemon"), simulator.url, keys_of(*PROJECTS))
    yield running
    running.stop()


@pytest.fixture
def daemon(shared, simulator):
    simulator.reset()
    return shared


def made(daemon, collection, **fields):
    got = ask(daemon, "POST", f"/v1beta/{collection}", fields)
    assert got.status == 200, got.body
    return got.json


def about(file, text="What is it?"):
    part = {"fileData": {"fileUri": file["uri"], "mimeType": "text/plain"}}
    return {"contents": [{"role": "user", "parts": [{"text": text}, part]}]}


def upstream_file(simulator, name):
    """A file of the project of one key, uploaded past the daemon."""
    import urllib.request

    request = urllib.request.Request(
        f"{simulator.url}/upload/v1beta/files",
        data=b"some text of " + name.encode(),
        headers={
            "X-Goog-Api-Key": secret_of(name),
            "X-Goog-Upload-Protocol": "raw",
            "Content-Type": "text/plain",
        },
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)["file"]


def last_key(simulator):
    return simulator.requests()[-1]["key"]


class TestAffinity:
    def test_a_file_is_used_with_keys_of_its_project(self, daemon, simulator):
        for name in PROJECTS:
            file = upstream_file(simulator, name)
            for _ in range(3):
                assert ask(daemon, "POST", GENERATE, about(file)).status == 200
                assert last_key(simulator) == name
            got = ask(daemon, "GET", f"/v1beta/{file['name']}")
            assert (got.status, got.json) == (200, file)
            assert ask(daemon, "DELETE", f"/v1beta/{file['name']}").status == 200
            assert ask(daemon, "GET", f"/v1beta/{file['name']}").status in (403, 404)

    def test_files_of_two_projects_cannot_be_in_one_request(self, daemon, simulator):
        first, second = (upstream_file(simulator, name) for name in PROJECTS[:2])
        body = about(first)
        body["contents"] += about(second)["contents"]
        got = ask(daemon, "POST", GENERATE, body)
        assert (got.status, got.json["error"]["status"]) == (400, "INVALID_ARGUMENT")
        assert "different projects" in got.json["error"]["message"]

    def test_a_cache_is_made_with_an_alias_and_used(self, start_daemon, simulator):
        daemon = start_daemon(keys_of(*PROJECTS), models={"aliases": {"mine": MODEL}})
        cache = made(daemon, "cachedContents", model="models/mine", contents=[], ttl="300s")
        assert simulator.requests()[-1]["body"]["model"] == f"models/{MODEL}"
        key = last_key(simulator)
        body = {"contents": [{"parts": [{"text": "hi"}]}], "cachedContent": cache["name"]}
        for _ in range(3):
            assert ask(daemon, "POST", GENERATE, body).status == 200
            assert last_key(simulator) == key
        patched = ask(daemon, "PATCH", f"/v1beta/{cache['name']}?updateMask=ttl", {"ttl": "9s"})
        assert (patched.status, last_key(simulator)) == (200, key)
        assert simulator.requests()[-1]["query"] == {"updateMask": "ttl"}

    def test_a_batch_with_an_input_file(self, daemon, simulator):
        file = upstream_file(simulator, "beta")
        body = {"batch": {"inputConfig": {"fileName": file["name"]}}}
        got = ask(daemon, "POST", f"/v1beta/models/{MODEL}:batchGenerateContent", body)
        assert (got.status, last_key(simulator)) == (200, "beta")
        name = got.json["name"]
        assert ask(daemon, "GET", f"/v1beta/{name}").json == got.json
        assert ask(daemon, "POST", f"/v1beta/{name}:cancel", {}).status == 200
        assert ask(daemon, "DELETE", f"/v1beta/{name}").status == 200
        assert {each["key"] for each in simulator.requests()[-4:]} == {"beta"}

    def test_a_batch_is_cancelled_without_a_body(self, daemon):
        path = f"/v1beta/models/{MODEL}:batchGenerateContent"
        name = ask(daemon, "POST", path, {"batch": {}}).json["name"]
        with Wire(daemon) as wire:
            # As curl asks without data.
            wire.send(f"POST /v1beta/{name}:cancel HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert wire.receive().status == 200
        typed = ask(daemon, "POST", f"/v1beta/{name}:cancel", b"x=1", content_type="text/plain")
        assert (typed.status, typed.json["error"]["status"]) == (400, "INVALID_ARGUMENT")

    def test_interactions_go_on_with_the_same_project(self, daemon, simulator):
        first = made(daemon, "interactions", model=MODEL, input="hi")
        key = last_key(simulator)
        for _ in range(3):
            following = made(
                daemon, "interactions", model=MODEL, input="on", previous_interaction_id=first["id"]
            )
            assert last_key(simulator) == key
        got = ask(daemon, "GET", f"/v1beta/interactions/{following['id']}?stream=false")
        assert (got.status, got.json["id"]) == (200, following["id"])

    def test_a_project_out_of_quota_is_not_left(self, start_daemon, simulator):
        daemon = start_daemon(keys_of(*PROJECTS))
        file = upstream_file(simulator, "alpha")
        simulator.behave("alpha", "rate-limited")
        got = ask(daemon, "POST", GENERATE, about(file))
        assert (got.status, got.json["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
        assert "cannot move" in got.json["error"]["message"]

    def test_what_was_learned_outlives_a_restart(self, start_daemon, simulator, tmp_path):
        persistence = {"path": str(tmp_path / "a.db"), "fallbackPath": str(tmp_path / "a.json")}
        first = start_daemon(keys_of(*PROJECTS), persistence=persistence)
        store = made(first, "fileSearchStores", displayName="books")
        key = last_key(simulator)
        first.stop()
        second = start_daemon(keys_of(*PROJECTS), persistence=persistence)
        seen = len(simulator.requests())
        assert ask(second, "GET", f"/v1beta/{store['name']}").json == store
        assert [each["key"] for each in simulator.requests()[seen:]] == [key]


@pytest.mark.parametrize("rewrite", [False, True])
def test_the_address_of_a_download(start_daemon, simulator, rewrite):
    daemon = start_daemon(keys_of("alpha"), proxy={"rewriteDownloadUris": rewrite})
    file = upstream_file(simulator, "alpha")
    got = ask(daemon, "GET", f"/v1beta/{file['name']}").json
    listed = ask(daemon, "GET", "/v1beta/files").json["files"]
    assert listed == [got]
    assert got["uri"] == file["uri"]
    if not rewrite:
        assert got == file
        return
    here = "http://localhost"
    assert got["downloadUri"].startswith(f"{here}/download/v1beta/files/")
    down = ask(daemon, "GET", got["downloadUri"].removeprefix(here), x_goog_api_key="any")
    assert (down.status, len(down.body)) == (200, int(file["sizeBytes"]))


class TestLists:
    def test_all_projects_page_by_page(self, daemon, simulator):
        names = [
            upstream_file(simulator, project)["name"]
            for project, count in (("alpha", 3), ("gamma", 2))
            for _ in range(count)
        ]
        for size in (1, 2, 3, 4, 5, 50):
            found, token, pages = [], "", 0
            while True:
                more = f"&pageToken={token}" if token else ""
                page = ask(daemon, "GET", f"/v1beta/files?pageSize={size}{more}").json
                found += [each["name"] for each in page["files"]]
                pages += 1
                assert page["files"]
                token = page.get("nextPageToken", "")
                if not token:
                    break
            assert found == names
            assert pages == -(-len(names) // size)
        # What was listed need not be searched for.
        seen = len(simulator.requests())
        assert ask(daemon, "GET", f"/v1beta/{names[-1]}").status == 200
        assert [each["key"] for each in simulator.requests()[seen:]] == ["gamma"]

    def test_nothing(self, daemon, simulator):
        assert ask(daemon, "GET", "/v1beta/cachedContents").json == {"cachedContents": []}
        assert {each["key"] for each in simulator.requests()} == set(PROJECTS)

    @pytest.mark.parametrize(
        "query",
        [
            "pageToken=abc",
            "pageToken=%C3%A9",
            "pageToken=" + base64.urlsafe_b64encode(b'["beta","1"]').decode(),
            "pageToken=" + base64.urlsafe_b64encode(b'["pa","t",' + b"[" * 3000).decode(),
            "pageSize=" + "0" * 5000,
            "pageSize=-1",
            "pageSize=%D9%A3",
            "alt=proto",
        ],
    )
    def test_strange_parameters(self, daemon, query):
        got = ask(daemon, "GET", f"/v1beta/files?{query}")
        assert (got.status, got.json["error"]["status"]) == (400, "INVALID_ARGUMENT")

    def test_a_token_shows_no_project_and_fits_its_own_list_only(self, daemon, simulator):
        for _ in range(2):
            upstream_file(simulator, "alpha")
        token = ask(daemon, "GET", "/v1beta/files?pageSize=1").json["nextPageToken"]
        assert b"alpha" not in base64.urlsafe_b64decode(token)
        for path in ("files", "batches"):
            got = ask(daemon, "GET", f"/v1beta/{path}?pageSize=1&pageToken={token}")
            assert got.status == (200 if path == "files" else 400)
        changed = base64.urlsafe_b64encode(base64.urlsafe_b64decode(token) + b"1").decode()
        assert ask(daemon, "GET", f"/v1beta/files?pageToken={changed}").status == 400

    def test_a_rejected_key_hides_no_other_project(self, start_daemon, simulator):
        daemon = start_daemon(keys_of(*PROJECTS))
        file = upstream_file(simulator, "beta")
        simulator.behave("alpha", "invalid")
        assert ask(daemon, "GET", "/v1beta/files").json["files"] == [file]

    def test_one_project_passes_as_it_came(self, start_daemon, simulator):
        daemon = start_daemon(keys_of("alpha"))
        file = upstream_file(simulator, "alpha")
        got = ask(daemon, "GET", "/v1/files?pageSize=5", x_goog_api_key="any")
        assert b'"files": [\n' in got.body
        assert got.json == {"files": [file]}


class TestDownloads:
    @pytest.mark.parametrize("path", ["/v1beta/{}:download?alt=media", "/download/v1/{}:download"])
    def test_the_redirect_is_followed_inside(self, daemon, simulator, path):
        file = upstream_file(simulator, "beta")
        with Wire(daemon) as wire:
            got = wire.ask("GET", path.format(file["name"]), cookie="a=b")
            again = wire.ask("GET", path.format(file["name"]))
        assert (got.status, got.body) == (200, b"some text of beta")
        assert got.headers["content-type"] == "text/plain"
        assert "location" not in got.headers
        assert secret_of("beta").encode() not in got.head
        assert again.body == got.body

    def test_a_file_that_is_not_there(self, daemon):
        got = ask(daemon, "GET", "/v1beta/files/nothing:download?alt=media")
        assert got.status in (403, 404)
        assert got.json["error"]["status"] in ("PERMISSION_DENIED", "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1beta/files/x:frob", 404),
        ("POST", "/v1beta/files/x", 404),
        ("GET", "/v1beta/files/x:cancel", 404),
        ("GET", "/v1beta/files/..%2Fmodels", 400),
        ("GET", "/v1beta/files/a%20b", 400),
        ("PUT", "/v1beta/files/x", 405),
        ("DELETE", "/v1/webhooks/x", 403),
        ("POST", "/v1/interactions/x/auth_tokens", 403),
    ],
)
def test_what_is_not_a_call_is_refused(daemon, method, path, status):
    got = ask(daemon, method, path, {} if method == "POST" else None, x_goog_api_key="any")
    assert (got.status, got.json["error"]["code"]) == (status, status)
