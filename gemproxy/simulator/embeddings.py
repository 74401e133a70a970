"""Embeddings: what Google refuses in them, and the vectors, which are made of the text's digest.

A vector has 3,072 numbers and the length 1. Fewer dimensions are its beginning, which
``gemini-embedding-001`` leaves as it is and later models bring to the length 1 again. The first
model heeds ``taskType`` and tells no usage, later ones do the opposite. All of that is recorded.
Sources: ai.google.dev embeddings page and API reference, public recordings.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from gemproxy.simulator import asking, words
from gemproxy.simulator.fields import PAYLOADS
from gemproxy.simulator.models import Model

Request = Mapping[str, Any]

DIMENSIONS = 3072
MAX_BATCH = 100
_MOST_IMAGES = 6


def with_model(request: dict[str, Any], name: str) -> dict[str, Any]:
    """The request of ``embedContent``; its model may be given only in the path."""
    return {"model": f"models/{name}", **request}


def objection(requests: list[dict[str, Any]], name: str, model: Model) -> str | None:
    """Google's message for the first fault of the requests; None if there is none."""
    if not requests:
        return "* BatchEmbedContentsRequest.requests: requests is not specified\n"
    if len(requests) > MAX_BATCH:
        return "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch\n"
    for at, request in enumerate(requests):
        for text in _faults(request, at, name, model):
            return text
    return None


def _faults(request: Request, at: int, name: str, model: Model) -> Iterator[str]:
    where = f"* BatchEmbedContentsRequest.requests[{at}]"
    named = request.get("model", "")
    if not named:
        yield f"{where}.model: model is not specified\n"
    elif named.removeprefix("models/") != name:
        yield f"{where}.model: model must be models/{name}, as in the path\n"
    parts = request.get("content", {}).get("parts", ())
    if not parts:
        yield f"{where}.content: contents is not specified\n"
    for part in parts:
        if not any(part.get(payload) for payload in PAYLOADS):
            yield "EmbedContentRequest.content contains an empty Part."
        if "text" not in part and model.generation < 2:
            yield f"Model models/{name} embeds text only."
    if sum("inlineData" in part or "fileData" in part for part in parts) > _MOST_IMAGES:
        yield f"At most {_MOST_IMAGES} images can be in one request."
    dimensions = _option(request, "outputDimensionality")
    if dimensions is not None and not 1 <= dimensions <= DIMENSIONS:
        yield f"output_dimensionality must be between 1 and {DIMENSIONS}, got {dimensions}."


def last_text(requests: list[dict[str, Any]]) -> str:
    """The text of the last request, which may contain triggers."""
    return "\n".join(_texts(requests[-1])) if requests else ""


def tokens(requests: list[dict[str, Any]]) -> dict[str, int]:
    """Tokens by modality."""
    return asking.prompt_tokens({"contents": [each["content"] for each in requests]})


def answer(requests: list[dict[str, Any]], model: Model, seed: int) -> dict[str, Any]:
    """The answer to a batch."""
    body: dict[str, Any] = {
        "embeddings": [{"values": _vector(each, model, seed)} for each in requests]
    }
    if model.generation >= 2:
        counted = tokens(requests)
        body["usageMetadata"] = {
            "promptTokenCount": sum(counted.values()),
            # Without an "s" at the end, unlike the name for generateContent.
            "promptTokenDetails": [
                {"modality": name, "tokenCount": n} for name, n in counted.items() if n
            ],
        }
    return body


def _vector(request: Request, model: Model, seed: int) -> msgspec.Raw:
    """The numbers as JSON: one of 256 values for each byte of the digest, with nine digits."""
    heard = ("taskType", "title") if model.generation < 2 else ()
    options = [str(_option(request, name)) for name in heard]
    name = words.digest(seed, model.name, request["content"]["parts"], options)
    size = _option(request, "outputDimensionality") or DIMENSIONS
    whole = hashlib.shake_256(name.encode("ascii")).digest(DIMENSIONS)
    part = whole[:size]
    length = math.hypot(*(byte - 127.5 for byte in (whole if model.generation < 2 else part)))
    numbers = [b"%.9g" % ((byte - 127.5) / length) for byte in range(256)]
    return msgspec.Raw(b"[%b]" % b",".join([numbers[byte] for byte in part]))


def _option(request: Request, name: str) -> Any:
    """An option in the newer form, or else in the older one."""
    return request.get("embedContentConfig", {}).get(name, request.get(name))


def _texts(request: Request) -> list[str]:
    parts = request.get("content", {}).get("parts", ())
    return [str(part["text"]) for part in parts if "text" in part]
