"""The lists of models of all dialects."""

from __future__ import annotations

from gemproxy.api.anthropic import models as anthropic
from gemproxy.api.base import LocalEndpoint
from gemproxy.api.gemini import models as gemini
from gemproxy.api.openai import models as openai
from gemproxy.api.visible_models import VisibleModels


def model_endpoints(models: VisibleModels) -> list[LocalEndpoint]:
    """Return the endpoints that list ``models``, and those that show one."""
    return [
        openai.ModelListEndpoint(models),
        openai.ModelEndpoint(models),
        gemini.ModelListEndpoint(models),
        gemini.ModelEndpoint(models),
        anthropic.ModelListEndpoint(models),
        anthropic.ModelEndpoint(models),
    ]
