"""Errors as an OpenAI client sees them."""

from __future__ import annotations

import json
from typing import NamedTuple

from gemproxy.api.openai.errors import encode_error
from gemproxy.core.errors import ProxyError


class SeenError(NamedTuple):
    """Status and headers of an answer, and what its envelope holds."""

    status: int
    headers: dict[str, str]
    message: str
    type: str
    param: str | None
    code: str | None


def seen(error: ProxyError) -> SeenError:
    """What becomes of ``error`` on the wire."""
    answer = encode_error(error)
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return SeenError(answer.status, headers, **json.loads(answer.body)["error"])
