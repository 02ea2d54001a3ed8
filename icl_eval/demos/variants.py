"""Variants of demonstrations: other labels, and other orders in the prompt.

Pseudo-random choices are computed from hashes, so that they are the same on every machine. Which demonstrations are
drawn does not change, and a smaller draw is still the beginning of a larger one.
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
    """Whether a rule of labels changes the texts of options, which requires that all examples have the same options."""
    return rule == "permuted" or rule.partition(":")[0] == "abstract"


def depends_on_seed(rule: str) -> bool:
    """Whether a rule of labels shows an example differently with another seed."""
    return rule in ("random", "abstract") or rule.partition(":")[0] == "corrupt"


def shown_options(rule: str, options: tuple[str, ...], task: str, seed: int) -> tuple[str, ...]:
    """The texts of options as demonstrations and queries show them; the index of the right option does not change.

    Args:
        rule: the rule of labels. `permuted`: each option has the text of the next one, and the last one that of the
            first, as in the code of Min et al. (2022). `abstract`: random English words by seed, as in their ablation
            with words instead of labels, or given words; Wei et al. (2023) call these labels semantically unrelated.
            All other rules leave the texts unchanged.
        options: the options of the task.
        task, seed: the name of the task and the seed, on which random words depend.
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
        rule: the rule of labels. `random`: uniform over all options, including the right one (Min et al. 2022).
            `flipped`: the next option, which is the other one of two (Wei et al. 2023). `corrupt:P`: with probability P
            one of the wrong options, all with the same probability. Min et al. (2022) corrupt an exact share of 16
            demonstrations instead, which is impossible for smaller draws. All other rules show the right answer.
        demonstration: a demonstration with options.
        task, seed: the name of the task and the seed, which determine the label in all prompts.
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
        order: `drawn`; `reversed`; `similar-last`, which also reverses, for selections that draw the most similar
            demonstration first; `balanced`, which takes one demonstration of each label in turn while there are any,
            with labels in the order of their first demonstrations; or `permutation:IofN`, see `permutations`.
        labels: the labels that the demonstrations show, in the order of the draw.
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
    """Whether there is such an order of this number of demonstrations.

    A permutation exists if its index is below the number of permutations. All other orders need two demonstrations to
    differ from the order of the draw.
    """
    if (permutation := permutation_of(order)) is not None:
        return permutation[0] < min(permutation[1], math.factorial(min(shots, 20)))
    return shots > 1


@lru_cache(maxsize=1000)
def permutations(count: int, total: int) -> tuple[tuple[int, ...], ...]:
    """Permutations of `count` demonstrations; the first one is the order of the draw.

    Returns:
        All permutations in lexicographic order if there are at most `total`; otherwise `total` different ones, of which
        all but the first are drawn uniformly.
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
    """The bundled words of three to five letters, most of which are single tokens."""
    return tuple(word for word in words() if 3 <= len(word) <= 5)
