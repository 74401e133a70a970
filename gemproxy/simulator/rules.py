"""What Google refuses in a request whose fields are all well formed.

Each rule gets a parsed request (camelCase names, see :mod:`.wire`) and the model, and yields a text
for each fault; the first text becomes a 400 INVALID_ARGUMENT. Texts that a client may match are
Google's; the others are ours. Sources: ai.google.dev pages thinking, thought-signatures,
function-calling, structured-output, caching, and issues of public clients.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from gemproxy.simulator import generation_rules, schemas
from gemproxy.simulator.fields import PAYLOADS
from gemproxy.simulator.models import Medium, Model
from gemproxy.simulator.requests import built_in_tools, current_turn, declarations, parts_of

Request = dict[str, Any]

#: The dummy signatures that Google documents for calls that no model made.
DUMMY_SIGNATURES = frozenset(
    {"skip_thought_signature_validator", "context_engineering_is_the_way_to_go"}
)

_SUBTYPES = {
    "image": {"png", "jpeg", "jpg", "webp", "heic", "heif", "gif"},
    "audio": {
        "wav",
        "x-wav",
        "mp3",
        "mpeg",
        "aiff",
        "aac",
        "ogg",
        "flac",
        "l16",
        "mp4",
        "m4a",
        "webm",
    },
    "video": {"mp4", "mpeg", "mov", "quicktime", "avi", "x-flv", "mpg", "webm", "wmv", "3gpp"},
    "application": {"pdf", "json", "xml", "rtf", "x-javascript", "x-python"},
}
_MIME_TYPES = frozenset(f"{kind}/{name}" for kind, names in _SUBTYPES.items() for name in names)
_FUNCTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")


def objection(request: Request, model: Model) -> str | None:
    """Google's message for the first fault of the request; None if there is none."""
    for rule in _RULES:
        for text in rule(request, model):
            return text
    return None


# ---- contents ----------------------------------------------------------------------------------


def _contents(request: Request, _model: Model) -> Iterator[str]:
    yield from contents_faults(request)


def contents_faults(request: Request) -> Iterator[str]:
    """Faults of the contents: none at all, an unknown role, parts without payload."""
    contents = request.get("contents")
    if not contents:
        yield "* GenerateContentRequest.contents: contents is not specified\n"
        return
    if any(content.get("role", "user") not in {"user", "model"} for content in contents):
        yield "Please use a valid role: user, model."
    for at, content in enumerate(contents):
        where = f"GenerateContentRequest.contents[{at}]"
        if not content.get("parts"):
            yield f"* {where}.parts: contents.parts must not be empty.\n"
        for number, part in enumerate(content.get("parts", ())):
            if not _has_payload(part, content):
                yield (
                    f"* {where}.parts[{number}].data: required oneof field 'data' must have one "
                    "initialized field\n"
                )


def _has_payload(part: dict[str, Any], content: dict[str, Any]) -> bool:
    if content.get("role", "user") == "user" and part.get("text") == "":
        return False
    return any(name in part for name in PAYLOADS)


def _media(request: Request, _model: Model) -> Iterator[str]:
    for content in request["contents"]:
        for part in content["parts"]:
            for kind in ("inlineData", "fileData"):
                mime = part.get(kind, {}).get("mimeType", "" if kind == "fileData" else None)
                if kind in part and not _knows_mime(mime, kind):
                    yield f"Unsupported MIME type: {mime or ''}"
            if "inlineData" in part and not part["inlineData"].get("data"):
                yield "Unable to process input image. Please retry or report in troubleshooting"
            if "fileData" in part and not part["fileData"].get("fileUri"):
                yield "fileData needs a fileUri."


def _knows_mime(mime: str | None, kind: str) -> bool:
    if mime is None:
        return False
    bare = mime.split(";")[0].strip().lower()
    return bare in _MIME_TYPES or bare.startswith("text/") or (not bare and kind == "fileData")


