"""The dashboard's files: whole, for everybody, and unable to do harm."""

import re
import subprocess
import sys
import tomllib
from email.message import Message
from hashlib import sha256
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from posixpath import normpath

import pytest
from fakes.admin import CLIENT_TOKEN, NOON, TOKEN, AdminStage
from twisted.internet.task import Clock

from gemproxy.admin import dashboard

PAGE = files("gemproxy.admin") / "page"
VENDOR = PAGE / "vendor"
FILES = sorted(file.name for file in PAGE.iterdir() if file.is_file())
#: Those of other authors that are served, and not only installed.
VENDORED = ["vendor/uPlot.esm.js", "vendor/uPlot.min.css"]
PATHS = [
    "/admin/",
    *(f"/admin/page/{name}" for name in [*FILES, *VENDORED] if name != "index.html"),
]
SCRIPTS = [name for name in FILES if name.endswith(".js")]


def stage_of(**options):
    clock = Clock()
    clock.advance(NOON)
    return AdminStage(clock, **options)


@pytest.fixture
def stage():
    return stage_of()


def policy_of(answer):
    words = (part.split() for part in answer.headers["content-security-policy"].split(";"))
    return {name: sources for name, *sources in words}


# -- how they are served ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_a_file_needs_no_token(stage, path):
    answer = stage.ask("GET", path, token=None)
    name = path.removeprefix("/admin/").removeprefix("page/") or "index.html"
    assert answer.status == 200
    as_in_the_package = re.sub(rb'data-docs="[^"]*"', b'data-docs=""', answer.body)
    assert as_in_the_package == (PAGE / name).read_bytes()
    assert int(answer.headers["content-length"]) == len(answer.body)


@pytest.mark.parametrize("token", ["wrong", CLIENT_TOKEN, TOKEN])
def test_a_file_does_not_look_at_a_token(stage, token):
    for path in ("/admin/", "/admin/page/main.js"):
        assert stage.ask("GET", path, token=token).status == 200
    assert stage.refused == 0


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/admin/", "text/html; charset=utf-8"),
        ("/admin/page/main.js", "text/javascript; charset=utf-8"),
        ("/admin/page/dashboard.css", "text/css; charset=utf-8"),
        ("/admin/page/favicon.svg", "image/svg+xml"),
    ],
)
def test_a_file_says_what_it_is(stage, path, kind):
    assert stage.ask("GET", path, token=None).headers["content-type"] == kind


@pytest.mark.parametrize("path", [*PATHS, "/admin"])
def test_a_file_comes_with_every_guard(stage, path):
    answer = stage.ask("GET", path, token=None)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert policy_of(answer) == {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'"],
        "connect-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
        "require-trusted-types-for": ["'script'"],
        "trusted-types": ["'none'"],
    }


def test_looking_at_the_page_locks_nobody_out(stage):
    for _ in range(30):
        assert stage.ask("GET", "/admin/", token="wrong").status == 200
    assert stage.ask("GET", "/admin/health", token="wrong").status == 401


def test_a_locked_address_still_gets_the_page(stage):
    for _ in range(12):
        stage.ask("GET", "/admin/health", token="wrong")
    assert stage.ask("GET", "/admin/health", token="wrong").status == 429
    assert stage.ask("GET", "/admin/", token=None).status == 200


def test_the_path_without_the_slash_leads_to_the_page_wherever_it_is(stage):
    answer = stage.ask("GET", "/admin", token=None)
    assert answer.status == 308
    # Relative, for a proxy that serves the daemon under a prefix.
    assert answer.headers["location"] == "admin/"
    assert answer.body == b""


@pytest.mark.parametrize("path", PATHS)
def test_a_file_that_the_browser_has_is_not_sent_again(stage, path):
    whole = stage.ask("GET", path, token=None)
    assert whole.headers["cache-control"] == "no-cache"
    for known in (whole.headers["etag"], f'"other", W/{whole.headers["etag"]}', "*"):
        again = stage.ask("GET", path, token=None, if_none_match=known)
        assert again.status == 304
        assert again.body == b""
        assert again.headers["etag"] == whole.headers["etag"]
        assert again.headers["content-length"] == whole.headers["content-length"]
        assert "content-security-policy" in again.headers


def test_a_file_that_has_changed_is_sent(stage):
    answer = stage.ask("GET", "/admin/", token=None, if_none_match='"of-an-older-version"')
    assert answer.status == 200
    assert stage.ask("GET", "/admin", token=None, if_none_match="*").status == 308


@pytest.mark.parametrize("path", ["/admin", "/admin/", "/admin/page/main.js"])
def test_head_is_get_without_a_body(stage, path):
    whole, head = (stage.ask(method, path, token=None) for method in ("GET", "HEAD"))
    assert head.status == whole.status
    assert head.body == b""
    assert head.headers == whole.headers


@pytest.mark.parametrize("path", ["/admin", "/admin/", "/admin/page/main.js"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "FANCY"])
def test_nothing_else_can_be_done_to_a_file(stage, path, method):
    assert stage.ask(method, path, token=None).status == 401
    answer = stage.ask(method, path)
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.error["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "path",
    [
        "/admin/page",
        "/admin/page/",
        "/admin/page/index.html",
        "/admin/page/nothing.js",
        "/admin/page/../dashboard.py",
        "/admin/page/%2e%2e/dashboard.py",
        "/admin//",
        "/admin/index.html",
    ],
)
def test_whatever_is_no_file_asks_for_the_token(stage, path):
    assert stage.ask("GET", path, token=None).status == 401
    assert stage.ask("GET", path).status == 404


