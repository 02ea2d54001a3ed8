"""Prompts as conversations: the blocks of a prompt file become messages, which a chat template renders to one text.

The instruction is the system message or the beginning of the first user message. A demonstration is a turn of the user
and one of the assistant, or a part of the only user message. The query is the last message, and the answer is the
reply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from icl_eval.config import ChatDemonstrations, ChatInstruction
from icl_eval.errors import PromptError
from icl_eval.prompts import sandbox

Message = dict[str, str]  # with `role` and `content`


@dataclass(frozen=True, slots=True)
class Chat:
    """How prompts become conversations.

    Attributes:
        render: renders messages with a chat template, up to the start of the reply.
        demonstrations: `turns` of user and assistant, or all in one user `message`.
        instruction: where the instruction is: in the `system` message, or at the beginning of the first `user` message.
        space: white space that the template writes before a reply; it is scored with the reply.
    """

    render: Callable[[Sequence[Message]], str]
    demonstrations: ChatDemonstrations = "turns"
    instruction: ChatInstruction = "system"
    space: str = ""

    def reply(self, answer: str) -> str:
        """The reply for an answer: without the space that separates it from a query, but with that of the template."""
        return self.space + answer.lstrip()

    def context(
        self, instruction: str, demonstrations: Sequence[tuple[str, str]], query: str, separator: str = "\n\n"
    ) -> str:
        """The text of the conversation up to the reply.

        Args:
            instruction: the instruction; may be empty.
            demonstrations: pairs of a demonstration and the answer at its end.
            query: the query, without its answer.
            separator: the text between the parts of one message.

        Raises:
            IclEvalError: the prompt cannot be written as messages, or the template refuses them.
        """
        with sandbox.watched("the chat template"):
            return self.render(self.messages(instruction, demonstrations, query, separator))

    def messages(
        self, instruction: str, demonstrations: Sequence[tuple[str, str]], query: str, separator: str
    ) -> list[Message]:
        """The messages before the reply; the arguments are those of `context`.

        Raises:
            PromptError: the query is empty, or a demonstration cannot be divided into turns.
        """
        if not query.strip():
            raise PromptError("the query is empty, so a chat has no user message")
        turns = [_turns(*pair) for pair in demonstrations] if self.demonstrations == "turns" else []
        if not turns:
            query = separator.join([*(demonstration for demonstration, _ in demonstrations), query])
        users = [*(user for user, _ in turns), query.rstrip()]
        system = [_message("system", instruction.rstrip())] if instruction.strip() else []
        if system and self.instruction == "user":
            users[0], system = instruction + separator + users[0], []
        replies = [_message("assistant", reply) for _, reply in turns]
        user_messages = [_message("user", user) for user in users]
        return [*system, *chain.from_iterable(zip(user_messages, replies, strict=False)), user_messages[-1]]


def _turns(demonstration: str, reply: str) -> tuple[str, str]:
    """The turns of user and assistant of a demonstration that ends with `reply`.

    Raises:
        PromptError: the demonstration does not consist of a query and the reply.
    """
    user = demonstration.removesuffix(reply).rstrip()
    if not user or not reply.strip():
        raise PromptError(
            "a demonstration does not consist of a query and an answer, so a chat cannot show it as turns of user and "
            "assistant; use --chat-demonstrations message"
        )
    return user, reply.lstrip()


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}
