"""``GET /v1/models`` as Anthropic encodes it (docs.anthropic.com ``api/models-list``)."""

from __future__ import annotations

import msgspec


class ModelInfo(msgspec.Struct, frozen=True, tag_field="type", tag="model"):
    """One model."""

    id: str
    display_name: str
    created_at: str
    lifecycle: str
    max_input_tokens: int | None
    max_tokens: int | None


class ModelPage(msgspec.Struct, frozen=True):
    """One page of models."""

    data: list[ModelInfo]
    has_more: bool
    first_id: str | None
    last_id: str | None


encode = msgspec.json.Encoder().encode