def _system_instruction(request: Request, model: Model) -> Iterator[str]:
    instruction = request.get("systemInstruction")
    if instruction is None:
        return
    if model.medium is Medium.AUDIO or (model.is_gemma and model.generation < 4):
        yield f"Developer instruction is not enabled for models/{model.name}"
    if any("text" not in part for part in instruction.get("parts", ())):
        yield "systemInstruction takes text parts only."


# ---- function calls in the history -------------------------------------------------------------


def _turn_order(request: Request, _model: Model) -> Iterator[str]:
    contents = request["contents"]
    for at, content in enumerate(contents):
        calls = parts_of(content, "functionCall")
        answers = parts_of(content, "functionResponse")
        before = contents[at - 1] if at else {}
        if calls and (not at or before.get("role") == "model"):
            yield (
                "Please ensure that function call turn comes immediately after a user turn or "
                "after a function response turn."
            )
        if answers and not parts_of(before, "functionCall"):
            yield (
                "Please ensure that function response turn comes immediately after a function "
                "call turn."
            )
        if calls:
            after = contents[at + 1] if at + 1 < len(contents) else {}
            if len(parts_of(after, "functionResponse")) != len(calls):
                yield (
                    "Please ensure that the number of function response parts is equal to the "
                    "number of function call parts of the function call turn."
                )


def _function_parts(request: Request, _model: Model) -> Iterator[str]:
    for at, content in enumerate(request["contents"]):
        for number, part in enumerate(content["parts"]):
            where = f"* GenerateContentRequest.contents[{at}].parts[{number}]"
            if "functionCall" in part and not part["functionCall"].get("name"):
                yield f"{where}.function_call.name: Name cannot be empty.\n"
            if "functionResponse" in part and not part["functionResponse"].get("name"):
                yield f"{where}.function_response.name: Name cannot be empty.\n"
            if "functionResponse" in part and "response" not in part["functionResponse"]:
                yield f"{where}.function_response.response: must be set.\n"
            if "functionCall" in part and content.get("role", "user") == "user":
                yield f"{where}.function_call: only a model turn can have function calls.\n"


def _signatures(request: Request, model: Model) -> Iterator[str]:
    if not model.signs_calls:
        return
    contents = request["contents"]
    for at in range(current_turn(contents), len(contents)):
        calls = [part for part in contents[at]["parts"] if "functionCall" in part]
        if calls and not calls[0].get("thoughtSignature"):
            name = calls[0]["functionCall"].get("name", "")
            yield (
                "Function call is missing a thought_signature in functionCall parts. This is "
                "required for tools to work correctly, and missing thought_signature may lead to "
                f"degraded model performance. Additional data, function call `default_api:{name}` "
                f", position {at + 1}. Please refer to "
                "https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
            )


def _image_signatures(request: Request, model: Model) -> Iterator[str]:
    if not model.signs_images:
        return
    for at, content in enumerate(request["contents"]):
        for number, part in enumerate(content["parts"]):
            mime = part.get("inlineData", part.get("fileData", {})).get("mimeType", "")
            made = content.get("role") == "model" and mime.startswith("image/")
            if made and not part.get("thoughtSignature"):
                yield (
                    f"Image part is missing a thought_signature in content position {at + 1}, "
                    f"part position {number + 1}. Please refer to "
                    "https://ai.google.dev/gemini-api/docs/thought-signatures for more details "
                    "about thought signatures."
                )


def _last_turn(request: Request, model: Model) -> Iterator[str]:
    if request["contents"][-1].get("role") == "model" and not model.takes_prefill:
        yield "Please ensure that the last content is a user turn or a function response turn."


# ---- tools -------------------------------------------------------------------------------------


