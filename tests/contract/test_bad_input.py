"""What bad input gets: each row of the contract, over a real socket, from the real daemon."""

import json
import threading

import pytest
from fakes.running import ADMIN_TOKEN, secret_of
from fakes.wire import CHAT, Wire, ask, chat, request, said

TOKEN = "a-client-token-for-the-tests"
DEBUG_TOKEN = "a-client-token-that-may-look"
LIMIT = 10 * 1024 * 1024


@pytest.fixture(scope="module")
def daemon(shared_daemon):
    return shared_daemon


def post(daemon, body, **headers):
    return ask(daemon, "POST", CHAT, body, **headers)


def assert_still_serves(daemon):
    assert chat(daemon).status == 200


# -- the body is no usable JSON --------------------------------------------------------------------

HELLO = b'"messages":[{"role":"user","content":"hi"}]'


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not valid JSON"),
        (b"hello", "not valid JSON"),
        (b'{"model":"m"', "not valid JSON"),
        (b'{"model":"m",' + HELLO + b"} more", "not valid JSON"),
        (b'{"model":"m",' + HELLO + b',"temperature":NaN}', "not valid JSON"),
        (b'{"model":"m",' + HELLO + b',"temperature":-Infinity}', "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b"[1,2]", "expected an object, got an array"),
        (b'"text"', "expected an object, got a string"),
        (b"null", "expected an object, got null"),
        (b'{"model":"\xff",' + HELLO + b"}", "UTF-8"),
        (b'{"model":"m","messages":[{"role":"user","content":"\xc3("}]}', "UTF-8"),
    ],
)
def test_a_body_that_is_no_json_object_says_what_is_wrong_with_it(daemon, body, told):
    answer = post(daemon, body)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["param"] is None
    assert told in answer.error["message"]


def test_the_place_of_a_syntax_error_is_told(daemon):
    assert "at byte 8" in post(daemon, b'{"model"hello}').error["message"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"[" * 1_000_000, "expected an object, got an array"),
        (b'{"a":' * 200_000, "JSON is nested too deeply"),
        (b'{"model":"m","messages":' + b"[" * 1_000_000, "messages[0]: expected an object"),
        (
            b'{"model":"m",' + HELLO + b',"tools":[{"type":"function","function":{"name":"f",'
            b'"parameters":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}}]}",
            "JSON is nested too deeply",
        ),
    ],
)
def test_a_depth_bomb_is_refused_in_words(daemon, body, told):
    answer = post(daemon, body)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert told in answer.error["message"]
    assert_still_serves(daemon)


def test_nesting_that_the_decoder_bears_is_served_or_refused_but_no_defect(daemon):
    schema = '{"type":"object","properties":{"a":' * 300 + '{"type":"string"}' + "}}" * 300
    body = json.dumps(said("hi", tools=[{"type": "function", "function": {"name": "f"}}]))
    body = body.replace('"name": "f"', f'"name": "f", "parameters": {schema}')
    assert post(daemon, body.encode()).status in {200, 400}


def test_a_coding_of_the_body_is_named(daemon):
    answer = post(daemon, said("hi"), content_encoding="gzip")
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    assert "gzip" in answer.error["message"]


# -- a field is wrong ------------------------------------------------------------------------------

USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("change", "param", "told"),
    [
        ({"model": 5}, "model", "expected a string"),
        ({"model": ""}, "model", ""),
        ({"messages": []}, "messages", "length"),
        ({"messages": "hi"}, "messages", "expected an array"),
        ({"messages": [5]}, "messages[0]", "expected an object"),
        ({"messages": [USER, {"role": "wizard", "content": "x"}]}, "messages[1].role", "wizard"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "role"),
        ({"messages": [USER, USER, {"role": "user", "content": 7}]}, "messages[2].content", ""),
        ({"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, None, "smell"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id", ""),
        (
            {"messages": [USER, {"role": "tool", "tool_call_id": "call_1", "content": "x"}]},
            "messages[1].tool_call_id",
            "call_1",
        ),
        ({"temperature": "hot"}, "temperature", "expected a number"),
        ({"temperature": 2.5}, "temperature", "2"),
        ({"temperature": -1}, "temperature", "0"),
        ({"top_p": 1.5}, "top_p", "1"),
        ({"n": 0}, "n", "1"),
        ({"n": 1.5}, "n", ""),
        ({"n": 9}, "n", "8"),
        ({"max_tokens": 0}, "max_tokens", "1"),
        ({"max_completion_tokens": "many"}, "max_completion_tokens", "expected an integer"),
        ({"stream": "yes"}, "stream", "expected a boolean"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", ""),
        ({"reasoning_effort": "heroic"}, "reasoning_effort", "heroic"),
        ({"stop": 5}, "stop", ""),
    ],
)
def test_a_wrong_field_is_named_by_its_path(daemon, change, param, told):
    answer = post(daemon, {**said("hi"), **change})
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    if param is not None:
        assert answer.error["param"] == param
    assert answer.error["param"].split("[")[0] in answer.error["message"]
    assert told in answer.error["message"]


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_missing_field_is_named(daemon, missing):
    body = said("hi")
    del body[missing]
    error = post(daemon, body).error
    assert error["param"] == missing
    assert error["code"] == "missing_required_parameter"
    assert missing in error["message"]


def test_a_number_too_large_for_a_float_is_out_of_range(daemon):
    answer = post(daemon, b'{"model":"m",' + HELLO + b',"temperature":1e999}')
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"


def test_half_of_a_surrogate_pair_is_no_defect_of_ours(daemon):
    body = b'{"model":"gemini-3.8-flash","messages":[{"role":"user","content":"a\\ud800b"}]}'
    assert post(daemon, body).status in {200, 400}


@pytest.mark.parametrize(
    "change",
    [
        {"no_such_field": {"a": [1, None]}},
        {"messages": [{**USER, "no_such_field": 1}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "extra": 1}]}]},
        {"store": True, "metadata": {"a": "b"}, "user": "somebody", "prompt_cache_key": "x"},
    ],
)
def test_unknown_extra_fields_are_ignored(daemon, change):
    assert post(daemon, {**said("hi"), **change}).status == 200


@pytest.mark.parametrize(
    "model", ["../../v1beta/files", "a/../b", "m?key=x", "m#x", "a b", "m\x00", "é"]
)
def test_a_models_name_cannot_become_another_address(daemon, simulator, model):
    simulator.reset()
    answer = post(daemon, said("hi", model))
    assert answer.status in {400, 404}
    assert answer.error["param"] == "model"
    assert simulator.requests() == []


def test_an_unknown_model_is_not_found(daemon):
    answer = post(daemon, said("hi", "gemini-0-nothing"))
    assert answer.status == 404
    assert answer.error["code"] == "model_not_found"
    assert answer.error["type"] == "invalid_request_error"
    assert "gemini-0-nothing" in answer.error["message"]
    listed = ask(daemon, "GET", "/v1/models/gemini-0-nothing")
    assert listed.status == 404
    assert listed.error["code"] == "model_not_found"
    assert listed.error["param"] == "model"


# -- the body is too large -------------------------------------------------------------------------


def assert_too_large(answer):
    assert answer.status == 413
    assert answer.error["code"] == "request_too_large"
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["param"] is None
    assert str(LIMIT) in answer.error["message"]
    assert answer.headers["connection"] == "close"


def test_a_length_over_the_limit_is_refused_before_any_byte_of_the_body(daemon):
    with Wire(daemon) as wire:
        wire.send(request("POST", CHAT, content_length=str(LIMIT + 1)))
        assert_too_large(wire.receive())
        assert wire.rest() == b""


def test_a_chunked_body_is_refused_as_soon_as_it_passes_the_limit(daemon):
    with Wire(daemon) as wire:
        wire.send(request("POST", CHAT, transfer_encoding="chunked"))
        chunk = b"%x\r\n%b\r\n" % (1024 * 1024, b" " * 1024 * 1024)
        wire.send(chunk * 10)
        wire.send(b"1\r\n \r\n")
        assert_too_large(wire.receive())


