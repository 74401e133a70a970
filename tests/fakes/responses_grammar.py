"""A validator of the stream grammar of the Responses API: ``checked(stream)``.

It knows the order of events for each type of item, that numbers count without gaps, that deltas add
up to what the ``done`` events say, and that the last object repeats the items.
"""

import json
import re

#: The events of an item between ``output_item.added`` and ``output_item.done``, without the prefix
#: ``response.``.
GRAMMAR = {
    "message": (
        r"content_part\.added "
        r"(?:(?:output_text\.delta )*(?:output_text\.annotation\.added )*output_text\.done"
        r"|(?:refusal\.delta )+refusal\.done)"
        r" content_part\.done"
    ),
    "reasoning": (
        r"(?:reasoning_summary_part\.added (?:reasoning_summary_text\.delta )+"
        r"reasoning_summary_text\.done reasoning_summary_part\.done ?)*"
    ),
    "function_call": (r"(?:function_call_arguments\.delta )*function_call_arguments\.done"),
    "custom_tool_call": (r"(?:custom_tool_call_input\.delta )*custom_tool_call_input\.done"),
    "web_search_call": (
        r"web_search_call\.in_progress web_search_call\.searching web_search_call\.completed"
    ),
    "code_interpreter_call": (
        r"code_interpreter_call\.in_progress (?:code_interpreter_call_code\.delta )*"
        r"code_interpreter_call_code\.done code_interpreter_call\.interpreting"
        r" code_interpreter_call\.completed"
    ),
    "image_generation_call": (
        r"image_generation_call\.in_progress image_generation_call\.generating"
        r" (?:image_generation_call\.partial_image )*image_generation_call\.completed"
    ),
}
#: The statuses of the last object, by the last event.
ENDS = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
}


def parsed(stream):
    """The events of a stream in bytes; comments are skipped."""
    events = []
    *blocks, rest = stream.decode().split("\n\n")
    assert rest == "", f"the stream ends within an event: {rest[:80]}"
    for block in blocks:
        lines = [line for line in block.split("\n") if not line.startswith(":")]
        if not lines:
            continue
        assert len(lines) == 2, block
        event = json.loads(lines[1].removeprefix("data: "))
        assert lines[0] == f"event: {event['type']}"
        events.append(event)
    return events


def checked(stream):
    """The events of a whole stream, which follows the grammar."""
    events = parsed(stream)
    assert [each["sequence_number"] for each in events] == list(range(len(events)))
    first, second, *inner, last = events
    assert (first["type"], second["type"]) == ("response.created", "response.in_progress")
    assert last["type"] in ENDS
    for each in (first, second):
        assert each["response"]["status"] == "in_progress"
        assert each["response"]["output"] == []
        assert each["response"]["usage"] is None
    final = last["response"]
    assert final["status"] == ENDS[last["type"]]
    assert final["id"] == first["response"]["id"]
    done = _items(inner, may_break=last["type"] == "response.failed")
    assert final["output"] == done
    if last["type"] == "response.failed":
        assert final["error"]["code"]
        assert final["error"]["message"]
    else:
        assert final["usage"]["total_tokens"] >= 0
        assert (final["incomplete_details"] is None) == (final["status"] == "completed")
    return events


def _items(events, *, may_break):
    done = []
    while events:
        added = events.pop(0)
        assert added["type"] == "response.output_item.added", added
        assert added["output_index"] == len(done)
        own = []
        while events and events[0]["type"] != "response.output_item.done":
            own.append(events.pop(0))
        if not events:
            assert may_break, "an item is not complete"
            return done
        ended = events.pop(0)
        item = ended["item"]
        assert ended["output_index"] == len(done)
        assert (item["id"], item["type"]) == (added["item"]["id"], added["item"]["type"])
        for each in own:
            assert each["item_id"] == item["id"], each
            assert each["output_index"] == len(done), each
        names = " ".join(each["type"].removeprefix("response.") for each in own)
        assert re.fullmatch(GRAMMAR[item["type"]], names), f"{item['type']}: {names}"
        _add_up(item, own)
        done.append(item)
    return done


def _joined(own, name):
    return "".join(each["delta"] for each in own if each["type"] == f"response.{name}.delta")


def _last(own, name):
    return next(each for each in reversed(own) if each["type"] == f"response.{name}")


def _add_up(item, own):
    """The deltas are what the item says."""
    kind = item["type"]
    if kind == "message":
        part = item["content"][0]
        if part["type"] == "refusal":
            assert _joined(own, "refusal") == _last(own, "refusal.done")["refusal"]
            assert part["refusal"] == _last(own, "refusal.done")["refusal"]
            return
        assert _joined(own, "output_text") == _last(own, "output_text.done")["text"]
        assert part == _last(own, "content_part.done")["part"]
        assert part["text"] == _last(own, "output_text.done")["text"]
        annotations = [each["annotation"] for each in own if "annotation" in each]
        assert part["annotations"] == annotations
    elif kind == "reasoning":
        assert _joined(own, "reasoning_summary_text") == "".join(
            section["text"] for section in item["summary"]
        )
    elif kind == "function_call":
        arguments = _last(own, "function_call_arguments.done")
        assert _joined(own, "function_call_arguments") == item["arguments"]
        assert (arguments["arguments"], arguments["name"]) == (item["arguments"], item["name"])
    elif kind == "custom_tool_call":
        assert _joined(own, "custom_tool_call_input") == item["input"]
        assert _last(own, "custom_tool_call_input.done")["input"] == item["input"]
    elif kind == "code_interpreter_call":
        assert _joined(own, "code_interpreter_call_code") == item["code"]
