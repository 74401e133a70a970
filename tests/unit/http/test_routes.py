"""The table of routes: found by a request's head, by Klein, and by a look in a dict."""

from urllib.parse import quote

import pytest
from fakes.gates import OpenGate
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from gemproxy.api.anthropic.errors import ANTHROPIC
from gemproxy.api.base import Route
from gemproxy.api.gemini.errors import GEMINI
from gemproxy.api.openai.errors import OPENAI
from gemproxy.core.errors import UnknownURL
from gemproxy.http.response_writer import write_whole
from gemproxy.http.routes import READING, RouteTable, Row, is_admin_path
from gemproxy.http.site import ProxySite

TEMPLATES = {
    "/a/things": READING,
    "/a/things/{id}": (*READING, b"PUT"),
    "/a/things/{id}/stop": (b"POST",),
    "/a/page": (b"GET",),
    "/a/page/": (b"GET",),
    "/models/{id}": READING,
}


class Asked:
    """As much of a request as the table looks at."""

    dialect = None

    def __init__(self, path, method=b"GET"):
        self.path, self.method = path.encode(), method


def rows(serve=lambda _request: None, *, fast=False):
    def row(template, methods):
        def answer(request):
            return serve(request, template)

        whole = template.startswith("/models/")
        route = Route(template, methods, OPENAI, whole=whole)
        return Row(route, None, answer, fast and "{" not in template)

    return [row(template, methods) for template, methods in TEMPLATES.items()]


TABLE = RouteTable(rows())


def find(path):
    asked = Asked(path)
    row = TABLE.find(asked)
    return row and (row.route.template, "".join(asked.parameters.values()))


@pytest.mark.parametrize(
    ("path", "template", "value"),
    [
        ("/a/things", "/a/things", ""),
        ("/a/things/one", "/a/things/{id}", "one"),
        ("/a/things/one/stop", "/a/things/{id}/stop", "one"),
        ("/a/things/stop", "/a/things/{id}", "stop"),
        ("/a/things/%7Bid%7D", "/a/things/{id}", "{id}"),
        ("/a/things/team%2Fone/stop", "/a/things/{id}/stop", "team/one"),
        ("/a/things/gr%C3%BCn%20x", "/a/things/{id}", "grün x"),
        ("/a/things/a+b", "/a/things/{id}", "a+b"),
        ("/a/thing%73", "/a/things", ""),
        ("/a/things/..", "/a/things/{id}", ".."),
        ("/a/page/", "/a/page/", ""),
        ("/models/one", "/models/{id}", "one"),
        ("/models/team/one", "/models/{id}", "team/one"),
        ("/models/team%2Fone", "/models/{id}", "team/one"),
        ("/models%2Fone", "/models/{id}", "one"),
        ("/models//", "/models/{id}", "/"),
    ],
)
def test_paths_that_are_served(path, template, value):
    assert find(path) == (template, value)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/a",
        "/a/",
        "/a/things/",
        "//a/things",
        "/a//things",
        "/A/things",
        "/a/things//stop",
        "/a/things/team/one/stop",
        "/a/things/one/stop/",
        "/a/things%2Fone",
        "/b/a/things",
        "/models",
        "/models/",
    ],
)
def test_paths_that_are_not(path):
    assert find(path) is None


def test_a_path_of_no_server_is_an_error():
    with pytest.raises(UnknownURL):
        find("*")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1))
def test_every_name_can_be_asked_for(name):
    quoted = quote(name, safe="")
    assert find(f"/a/things/{quoted}/stop") == ("/a/things/{id}/stop", name)
    assert find(f"/models/{quoted}") == ("/models/{id}", name)


# -- templates with several parameters, and paths of several dialects ------------------------------

VERBS = {"verb": frozenset({"generateContent", "countTokens"})}
NATIVE = RouteTable(
    Row(route, None, lambda _request: None, fast=True)
    for route in (
        Route("/v1/models", READING, OPENAI),
        Route("/v1/models", READING, ANTHROPIC),
        Route("/{version}/models", READING, GEMINI),
        Route("/v1/models/{id}", READING, OPENAI),
        Route("/{version}/models/{model}:{verb}", (b"POST",), GEMINI, VERBS),
        Route("/{version}/models/{model}", READING, GEMINI),
        Route("/{version}/files/{file}", READING, GEMINI, whole=False),
        Route("/{version}/files/{file}", (b"DELETE",), GEMINI, whole=False),
        Route("/v1/chat/completions", (b"POST",), OPENAI),
        Route("/v1/messages", (b"POST",), ANTHROPIC),
    )
)


def native(path, method=b"GET", dialect=GEMINI):
    asked = Asked(path, method)
    asked.dialect = dialect
    row = NATIVE.find(asked)
    return row and (row.route.template, dict(asked.parameters), row.route.methods)


