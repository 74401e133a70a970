"""A validator of the grammar of a Messages stream, which also puts the message together.

The grammar: ``message_start``; then blocks, strictly one after another, each from
``content_block_start`` to ``content_block_stop``, with indices that count them; ``message_delta``,
``message_stop``. ``ping`` may stand anywhere. ``error`` may end a stream in place of the rest. Each
event names its type twice: in its ``event`` line, without which the official SDKs ignore it, and in
its data.
"""

import json

#: What a block is when it begins, without its own fields, and the deltas that it may have.
BEGINNINGS = {
    "text": ({"text": ""}, {"text_delta", "citations_delta"}),
    "thinking": ({"thinking": "", "signature": ""}, {"thinking_delta", "signature_delta"}),
    "tool_use": ({"input": {}}, {"input_json_delta"}),
    "server_tool_use": ({}, set()),
    "web_search_tool_result": ({}, set()),
}


def events_of(stream):
    """The data of each event. The stream is whole events in UTF-8 with LF."""
    *events, rest = stream.decode().split("\n\n")
    assert rest == "", f"not a whole event: {rest!r}"
    found = []
    for event in events:
        name, data = event.split("\n")
        assert name.startswith("event: ")
        assert data.startswith("data: ")
        value = json.loads(data.removeprefix("data: "))
        assert value["type"] == name.removeprefix("event: ")
        found.append(value)
    return found


def read_message(stream):
    """The message of a complete stream. Fails with the first event that breaks the grammar."""
    message, error = read_events(stream)
    assert error is None, f"the stream ended with an error: {error}"
    return message


def read_events(stream):
    """The message as far as it came, and the error at the end of the stream, if there is one."""
    events = [event for event in events_of(stream) if event["type"] != "ping"]
    if events[0]["type"] == "error":
        assert len(events) == 1
        return None, events[0]["error"]
    start = events.pop(0)
    assert start["type"] == "message_start", start
    message = start["message"]
    assert message["content"] == []
    assert message["stop_reason"] is None
    assert message["usage"]["output_tokens"] == 0
    assert message["id"].startswith("msg_")
    content, block, last_delta, ended = message["content"], None, None, False
    while events:
        event = events.pop(0)
        kind = event["type"]
        if kind == "error":
            assert not events, "something follows the error"
            return message, event["error"]
        assert not ended or kind == "message_stop", f"{kind} after message_delta"
        if kind == "content_block_start":
            assert block is None, "a block begins before the one before has ended"
            assert event["index"] == len(content)
            block, last_delta = event["content_block"], None
            beginning, _ = BEGINNINGS[block["type"]]
            assert beginning.items() <= block.items(), block
            pieces = []
            content.append(block)
        elif kind == "content_block_delta":
            assert block is not None
            assert event["index"] == len(content) - 1
            delta = event["delta"]
            assert delta["type"] in BEGINNINGS[block["type"]][1], (block["type"], delta)
            assert last_delta != "signature_delta", "a delta follows the signature"
            last_delta = delta["type"]
            add(block, delta, pieces)
        elif kind == "content_block_stop":
            assert block is not None
            assert event["index"] == len(content) - 1
            if pieces:
                block["input"] = json.loads("".join(pieces))
            block = None
        elif kind == "message_delta":
            assert block is None, "the message ends before its last block"
            message |= event["delta"]
            message["usage"] |= event["usage"]
            ended = True
        else:
            assert kind == "message_stop", kind
            assert ended
            assert not events, "something follows message_stop"
            return message, None
    raise AssertionError("the stream has no end")


def add(block, delta, pieces):
    """Add ``delta`` to its block; the JSON of an input to ``pieces``."""
    kind = delta["type"]
    if kind == "text_delta":
        assert delta["text"]
        block["text"] += delta["text"]
    elif kind == "citations_delta":
        block["citations"] = [*block.get("citations", []), delta["citation"]]
    elif kind == "thinking_delta":
        block["thinking"] += delta["thinking"]
    elif kind == "signature_delta":
        assert delta["signature"]
        block["signature"] = delta["signature"]
    else:
        pieces.append(delta["partial_json"])
