"""Render code that Google ran, and its output, as Markdown: no dialect has a field for them."""

from __future__ import annotations

import re

from gemproxy.providers.gemini.wire.answers import CodeExecutionResult, ExecutableCode

_OUTCOMES = {1: "OUTCOME_OK", 2: "OUTCOME_FAILED", 3: "OUTCOME_DEADLINE_EXCEEDED"}
_LANGUAGES = {1: "PYTHON"}


def executable_code(code: ExecutableCode) -> str:
    """The code as a Markdown block."""
    language = code.language
    name = _LANGUAGES.get(language, "") if isinstance(language, int) else language or ""
    return _fenced(code.code or "", "" if name == "LANGUAGE_UNSPECIFIED" else name.lower())


def execution_result(result: CodeExecutionResult) -> str:
    """The output of the code as a Markdown block, preceded by its outcome unless that is OK."""
    outcome = result.outcome
    name = _OUTCOMES.get(outcome, str(outcome)) if isinstance(outcome, int) else outcome
    output = result.output or ""
    return _fenced(output if name in (None, "OUTCOME_OK") else f"{name}\n{output}", "")


def _fenced(text: str, language: str) -> str:
    """``text`` between fences longer than any in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    end = "" if text.endswith("\n") else "\n"
    return f"\n{fence}{language}\n{text}{end}{fence}\n"
