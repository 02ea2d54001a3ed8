"""The prompt of a query as a structure: instruction, demonstrations, query, answers, flattened as late as possible."""

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
    """The text of one example's prompt, for all its options.

    `queries[i] + answers[i]` is the example for option `i`; all queries are equal except in partial
    evaluation.

    Attributes:
        demonstrations: in the order of the draw.
        order: of the demonstrations in the prompt, as positions in the draw; that of the draw if it is None.
        replies: of each demonstration, the answer that it ends with; empty if its query does not begin it.
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

    def shown(self, shots: int | None = None) -> tuple[str, ...]:
        """The first `shots` demonstrations of the draw (all of them by default), in the order of the prompt."""
        return self._in_order(self.demonstrations[:shots])

    def parts(self, option: int, shots: int | None = None) -> Iterator[tuple[str, Part | None]]:
        """`context` in pieces, each with its part of the prompt; None for separators and markup.

        A chat template that changes the texts of messages, by more than white space around them, hides their parts.
        """
        text, position = self.context(option, shots), 0
        pieces: list[tuple[str, Part]] = [(self.instruction, "instruction")]
        for each, reply in zip_longest(self.shown(shots), self._in_order(self.replies[:shots]), fillvalue=""):
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
        """All of a prompt before the answer of each of the first `shots` demonstrations, and that answer.

        Raises:
            PromptError: a demonstration does not begin with its query, so where its answer begins is not known.
        """
        text = self.instruction + self.separator if self.instruction else ""
        for each, reply in zip(self.shown(shots), self._in_order(self.replies[:shots]), strict=True):
            if not reply:
                raise PromptError(f"a demonstration has no answer after its query: {each!r:.80}")
            yield text + each.removesuffix(reply), reply
            text += each + self.separator

    def contexts(self, shots: int | None = None) -> list[str]:
        """`context` of every option, made once where the queries are the same."""
        made: dict[str, str] = {}
        for option, query in enumerate(self.queries):
            if query not in made:
                made[query] = self.context(option, shots)
        return [made[query] for query in self.queries]

    def context(self, option: int, shots: int | None = None) -> str:
        """Everything before the answer, with the first `shots` demonstrations (all of them by default).

        Raises:
            IclEvalError: the prompt has no form as a conversation.
        """
        if self.chat is not None:
            solved = list(zip(self.shown(shots), self._in_order(self.replies[:shots]), strict=True))
            return self.chat.context(self.instruction, solved, self.queries[option], self.separator)
        head = [self.instruction] if self.instruction else []
        return self.separator.join([*head, *self.shown(shots), self.queries[option]])

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
    """Render one query under already rendered demonstrations; `replies` are their answers, which a `chat` needs.

    Raises:
        PromptError: the answer of an option is empty, so there would be nothing to score.
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
    """What is wrong with an answer that puts a space before an option that begins with one; empty if it does not."""
    if option[:1] != " " or answer[:2] != "  ":
        return ""
    return (
        f"the option {option!r} begins with a space and the answer block adds another, so {answer!r} is scored; "
        "write `{% block answer %} {{ option | trim }}{% endblock %}`"
    )
