"""Convert an answer to JSON objects: one for a unary call, several for a stream.

Shapes follow recorded traffic: usage in every chunk as running totals (without candidatesTokenCount
while the model thinks), deltas of text, thoughts before the answer, a signature on an empty text
part at the end, and a finishReason in one of several places.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from gemproxy.simulator import words
from gemproxy.simulator.answers import Answer, Candidate

#: Where the finishReason of a stream is placed, by the name of the shape.
FINISH_STYLES = (
    "finish-last",
    "finish-extra",
    "finish-no-parts",
    "finish-no-content",
    "finish-twice",
)
_TOKENS_A_CHUNK = 7
_CONTENTS: Mapping[str, dict[str, Any]] = {
    "role": {"content": {"role": "model"}},
    "empty": {"content": {}},
    "absent": {},
}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Delta:
    """One candidate's part of a chunk, with running totals of tokens."""

    candidate: Json
    thought_tokens: int = 0
    tokens: int = 0


def unary(answer: Answer) -> Json:
    """The whole answer as one GenerateContentResponse."""
    body: Json = {}
    if answer.candidates:
        body["candidates"] = [_whole(c, index) for index, c in enumerate(answer.candidates)]
    if answer.feedback is not None:
        body["promptFeedback"] = dict(answer.feedback)
    totals = [(c.thought_tokens, c.tokens) for c in answer.candidates]
    return body | _tail(answer, totals, last=True)


def stream(
    answer: Answer, *, style: str = "", pieces: int = 0, usage_last: bool = False
) -> list[Json]:
    """The chunks of a streamed answer.

    ``style`` is one of FINISH_STYLES, "" for the usual style of the model; ``pieces`` is the number
    of text chunks, 0 for a number that fits the length; ``usage_last`` adds a chunk with only
    usage.
    """
    if not answer.candidates:
        return [unary(answer)]
    deltas = [
        list(_deltas(candidate, index, style, pieces))
        for index, candidate in enumerate(answer.candidates)
    ]
    totals = [(0, 0)] * len(deltas)
    chunks: list[Json] = []
    rounds = list(zip_longest(*deltas))
    for number, round_ in enumerate(rounds):
        for index, delta in enumerate(round_):
            if delta is not None:
                totals[index] = (delta.thought_tokens, delta.tokens)
                tail = _tail(answer, totals, last=number == len(rounds) - 1)
                chunks.append({"candidates": [delta.candidate], **tail})
    if usage_last:
        chunks.append(_tail(answer, totals, last=True))
    return chunks


# ---- unary -------------------------------------------------------------------------------------


def _whole(candidate: Candidate, index: int) -> Json:
    parts = [{"text": text, "thought": True} for text in candidate.thoughts]
    parts += [dict(part) for part in candidate.parts]
    if candidate.signature is not None and parts and "text" in parts[-1]:
        parts[-1]["thoughtSignature"] = candidate.signature
    whole = _content(candidate, parts)
    return whole | _ending(candidate, index) | _logprobs(candidate, _text_of(candidate))


def _content(candidate: Candidate, parts: list[Json]) -> Json:
    if candidate.content != "full":
        return dict(_CONTENTS[candidate.content])
    return {"content": {"parts": parts, "role": "model"}}


def _ending(candidate: Candidate, index: int) -> Json:
    ending: Json = {"finishReason": candidate.finish_reason, "index": index}
    if candidate.finish_message:
        ending["finishMessage"] = candidate.finish_message
    return ending | dict(candidate.extras)


# ---- streams -----------------------------------------------------------------------------------


def _deltas(candidate: Candidate, index: int, style: str, pieces: int) -> Iterator[_Delta]:
    thought = candidate.thought_tokens
    for text in candidate.thoughts:
        part = {"text": text, "thought": True}
        yield _Delta({"content": {"parts": [part], "role": "model"}, "index": index})
    bodies = list(_bodies(candidate, pieces))
    style = style or _usual_style(candidate)
    tokens = 0
    for number, (body, cost) in enumerate(bodies):
        tokens = candidate.tokens if number == len(bodies) - 1 else tokens + cost
        delta = {**body, "index": index}
        if style == "finish-twice":
            delta["finishReason"] = candidate.finish_reason
        if number == len(bodies) - 1 and style in {"finish-last", "finish-twice"}:
            delta |= _ending(candidate, index)
        yield _Delta(delta, thought, tokens)
    if style not in {"finish-last", "finish-twice"} or not bodies:
        extra = _extra(candidate, style) | _ending(candidate, index)
        yield _Delta(extra, thought, candidate.tokens)


