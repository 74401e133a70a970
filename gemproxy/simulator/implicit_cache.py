"""The implicit cache of prompts: a prefix that a project has sent before costs less.

Written from ai.google.dev, "Context caching": the cache is kept by project and model, needs a
prompt of a least length, and is hit by requests that begin with the same contents. Google promises
no hit; here every repeated prefix is one, so that a run has the same figures each time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec

from gemproxy.simulator import asking

#: Prefixes that are kept, of all projects.
_CAPACITY: Final = 100_000
_FIRST: Final = ("systemInstruction", "tools", "toolConfig")


class ImplicitCache:
    """``shortest`` is the least number of tokens of a cached prefix; 0 is no cache."""

    def __init__(self, shortest: int) -> None:
        self._shortest = shortest
        self._prefixes: OrderedDict[bytes, None] = OrderedDict()

    def clear(self) -> None:
        self._prefixes.clear()

    def cached_tokens(self, project: str, model: str, request: Mapping[str, Any]) -> int:
        """How many tokens of the prompt are in the cache; all of it is from now on."""
        if not self._shortest:
            return 0
        contents = request.get("contents", ())
        first = {name: request[name] for name in _FIRST if name in request}
        tokens = sum(asking.prompt_tokens(first).values()) if first else 0
        digest = blake2b(msgspec.json.encode((project, model, first)), digest_size=16)
        cached = 0
        for content in contents:
            digest.update(msgspec.json.encode(content))
            tokens += sum(asking.prompt_tokens({"contents": [content]}).values())
            prefix = digest.digest()
            if prefix in self._prefixes and tokens >= self._shortest:
                cached = tokens
            self._prefixes[prefix] = None
            self._prefixes.move_to_end(prefix)
        while len(self._prefixes) > _CAPACITY:
            self._prefixes.popitem(last=False)
        return cached
