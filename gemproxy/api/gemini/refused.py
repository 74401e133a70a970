"""Collections of Gemini's API that are not offered, though a client may ask for them.

They would let a client act on the project of a key beyond what this proxy can see: a token of its
own for Google, a model, an agent or a callback that outlives the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NoReturn

from gemproxy.api.base import Head, Route
from gemproxy.api.gemini.errors import GEMINI
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import Forbidden, UnknownURL

COLLECTIONS: Final = frozenset(
    {
        "agents",
        "auth_tokens",
        "corpora",
        "credentials",
        "decisions",
        "dynamic",
        "environments",
        "generatedFiles",
        "ragStores",
        "triggers",
        "tunedModels",
        "voices",
        "webhooks",
    }
)
_METHODS: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE")
_VALUES: Final = {"collection": COLLECTIONS}


class RefusedEndpoint:
    """Refuses every request to a path; see :class:`gemproxy.api.base.LocalEndpoint`."""

    def __init__(self, route: Route) -> None:
        self.route = route

    async def answer(self, head: Head, context: RequestContext) -> NoReturn:
        """See :meth:`gemproxy.api.base.LocalEndpoint.answer`."""
        del context
        raise Forbidden(
            f"This proxy does not offer {head.parameters['collection']} of the Gemini API.",
            reason="collection_not_offered",
        )


class UnknownVerbEndpoint:
    """Refuses calls of models that are not offered; see :class:`gemproxy.api.base.LocalEndpoint`.

    It has to stand behind those that are.
    """

    route: Final = Route("/{version}/models/{model}:{verb}", (b"POST",), GEMINI)

    async def answer(self, head: Head, context: RequestContext) -> NoReturn:
        """See :meth:`gemproxy.api.base.LocalEndpoint.answer`."""
        del context
        raise UnknownURL(f"This proxy does not offer models.{head.parameters['verb'][:80]}.")


def refused_endpoints() -> Sequence[RefusedEndpoint | UnknownVerbEndpoint]:
    """An endpoint for each path that is refused."""
    templates = ("/{version}/{collection}", "/{version}/{collection}/{name}")
    return [
        *(RefusedEndpoint(Route(each, _METHODS, GEMINI, values=_VALUES)) for each in templates),
        UnknownVerbEndpoint(),
    ]
