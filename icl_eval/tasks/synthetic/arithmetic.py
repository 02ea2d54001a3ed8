"""Sums as in section 3.9.1 of the GPT-3 paper, in the layout of its released items.

Operands are uniform on [0, 10^digits), so differences are often negative. The three-operand kind follows the released
items, not the text: parentheses around the first two operands, and digits from 1 to 9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from icl_eval.tasks.synthetic.draws import Draws

ITEMS = 2000  # distinct ones in every released file
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "plus": lambda a, b: a + b,
    "minus": lambda a, b: a - b,
    "times": lambda a, b: a * b,
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
SIGNS = ("+", "-", "*")


def two_operands(word: str, digits: int) -> Callable[[Draws], Iterator[dict[str, str]]]:
    """A generator of `What is a word b?` with operands of at most `digits` digits."""

    def problem(draws: Draws) -> tuple[str, int]:
        a, b = draws.below(10**digits), draws.below(10**digits)
        return f"{a} {word} {b}", OPERATIONS[word](a, b)

    return lambda draws: _distinct(problem, draws)


def three_operands(draws: Draws) -> Iterator[dict[str, str]]:
    """`What is (a sign b) sign c?` with digits from 1 to 9."""
    return _distinct(_composite, draws)


def _composite(draws: Draws) -> tuple[str, int]:
    a, b, c = (1 + draws.below(9) for _ in range(3))
    inner, outer = draws.one_of(SIGNS), draws.one_of(SIGNS)
    return f"({a} {inner} {b}) {outer} {c}", OPERATIONS[outer](OPERATIONS[inner](a, b), c)


def _distinct(problem: Callable[[Draws], tuple[str, int]], draws: Draws) -> Iterator[dict[str, str]]:
    seen: set[str] = set()
    while len(seen) < ITEMS:
        text, answer = problem(draws)
        if text not in seen:
            seen.add(text)
            yield {"context": f"\n\nQ: What is {text}?\n\nA:", "completion": f" {answer}"}
