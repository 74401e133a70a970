"""What an answer depends on: the last message, its files and tools, and the number of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gemproxy.simulator import behaviours, requests, words
from gemproxy.simulator.behaviours import Behaviour
from gemproxy.simulator.fields import PAYLOADS
from gemproxy.simulator.models import Model

# Google counts 258 tokens for each tile of an image or page, and other media by the second.
_MEDIA_TOKENS = {"IMAGE": 258, "AUDIO": 160, "VIDEO": 1290, "DOCUMENT": 258}


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to be answered. ``seed`` is made from the simulator's seed and the request."""

    request: Mapping[str, Any]
    model: Model
    seed: str
    shapes: Mapping[str, Behaviour] = field(default_factory=dict)
    #: Tokens of the prompt that the project's implicit cache has.
    cached_tokens: int = 0

    @property
    def config(self) -> Mapping[str, Any]:
        config: Mapping[str, Any] = self.request.get("generationConfig", {})
        return config

    @property
    def prompt(self) -> str:
        """The last message of the user, without triggers."""
        return behaviours.without_triggers(last_user_text(self.request))

    @property
    def results(self) -> list[dict[str, Any]]:
        """The function responses at the end of the request."""
        return requests.parts_of(self.request["contents"][-1], "functionResponse")


def last_user_text(request: Mapping[str, Any]) -> str:
    """The text of the user's last content that has no function responses."""
    contents = request.get("contents") or []
    at = requests.current_turn(contents) - 1
    if at < 0:
        return ""
    return "\n".join(str(text) for text in requests.parts_of(contents[at], "text"))


def attachments(request: Mapping[str, Any]) -> list[str]:
    """A short description of each file in the user's last message."""
    contents = request.get("contents") or []
    last = contents[requests.current_turn(contents) - 1] if contents else {}
    inline = [
        f"{blob.get('mimeType')} of {len(blob.get('data', '')) * 3 // 4} bytes"
        for blob in requests.parts_of(last, "inlineData")
    ]
    return inline + [f"file {f.get('fileUri')}" for f in requests.parts_of(last, "fileData")]


def prompt_tokens(request: Mapping[str, Any]) -> dict[str, int]:
    """The tokens of a request by modality; TEXT is always present."""
    counts = {"TEXT": 0}
    contents = [*request.get("contents", ())]
    if "systemInstruction" in request:
        contents.append(request["systemInstruction"])
    for content in contents:
        for part in content.get("parts", ()):
            modality, count = _part_tokens(part)
            counts[modality] = counts.get(modality, 0) + count
    for function in requests.declarations(request):
        counts["TEXT"] += words.token_count(str(function))
    counts["TEXT"] = max(1, counts["TEXT"])
    return counts


def _part_tokens(part: Mapping[str, Any]) -> tuple[str, int]:
    media = part.get("inlineData") or part.get("fileData")
    if media is not None:
        modality = _modality(media.get("mimeType", ""))
        return modality, _MEDIA_TOKENS.get(modality, words.token_count(str(media)))
    if "text" in part:
        return "TEXT", words.token_count(part["text"])
    payload = next((part[name] for name in PAYLOADS if name in part), "")
    return "TEXT", words.token_count(str(payload))


def _modality(mime: str) -> str:
    if mime == "application/pdf":
        return "DOCUMENT"
    family = mime.split("/", maxsplit=1)[0].upper()
    return family if family in _MEDIA_TOKENS else "TEXT"
