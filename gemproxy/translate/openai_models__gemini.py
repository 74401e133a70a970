"""The list of models: the provider's models become OpenAI's ``/v1/models``."""

from __future__ import annotations

from collections.abc import Iterable

from gemproxy.api.openai.schema.answers import Model

#: Gemini reports no time of creation; this is the day on which its API opened, 2023-12-13, in epoch
#: seconds.
CREATED = 1_702_425_600


def to_openai_models(names: Iterable[str]) -> list[Model]:
    """The models of these names."""
    return [Model(id=name, created=CREATED) for name in names]
