"""The error envelope of the OpenAI dialect."""

import json

from gemproxy.api.openai.errors import encode_error, encode_error_event
from gemproxy.core.errors import InvalidRequest, StreamIncomplete


def test_envelope_has_all_four_keys():
    assert json.loads(encode_error(InvalidRequest("bad", param="messages[0]")).body) == {
        "error": {
            "message": "bad",
            "type": "invalid_request_error",
            "param": "messages[0]",
            "code": None,
        }
    }


def test_error_event_is_one_line_of_data():
    event = encode_error_event(StreamIncomplete("cut\noff"))
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2
    error = json.loads(event[6:])["error"]
    assert error == {
        "message": "cut\noff",
        "type": "server_error",
        "param": None,
        "code": "stream_incomplete",
    }
