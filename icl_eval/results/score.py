"""Scores: the lines of a table of results."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from icl_eval.metrics import Estimate

AVERAGE = "average"  # the metric of a suite
VARIANT = "~"  # in the name of a prompt, precedes its format and the changes of its demonstrations
PARTS = ("format", "labels", "order", "select")


@dataclass(frozen=True)
class Score:
    """The score of a task or suite with a prompt, a number of shots, a normalisation and a metric.

    Attributes:
        normalization: how options were made comparable, or how a text was generated or scored.
        value, standard_error, low, high: mean of the metric over seeds, its standard error over examples (clustered)
            and its 95 % interval, in the unit of the metric.
        seed_sd: sample standard deviation over draws of demonstrations and samples; None for a single one.
        split, fewshot_split: the evaluated split and that of the demonstrations; empty if they are the task's own.
        effective_shots: mean number of demonstrations that fit the context length.
        shortened: examples (summed over seeds) with fewer demonstrations than requested.
        truncated: examples (summed over seeds) with a truncated query.
        ties: examples (summed over seeds) with several best options, or several answers with the most votes. The first
            one was chosen.
        hit_max_tokens, empty: generated texts (summed over seeds and samples) that were cut at `max_tokens`, and that
            have no words.
        unfinished: generated texts (summed over seeds and samples) whose reasoning does not end, so without an answer.
        unextracted: generated texts (summed over seeds and samples) in which the metric's rules find no answer.
        close_calls: decisions (summed over seeds) that arithmetic noise could change in another batch; None if the
            noise is unknown or nothing is chosen.
        noise_low, noise_high: lowest and highest value, as means over seeds, that close calls allow.
        random, majority: expected scores of guessing and of always choosing the most frequent option.
        axis: dimension of the grid along which the score has a difference or is a summary, such as `formats`.
        baseline, difference, difference_error, difference_low, difference_high: the first value on that axis, and the
            paired difference from the score there, with its standard error over examples and its 95 % interval.
        variants: number of scores along the axis of which this is the mean; 0 for other scores.
        median, minimum, maximum, best, worst: of those scores, and the values on the axis with the best and the worst.
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
    average: str = ""  # `macro` or `micro` for the average of a suite; `macro` for that of a task's categories
    averaged: str = ""  # the averaged metrics and tasks, or categories
    by: str = ""  # the field with the category of each example; empty without categories
    category: str = ""  # the scored category; empty for all examples of the task
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
        """Whether this is the score of one of many drawn formats (not one found by a search) or permutations."""
        parts = self.prompt_parts
        return (bool(parts["format"]) and not self.is_found) or parts["order"].startswith("permutation")

    @property
    def is_found(self) -> bool:
        """Whether this is the score of the best or the worst format that a search found."""
        return self.prompt_parts["format"].endswith(("-best", "-worst"))

    @property
    def extraction(self) -> str:
        """The name of the extraction rules of the metric; empty if it scores whole texts."""
        return self.metric.partition("@")[2]

    def stored(self) -> dict[str, Any]:
        """The entry in `scores.json`; numbers that are not finite are None."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def figures(estimate: Estimate) -> dict[str, Any]:
    """The fields of a score that come from an estimate."""
    return {
        "value": estimate.value,
        "standard_error": estimate.standard_error,
        "low": estimate.low,
        "high": estimate.high,
        "interval": estimate.interval,
        "units": estimate.units,
        "clusters": estimate.clusters,
        "seed_values": estimate.seed_values,
        "seed_sd": estimate.seed_sd,
    }
