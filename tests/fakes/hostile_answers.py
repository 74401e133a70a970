"""Answers of an upstream that is out of its mind, and much longer to read than they look."""

from __future__ import annotations

from collections.abc import Callable

_PART = '{"text":"x"}'
_CANDIDATE = '{"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"}'


def _list(size: int, opening: str, each: str, closing: str) -> bytes:
    count = max(1, (size - len(opening) - len(closing)) // (len(each) + 1))
    return (opening + ",".join([each] * count) + closing).encode()


def _in_candidate(size: int, field: str, each: str, more: str = "") -> bytes:
    opening = '{"candidates":[{"finishReason":"STOP",' + more + field
    return _list(size, opening, each, "]}}]}")


def _parts(size: int, each: str) -> bytes:
    return _in_candidate(size, '"content":{"parts":[', each)


def _numbered(size: int, each: Callable[[int], str]) -> bytes:
    count = size // (len(each(10**5)) + 1)
    return ('{"candidates":[' + ",".join(map(each, range(count))) + "]}").encode()


_LONG = '"content":{"parts":[{"text":"' + "é" * 2000 + '"}]},'

ANSWERS: dict[str, Callable[[int], bytes]] = {
    "candidates": lambda n: _list(n, '{"candidates":[', _CANDIDATE, "]}"),
    "candidates-empty": lambda n: _list(n, '{"candidates":[', "{}", "]}"),
    "candidates-numbered": lambda n: _numbered(
        n, lambda k: f'{{"content":{{"parts":[{{"text":"x"}}]}},"finishReason":"STOP","index":{k}}}'
    ),
    "parts": lambda n: _parts(n, _PART),
    "parts-empty": lambda n: _parts(n, "{}"),
    "parts-thoughts": lambda n: _parts(n, '{"text":"x","thought":true}'),
    "parts-calls": lambda n: _parts(n, '{"functionCall":{"name":"f","args":{}}}'),
    "parts-calls-by-pieces": lambda n: _parts(
        n,
        '{"functionCall":{"name":"f","willContinue":true}},'
        '{"functionCall":{"partialArgs":[{"jsonPath":"$.a[0]","stringValue":"x"}]}}',
    ),
    "parts-one-call-by-pieces": lambda n: _in_candidate(
        n,
        '"content":{"parts":[{"functionCall":{"name":"f","willContinue":true}},',
        '{"functionCall":{"partialArgs":[{"jsonPath":"$.a","stringValue":"xxxxxxxx"}],'
        '"willContinue":true}}',
    ),
    "parts-images": lambda n: _parts(n, '{"inlineData":{"mimeType":"image/png","data":"AAAA"}}'),
    "parts-sound": lambda n: _parts(n, '{"inlineData":{"mimeType":"audio/wav","data":"AAAA"}}'),
    "parts-code": lambda n: _parts(n, '{"executableCode":{"code":"x"}}'),
    "grounding": lambda n: _in_candidate(
        n,
        _LONG
        + '"groundingMetadata":{"groundingChunks":[{"web":{"uri":"u"}}],"groundingSupports":[',
        '{"segment":{"startIndex":1,"endIndex":9},"groundingChunkIndices":[0]}',
    ),
    "grounding-indices": lambda n: (
        _in_candidate(
            n,
            _LONG
            + '"groundingMetadata":{"groundingChunks":[{"web":{"uri":"u"}}],"groundingSupports":['
            '{"segment":{"startIndex":1,"endIndex":9},"groundingChunkIndices":[0',
            "0",
        )[:-4]
        + b"]}]}}]}"
    ),
    "citations": lambda n: _in_candidate(
        n,
        _LONG + '"citationMetadata":{"citationSources":[',
        '{"startIndex":1,"endIndex":9,"uri":"u"}',
    ),
    "logprobs": lambda n: _in_candidate(
        n,
        '"content":{"parts":[{"text":"x"}]},"logprobsResult":{"chosenCandidates":[',
        '{"token":"x","logProbability":-1}',
    ),
    "list": lambda n: _list(n, "[", '{"candidates":[' + _CANDIDATE + "]}", "]"),
    "list-empty": lambda n: _list(n, "[", "{}", "]"),
    "list-citations": lambda n: _list(
        n,
        "[",
        '{"candidates":[{"citationMetadata":{"citationSources":[{"uri":"u"}]}}]}',
        "]",
    ),
    "list-logprobs": lambda n: _list(
        n,
        "[",
        '{"candidates":[{"logprobsResult":{"chosenCandidates":[{"token":"x"}]}}]}',
        "]",
    ),
    "nest": lambda n: (
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":'
        + b'{"a":' * (n // 5)
    ),
    "number": lambda n: b'{"candidates":[{"index":' + b"9" * n + b"}]}",
}
