"""Which functions the simulated model calls, with which arguments, and their signatures."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from gemproxy.simulator import requests, rules, schemas, words
from gemproxy.simulator.asking import Ask

_SPELLED_OUT = re.compile(r"\bcall\s+([A-Za-z_][\w.:-]*)(\s+with\s+(?=\{))?")
_NEXT_STEP = re.compile(r"\bthen\s+(?=call\s)")
_SIGNATURE_MARK = b"simulated"

Call = dict[str, Any]


def chosen(ask: Ask) -> list[Call]:
    """The ``functionCall`` payloads of the answer; empty if it answers with text.

    Mode ANY always calls a function, and prefers one that was not called yet. Otherwise a function
    is called when the user's last text says ``call NAME with {json}`` or contains a declared name;
    ``in parallel`` calls every function that the text names, or all of them. Function responses are
    answered with text, or with the next step if the text contains ``then call``.
    """
    declared = {function["name"]: function for function in requests.declarations(ask.request)}
    config = ask.request.get("toolConfig", {}).get("functionCallingConfig", {})
    mode = config.get("mode", "AUTO")
    allowed = set(config.get("allowedFunctionNames") or declared)
    names = [name for name in declared if name in allowed]
    if mode == "NONE" or not names:
        return []
    must = mode == "ANY"
    steps = _NEXT_STEP.split(ask.prompt)
    called = requests.calls_of_turn(ask.request["contents"]) if ask.results else []
    if len(called) < len(steps):
        wanted = _wanted(steps[len(called)], names)
    else:
        wanted = []
        names = [name for name in names if not any(name in step for step in called)] or names
    if not wanted and (must or ("eager-call" in ask.shapes and not called)):
        wanted = _mentioned("", names[:1])
    return [_call(ask, at, declared[name], args) for at, (name, args) in enumerate(wanted)]


def sign(seed: object, call: Mapping[str, Any]) -> str:
    """The thoughtSignature of a call, in base64. It depends only on name and arguments."""
    digest = words.digest(str(seed), call.get("name"), call.get("args") or {})
    return base64.b64encode(_SIGNATURE_MARK + digest.encode()).decode("ascii")


def corrupted(seed: object, request: Mapping[str, Any]) -> str | None:
    """The name of a call in the current turn with the signature of another call, or None.

    An image with a wrong signature counts as well, under the name ``image``.

    The documented dummy signatures are accepted, literal or in base64.
    """
    contents = request["contents"]
    for content in contents[requests.current_turn(contents) :]:
        for part in content["parts"]:
            if "functionCall" in part and "thoughtSignature" in part:
                signature = part["thoughtSignature"]
                if not _is_dummy(signature) and not _signed(seed, part["functionCall"], signature):
                    return str(part["functionCall"].get("name", ""))
    for content in contents:
        for part in content["parts"]:
            if "inlineData" in part and "thoughtSignature" in part:
                signature = part["thoughtSignature"]
                if not _is_dummy(signature) and not _signed(
                    seed, image(part["inlineData"]), signature
                ):
                    return "image"
    return None


def image(blob: Mapping[str, Any]) -> dict[str, Any]:
    """An image as a call, to compute its signature."""
    return {"name": "image", "args": blob.get("data")}


def _wanted(prompt: str, names: list[str]) -> list[tuple[str, Any]]:
    spelled = _spelled_out(prompt, names)
    if spelled:
        return spelled
    mentioned = _mentioned(prompt, names)
    if re.search(r"\bparallel\b", prompt, re.IGNORECASE):
        return mentioned or [(name, None) for name in names]
    return mentioned[:1]


def _spelled_out(prompt: str, names: list[str]) -> list[tuple[str, Any]]:
    return [
        (match[1], _json_at(prompt, match.end()) if match[2] else None)
        for match in _SPELLED_OUT.finditer(prompt)
        if match[1] in names
    ]


def _json_at(text: str, start: int) -> Any:
    try:
        return json.JSONDecoder().raw_decode(text, start)[0]
    except (ValueError, RecursionError):
        return None


def _mentioned(prompt: str, names: list[str]) -> list[tuple[str, Any]]:
    if not prompt:
        return [(name, None) for name in names]
    return [(n, None) for n in names if re.search(rf"(?<!\w){re.escape(n)}(?!\w)", prompt)]


def _call(ask: Ask, at: int, function: Mapping[str, Any], args: Any) -> Call:
    dice = words.dice_for(ask.seed, "call", at)
    schema = function.get("parametersJsonSchema", function.get("parameters"))
    if args is None:
        args = schemas.example(schema, dice) if isinstance(schema, dict) else {}
    call: Call = {"name": function["name"], "args": args if isinstance(args, dict) else {}}
    if ask.model.names_calls:
        same = ask.shapes.get("same-id")
        call["id"] = (
            same["id"] if same and not at else f"call_{dice.randrange(100_000, 10_000_000)}"
        )
    return call


def _is_dummy(signature: str) -> bool:
    encoded = (base64.b64encode(d.encode()).decode() for d in rules.DUMMY_SIGNATURES)
    return signature in rules.DUMMY_SIGNATURES or signature.rstrip("=") in {
        text.rstrip("=") for text in encoded
    }


def _signed(seed: object, call: Mapping[str, Any], signature: str) -> bool:
    standard = signature.replace("-", "+").replace("_", "/").rstrip("=")
    return standard == sign(seed, call).rstrip("=")