def test_the_page_knows_whether_a_token_is_asked_for(stage):
    assert b'data-token="required"' in stage.ask("GET", "/admin/", token=None).body
    open_page = stage_of(admin_open=True).ask("GET", "/admin/", token=None)
    assert b'data-token="needless"' in open_page.body
    assert open_page.headers["etag"] != stage.ask("GET", "/admin/").headers["etag"]


def test_every_visit_is_told_by_its_path(stage):
    stage.ask("GET", "/admin/", token=None)
    stage.ask("POST", "/admin/page/main.js")
    assert stage.told.requests == [
        ("req_fresh", "/admin/", 200, "success"),
        ("req_fresh", "/admin/page/main.js", 405, "method_not_allowed"),
    ]


# -- what stands in them ---------------------------------------------------------------------------


class Markup(HTMLParser):
    """Everything that a policy of content would have to forbid, and every address."""

    def __init__(self, text):
        super().__init__()
        self.inline, self.addresses, self.ids, self.labels = [], [], [], []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.inline += [name for name in values if name.startswith("on") or name == "style"]
        self.addresses += [values[name] for name in ("src", "href", "action") if name in values]
        self.ids += [values["id"]] if "id" in values else []
        self.labels += [values["for"]] if "for" in values else []
        self._in_script = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._in_script = False

    def handle_data(self, data):
        if self._in_script and data.strip():
            self.inline.append(data)


def test_the_page_holds_no_script_and_no_style_of_its_own():
    page = Markup((PAGE / "index.html").read_text())
    assert page.inline == []
    assert len(set(page.ids)) == len(page.ids)
    assert set(page.labels) <= set(page.ids)


def test_the_page_names_only_its_own_files_by_relative_addresses():
    addresses = Markup((PAGE / "index.html").read_text()).addresses
    own = [address for address in addresses if not address.startswith("#")]
    assert {normpath(f"/admin/{address}") for address in own} <= set(PATHS)
    assert "page/main.js" in own


def test_the_modules_import_one_another_and_nothing_else():
    wanted = {"main.js"}
    for name in SCRIPTS:
        text = (PAGE / name).read_text()
        imported = re.findall(r'from "(.+?)"', text)
        assert text.count("import ") == len(imported), name
        assert {f"./{script}" for script in [*SCRIPTS, *VENDORED]} >= set(imported), name
        wanted |= {address.removeprefix("./") for address in imported}
    assert wanted == {*SCRIPTS, "vendor/uPlot.esm.js"}


@pytest.mark.parametrize("name", [*SCRIPTS, "vendor/uPlot.esm.js"])
def test_no_module_makes_markup_or_code_of_text(name):
    text = (PAGE / name).read_text()
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|DOMParser"
    assert not re.search(ways, text)
    assert not re.search(r"localStorage|document\.cookie", text)
    assert name not in SCRIPTS or "console." not in text


def test_every_id_that_a_module_looks_for_is_on_the_page():
    ids = set(Markup((PAGE / "index.html").read_text()).ids)
    modules = "".join((PAGE / name).read_text() for name in SCRIPTS)
    looked_for = set(re.findall(r'byId\("(.+?)"\)', modules))
    assert looked_for
    assert looked_for <= ids


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(".svg")])
def test_no_file_names_another_site(name):
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", (PAGE / name).read_text()))
    assert addresses <= {"http://www.w3.org/2000/svg"}


def test_what_is_installed_holds_every_file(tmp_path):
    repository = Path(str(PAGE)).parents[2]
    if not (repository / "setup.py").is_file():
        pytest.skip("not run from the sources")
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=repository, check=True, capture_output=True)
    installed = tmp_path / "gemproxy" / "admin" / "page"
    assert sorted(file.name for file in installed.iterdir() if file.is_file()) == FILES
    assert sorted(file.name for file in (installed / "vendor").iterdir()) == sorted(
        file.name for file in VENDOR.iterdir()
    )


# -- what other authors have written ---------------------------------------------------------------


def test_the_files_of_other_authors_are_as_they_were_published():
    told = (VENDOR / "README.md").read_text()
    digests = dict(re.findall(r"^\| `(.+?)` \|.*`([0-9a-f]{64})` \|$", told, re.MULTILINE))
    present = {file.name for file in VENDOR.iterdir()} - {"README.md"}
    assert present == set(digests)
    for name, digest in digests.items():
        assert sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name


def test_the_licences_of_other_authors_are_installed():
    repository = Path(str(PAGE)).parents[2]
    if not (repository / "pyproject.toml").is_file():
        pytest.skip("not run from the sources")
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    licences = {path for glob in project["license-files"] for path in repository.glob(glob)}
    vendored = {file for file in Path(str(VENDOR)).iterdir() if file.suffix == ".LICENSE"}
    assert vendored
    assert vendored <= licences


def test_the_page_links_to_the_documentation_that_the_package_names(stage, monkeypatch):
    page = stage.ask("GET", "/admin/", token=None).body
    assert re.search(rb' data-docs="[^"<>]*">', page)
    hostile = Message()
    hostile["Project-URL"] = 'Documentation, https://docs.example/"><script>'
    monkeypatch.setattr(dashboard, "metadata", lambda _: hostile)
    page = stage_of().ask("GET", "/admin/", token=None).body
    assert b'data-docs="https://docs.example/&quot;&gt;&lt;script&gt;"' in page
