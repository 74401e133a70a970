"""Routes of OpenAI's API that are known and not offered: 404 ``unsupported_endpoint``.

The reason tells a user at once that no setting of the client will help. A route that is offered
stands before these in the table.
"""

from __future__ import annotations

from typing import Final, NoReturn

from gemproxy.api.base import Head, Route
from gemproxy.api.openai.errors import OPENAI
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import UnknownURL

_METHODS: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE")
_NOT_BUILT: Final = "this proxy does not offer it"
_STORED: Final = "this proxy stores nothing of that kind"
_TUNING: Final = "Gemini has no such service for the keys of this API"

#: The reason by what follows ``/v1/``.
REASONS: Final = {
    "assistants": "OpenAI has replaced it by /v1/responses",
    "audio": _NOT_BUILT,
    "batches": "Gemini's own batches are served at /v1beta/batches",
    "completions": "use /v1/chat/completions",
    "containers": _STORED,
    "conversations": "use previous_response_id of /v1/responses",
    "edits": "use /v1/chat/completions",
    "engines": "use /v1/models",
    "evals": _STORED,
    "files": "upload with Gemini's own API at /upload/v1beta/files, and name the file in file_id",
    "fine-tunes": _TUNING,
    "fine_tuning": _TUNING,
    "images": _NOT_BUILT,
    "moderations": "Gemini has no model for it, and filters by its own safety settings",
    "organization": "it is no part of a gateway; see the admin API",
    "realtime": _NOT_BUILT,
    "threads": "OpenAI has replaced it by /v1/responses",
    "uploads": "upload with Gemini's own API at /upload/v1beta/files",
    "vector_stores": _STORED,
    "videos": "Gemini makes videos with its Interactions API only: POST /v1/interactions",
}
_VALUES: Final = {"collection": frozenset(REASONS)}


class NotOfferedEndpoint:
    """Refuses every request to a path; see :class:`gemproxy.api.base.LocalEndpoint`."""

    def __init__(self, template: str) -> None:
        self.route = Route(template, _METHODS, OPENAI, values=_VALUES)

    async def answer(self, head: Head, context: RequestContext) -> NoReturn:
        """See :meth:`gemproxy.api.base.LocalEndpoint.answer`."""
        del context
        collection = head.parameters["collection"]
        raise UnknownURL(
            f"/v1/{collection} is not available over Gemini here: {REASONS[collection]}.",
            reason="unsupported_endpoint",
        )


def not_offered_endpoints() -> list[NotOfferedEndpoint]:
    """An endpoint for each path that is refused."""
    return [NotOfferedEndpoint("/v1/{collection}"), NotOfferedEndpoint("/v1/{collection}/{rest}")]
