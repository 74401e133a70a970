"""What may be kept of a message that Google wrote.

Google quotes the request in some of its errors: a prompt, the arguments of a call, a file's name.
The client of that request may see the whole message; what is stored, logged or shown to an operator
is only its first sentence, without what it quotes.
"""

from __future__ import annotations

import re

#: Characters of the result. Google's own first sentences have up to 150.
LONGEST = 240
#: A longer word is data: Base64, a token, text without blanks.
_LONGEST_WORD = 64
#: The rest is ignored: it cannot reach the result, unless long quotes before it are removed.
_LONGEST_MESSAGE = 4000

#: From the first double quote to the last one: quoted text may contain quotes itself.
_DOUBLE = re.compile(r'["“„«].*["”“»]|["“„«].*', re.DOTALL)
#: A technical name: a field, a media type, a model, a service. Ordinary text does not match.
_NAME = re.compile(r"(?!api_?key\b)[A-Za-z0-9_./:\[\]*-]{1,64}", re.IGNORECASE)
#: An opening quote does not follow a letter, so "doesn't" contains none.
_OPENING = re.compile(r"(?<![\w\]'`])['`\u2018](?=\S)")
_CLOSING = re.compile(r"['`\u2019](?!\w)")
#: JSON that is quoted without quotation marks.
_JSON = re.compile(r"[{<\[]\s*[\"'{\[\]}<].*|\{.*", re.DOTALL)
_LONG_WORD = re.compile(rf"\S{{{_LONGEST_WORD + 1},}}")
#: "e.g. check" and "3.1 is" do not end a sentence.
_END = re.compile(r"[.!?](?=\s+[^a-z\s])|[.!?]\s*\Z|\u3002")


def first_sentence(message: str) -> str:
    """The first sentence of ``message`` on one line, without quoted text; empty if there is none.

    Names such as ``'generationConfig.seed'`` or ``'application/json'`` are kept, all other quoted
    text becomes an ellipsis, and the result has at most :data:`LONGEST` characters. Take secrets
    out of ``message`` before: part of a secret might not be recognised afterwards.
    """
    if not message:  # As that of every success.
        return ""
    text = message[:_LONGEST_MESSAGE].lstrip(" \t\r\n*-")
    text = _JSON.sub("…", _without_single_quotes(_DOUBLE.sub('"…"', text)))
    line = text.split("\n", 1)[0]
    end = _END.search(line)
    sentence = line if end is None else line[: end.end()]
    shown = "".join(c if c.isprintable() else " " for c in sentence)
    words = " ".join(_LONG_WORD.sub("…", shown).split())
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1].rstrip()}…"


def _without_single_quotes(text: str) -> str:
    """``text`` without single-quoted text: from the first quote that is not a name to the last."""
    place = 0
    while (opening := _OPENING.search(text, place)) is not None:
        closing = _CLOSING.search(text, opening.end())
        if closing is None:
            return f"{text[: opening.start()]}'…"
        if _NAME.fullmatch(text, opening.end(), closing.start()) is None:
            *_, last = _CLOSING.finditer(text, opening.end())
            return f"{text[: opening.start()]}'…'{text[last.end() :]}"
        place = closing.end()
    return text
