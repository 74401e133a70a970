"""Translate OpenAI's messages into Gemini's turns.

Gemini has two roles, requires every function result directly after its call, and reads media beside
a function result as the model's output. So instructions move to the system instruction, results
move behind their calls, neighbours of one role are joined, and results have a separate turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from gemproxy.api.openai.schema.messages import (
    AssistantMessage,
    DeveloperMessage,
    FunctionMessage,
    Message,
    SystemMessage,
    ToolMessage,
    UserMessage,
)
from gemproxy.api.openai.schema.tool_result_matching import Answered, Slot, pair_results
from gemproxy.core.errors import InvalidRequest
from gemproxy.media_bypass import NOTHING, ExtractedMedia
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import Content, Part
from gemproxy.translate.openai_chat__gemini.content import content_parts, text_parts
from gemproxy.translate.openai_chat__gemini.function_calls import (
    call_parts,
    has_calls,
    result_parts,
)
from gemproxy.translate.openai_chat__gemini.model_images import model_parts
from gemproxy.translate.shared.signatures import SignatureStore
from gemproxy.translate.shared.tool_names import ToolNames

#: The text of a turn of the user that Gemini requires and the client did not send.
CONTINUE = "Continue."


class Replay(msgspec.Struct, frozen=True):
    """What the translation of earlier function calls needs."""

    family: ModelFamily
    names: ToolNames
    signatures: SignatureStore
    replace_signatures: bool = False
    #: Media that was extracted from the request.
    aside: ExtractedMedia = NOTHING


class Conversation(msgspec.Struct):
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


def translate_messages(
    messages: Sequence[Message], replay: Replay, hints: Sequence[str | None] = ()
) -> Conversation:
    """The whole conversation; ``hints`` are additional instructions of the proxy.

    Raises :class:`InvalidRequest` for parts that cannot be translated, and if no message has
    content.
    """
    conversation = Conversation()
    results: Mapping[Slot, Answered] | None = None
    for index, message in enumerate(messages):
        if isinstance(message, UserMessage):
            path = f"messages[{index}].content"
            conversation.say("user", content_parts(message.content, path, replay.family))
        elif isinstance(message, AssistantMessage):
            conversation.say("model", _model_parts(message, index, replay))
            conversation.say("model", text_parts(message.refusal))
            if has_calls(message):
                results = pair_results(messages) if results is None else results
                _replay_calls(conversation, message, index, results, replay)
        elif isinstance(message, SystemMessage | DeveloperMessage):
            conversation.instruct(text_parts(message.content))
        else:
            _placed_with_its_call(message)
    _open(conversation)
    if replay.family.ends_on_user:
        instructions = len(conversation.system) - conversation.trailing
        end_on_user(conversation.contents, conversation.system, instructions)
    conversation.system += [Part(text=hint) for hint in hints if hint]
    if conversation.system and not replay.family.system_instruction:
        _move_instructions(conversation)
    return conversation


def _placed_with_its_call(_message: ToolMessage | FunctionMessage) -> None:
    """Results are written after their calls, wherever the client put them."""


def _model_parts(message: AssistantMessage, index: int, replay: Replay) -> list[Part]:
    content = message.content
    if message.images is None and (content is None or isinstance(content, str)):
        return text_parts(content)
    return model_parts(
        message,
        f"messages[{index}]",
        family=replay.family,
        signatures=replay.signatures,
        distrust=replay.replace_signatures,
        aside=replay.aside,
    )


def _replay_calls(
    conversation: Conversation,
    message: AssistantMessage,
    index: int,
    results: Mapping[Slot, Answered],
    replay: Replay,
) -> None:
    calls = call_parts(
        message,
        f"messages[{index}]",
        family=replay.family,
        names=replay.names,
        signatures=replay.signatures,
        distrust=replay.replace_signatures,
    )
    answered = [results.get((index, position)) for position in range(len(calls))]
    translated = result_parts(calls, answered, replay.family)
    conversation.say("model", calls)
    conversation.answer(translated.responses)
    conversation.say("user", translated.following)


def _open(conversation: Conversation) -> None:
    """Ensure that there is a first turn that Gemini accepts."""
    contents, system = conversation.contents, conversation.system
    if not contents:
        if not system:
            raise InvalidRequest("messages: no message has any content.", param="messages")
        # Gemini needs a turn: use the last instruction as the question.
        contents.append(Content(role="user", parts=[system.pop()]))
    elif contents[0].role == "model" and any(part.function_call for part in contents[0].parts):
        # Gemini: "function call turn comes immediately after a user turn".
        contents.insert(0, Content(role="user", parts=[Part(text=CONTINUE)]))


def end_on_user(contents: list[Content], system: list[Part], before: int) -> None:
    """Add a turn of the user after a final turn of the model, which some models refuse.

    Instructions behind that turn become the question: those of ``system`` after the first
    ``before``. Without any the model is asked to continue.
    """
    if contents[-1].role == "model":
        asked = system[before:]
        del system[before:]
        contents.append(Content(role="user", parts=asked or [Part(text=CONTINUE)]))


def _move_instructions(conversation: Conversation) -> None:
    """Put instructions before the user's first text, for models without system instructions."""
    text = "\n\n".join(part.text for part in conversation.system if part.text)
    first = conversation.contents[0]
    if first.role != "user":
        first = Content(role="user", parts=[])
        conversation.contents.insert(0, first)
    first.parts.insert(0, Part(text=f"{text}\n\n" if first.parts else text))
    conversation.system = []
