"""The conversation: OpenAI's messages as Gemini's turns.

Gemini knows two roles, wants every function's result directly after its call, and takes media that
stands beside a function's result for the model's own words. So instructions are lifted out, results
are moved behind their calls, neighbours of one role are joined, and results keep a turn to
themselves.
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
from gemproxy.translate.openai_chat__gemini.tool_names import ToolNames
from gemproxy.translate.shared.signatures import SignatureStore

#: What a user says where there must be a turn and nobody said anything.
CONTINUE = "Continue."


class Replay(msgspec.Struct, frozen=True):
    """What is needed to write earlier function calls again."""

    family: ModelFamily
    names: ToolNames
    signatures: SignatureStore
    replace_signatures: bool = False
    #: Where media of the request lies that was set aside.
    aside: ExtractedMedia = NOTHING


class Conversation(msgspec.Struct):
    """The turns, and the parts of the system instruction."""

    contents: list[Content] = []
    system: list[Part] = []
    #: The last turn holds results, and nothing may be joined to it.
    closed: bool = False
    #: So many of the last parts of ``system`` stand after the last turn.
    trailing: int = 0

    def say(self, role: Literal["user", "model"], parts: list[Part]) -> None:
        """Add ``parts`` to the last turn if it is of the same role, else as a new turn."""
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
        """Add the results of the last turn's calls as a turn of their own."""
        self.contents.append(Content(role="user", parts=responses))
        self.closed = True
        self.trailing = 0


def translate_messages(
    messages: Sequence[Message], replay: Replay, hints: Sequence[str | None] = ()
) -> Conversation:
    """The whole conversation; ``hints`` are further instructions of the proxy's own.

    Raises :class:`InvalidRequest` for parts that cannot be translated, and where no message has
    anything in it.
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
    """Results are written where their calls are, wherever the client put them."""


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
    """See to it that there is a first turn, and that it is one that Gemini accepts."""
    contents, system = conversation.contents, conversation.system
    if not contents:
        if not system:
            raise InvalidRequest("messages: no message has any content.", param="messages")
        # Instructions alone are no conversation for Gemini: the last one is what is asked.
        contents.append(Content(role="user", parts=[system.pop()]))
    elif contents[0].role == "model" and any(part.function_call for part in contents[0].parts):
        # Gemini: "function call turn comes immediately after a user turn".
        contents.insert(0, Content(role="user", parts=[Part(text=CONTINUE)]))


def end_on_user(contents: list[Content], system: list[Part], before: int) -> None:
    """Add a turn of the user where the model's is the last one, for models that refuse that.

    The instructions that stand behind that turn are what is asked: those of ``system`` after the
    first ``before``. Without any the model is asked to go on.
    """
    if contents[-1].role == "model":
        asked = system[before:]
        del system[before:]
        contents.append(Content(role="user", parts=asked or [Part(text=CONTINUE)]))


def _move_instructions(conversation: Conversation) -> None:
    """Put the instructions before the first words of the user, for models that take no others."""
    text = "\n\n".join(part.text for part in conversation.system if part.text)
    first = conversation.contents[0]
    if first.role != "user":
        first = Content(role="user", parts=[])
        conversation.contents.insert(0, first)
    first.parts.insert(0, Part(text=f"{text}\n\n" if first.parts else text))
    conversation.system = []