def _usual_style(candidate: Candidate) -> str:
    """Gemini 3 and later finish in an extra chunk, whose empty text carries the signature."""
    signed = any("thoughtSignature" in part for part in candidate.parts)
    return "finish-extra" if signed or candidate.signature is not None else "finish-last"


def _extra(candidate: Candidate, style: str) -> Json:
    if candidate.content != "full":
        return dict(_CONTENTS[candidate.content])
    if style == "finish-no-content":
        return {}
    if style == "finish-no-parts":
        return {"content": {"role": "model"}}
    part: Json = {"text": ""}
    if candidate.signature is not None:
        part["thoughtSignature"] = candidate.signature
    return {"content": {"parts": [part], "role": "model"}}


def _bodies(candidate: Candidate, pieces: int) -> Iterator[tuple[Json, int]]:
    """The content of each chunk, with its tokens."""
    for part in candidate.parts:
        if set(part) == {"text"} and part["text"]:
            for text, cost in _pieces(part["text"], pieces):
                body = {"content": {"parts": [{"text": text}], "role": "model"}}
                yield body | _logprobs(candidate, text), cost
        else:
            yield {"content": {"parts": [dict(part)], "role": "model"}}, 0


def _pieces(text: str, wanted: int) -> Iterator[tuple[str, int]]:
    tokens = words.tokens(text)
    size = math.ceil(len(tokens) / wanted) if wanted else _TOKENS_A_CHUNK
    for start in range(0, len(tokens), max(1, size)):
        piece = tokens[start : start + max(1, size)]
        yield "".join(piece), len(piece)


# ---- usage and probabilities -------------------------------------------------------------------


def _tail(answer: Answer, totals: list[tuple[int, int]], *, last: bool) -> Json:
    return {
        "usageMetadata": _usage(answer, totals, last=last),
        "modelVersion": answer.model_version,
        "responseId": answer.response_id,
    }


def _usage(answer: Answer, totals: list[tuple[int, int]], *, last: bool) -> Json:
    thoughts = sum(thought for thought, _ in totals)
    tokens = sum(count for _, count in totals)
    prompt = sum(answer.prompt.values())
    counted: Json = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": tokens,
        "totalTokenCount": prompt + tokens + thoughts + answer.tool_tokens,
        "cachedContentTokenCount": min(answer.cached_tokens, prompt),
        "promptTokensDetails": _details(answer.prompt),
        "thoughtsTokenCount": thoughts,
        "toolUsePromptTokenCount": answer.tool_tokens,
        "serviceTier": answer.service_tier,
    }
    if answer.cached_tokens:
        counted["cacheTokensDetails"] = _details({"TEXT": min(answer.cached_tokens, prompt)})
    if answer.tool_tokens:
        counted["toolUsePromptTokensDetails"] = _details({"TEXT": answer.tool_tokens})
    if last and _shows_picture(answer):
        counted["candidatesTokensDetails"] = _details({"IMAGE": tokens})
    return {name: value for name, value in counted.items() if value}  # proto3 leaves out zeros


def _details(counts: Mapping[str, int]) -> list[Json]:
    return [{"modality": name, "tokenCount": count} for name, count in counts.items() if count]


def _shows_picture(answer: Answer) -> bool:
    return any(
        part.get("inlineData", {}).get("mimeType") == "image/png"
        for candidate in answer.candidates
        for part in candidate.parts
    )


def _text_of(candidate: Candidate) -> str:
    return "".join(part.get("text", "") for part in candidate.parts)


def _logprobs(candidate: Candidate, text: str) -> Json:
    if candidate.top_logprobs is None or not text:
        return {}
    chosen = [_chosen(token, 0) for token in words.tokens(text)]
    result: Json = {"chosenCandidates": chosen}
    if candidate.top_logprobs:
        result["topCandidates"] = [
            {"candidates": [_chosen(item["token"], rank) for rank in range(candidate.top_logprobs)]}
            for item in chosen
        ]
    average = sum(item["logProbability"] for item in chosen) / len(chosen)
    return {"avgLogprobs": average, "logprobsResult": result}


def _chosen(token: str, rank: int) -> Json:
    """``token`` itself, or for a rank above 0 a made-up alternative."""
    other = token if rank == 0 else f"{token.rstrip()}{chr(ord('a') + rank % 26)}"
    number = int(words.digest(other)[:4], 16)
    return {
        "token": other,
        "tokenId": number,
        "logProbability": -(rank + 0.01 + (number % 97) / 1000),
    }
