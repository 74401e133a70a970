"""Make the whole answer of the simulated model, before it is divided into chunks.

The same seed and the same request give the same answer. Lengths, stop sequences, JSON mode,
thoughts and tools follow the request as the real models do. Shapes (see :mod:`.behaviours`) alter
the answer.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from gemproxy.simulator import asking, calls, requests, schemas, words
from gemproxy.simulator.asking import Ask
from gemproxy.simulator.models import Medium

_CATEGORIES = ("HATE_SPEECH", "DANGEROUS_CONTENT", "HARASSMENT", "SEXUALLY_EXPLICIT")
_THOUGHTS = {"NONE": 0, "MINIMAL": 4, "LOW": 16, "MEDIUM": 40, "HIGH": 90, "XHIGH": 200}
_IMAGE_TOKENS = 1120
_CALLS_MADE = "Model generated function call(s)."
_USUAL_WORDS = 24
_TOKEN_BYTES = 120_000
_SEPARATORS = "\x85\u2028\u2029"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate. ``content`` is "full", "role", "empty" or "absent": how much of it is there.

    ``tokens`` is its candidatesTokenCount, ``thought_tokens`` its thoughtsTokenCount.
    ``top_logprobs`` is None unless log probabilities were asked for.
    """

    parts: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str = "STOP"
    finish_message: str = ""
    content: str = "full"
    thoughts: tuple[str, ...] = ()
    thought_tokens: int = 0
    tokens: int = 0
    extras: Mapping[str, Any] = field(default_factory=dict)
    top_logprobs: int | None = None
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; ``feedback`` is promptFeedback if the prompt was blocked."""

    model_version: str
    response_id: str
    prompt: Mapping[str, int]
    candidates: tuple[Candidate, ...] = ()
    feedback: Mapping[str, Any] | None = None
    cached_tokens: int = 0
    tool_tokens: int = 0
    service_tier: str = "standard"


def answer(ask: Ask, response_id: str) -> Answer:
    """The answer to ``ask``.

    Raises ValueError if a continuation token does not belong to the request.
    """
    whole = Answer(
        model_version=ask.model.name,
        response_id=response_id,
        prompt=_prompt_tokens(ask),
        cached_tokens=_cached(ask),
        tool_tokens=73 if _searches(ask) else 0,
        service_tier=ask.request.get("serviceTier", "standard"),
    )
    if "block" in ask.shapes:
        return replace(whole, feedback=_feedback(ask))
    if "no-candidates" in ask.shapes:
        return whole
    count = ask.config.get("candidateCount") or 1
    return replace(whole, candidates=tuple(_candidate(ask, index) for index in range(count)))


def safety_ratings(*, blocked: str | None = None) -> list[dict[str, Any]]:
    """The usual four ratings; the category ``blocked`` is the one that caused a block."""
    return [
        {"category": f"HARM_CATEGORY_{name}", "probability": "HIGH", "blocked": True}
        if name == blocked
        else {"category": f"HARM_CATEGORY_{name}", "probability": "NEGLIGIBLE"}
        for name in _CATEGORIES
    ]


def _candidate(ask: Ask, index: int) -> Candidate:
    ask = replace(ask, seed=f"{ask.seed}:{index}")
    for name, ending in _ENDINGS.items():
        if name in ask.shapes:
            return ending(ask)
    thought_tokens = _thought_tokens(ask)
    limit = ask.config.get("maxOutputTokens") or ask.model.output_limit
    if thought_tokens >= limit:
        # Thinking uses up a small maxOutputTokens: the content has a role and no parts.
        return Candidate(content="role", finish_reason="MAX_TOKENS", thought_tokens=limit)
    draft = Candidate(
        thoughts=_thoughts(ask, thought_tokens),
        thought_tokens=thought_tokens,
        signature=_text_signature(ask),
    )
    made = calls.chosen(ask)
    return _calling(ask, draft, made) if made else _saying(ask, draft, limit - thought_tokens)


def _calling(ask: Ask, draft: Candidate, made: list[calls.Call]) -> Candidate:
    parts: list[dict[str, Any]] = [{"functionCall": call} for call in made]
    if ask.model.signs_calls and "no-signature" not in ask.shapes:
        seed = ask.seed.split(":")[0]
        parts[0] = {**parts[0], "thoughtSignature": calls.sign(seed, made[0])}
    if "text-before-call" in ask.shapes:
        parts.insert(0, {"text": "Let me look that up."})
    return replace(
        draft,
        parts=tuple(parts),
        finish_message=_CALLS_MADE,
        tokens=sum(words.token_count(json.dumps(call)) for call in made),
        signature=None,
    )


def _saying(ask: Ask, draft: Candidate, limit: int) -> Candidate:
    if ask.model.medium is not Medium.TEXT:
        return _showing(ask, draft)
    text = _until_stop(_text(ask), ask.config.get("stopSequences", ()))
    pieces = words.tokens(text)
    cut = len(pieces) > limit
    text = "".join(pieces[:limit])
    extras: dict[str, Any] = dict(_continuation(ask, len(pieces))) if not cut else {}
    if _searches(ask):
        extras["groundingMetadata"] = _grounding(ask, text)
    return replace(
        draft,
        parts=({"text": text},),
        tokens=min(len(pieces), limit),
        finish_reason=_reason(cut=cut, extras=extras),
        extras=extras,
        top_logprobs=ask.config.get("logprobs", 0) if ask.config.get("responseLogprobs") else None,
    )


def _reason(*, cut: bool, extras: Mapping[str, Any]) -> str:
    if cut:
        return "MAX_TOKENS"
    return "CONTINUATION" if "continuationToken" in extras else "STOP"


def _showing(ask: Ask, draft: Candidate) -> Candidate:
    if ask.model.medium is Medium.AUDIO:
        mime = f"audio/L16;codec=pcm;rate={words.SAMPLE_RATE}"
        part: dict[str, Any] = {"inlineData": {"mimeType": mime, "data": words.sound()}}
        return replace(draft, parts=(part,), tokens=8)
    dice = words.dice_for(ask.seed, "picture")
    part = {"inlineData": {"mimeType": "image/png", "data": words.picture(dice)}}
    if ask.model.signs_images:
        seed = ask.seed.split(":")[0]
        part["thoughtSignature"] = calls.sign(seed, calls.image(part["inlineData"]))
    wanted = ask.config.get("responseModalities") or ("TEXT", "IMAGE")
    before = ({"text": f"Here is {words.excerpt(ask.prompt, 80)}."},) if "TEXT" in wanted else ()
    parts = (*before, part) if "IMAGE" in wanted else before
    return replace(draft, parts=parts, tokens=_IMAGE_TOKENS, signature=None)


# ---- text --------------------------------------------------------------------------------------


def _text(ask: Ask) -> str:
    dice = words.dice_for(ask.seed, "text")
    if ask.config.get("responseMimeType", "text/plain") != "text/plain":
        return _structured(ask)
    if "echo" in ask.shapes:
        return ask.prompt
    count = _USUAL_WORDS
    if "words" in ask.shapes:
        count = ask.shapes["words"]["n"]
    elif "chunks" in ask.shapes:
        count = ask.shapes["chunks"]["n"] * 2
    text = f"{_opening(ask)} {words.sentences(dice, count)}"
    return f"{text}{_SEPARATORS}" if "line-separators" in ask.shapes else text


def _opening(ask: Ask) -> str:
    if "long" in ask.shapes and ask.model.decodes_in_hops:
        return f"Part {_token(ask)[0] + 1} of {ask.shapes['long']['hops'] + 1}."
    if ask.results:
        return " ".join(
            f"{result['name']} returned {words.excerpt(_compact(result['response']))}."
            for result in ask.results
        )
    files = asking.attachments(ask.request)
    seen = f" With it came {', '.join(files)}." if files else ""
    return f'You said: "{words.excerpt(ask.prompt)}".{seen}'


def _structured(ask: Ask) -> str:
    schema = ask.config.get("responseJsonSchema", ask.config.get("responseSchema"))
    dice = words.dice_for(ask.seed, "json")
    if ask.config["responseMimeType"] == "text/x.enum":
        return str(schemas.example(schema, dice))
    if schema is None:
        return _compact({"answer": words.sentences(dice, 6)})
    return json.dumps(schemas.example(schema, dice), ensure_ascii=False, indent=2)


def _until_stop(text: str, stops: tuple[str, ...] | list[str]) -> str:
    found = [text.index(stop) for stop in stops if stop in text]
    return text[: min(found)] if found else text


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


# ---- thinking ----------------------------------------------------------------------------------


def _thought_tokens(ask: Ask) -> int:
    if not ask.model.thinks:
        return 0
    thinking = ask.config.get("thinkingConfig", {})
    budget = thinking.get("thinkingBudget", -1)
    usual = _THOUGHTS[thinking.get("thinkingLevel") or ask.model.default_level]
    if budget > 0 and not usual:
        usual = _THOUGHTS["MEDIUM"]
    if budget == 0:
        return 0 if ask.model.off else _THOUGHTS["MINIMAL"]
    spread = words.dice_for(ask.seed, "thoughts").randint(0, usual // 4)
    return min(usual + spread, budget) if budget > 0 else usual + spread


def _thoughts(ask: Ask, tokens: int) -> tuple[str, ...]:
    if not tokens or not ask.config.get("thinkingConfig", {}).get("includeThoughts"):
        return ()
    dice = words.dice_for(ask.seed, "summary")
    titles = ("Weighing the Question", "Choosing an Answer")
    return tuple(f"**{title}**\n\n{words.sentences(dice, 12)}\n\n\n" for title in titles)


def _text_signature(ask: Ask) -> str | None:
    """Gemini 3 and later sign text answers as well; clients may omit that signature."""
    if not ask.model.signs_calls or not ask.model.thinks:
        return None
    return calls.sign(ask.seed, {"name": "text"})


# ---- long answers, search, cache ---------------------------------------------------------------


def _token(ask: Ask) -> tuple[int, int]:
    """The number of this hop of a long answer, and the tokens of the hops before it.

    The continuation token is bound to the request, not to a key: any key may continue.
    """
    token = ask.request.get("continuationToken")
    if token is None:
        return 0, 0
    try:
        hop, written, digest = base64.b64decode(token, validate=True).decode("ascii").split(":")[:3]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise ValueError("Invalid continuation token.") from None
    if digest != _first_request(ask):
        raise ValueError("The continuation token does not belong to this request.")
    return int(hop), int(written)


def _prompt_tokens(ask: Ask) -> Mapping[str, int]:
    """Text of the hops before counts as prompt, as recorded from Gemini 4."""
    counts = asking.prompt_tokens(ask.request)
    _, written = _token(ask)
    return {**counts, "TEXT": counts.get("TEXT", 0) + written} if written else counts


def _continuation(ask: Ask, tokens: int) -> Mapping[str, Any]:
    if "long" not in ask.shapes or not ask.model.decodes_in_hops:
        return {}
    hop, written = _token(ask)
    if hop >= ask.shapes["long"]["hops"]:
        return {}
    # Google's tokens are some 160 KB long, since they contain the text.
    text = f"{hop + 1}:{written + tokens}:{_first_request(ask)}:{'.' * _TOKEN_BYTES}"
    return {"continuationToken": base64.b64encode(text.encode()).decode("ascii")}


def _first_request(ask: Ask) -> str:
    return words.digest({k: v for k, v in ask.request.items() if k != "continuationToken"})


def _searches(ask: Ask) -> bool:
    return "googleSearch" in requests.built_in_tools(ask.request)


def _grounding(ask: Ask, text: str) -> dict[str, Any]:
    """Sources for the last sentence of ``text``; indexes count bytes of UTF-8."""
    start = len(text[: text.rstrip(".").rfind(". ") + 1 or 0].encode())
    segment: dict[str, Any] = {"startIndex": start} if start else {}
    segment |= {"endIndex": len(text.encode()), "text": text.encode()[start:].decode()}
    sites = ("example.org", "example.net")
    return {
        "searchEntryPoint": {"renderedContent": "<div>simulated search</div>"},
        "groundingChunks": [
            {"web": {"uri": f"https://{site}/grounding/{at}", "title": site}}
            for at, site in enumerate(sites)
        ],
        "groundingSupports": [{"segment": segment, "groundingChunkIndices": [0, 1]}],
        "webSearchQueries": [words.excerpt(ask.prompt, 60)],
    }


def _cached(ask: Ask) -> int:
    return ask.shapes["cached"]["tokens"] if "cached" in ask.shapes else ask.cached_tokens


# ---- endings that are no plain STOP --------------------------------------------------------------


def _feedback(ask: Ask) -> dict[str, Any]:
    shape = ask.shapes["block"]
    feedback = {"blockReason": shape["reason"]}
    if shape["message"]:
        feedback["blockReasonMessage"] = shape["message"].replace("_", " ")
    # The ratings of a prompt have no `blocked`; blockReason states it.
    ratings = [
        {name: value for name, value in rating.items() if name != "blocked"}
        for rating in safety_ratings(blocked="DANGEROUS_CONTENT")
    ]
    return {**feedback, "safetyRatings": ratings}


def _partial(ask: Ask) -> Candidate:
    text = words.sentences(words.dice_for(ask.seed, "partial"), 9)
    return Candidate(parts=({"text": text},), tokens=words.token_count(text))


def _safety(ask: Ask) -> Candidate:
    base = _partial(ask) if ask.shapes["safety"]["text"] else Candidate(content="empty")
    ratings = {"safetyRatings": safety_ratings(blocked="HATE_SPEECH")}
    return replace(base, finish_reason="SAFETY", extras=ratings)


def _recitation(ask: Ask) -> Candidate:
    base = _partial(ask)
    source = {"startIndex": 4, "endIndex": 20, "uri": "https://example.org/poem"}
    cited = {"citationMetadata": {"citationSources": [source]}}
    return replace(base, finish_reason="RECITATION", extras=cited)


def _finish(ask: Ask) -> Candidate:
    shape = ask.shapes["finish"]
    base = _partial(ask) if shape["text"] else Candidate(content="absent")
    message = shape["message"].replace("_", " ")
    return replace(base, finish_reason=shape["reason"], finish_message=message)


def _malformed_call(_ask: Ask) -> Candidate:
    return Candidate(
        content="absent",
        finish_reason="MALFORMED_FUNCTION_CALL",
        finish_message="Malformed function call: print(default_api.",
    )


def _unexpected_call(_ask: Ask) -> Candidate:
    call = {"functionCall": {"name": "list_everything", "args": {}}}
    return Candidate(
        parts=(call,),
        finish_reason="UNEXPECTED_TOOL_CALL",
        finish_message=(
            "Unexpected tool call: Model tried to call an undeclared function: list_everything"
        ),
        tokens=6,
    )


def _transcription(ask: Ask) -> Candidate:
    text = _text(ask)
    spoken = {"audioTranscription": {"text": text, "languageCode": "en"}}
    return Candidate(parts=({"text": ""}, spoken), tokens=words.token_count(text))


_ENDINGS: Mapping[str, Callable[[Ask], Candidate]] = MappingProxyType(
    {
        "safety": _safety,
        "recitation": _recitation,
        "finish": _finish,
        "malformed-call": _malformed_call,
        "unexpected-call": _unexpected_call,
        "empty-text": lambda _ask: Candidate(parts=({"text": ""},)),
        "transcription": _transcription,
        "unknown-part": lambda _ask: Candidate(
            parts=({"mediaProcessing": {"state": "FINISHED"}},), tokens=1
        ),
        "no-parts": lambda _ask: Candidate(content="role"),
    }
)
