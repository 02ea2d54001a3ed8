"""The prompt of a query as a structure: instruction, demonstrations, query, answers, flattened as late as possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from icl_eval.errors import PromptError
from icl_eval.prompts.template import Prompt


@dataclass(frozen=True, slots=True)
class PromptText:
    """The text of one example's prompt, for all its options.

    `queries[i] + answers[i]` is the example as it reads for option `i`; all queries are equal except in partial
    evaluation.

    Attributes:
        demonstrations: in the order of the draw.
        is_reversed: whether the last one drawn comes first in the prompt.
    """

    instruction: str
    demonstrations: tuple[str, ...]
    queries: tuple[str, ...]
    answers: tuple[str, ...]
    separator: str
    is_reversed: bool = False

    def shown(self, shots: int | None = None) -> tuple[str, ...]:
        """The first `shots` demonstrations of the draw (all of them by default), as they follow in the prompt."""
        drawn = self.demonstrations[:shots]
        return drawn[::-1] if self.is_reversed else drawn

    def context(self, option: int, shots: int | None = None) -> str:
        """Everything before the answer, with the first `shots` demonstrations (all of them by default)."""
        head = [self.instruction] if self.instruction else []
        return self.separator.join([*head, *self.shown(shots), self.queries[option]])


def assemble(
    prompt: Prompt,
    fields: Mapping[str, Any],
    options: tuple[str, ...],
    demonstrations: Sequence[str],
    *,
    is_reversed: bool = False,
) -> PromptText:
    """Render one query under already rendered demonstrations.

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
        answers=answers,
        separator=prompt.separator,
        is_reversed=is_reversed,
    )


def doubled_space(option: str, answer: str) -> str:
    """What is wrong with an answer that puts a space before an option that begins with one; empty if it does not."""
    if option[:1] != " " or answer[:2] != "  ":
        return ""
    return (
        f"the option {option!r} begins with a space and the answer block adds another, so {answer!r} is scored; "
        "write `{% block answer %} {{ option | trim }}{% endblock %}`"
    )
