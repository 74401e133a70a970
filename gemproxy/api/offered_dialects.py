"""The dialects that this program speaks."""

from __future__ import annotations

from typing import Final

from gemproxy.api.anthropic.errors import ANTHROPIC
from gemproxy.api.dialects import Dialects
from gemproxy.api.gemini.errors import GEMINI, GEMINI_ARRAY
from gemproxy.api.openai.errors import OPENAI

#: Chooses the dialect of each request of the public API.
DIALECTS: Final = Dialects(OPENAI, GEMINI, GEMINI_ARRAY, ANTHROPIC)
