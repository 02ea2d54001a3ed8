"""The signal-to-noise ratio of a score over several models: how well a task separates them (Heineman et al. 2025).

For the scores m of models, the signal is their relative dispersion max |m_j - m_k| / mean(m). The noise is the relative
standard deviation of a model's last checkpoints, sd(m) / mean(m) (arXiv 2508.13144, section 2). As for the small models
of the paper, the score of a model with several checkpoints is the mean of the last five. The noise is averaged over the
models with at least three checkpoints, and sd has the divisor n - 1. If no model has three checkpoints, the noise comes
from the sample of examples instead: the root mean square of the standard errors, divided by the mean score. For
checkpoints of a single model, the signal is the dispersion of the checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Literal

from icl_eval.results.manifest import Manifest
from icl_eval.results.score import Score

LAST_CHECKPOINTS = 5  # averaged to the score of a model
MIN_CHECKPOINTS = 3  # needed to measure the noise
Noise = Literal["checkpoints", "examples"]
Key = tuple[str, str, str, str, int, str, str]  # the result of `key_of`


@dataclass(frozen=True, slots=True)
class Signal:
    """How well a score separates models.

    Attributes:
        signal: relative dispersion of the models' scores.
        noise: relative standard deviation of a score.
        signal_to_noise: signal divided by noise.
        noise_of: source of the noise: the last `checkpoints` of models, or the sample of `examples`.
    """

    signal: float
    noise: float
    signal_to_noise: float
    noise_of: Noise


UNKNOWN: dict[str, object] = dict.fromkeys(("signal", "noise", "signal_to_noise", "noise_of"))


def of_scores(models: Sequence[Sequence[tuple[float, float]]]) -> Signal | None:
    """The signal-to-noise ratio of one score.

    Args:
        models: for each model, the values and standard errors of its checkpoints, in training order.

    Returns:
        The ratio; None for a single score, for a mean of 0, and if the noise is unknown.
    """
    last = [[value for value, _ in each[-LAST_CHECKPOINTS:]] for each in models]
    compared = (
        [fmean(values) for values in last] if len(models) > 1 else [value for each in models for value, _ in each]
    )
    if len(compared) < 2 or not fmean(compared):
        return None
    signal = (max(compared) - min(compared)) / abs(fmean(compared))
    spreads = [
        stdev(values) / abs(fmean(values)) for values in last if len(values) >= MIN_CHECKPOINTS and fmean(values)
    ]
    noise_of: Noise = "checkpoints" if spreads else "examples"
    errors = [error for each in models for _, error in each]
    noise = fmean(spreads) if spreads else math.sqrt(fmean(error**2 for error in errors)) / abs(fmean(compared))
    return Signal(signal, noise, signal / noise, noise_of) if noise > 0 and math.isfinite(noise) else None


def signals(models: Sequence[tuple[Manifest, Sequence[Score]]]) -> dict[Key, Signal]:
    """The signal-to-noise ratios of the scores that several models have, by `key_of`."""
    found: dict[Key, dict[str, list[tuple[float, float, float]]]] = {}
    for position, (manifest, scores) in enumerate(models):
        time = float(position if manifest.training_step is None else manifest.training_step)
        for score in scores:
            of_models = found.setdefault(key_of(score), {})
            of_models.setdefault(manifest.model_name, []).append((time, score.value, score.standard_error))
    ordered = {key: [[point[1:] for point in sorted(each)] for each in found[key].values()] for key in found}
    return {key: signal for key, each in ordered.items() if (signal := of_scores(each)) is not None}


def key_of(score: Score) -> Key:
    """A key that is equal for comparable scores of different models."""
    setting = score.task, score.prompt, score.metric, score.normalization, score.shots
    return (*setting, score.average, score.category)


def entry(signal: Signal | None) -> dict[str, object]:
    """The columns of a ratio in CSV and JSON; None if there is no ratio."""
    return UNKNOWN if signal is None else asdict(signal)