def _tools(request: Request, model: Model) -> Iterator[str]:
    functions, servers = declarations(request), built_in_tools(request)
    if functions and model.medium is not Medium.TEXT:
        yield f"Function calling is not enabled for models/{model.name}"
    if any(not tool for tool in request.get("tools", ())):
        yield (
            "* GenerateContentRequest.tools[0].tool_type: required one_of 'tool_type' must have "
            "one initialized field\n"
        )
    if functions and servers and model.generation < 3:
        yield "Tool use with function calling is unsupported"
    if functions and servers and not _invocations_included(request):
        yield (
            "Please enable tool_config.include_server_side_tool_invocations to use Built-in tools "
            "with Function calling."
        )
    for at, function in enumerate(functions):
        yield from _declaration(
            function, f"GenerateContentRequest.tools[0].function_declarations[{at}]"
        )
    repeated = [n for n, count in Counter(f.get("name") for f in functions).items() if count > 1]
    if repeated:
        yield f"Duplicate function declaration found: {repeated[0]}"


def _declaration(function: dict[str, Any], where: str) -> Iterator[str]:
    if not _FUNCTION_NAME.fullmatch(function.get("name", "")):
        yield (
            f"* {where}.name: Invalid function name. Must start with a letter or an underscore. "
            "Must be alphanumeric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or "
            "dashes (-), with a maximum length of 128.\n"
        )
    if "parameters" in function and "parametersJsonSchema" in function:
        yield f"* {where}: only one of parameters and parameters_json_schema can be set.\n"
    if "parameters" in function:
        yield from schemas.openapi_faults(function["parameters"], f"{where}.parameters")
    if "parametersJsonSchema" in function:
        yield from schemas.json_schema_faults(
            function["parametersJsonSchema"], f"{where}.parameters_json_schema"
        )


def _invocations_included(request: Request) -> bool:
    return bool(request.get("toolConfig", {}).get("includeServerSideToolInvocations"))


def _calling_config(request: Request, _model: Model) -> Iterator[str]:
    config = request.get("toolConfig", {}).get("functionCallingConfig")
    if config is None:
        return
    names = {function["name"] for function in declarations(request)}
    allowed = config.get("allowedFunctionNames", [])
    if not names:
        yield "Function calling config is set without function_declarations."
    if allowed and config.get("mode", "AUTO") not in {"ANY", "VALIDATED"}:
        yield "Allowed function names can only be set when the function calling mode is ANY."
    unknown = [name for name in allowed if name not in names]
    if unknown:
        yield f"Allowed function name {unknown[0]!r} is not among the function declarations."


# ---- the rest ----------------------------------------------------------------------------------


def _cache(request: Request, model: Model) -> Iterator[str]:
    if "cachedContent" not in request:
        return
    if any(name in request for name in ("systemInstruction", "tools", "toolConfig")):
        yield (
            "CachedContent can not be used with GenerateContent request setting "
            "system_instruction, tools or tool_config.\n\nProposed fix: move those values to "
            "CachedContent from GenerateContent request."
        )
    if model.generation >= 4:
        yield "Explicit caching is not supported for this model."


def _safety(request: Request, _model: Model) -> Iterator[str]:
    settings = request.get("safetySettings", [])
    counts = Counter(setting.get("category") for setting in settings)
    if any(count > 1 for count in counts.values()):
        yield "* GenerateContentRequest.safety_settings: element's category repeated.\n"
    if counts.get("HARM_CATEGORY_UNSPECIFIED") or counts.get(None):
        yield "* GenerateContentRequest.safety_settings[0]: a category is required.\n"


def _continuation(request: Request, model: Model) -> Iterator[str]:
    if "continuationToken" in request and not model.decodes_in_hops:
        yield "Continuation tokens are not supported for this model."


_RULES: tuple[Callable[[Request, Model], Iterator[str]], ...] = (
    _contents,
    _cache,
    _media,
    _system_instruction,
    _function_parts,
    _turn_order,
    _signatures,
    _image_signatures,
    _last_turn,
    _tools,
    _calling_config,
    *generation_rules.RULES,
    _safety,
    _continuation,
)
