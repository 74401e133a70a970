"""Routes of stored responses: ``/v1/responses/{id}`` and what is below it.

Theory of operation. These endpoints answer from the :class:`AnswerStore` alone and ask no upstream.
A stored response holds its encoded body, which ``GET`` returns as it is, and the conversation
before it as a tuple of JSON texts. ``input_items`` lists that conversation. An item that the client
sent without an id gets one made of the response's id and the item's place, so it has the same id on
each page. Only the items of the requested page are decoded as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from gemproxy.api.base import Head, LocalEndpoint, Route
from gemproxy.api.openai.errors import OPENAI
from gemproxy.api.openai.responses import RESPONSES
from gemproxy.api.openai.schema.response_objects import (
    DeletedResponse,
    ItemList,
    encode_object,
)
from gemproxy.api.openai.schema.responses import raw_items
from gemproxy.api.query import parameters_of, whole_number
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import InvalidRequest, NotFound
from gemproxy.core.stored_answers import AnswerStore, StoredAnswer

RESPONSE: Final = RESPONSES + "/{id}"
_LONGEST_PAGE: Final = 100
_USUAL_PAGE: Final = 20


class StoredResponses:
    """The endpoints of stored responses; ``wall`` gives epoch time.

    Another client's response is answered as one that does not exist.
    """

    def __init__(self, answers: AnswerStore, wall: Callable[[], float]) -> None:
        self._answers = answers
        self._wall = wall

    def endpoints(self) -> list[LocalEndpoint]:
        """All of them."""
        return [
            _Endpoint(Route(RESPONSE, (b"GET", b"HEAD"), OPENAI, whole=False), self._show),
            _Endpoint(Route(RESPONSE, (b"DELETE",), OPENAI, whole=False), self._delete),
            _Endpoint(
                Route(f"{RESPONSE}/input_items", (b"GET", b"HEAD"), OPENAI, whole=False),
                self._list_input,
            ),
            _Endpoint(Route(f"{RESPONSE}/cancel", (b"POST",), OPENAI, whole=False), self._cancel),
            _Endpoint(Route(f"{RESPONSES}/compact", (b"POST",), OPENAI), self._compact),
        ]

    def _show(self, head: Head, context: RequestContext) -> bytes:
        answer = self._find(head, context)
        if _query(head).get("stream") in {"true", "1"}:
            raise InvalidRequest(
                "stream: a stored response cannot be streamed again; only background responses"
                " could, and there are none here.",
                param="stream",
            )
        return answer.body

    def _delete(self, head: Head, context: RequestContext) -> bytes:
        answer = self._find(head, context)
        self._answers.delete(answer.id, context.owner, self._wall())
        return encode_object(DeletedResponse(id=answer.id))

    def _list_input(self, head: Head, context: RequestContext) -> bytes:
        answer = self._find(head, context)
        query = _query(head)
        order = query.get("order", "desc")
        if order not in {"asc", "desc"}:
            raise InvalidRequest("order: expected asc or desc.", param="order")
        items = _Input(answer)
        places = list(range(len(items)))
        if order == "desc":
            places.reverse()
        after = query.get("after")
        if after:
            found = [number for number, place in enumerate(places) if items.id(place) == after]
            if not found:
                raise InvalidRequest(f"after: no item '{after[:80]}'.", param="after")
            places = places[found[0] + 1 :]
        limit = _limit(query.get("limit"))
        page = [items.item(place) for place in places[:limit]]
        return encode_object(
            ItemList(
                data=page,
                first_id=page[0]["id"] if page else None,
                last_id=page[-1]["id"] if page else None,
                has_more=len(places) > limit,
            )
        )

    def _cancel(self, head: Head, context: RequestContext) -> bytes:
        self._find(head, context)
        raise InvalidRequest(
            "Cannot cancel a synchronous response: nothing runs in the background here."
        )

    def _compact(self, _head: Head, _context: RequestContext) -> bytes:
        raise NotFound(
            "Compaction is not offered: Gemini has no such thing. Ask for a summary with"
            f" POST {RESPONSES}.",
            reason="unsupported_endpoint",
        )

    def _find(self, head: Head, context: RequestContext) -> StoredAnswer:
        identity = head.parameters["id"]
        answer = self._answers.get(identity, context.owner, self._wall())
        if answer is None:
            raise NotFound(f"Response with id '{identity[:80]}' not found.")
        return answer


class _Endpoint:
    """See :class:`gemproxy.api.base.LocalEndpoint`."""

    def __init__(self, route: Route, serve: Callable[[Head, RequestContext], bytes]) -> None:
        self.route = route
        self._serve = serve

    async def answer(self, head: Head, context: RequestContext) -> bytes:
        """See :meth:`gemproxy.api.base.LocalEndpoint.answer`."""
        return self._serve(head, context)


class _Input:
    """The items before an answer; those without an id get one.

    A conversation may be long, so only the items of a page are decoded as a whole.
    """

    def __init__(self, answer: StoredAnswer) -> None:
        self._texts = [text for each in answer.history for text in raw_items(each)]
        self._base = answer.id.partition("_")[2]

    def __len__(self) -> int:
        return len(self._texts)

    def id(self, place: int) -> str:
        found = _decode_id(self._texts[place])
        kind = found.type or "message"
        return found.id or f"{_PREFIXES.get(kind, 'item')}_{self._base}i{place}"

    def item(self, place: int) -> dict[str, Any]:
        item = {"type": "message", **_decode(self._texts[place])}
        return {**item, "id": self.id(place)}


class _Identified(msgspec.Struct):
    id: str | None = None
    type: str | None = None


_PREFIXES: Final = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
}


def _query(head: Head) -> dict[str, str]:
    """The parameters of the query, the last value of each."""
    return {name: values[-1] for name, values in parameters_of(head.query).items() if values[-1]}


def _limit(text: str | None) -> int:
    if text is None:
        return _USUAL_PAGE
    limit = whole_number(text)
    if not limit or limit > _LONGEST_PAGE:
        raise InvalidRequest(f"limit: expected a number from 1 to {_LONGEST_PAGE}.", param="limit")
    return limit


_decode = msgspec.json.Decoder(dict[str, Any]).decode
_decode_id = msgspec.json.Decoder(_Identified).decode
