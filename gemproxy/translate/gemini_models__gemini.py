"""The list of models in Gemini's own form: the entries as Google encodes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from gemproxy.core.errors import InvalidRequest
from gemproxy.translate.shared.listed_model import ListedModel

#: Models on a page if the client names no number, and the most that it may name (ai.google.dev
#: ``api/models``); a greater number is taken as the most.
PAGE_SIZE = 50
MOST_ON_A_PAGE = 1000


def to_gemini_model(name: str, model: ListedModel) -> bytes:
    """The entry of ``model``, under ``name`` if that is an alias. No field is lost."""
    if name == model.id:
        return model.raw
    entry = msgspec.json.decode(model.raw)
    entry["name"] = f"models/{name}"
    return msgspec.json.encode(entry)


def to_gemini_page(models: Mapping[str, ListedModel], page_size: int, token: str) -> bytes:
    """The page of ``models`` after the one that ended with ``token``; "" for the first.

    Raises :class:`InvalidRequest` for a token that was not given out. No token leads to an empty
    page.
    """
    names = list(models)
    begin = 0
    if token:
        if token not in models:
            raise InvalidRequest("pageToken: no page has this token.", param="pageToken")
        begin = names.index(token) + 1
    page = names[begin : begin + page_size]
    entries = b",".join(to_gemini_model(name, models[name]) for name in page)
    if not page or page[-1] == names[-1]:
        return b'{"models":[%b]}' % entries
    return b'{"models":[%b],"nextPageToken":%b}' % (entries, msgspec.json.encode(page[-1]))


def page_size_of(given: Sequence[str]) -> int:
    """The number of models on a page by the values of ``pageSize``.

    Raises :class:`InvalidRequest`.
    """
    if not given:
        return PAGE_SIZE
    if not (given[-1].isascii() and given[-1].isdecimal()) or len(given[-1]) > 9:
        raise InvalidRequest("pageSize: must be a whole number.", param="pageSize")
    return min(int(given[-1]), MOST_ON_A_PAGE) or PAGE_SIZE