def test_a_client_that_is_still_sending_can_read_the_refusal(daemon):
    with Wire(daemon) as wire:
        wire.send(request("POST", CHAT, content_length=str(50 * 1024 * 1024)))
        failures = []

        def upload():
            try:
                for _ in range(50):
                    wire.send(b" " * 1024 * 1024)
            except OSError as error:
                failures.append(error)

        uploading = threading.Thread(target=upload)
        uploading.start()
        uploading.join()
        assert_too_large(wire.receive())
        assert failures == []
    assert_still_serves(daemon)


def test_the_largest_body_that_is_allowed_is_read(daemon):
    body = json.dumps(said("hi")).encode()
    assert post(daemon, body + b" " * (LIMIT - len(body))).status == 200


def test_the_limit_also_holds_where_no_body_is_wanted(daemon):
    with Wire(daemon) as wire:
        wire.send(request("POST", "/v1/nowhere", content_length=str(LIMIT + 1)))
        assert_too_large(wire.receive())


def test_who_asks_before_a_too_large_upload_gets_the_refusal_and_no_leave(daemon):
    with Wire(daemon) as wire:
        wire.send(request("POST", CHAT, content_length=str(LIMIT + 1), expect="100-continue"))
        assert_too_large(wire.receive())
        assert wire.rest() == b""


def test_who_asks_before_a_right_upload_is_told_to_go_on(daemon):
    body = json.dumps(said("hi")).encode()
    with Wire(daemon) as wire:
        about = {"content_length": str(len(body)), "content_type": "application/json"}
        wire.send(request("POST", CHAT, expect="100-continue", **about))
        assert wire.receive().status == 100
        wire.send(body)
        assert wire.receive().status == 200


# -- the way of asking is wrong --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/v1/nothing"),
        ("POST", "/v1/nothing/more"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/chat/completions/"),
        ("DELETE", "/elsewhere?key=x"),
    ],
)
def test_unknown_addresses_are_told_in_openais_shape(daemon, method, path):
    answer = ask(daemon, method, path)
    assert answer.status == 404
    assert answer.error["code"] == "unknown_url"
    assert answer.error["type"] == "invalid_request_error"
    assert f"{method} {path.partition('?')[0]}" in answer.error["message"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", CHAT, "POST"),
        ("PUT", CHAT, "POST"),
        ("OPTIONS", CHAT, "POST"),
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/v1/models/some-model", "GET"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(daemon, method, path, allow):
    answer = ask(daemon, method, path)
    assert answer.status == 405
    assert answer.headers["allow"] == allow
    assert answer.error["type"] == "invalid_request_error"
    assert method in answer.error["message"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path", ["/v1/models/%ff%fe", "/v1/models/%0a", "/v1/models/a%0Ab", "/a%0ab", "/admin/%0a"]
)
def test_a_path_that_is_no_line_of_text_is_refused_in_openais_shape(daemon, method, path):
    answer = ask(daemon, method, path)
    assert answer.status == 400
    assert answer.headers["server"] == "gemproxy"
    assert answer.error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "sent",
    [
        request("POST", CHAT, content_length="5", transfer_encoding="chunked") + b"0\r\n\r\n",
        request("POST", CHAT, transfer_encoding="chunked", content_length="5") + b"0\r\n\r\n",
        b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: x\r\n"
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        request("POST", CHAT, content_length="-5") + b"hello",
        request("POST", CHAT, content_length="0x5") + b"hello",
        request("POST", CHAT, transfer_encoding="gzip, chunked") + b"0\r\n\r\n",
        request("POST", CHAT, transfer_encoding="chunked") + b"zz\r\n",
        b"GET /livez HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /livez HTTP/2.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\nX: a\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\rX: a\r\n\r\n",
        b"CONNECT somewhere:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        request("POST", CHAT, content_length="5", connection="upgrade", upgrade="h2c")[:-2]
        + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        request("POST", CHAT, transfer_encoding="chunked", version="HTTP/1.0") + b"0\r\n\r\n",
        request("POST", CHAT, transfer_encoding="chunked") + b"1;" + b"a" * 100_000,
        request("POST", CHAT, transfer_encoding="chunked") + b"0\r\nX: " + b"a" * 100_000,
        b"rubbish\r\n\r\n",
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        request("GET", "/livez", x_large="a" * 20_000),
        request("GET", "/" + "a" * 20_000),
        request("GET", "/livez", **{f"x-{n}": "a" for n in range(600)}),
    ],
)
def test_what_is_no_proper_http_is_refused_and_the_connection_closed(daemon, sent):
    """No second request that hides behind a quarrel about the first one's length is served."""
    with Wire(daemon) as wire:
        wire.send(sent + request("GET", "/livez"))
        answer = wire.receive()
        assert answer.status == 400
        assert answer.error["type"] == "invalid_request_error"
        assert answer.headers["connection"] == "close"
        assert wire.rest() == b""


