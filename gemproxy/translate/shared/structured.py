"""Ask for JSON: Gemini's JSON mode, or an instruction where a model has none beside tools."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gemproxy.core.errors import InvalidRequest
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import GenerationConfig
from gemproxy.translate.shared.schema import schema_text
from gemproxy.translate.shared.schema_budget import SchemaBudget

_JSON: Final = "application/json"


class JSONOutput(msgspec.Struct, frozen=True):
    """JSON of any shape, or of ``schema``. The paths are those of the client's fields."""

    path: str
    schema_path: str
    schema: dict[str, Any] | None = None


def set_json_mode(
    config: GenerationConfig,
    wanted: JSONOutput,
    family: ModelFamily,
    budget: SchemaBudget,
    *,
    has_tools: bool,
) -> None:
    """Set JSON mode in ``config``. ``budget`` bounds the work on the schema.

    Raises :class:`InvalidRequest` if the model has none.
    """
    if not family.json_mode:
        raise InvalidRequest(
            f"{wanted.path}: this model has no JSON mode.",
            param=wanted.path,
            reason="unsupported_parameter",
        )
    if has_tools and not family.json_mode_with_tools:
        # Gemini 2.5 and before: "Function calling with a response mime type: 'application/json' is
        # unsupported". The tools are more important: without them the client's loop cannot
        # continue. The format of the answer becomes an instruction, see :func:`json_instruction`.
        return
    config.response_mime_type = _JSON
    config.response_json_schema = _schema(wanted, budget)


def json_instruction(
    wanted: JSONOutput | None, family: ModelFamily, budget: SchemaBudget, *, has_tools: bool
) -> str | None:
    """The instruction that asks for JSON if the model has no JSON mode beside tools."""
    if wanted is None or not has_tools or family.json_mode_with_tools or not family.json_mode:
        return None
    schema = _schema(wanted, budget)
    if schema is None:
        return "Answer with a JSON object."
    return f"Answer with JSON that follows this JSON Schema: {bytes(schema).decode()}"


def _schema(wanted: JSONOutput, budget: SchemaBudget) -> msgspec.Raw | None:
    if wanted.schema is None:
        return None
    return schema_text(wanted.schema, wanted.schema_path, budget)
