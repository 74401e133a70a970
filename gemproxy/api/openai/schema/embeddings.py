"""The embeddings request and its answer: types, and the function that decodes the request.

:func:`decode_embeddings` returns only valid requests: typed, in range, and without empty inputs.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from gemproxy.api.openai.schema.decode_errors import malformed
from gemproxy.api.openai.schema.messages import NonEmpty
from gemproxy.core.decoding import DECODE_ERRORS, decode_json
from gemproxy.core.errors import InvalidRequest

#: Texts in one request: OpenAI's own limit.
MAX_INPUTS = 2048

TaskType = Literal[
    "RETRIEVAL_QUERY",
    "RETRIEVAL_DOCUMENT",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "CODE_RETRIEVAL_QUERY",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
]


class GoogleEmbeddingOptions(msgspec.Struct, gc=False, frozen=True, forbid_unknown_fields=True):
    """``google``: options that only Gemini has, in both spellings of its JSON."""

    task_type: TaskType | None = None
    title: str | None = None
    camel_task_type: TaskType | None = msgspec.field(default=None, name="taskType")


class EmbeddingExtraBody(msgspec.Struct, gc=False, frozen=True):
    """``extra_body`` that arrives as a field: Google's documented double nesting."""

    google: GoogleEmbeddingOptions | None = None


class EmbeddingsRequest(msgspec.Struct, gc=False, frozen=True, kw_only=True):
    """``POST /v1/embeddings``. A parameter that is not here is ignored on purpose."""

    model: NonEmpty
    input: str | list[str]
    # An int32. Each model has its own limit, which Google checks.
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    # Extensions:
    task_type: TaskType | None = None
    title: str | None = None
    google: GoogleEmbeddingOptions | None = None
    extra_body: EmbeddingExtraBody | None = None

    @property
    def texts(self) -> list[str]:
        """The inputs, at least one."""
        return [self.input] if isinstance(self.input, str) else self.input


class EmbeddingUsage(msgspec.Struct, gc=False, frozen=True):
    """``usage`` of the answer; both fields are required, and have the same value."""

    prompt_tokens: int
    total_tokens: int


_OPTIONS = {"google": ("task_type", "title")}
#: A list of token ids, or a list of such lists.
_TOKENS = re.compile(r"Expected `str`, got `(?:int|array)` - at `\$\.input\[0\]`")

_decoder = msgspec.json.Decoder(EmbeddingsRequest)


def decode_embeddings(body: bytes) -> EmbeddingsRequest:
    """Decode and validate ``body``.

    Raises :class:`InvalidRequest`, with ``param``, if it is not a valid request, and for inputs
    that are token ids, empty, or too many.
    """
    try:
        request = decode_json(_decoder, body)
    except DECODE_ERRORS as error:
        if isinstance(error, msgspec.ValidationError) and _TOKENS.fullmatch(str(error)):
            raise InvalidRequest(
                "input: token arrays are not supported by Gemini; send text"
                " (LangChain: check_embedding_ctx_length=False).",
                param="input",
            ) from None
        raise malformed(error, _OPTIONS) from None
    _check_input(request.input)
    return request


def _check_input(given: str | list[str]) -> None:
    if not given:
        what = "a text" if isinstance(given, str) else "at least one text"
        raise InvalidRequest(f"input: expected {what}, got nothing.", param="input")
    if isinstance(given, list):
        if len(given) > MAX_INPUTS:
            raise InvalidRequest(
                f"input: expected at most {MAX_INPUTS} texts, got {len(given)}.", param="input"
            )
        if "" in given:
            place = f"input[{given.index('')}]"
            raise InvalidRequest(f"{place}: expected a text, got nothing.", param=place)
