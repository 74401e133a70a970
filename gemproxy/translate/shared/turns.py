"""Build the turns of a conversation as Gemini accepts them.

Gemini has two roles, requires every function result directly after its call, and reads media beside
a function result as the model's output. So instructions move to the system instruction, results
move behind their calls, neighbours of one role are joined, and results have a separate turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from gemproxy.core.errors import InvalidRequest
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import Content, Part

#: The text of a turn of the user that Gemini requires and the client did not send.
CONTINUE = "Continue."


class Turns(msgspec.Struct):
    """The turns, and the parts of the system instruction."""

    contents: list[Content] = []
    system: list[Part] = []
    #: Whether the last turn has results, so that nothing may be joined to it.
    closed: bool = False
    #: The number of parts of ``system`` that came after the last turn.
    trailing: int = 0

    def say(self, role: Literal["user", "model"], parts: list[Part]) -> None:
        """Add ``parts`` to the last turn if it has the same role, else as a new turn."""
        if not parts:
            return
        if self.contents and not self.closed and self.contents[-1].role == role:
            self.contents[-1].parts += parts
        else:
            self.contents.append(Content(role=role, parts=parts))
        self.closed = False
        self.trailing = 0

    def instruct(self, parts: list[Part]) -> None:
        """Add ``parts`` to the system instruction."""
        self.system += parts
        self.trailing += len(parts)

    def answer(self, responses: list[Part]) -> None:
        """Add the results of the last turn's calls as a separate turn."""
        self.contents.append(Content(role="user", parts=responses))
        self.closed = True
        self.trailing = 0

    def complete(
        self, family: ModelFamily, hints: Sequence[str | None], param: str, none: str
    ) -> None:
        """Make first and last turn acceptable; ``hints`` are additional instructions of the proxy.

        Raises :class:`InvalidRequest` with ``param`` and the text ``none`` if nothing has content.
        """
        self._open(param, none)
        if family.ends_on_user:
            end_on_user(self.contents, self.system, len(self.system) - self.trailing)
        self.system += [Part(text=hint) for hint in hints if hint]
        if self.system and not family.system_instruction:
            self._move_instructions()

    @property
    def system_instruction(self) -> Content | None:
        """The system instruction; ``None`` if it has no parts."""
        return Content(parts=self.system) if self.system else None

    def _open(self, param: str, none: str) -> None:
        """Ensure that there is a first turn that Gemini accepts."""
        contents, system = self.contents, self.system
        if not contents:
            if not system:
                raise InvalidRequest(none, param=param)
            # Gemini needs a turn: use the last instruction as the question.
            contents.append(Content(role="user", parts=[system.pop()]))
        elif contents[0].role == "model" and any(part.function_call for part in contents[0].parts):
            # Gemini: "function call turn comes immediately after a user turn".
            contents.insert(0, Content(role="user", parts=[Part(text=CONTINUE)]))

    def _move_instructions(self) -> None:
        """Put instructions before the user's first text, for models without such instructions."""
        text = "\n\n".join(part.text for part in self.system if part.text)
        first = self.contents[0]
        if first.role != "user":
            first = Content(role="user", parts=[])
            self.contents.insert(0, first)
        first.parts.insert(0, Part(text=f"{text}\n\n" if first.parts else text))
        self.system = []


def end_on_user(contents: list[Content], system: list[Part], before: int) -> None:
    """Add a turn of the user after a final turn of the model, which some models refuse.

    Instructions behind that turn become the question: those of ``system`` after the first
    ``before``. Without any the model is asked to continue.
    """
    if contents[-1].role == "model":
        asked = system[before:]
        del system[before:]
        contents.append(Content(role="user", parts=asked or [Part(text=CONTINUE)]))
