"""The list of models: the provider's models become Anthropic's ``/v1/models``."""

from __future__ import annotations

from collections.abc import Mapping

from gemproxy.api.anthropic.schema.models import ModelInfo, ModelPage
from gemproxy.core.errors import InvalidRequest
from gemproxy.translate.shared.listed_model import ListedModel

#: Gemini reports no time of creation; this is the day on which its API opened.
CREATED_AT = "2023-12-13T00:00:00Z"
#: Models on a page if the client names no number, and the most that it may name.
PAGE_SIZE = 20
MOST_ON_A_PAGE = 1000


def to_anthropic_model(name: str, model: ListedModel) -> ModelInfo:
    """The entry of one model."""
    return ModelInfo(
        id=name,
        display_name=model.display_name or name,
        created_at=CREATED_AT,
        lifecycle="active",
        max_input_tokens=model.input_token_limit,
        max_tokens=model.output_token_limit,
    )


def to_anthropic_page(
    models: Mapping[str, ListedModel], limit: int, after: str = "", before: str = ""
) -> ModelPage:
    """The first ``limit`` models behind ``after``, or the last ones in front of ``before``.

    Raises :class:`InvalidRequest` for an id that is not in the list.
    """
    names = list(models)
    for field, cursor in (("after_id", after), ("before_id", before)):
        if cursor and cursor not in models:
            raise InvalidRequest(f"{field}: no model has this id.", param=field)
    if before:
        rest = names[: names.index(before)]
        page = rest[-limit:]
    else:
        rest = names[names.index(after) + 1 :] if after else names
        page = rest[:limit]
    return ModelPage(
        [to_anthropic_model(name, models[name]) for name in page],
        has_more=len(rest) > len(page),
        first_id=page[0] if page else None,
        last_id=page[-1] if page else None,
    )