def test_a_header_of_200_kb_can_still_read_its_refusal(daemon):
    with Wire(daemon) as wire:
        wire.send(request("GET", "/livez", x_large="a" * 200_000))
        assert wire.receive().status == 400


def test_an_upgrade_is_not_followed_and_the_absolute_form_is_understood(daemon):
    with Wire(daemon) as wire:
        body = json.dumps(said("hi")).encode()
        assert wire.ask("POST", CHAT, body, connection="Upgrade", upgrade="h2c").status == 200
        assert wire.ask("GET", "http://proxy/livez").status == 200
        assert wire.ask("GET", "/livez", version="HTTP/1.0").headers["connection"] == "close"
        assert wire.rest() == b""


# -- who asks --------------------------------------------------------------------------------------


@pytest.fixture
def guarded(start_daemon):
    tokens = [TOKEN, {"name": "curious", "token": DEBUG_TOKEN, "debug": True}]
    return start_daemon(None, proxy={"accessTokens": tokens})


def test_tokens(guarded):
    """Missing, wrong and right ones, for every route that asks for one."""
    wrong = [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {secret_of('alpha')}"},
        {"x_auth_token": TOKEN},
    ]
    for number, headers in enumerate(wrong, 2):
        for method, path in [("POST", CHAT), ("GET", "/v1/models"), ("GET", "/v1/nothing")]:
            body = said("hi") if method == "POST" else None
            # Ten wrong tokens are too many, of one address.
            with Wire(guarded, source=f"127.0.0.{number}") as wire:
                answer = wire.ask(method, path, body, **headers)
            assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
            assert answer.error["type"] == "invalid_request_error"
            assert answer.headers["www-authenticate"] == "Bearer"
            assert TOKEN not in answer.error["message"]
    for right in (TOKEN, DEBUG_TOKEN, ADMIN_TOKEN):
        assert chat(guarded, authorization=f"Bearer {right}").status == 200
        assert chat(guarded, authorization=f"bearer  {right}").status == 200
        assert chat(guarded, x_api_key=right).status == 200
        assert chat(guarded, x_goog_api_key=right, authorization=f"Bearer {right}").status == 200
    assert chat(guarded, x_api_key=TOKEN, authorization=f"Bearer {DEBUG_TOKEN}").status == 401


def test_only_those_who_may_look_are_told_the_key(guarded, simulator):
    plain = chat(guarded, authorization=f"Bearer {TOKEN}")
    assert "x-gemproxy-key" not in plain.headers
    for token in (DEBUG_TOKEN, ADMIN_TOKEN):
        answer = chat(guarded, authorization=f"Bearer {token}")
        assert answer.headers["x-gemproxy-key"] in {"alpha", "beta"}
    assert "authorization" not in str(simulator.requests()).lower()


def test_an_open_daemon_takes_any_token_and_tells_the_admin_the_key(daemon):
    assert "x-gemproxy-key" not in chat(daemon, authorization="Bearer whatever").headers
    assert "x-gemproxy-key" in chat(daemon, authorization=f"Bearer {ADMIN_TOKEN}").headers


# -- too many --------------------------------------------------------------------------------------
