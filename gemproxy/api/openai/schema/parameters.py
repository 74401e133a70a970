"""The support of every parameter of the official SDK (3.54).

``docs/compatibility.md`` has the same list; tests compare both with the SDK's signatures.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple


class Support(Enum):
    """What the proxy does with a parameter."""

    #: It has its effect, exactly or as closely as Gemini can.
    MAPPED = "mapped"
    #: It is accepted because SDKs send it, and has no effect.
    IGNORED = "ignored"
    #: It is answered with 400.
    REFUSED = "refused"


class Parameter(NamedTuple):
    """The support of one parameter, and a sentence that explains it."""

    fate: Support
    note: str


_M, _I = Support.MAPPED, Support.IGNORED

#: Of ``chat.completions.create``.
PARAMETERS: Mapping[str, Parameter] = {
    "messages": Parameter(_M, "Become contents and systemInstruction."),
    "model": Parameter(_M, "Names the upstream's model, after aliases and prefixes."),
    "audio": Parameter(_M, "The voice of a speech model's answer; no effect on other models."),
    "frequency_penalty": Parameter(_I, "Current models answer 400 to any penalty."),
    "function_call": Parameter(_M, "Like tool_choice, for functions."),
    "functions": Parameter(_M, "Like tools; answers then carry function_call."),
    "logit_bias": Parameter(_I, "Gemini has no such thing."),
    "logprobs": Parameter(_M, "Becomes responseLogprobs; not every model gives them."),
    "max_completion_tokens": Parameter(_M, "Becomes maxOutputTokens; wins over max_tokens."),
    "max_tokens": Parameter(_M, "Becomes maxOutputTokens, which counts thoughts as well."),
    "metadata": Parameter(_I, "Nothing is stored."),
    "modalities": Parameter(_M, "text everywhere, image on image models; audio elsewhere is 400."),
    "moderation": Parameter(_I, "Gemini's own filters apply."),
    "n": Parameter(_M, "Becomes candidateCount; 400 from Gemini 3 on, which gives one."),
    "parallel_tool_calls": Parameter(_M, "false keeps the first call of an answer."),
    "prediction": Parameter(_I, "Only a hint for speed."),
    "presence_penalty": Parameter(_I, "Current models answer 400 to any penalty."),
    "prompt_cache_key": Parameter(_M, "Names the conversation, whose requests prefer one key."),
    "prompt_cache_options": Parameter(_I, "Gemini caches by itself."),
    "prompt_cache_retention": Parameter(_I, "Gemini caches by itself."),
    "reasoning_effort": Parameter(_M, "Becomes a thinking level or budget that the model has."),
    "response_format": Parameter(_M, "Becomes responseMimeType and responseJsonSchema."),
    "safety_identifier": Parameter(_I, "Never forwarded."),
    "seed": Parameter(_M, "Becomes seed, cut to 32 bits."),
    "service_tier": Parameter(_M, "default, flex and priority; others are left to Google."),
    "stop": Parameter(_M, "Becomes stopSequences; empty strings are left out."),
    "store": Parameter(_I, "Nothing is stored."),
    "stream": Parameter(_M, "Chooses streamGenerateContent."),
    "stream_options": Parameter(_M, "include_usage; include_obfuscation has no effect."),
    "temperature": Parameter(_M, "Left out for models that do not look at it (3.6 and later)."),
    "tool_choice": Parameter(_M, "Becomes functionCallingConfig; any and validated as well."),
    "tools": Parameter(_M, "Functions become declarations; custom tools are 400."),
    "top_logprobs": Parameter(_M, "Becomes logprobs."),
    "top_p": Parameter(_M, "Left out for models that do not look at it (3.6 and later)."),
    "user": Parameter(_I, "Never forwarded."),
    "verbosity": Parameter(_I, "Gemini has no such thing."),
    "web_search_options": Parameter(_M, "Becomes googleSearch; 400 beside functions before 3."),
}

#: Of ``embeddings.create``.
EMBEDDING_PARAMETERS: Mapping[str, Parameter] = {
    "input": Parameter(_M, "Each text becomes a request of batchEmbedContents; tokens are 400."),
    "model": Parameter(_M, "Names the upstream's model, after aliases and prefixes."),
    "dimensions": Parameter(_M, "Becomes outputDimensionality; what is cut gets the length 1."),
    "encoding_format": Parameter(_M, "float or base64, which is made here."),
    "user": Parameter(_I, "Never forwarded."),
}
