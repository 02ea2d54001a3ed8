"""What is changed in demonstrations on purpose: the labels that they show, and their order in the prompt.

All pseudo-random choices are made from a hash, so that they are the same on every machine. Everything else of a draw
stays the same: which demonstrations it has, and that a smaller draw is the beginning of a larger one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

from icl_eval.tasks.example import Example
from icl_eval.tasks.synthetic.generators import Draws, words
from icl_eval.values import abstract_words, permutation_of


def replaces_options(rule: str) -> bool:
    """Whether a rule changes the texts of options, so that all examples need the same ones."""
    return rule == "permuted" or rule.partition(":")[0] == "abstract"


def depends_on_seed(rule: str) -> bool:
    """Whether the same example reads differently with another seed."""
    return rule in ("random", "abstract") or rule.partition(":")[0] == "corrupt"


def shown_options(rule: str, options: tuple[str, ...], task: str, seed: int) -> tuple[str, ...]:
    """The texts of the options, in demonstrations and queries; the right one keeps its position.

    Args:
        rule: `permuted`: every option has the text of the next one, and the last that of the first, as in the code of
            Min et al. (2022). `abstract`: random English words by seed, as their ablation with words in place of
            labels, or given words; Wei et al. (2023) call such labels semantically unrelated. Others change no text.
        options: the task's options.
        task, seed: what the words depend on.
    """
    if rule == "permuted":
        return (*options[1:], *options[:1])
    if not replaces_options(rule):
        return options
    chosen = abstract_words(rule) or _random_words(task, seed, len(options))
    return tuple(
        f"{option[: len(option) - len(option.lstrip())]}{word}" for option, word in zip(options, chosen, strict=True)
    )


def shown_label(rule: str, demonstration: Example, task: str, seed: int) -> int:
    """The index of the option that a demonstration shows as its answer.

    Args:
        rule: `random`: uniform over the demonstration's options, the right one among them (Min et al. 2022).
            `flipped`: the next option, of two the other one (Wei et al. 2023). `corrupt:P`: with probability P one of
            the wrong options, all equally likely; Min et al. (2022) instead corrupt an exact share of 16
            demonstrations, which smaller draws could not have. Others show the right answer.
        demonstration: one with options.
        task, seed: a demonstration shows the same label in all prompts of a seed.
    """
    gold, count = demonstration.gold[0], len(demonstration.options)
    if rule == "flipped":
        return (gold + 1) % count
    draws = Draws("\x1f".join(["labels", str(seed), task, demonstration.id]))
    if rule == "random":
        return draws.below(count)
    kind, _, share = rule.partition(":")
    if kind == "corrupt" and count > 1 and draws.below(2**53) < float(share) * 2**53:
        return (gold + 1 + draws.below(count - 1)) % count
    return gold


def positions(order: str, labels: Sequence[str]) -> tuple[int, ...]:
    """The order of drawn demonstrations in the prompt, as their positions in the draw.

    Args:
        order: `drawn`, `reversed`, `similar-last`, which is the same for selections that draw the most similar
            demonstration first, `balanced`: every label in turn, as far as it has demonstrations left, in the order
            of their first ones; or `permutation:IofN`: see `permutations`.
        labels: what the demonstrations show, in the order of the draw.
    """
    count = len(labels)
    if order in ("reversed", "similar-last"):
        return tuple(reversed(range(count)))
    if order == "balanced":
        seen: dict[str, int] = defaultdict(int)
        first = {label: labels.index(label) for label in labels}
        rounds = []
        for position, label in enumerate(labels):
            rounds.append((seen[label], first[label], position))
            seen[label] += 1
        return tuple(position for _, _, position in sorted(rounds))
    if (permutation := permutation_of(order)) is not None:
        index, total = permutation
        return permutations(count, total)[index]
    return tuple(range(count))


def order_exists(order: str, shots: int) -> bool:
    """Whether an order differs from the drawn one for so many demonstrations; a permutation, whether there are so many.

    Without demonstrations nothing can be ordered, and there are k! permutations of k.
    """
    if (permutation := permutation_of(order)) is not None:
        return permutation[0] < min(permutation[1], math.factorial(min(shots, 20)))
    return shots > 1


@lru_cache(maxsize=1000)
def permutations(count: int, total: int) -> tuple[tuple[int, ...], ...]:
    """Permutations of `count` demonstrations, the order of the draw first.

    Returns:
        All of them, in lexicographic order, if there are at most `total`; otherwise `total` different ones, all others
        than the first drawn uniformly.
    """
    if math.factorial(min(count, 20)) <= total:
        import itertools

        return tuple(itertools.permutations(range(count)))
    drawn = dict.fromkeys([tuple(range(count))])
    draws = Draws(f"permutations\x1f{count}")
    while len(drawn) < total:
        drawn[tuple(draws.shuffled(range(count)))] = None
    return tuple(drawn)


@lru_cache(maxsize=1000)
def _random_words(task: str, seed: int, count: int) -> tuple[str, ...]:
    draws = Draws("\x1f".join(["abstract", str(seed), task]))
    found = dict.fromkeys(draws.one_of(_short_words()) for _ in range(count))
    while len(found) < count:
        found[draws.one_of(_short_words())] = None
    return tuple(found)


@lru_cache(maxsize=1)
def _short_words() -> tuple[str, ...]:
    """The bundled words of three to five letters: fewer of them are several tokens."""
    return tuple(word for word in words() if 3 <= len(word) <= 5)
