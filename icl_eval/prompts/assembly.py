"""The prompt of an example as a structure of instruction, demonstrations, query and answers, until it is encoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

from icl_eval.errors import PromptError
from icl_eval.prompts.chat import Chat
from icl_eval.prompts.template import Prompt

Part = Literal["instruction", "demonstration", "query"]


@dataclass(frozen=True, slots=True)
class PromptText:
    """The texts of an example's prompt, for all its options.

    `queries[i] + answers[i]` is the example for option `i`; all queries are equal except in partial evaluation.

    Attributes:
        instruction: the text at the top; may be empty.
        demonstrations: the rendered demonstrations, in the order of the draw.
        queries: for each option, the example without its answer.
        answers: for each option, the text that is scored.
        separator: the text between the parts of the prompt.
        order: the order of the demonstrations in the prompt, as positions in the draw; None for the order of the draw.
        replies: for each demonstration, the answer at its end; empty if the demonstration does not begin with its
            query.
        chat: how the prompt becomes a conversation; None for plain text.
    """

    instruction: str
    demonstrations: tuple[str, ...]
    queries: tuple[str, ...]
    answers: tuple[str, ...]
    separator: str
    order: tuple[int, ...] | None = None
    replies: tuple[str, ...] = ()
    chat: Chat | None = None

    def ordered_demonstrations(self, shots: int | None = None) -> tuple[str, ...]:
        """The first `shots` demonstrations of the draw (by default all), in the order of the prompt."""
        return self._in_order(self.demonstrations[:shots])

    def parts(self, option: int, shots: int | None = None) -> Iterator[tuple[str, Part | None]]:
        """The pieces of `context`, each with the part of the prompt that it belongs to; None for separators and markup.

        If a chat template changes the text of a message, by more than white space around it, its part is not found.
        """
        text, position = self.context(option, shots), 0
        pieces: list[tuple[str, Part]] = [(self.instruction, "instruction")]
        for each, reply in zip_longest(
            self.ordered_demonstrations(shots), self._in_order(self.replies[:shots]), fillvalue=""
        ):
            is_turns = self.chat is not None and self.chat.demonstrations == "turns"
            turns = (each.removesuffix(reply), reply) if is_turns else (each,)
            pieces += [(turn, "demonstration") for turn in turns]
        for piece, part in [*pieces, (self.queries[option], "query")]:
            exact = piece if self.chat is None else piece.strip()
            start = text.find(exact, position)
            if exact and start >= 0:
                yield text[position:start], None
                yield exact, part
                position = start + len(exact)
        yield text[position:], None

    def solved(self, shots: int | None = None) -> Iterator[tuple[str, str]]:
        """For each of the first `shots` demonstrations, the prompt up to its answer, and the answer.

        Raises:
            PromptError: a demonstration does not begin with its query, so it is unknown where its answer begins.
        """
        text = self.instruction + self.separator if self.instruction else ""
        for each, reply in zip(self.ordered_demonstrations(shots), self._in_order(self.replies[:shots]), strict=True):
            if not reply:
                raise PromptError(f"a demonstration does not consist of its query and an answer: {each!r:.80}")
            yield text + each.removesuffix(reply), reply
            text += each + self.separator

    def contexts(self, shots: int | None = None) -> list[str]:
        """The `context` of each option; computed once for equal queries."""
        made: dict[str, str] = {}
        for option, query in enumerate(self.queries):
            if query not in made:
                made[query] = self.context(option, shots)
        return [made[query] for query in self.queries]

    def context(self, option: int, shots: int | None = None) -> str:
        """The prompt up to the answer, with the first `shots` demonstrations (by default all).

        Raises:
            IclEvalError: the prompt cannot be written as a conversation.
        """
        if self.chat is not None:
            solved = list(zip(self.ordered_demonstrations(shots), self._in_order(self.replies[:shots]), strict=True))
            return self.chat.context(self.instruction, solved, self.queries[option], self.separator)
        head = [self.instruction] if self.instruction else []
        return self.separator.join([*head, *self.ordered_demonstrations(shots), self.queries[option]])

    def _in_order(self, drawn: tuple[str, ...]) -> tuple[str, ...]:
        if self.order is None:
            return drawn
        return tuple(drawn[position] for position in self.order if position < len(drawn))


def assemble(
    prompt: Prompt,
    fields: Mapping[str, Any],
    options: tuple[str, ...],
    demonstrations: Sequence[str],
    *,
    order: tuple[int, ...] | None = None,
    replies: Sequence[str] = (),
    chat: Chat | None = None,
) -> PromptText:
    """Render the prompt of an example from rendered demonstrations.

    Args:
        prompt: the template.
        fields: the fields of the example.
        options: the options of the example.
        demonstrations: rendered demonstrations, in the order of the draw.
        order: their order in the prompt; see `PromptText`.
        replies: their answers, which a chat with `turns` needs.
        chat: how the prompt becomes a conversation.

    Raises:
        PromptError: the answer of an option is empty, so that there is nothing to score.
    """
    answers = tuple(prompt.answer(fields, options, index) for index in range(len(options)))
    for option, answer in zip(options, answers, strict=True):
        if not answer.strip():
            raise PromptError(f"the answer for option {option!r} is empty", prompt.path)
    return PromptText(
        instruction=prompt.instruction(fields),
        demonstrations=tuple(demonstrations),
        queries=prompt.queries(fields, options),
        answers=answers if chat is None else tuple(map(chat.reply, answers)),
        separator=prompt.separator,
        order=order,
        replies=tuple(replies),
        chat=chat,
    )


def doubled_space(option: str, answer: str) -> str:
    """A message if the answer block adds a space before an option that begins with a space; else empty."""
    if option[:1] != " " or answer[:2] != "  ":
        return ""
    return (
        f"the option {option!r} begins with a space and the answer block adds another, so {answer!r} is scored; "
        "write `{% block answer %} {{ option | trim }}{% endblock %}`"
    )
