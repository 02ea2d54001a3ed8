"""One line of the results."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from icl_eval.metrics import Estimate

AVERAGE = "average"  # the metric of a suite's line
VARIANT = "~"  # in the name of a prompt, before its format and before what is changed in its demonstrations
PARTS = ("format", "labels", "order", "select")


@dataclass(frozen=True)
class Score:
    """One line of the results.

    Attributes:
        normalization: how options were made comparable, or how a text was generated or scored.
        value, standard_error, low, high: the metric's mean over seeds, its standard error over examples (clustered) and
            95 % interval, in the metric's own unit.
        seed_sd: sample standard deviation over demonstration draws, and over samples of a text; None for one.
        split, fewshot_split: evaluated, and with the demonstrations; empty where it is the task's own.
        effective_shots: mean number of demonstrations that fitted the window.
        shortened, truncated, ties: examples (summed over seeds) with fewer demonstrations than requested, with a cut
            query, and with several options of equal score, or answers with equally many votes; the first was taken.
        hit_max_tokens, empty: generated texts (summed over seeds and samples) that were cut at `max_tokens`, before any
            stop or end token, and that hold no words.
        unfinished: generated texts (summed over seeds and samples) whose reasoning does not end, so without an answer.
        unextracted: generated texts (summed over seeds and samples) in which the rules of the metric find no answer.
        close_calls: decisions (summed over seeds) that arithmetic noise could turn in another batch; None where the
            noise is not known or nothing is chosen.
        noise_low, noise_high: the least and the greatest value, as means over seeds, that close calls leave possible.
        random, majority: what guessing, and always choosing the most frequent option, would score on these examples.
        axis: the dimension of the grid along which a score has a difference, or that it summarises, such as `formats`.
        baseline, difference, difference_error, difference_low, difference_high: the first value on that axis, and the
            paired difference from the score there, with its standard error over examples and 95 % interval.
        variants: how many scores along the axis this is the mean of; 0 for any other score.
        median, minimum, maximum, best, worst: of those scores, and where on the axis they are best and worst.
    """

    task: str
    prompt: str
    metric: str
    normalization: str
    shots: int
    seeds: tuple[int, ...]
    draw: str
    data: str
    value: float
    standard_error: float
    low: float
    high: float
    interval: str
    examples: int
    total_examples: int
    units: int
    clusters: int
    seed_values: tuple[float, ...]
    seed_sd: float | None
    effective_shots: float
    shortened: int
    truncated: int
    ties: int
    random: float | None
    majority: float | None
    reference: str | None
    signature: str
    split: str = ""
    fewshot_split: str = ""
    hit_max_tokens: int = 0
    empty: int = 0
    unfinished: int = 0
    unextracted: int = 0
    close_calls: int | None = None
    noise_low: float | None = None
    noise_high: float | None = None
    average: str = ""  # macro or micro, if it is the average of a suite; macro, if it is that of a task's categories
    averaged: str = ""  # and of which metrics of which tasks, or of which categories
    by: str = ""  # the field whose values are categories, if a task has them
    category: str = ""  # the one that is scored; empty for all examples of the task
    axis: str = ""
    baseline: str = ""
    difference: float | None = None
    difference_error: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    variants: int = 0
    median: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    best: str = ""
    worst: str = ""

    @property
    def of_suite(self) -> bool:
        """Whether this is the average of a suite, not a score of a task."""
        return self.metric == AVERAGE

    @property
    def of_part(self) -> bool:
        """Whether this is the score of a category, or the mean of such scores."""
        return bool(self.category or (self.by and self.average))

    @property
    def prompt_parts(self) -> dict[str, str]:
        """The `base` prompt; its `format`, and what is changed in its demonstrations, such as `labels` and `order`.

        A part is empty if it is the prompt's own, or if this is the mean over it.
        """
        base, *rest = self.prompt.split(VARIANT)
        changed = (word if "=" in word else f"format={word}" for part in rest for word in part.split(","))
        named = dict(word.split("=", 1) for word in changed if not word.startswith("format=mean of "))
        return {"base": base, **{part: named.get(part, "") for part in PARTS}}

    @property
    def is_variant(self) -> bool:
        """Whether this is one of many: of the formats that were drawn, not found by a search, or of permutations."""
        parts = self.prompt_parts
        return (bool(parts["format"]) and not self.is_found) or parts["order"].startswith("permutation")

    @property
    def is_found(self) -> bool:
        """Whether this is the score of the best or the worst format of a prompt, which a search found."""
        return self.prompt_parts["format"].endswith(("-best", "-worst"))

    @property
    def extraction(self) -> str:
        """The name of the rules by whose answers the metric is taken; empty for whole texts."""
        return self.metric.partition("@")[2]

    def stored(self) -> dict[str, Any]:
        """The entry of `scores.json`; a figure that is not finite is None."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def figures(found: Estimate) -> dict[str, Any]:
    """What a line takes from an estimate, by the names of its fields."""
    return {
        "value": found.value,
        "standard_error": found.standard_error,
        "low": found.low,
        "high": found.high,
        "interval": found.interval,
        "units": found.units,
        "clusters": found.clusters,
        "seed_values": found.seed_values,
        "seed_sd": found.seed_sd,
    }
