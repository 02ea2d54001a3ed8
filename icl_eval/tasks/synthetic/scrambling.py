"""Words with their letters manipulated as in section 3.9.2 of the GPT-3 paper, in the layout of its released items.

The words are of the bundled list, each at most once. Where the text leaves a rule open, the released items decide:
letters are cycled by any number of places but none, an anagram differs from its word if any order of its letters does,
and exactly one character stands between two neighbouring letters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import resources

from icl_eval.tasks.synthetic.draws import Draws

ITEMS = 2000  # of the released files' 10,000, and as many as of the arithmetic sets
INSERTED = (" ", ".", "/", "!")
LONGEST = 15
Scramble = Callable[[str, Draws], str]


def scrambled(scramble: Scramble, shortest: int) -> Callable[[Draws], Iterator[dict[str, str]]]:
    """A generator of words of `shortest` to 15 letters."""

    def records(draws: Draws) -> Iterator[dict[str, str]]:
        for word in draws.shuffled([word for word in words() if shortest <= len(word) <= LONGEST])[:ITEMS]:
            yield {"context": f"\n{scramble(word, draws)} =", "completion": f" {word}"}

    return records


def words() -> list[str]:
    """The bundled English words: lower case, sorted, each once."""
    return resources.files(__package__).joinpath("words.txt").read_text(encoding="ascii").split()


def cycled(word: str, draws: Draws) -> str:
    """The word with its beginning moved to its end."""
    places = 1 + draws.below(len(word) - 1)
    return word[places:] + word[:places]


def anagram(kept: int) -> Scramble:
    """The word with all letters shuffled but the first and last `kept`."""

    def scramble(word: str, draws: Draws) -> str:
        inner = word[kept:-kept]
        order = inner
        while order == inner and len(set(inner)) > 1:
            order = "".join(draws.shuffled(inner))
        return word[:kept] + order + word[-kept:]

    return scramble


def with_insertions(word: str, draws: Draws) -> str:
    """The word with a space or punctuation mark after each letter but the last."""
    return "".join(letter + draws.one_of(INSERTED) for letter in word[:-1]) + word[-1]


def backwards(word: str, draws: Draws) -> str:  # noqa: ARG001
    """The word from its last letter to its first."""
    return word[::-1]