@pytest.mark.parametrize(
    ("path", "template", "parameters"),
    [
        (
            "/v1beta/models/gemini-x:generateContent",
            "/{version}/models/{model}:{verb}",
            {"version": "v1beta", "model": "gemini-x", "verb": "generateContent"},
        ),
        (
            "/v1/models/models%2Fgemini-x%3AcountTokens",
            "/{version}/models/{model}:{verb}",
            {"version": "v1", "model": "models/gemini-x", "verb": "countTokens"},
        ),
        (
            "/v1alpha/models/tunedModels/a:b:countTokens",
            "/{version}/models/{model}:{verb}",
            {"version": "v1alpha", "model": "tunedModels/a:b", "verb": "countTokens"},
        ),
        (
            "/v1/models/gemini-x:unknown",
            "/{version}/models/{model}",
            {"version": "v1", "model": "gemini-x:unknown"},
        ),
        ("/v1beta/files/a%2Fb", "/{version}/files/{file}", {"version": "v1beta", "file": "a/b"}),
    ],
)
def test_a_template_with_several_parameters(path, template, parameters):
    method = b"POST" if "{verb}" in template else b"GET"
    for _ in range(2):  # The second time the path is known.
        assert native(path, method)[:2] == (template, parameters)


@pytest.mark.parametrize("path", ["/v2/models/x:countTokens", "/v1beta/files/a/b", "/v1/files"])
def test_what_no_native_template_matches(path):
    assert native(path) is None


def test_one_path_in_three_dialects():
    assert native("/v1/models", dialect=OPENAI)[0] == "/v1/models"
    assert native("/v1/models", dialect=ANTHROPIC)[0] == "/v1/models"
    assert native("/v1/models")[:2] == ("/{version}/models", {"version": "v1"})
    assert native("/v1/models/x", dialect=ANTHROPIC) is None


def test_rows_of_one_path_with_different_methods():
    assert native("/v1/files/a", b"DELETE")[2] == (b"DELETE",)
    # The refusal of any other method names them all.
    assert native("/v1/files/a", b"PATCH")[2] == (*READING, b"DELETE")
    asked = Asked("/v1/files/a")
    assert NATIVE.methods(asked) == ("GET", "DELETE")


def test_only_a_path_that_tells_its_dialect_is_found_without_headers():
    assert {path for _, path in NATIVE.fast_rows()} == {b"/v1/chat/completions", b"/v1/messages"}


def test_the_number_of_known_paths_is_bounded():
    for number in range(3000):
        native(f"/v1/models/m{number}")
    native("/v1/models/" + "x" * 5000)
    assert len(NATIVE._known) <= 1024
    assert max(map(len, NATIVE._known)) <= 200


def test_what_belongs_to_the_admin_api():
    for path in (b"/admin", b"/admin/", b"/admin/x", b"/admin//x"):
        assert is_admin_path(path)
    for path in (b"/administrators", b"/v1/admin", b"//admin", b"/", b"", b"/Admin/"):
        assert not is_admin_path(path)


# -- the three readers agree -----------------------------------------------------------------------


class Gate(OpenGate):
    """Finds the row of each request, and refuses nothing."""

    found = None

    def __init__(self, clock, table):
        super().__init__(clock)
        self._table = table

    def check_head(self, request):
        super().check_head(request)
        row = self._table.find(request)
        self.found = row and row.route.template


class Site:
    """Serves the table, with fast rows or by Klein alone."""

    def __init__(self, *, fast=False):
        self.clock = Clock()
        self.served = []
        self.table = RouteTable(rows(self.serve, fast=fast))
        self.gate = Gate(self.clock, self.table)
        resource = self.table.resource(lambda request: self.serve(request, None))
        self.site = ProxySite(resource, self.clock, self.gate, OPENAI)

    def serve(self, request, template):
        self.served.append((template, request.parameter))
        write_whole(request, 200, b"", b"{}", self.clock.seconds())

    def ask(self, method, path):
        transport = StringTransport()
        connection = self.site.buildProtocol(None)
        connection.makeConnection(transport)
        connection.dataReceived(b"%b %b HTTP/1.1\r\nHost: x\r\n\r\n" % (method, path))
        assert transport.value().startswith(b"HTTP/1.1 200 "), transport.value()
        return self.served.pop()


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1)
paths = st.builds(
    lambda template, name: (template, template.replace("{id}", quote(name, safe=""))),
    st.sampled_from(sorted(TEMPLATES)),
    names | st.sampled_from(["//", "a//b", "stop", "a/stop", "..", "{id}", "<path:id>"]),
)


@given(paths, st.data())
def test_klein_serves_what_the_gate_has_found(chosen, data):
    template, path = chosen
    site = Site()
    method = data.draw(st.sampled_from(TEMPLATES[template]))
    assert site.ask(method, path.encode()) == find(path)
    assert site.gate.found == template


@pytest.mark.parametrize("template", [each for each in TEMPLATES if "{" not in each])
def test_a_fast_row_is_served_as_by_klein(template):
    by_klein = [Site().ask(method, template.encode()) for method in TEMPLATES[template]]
    site = Site(fast=True)
    site.site.fast_routes = site.table.fast_routes()
    assert [site.ask(method, template.encode()) for method in TEMPLATES[template]] == by_klein
    assert by_klein == [(template, "")] * len(TEMPLATES[template])


@pytest.mark.parametrize("path", [b"/", b"/nowhere", b"/a/things/", b"/a//things"])
def test_what_no_row_serves_is_served_by_the_rest(path):
    site = Site()
    assert site.ask(b"GET", path) == (None, "")
    assert site.gate.found is None
