"""A gate of a site that lets everybody in, for tests of what is on both sides of it."""

from __future__ import annotations

from typing import Any

from gemproxy.api.openai.errors import encode_error
from gemproxy.core.errors import ProxyError
from gemproxy.http.lifecycle import check_size
from gemproxy.http.response_writer import lines, write_whole


class OpenGate:
    """``limit`` is the most bytes of a body; ``refused`` are the errors of who was turned away.

    ``refuse_with`` is raised for every head, ``released`` counts what was given back.
    """

    def __init__(self, clock: Any, limit: int = 1000) -> None:
        self.limit = limit
        self.refused: list[ProxyError] = []
        self.refuse_with: ProxyError | None = None
        self.taken = 0
        self._clock = clock

    def check_head(self, request: Any) -> None:
        if self.refuse_with is not None:
            raise self.refuse_with
        request.max_body_bytes = self.limit
        check_size(request, request.length or 0)
        request.has_place = True
        self.taken += 1

    def check_body_size(self, request: Any, size: int) -> None:
        check_size(request, size)

    def release(self, request: Any) -> None:
        if request.has_place:
            request.has_place = False
            self.taken -= 1

    def reject(self, request: Any, error: ProxyError) -> None:
        self.refused.append(error)
        answer = encode_error(error)
        headers = lines(answer.headers)
        write_whole(request, answer.status, headers, answer.body, self._clock.seconds())
