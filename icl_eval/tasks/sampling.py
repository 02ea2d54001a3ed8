"""Samples of the examples of a split, which do not depend on the order of the data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from random import Random

from icl_eval.tasks.example import Example
from icl_eval.tasks.records import groups_of
from icl_eval.values import OLMES


def limited(examples: Sequence[Example], limit: int | str | None, task: str) -> Sequence[Example]:
    """A sample of N groups of examples, or the first N groups. A question with all of its answers is a group.

    Groups are ordered by a hash of the names of task and group. So the sample does not depend on the order of the data,
    and larger samples contain smaller ones.

    Args:
        examples: all examples; the sample keeps their order.
        limit: N, `first:N`, `olmes` for the sample of OLMES, or None for all examples.
        task: name of the task.
    """
    if limit is None:
        return examples
    if limit == OLMES:
        return _sample_of_olmes(examples)
    group_of = groups_of(examples)
    groups = sampled_groups(group_of, task) if isinstance(limit, int) else list(dict.fromkeys(group_of))
    kept = set(groups[: int(str(limit).removeprefix("first:"))])
    return [examples[index] for index, group in enumerate(group_of) if group in kept]


def sampled_groups(groups: Iterable[str], task: str) -> list[str]:
    """The distinct groups, in the pseudo-random order in which they enter samples of a task."""
    return sorted(set(groups), key=lambda group: hashlib.blake2b(f"limit\x1f{task}\x1f{group}".encode()).digest())


def _sample_of_olmes(examples: Sequence[Example]) -> Sequence[Example]:
    """A sample of 1,000 if there are more than 1,500 examples without categories; otherwise all examples.

    This is the sample of Gu et al. 2024 (arXiv 2406.08446, section 3.1). It depends on the order of the examples and on
    Python's random numbers.
    """
    if len(examples) <= 1500 or examples[0].category:
        return examples
    kept = sorted(Random(1234).sample(range(len(examples)), 1000))
    return [examples[index] for index in kept]
