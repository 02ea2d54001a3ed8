"""Learning curves, which are scores by number of shots, and scores by model size."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icl_eval.errors import counted
from icl_eval.metrics import PER_SHOT_LOSS
from icl_eval.results.manifest import Manifest
from icl_eval.results.score import VARIANT, Score

if TYPE_CHECKING:
    from icl_eval.results.scaling import ScalingFit

MAX_NAMED = 8  # curves with a colour and a name in a chart, unless more have the fewest changes


@dataclass(frozen=True)
class Point:
    """A score on a curve.

    Attributes:
        shots: number of demonstrations.
        value: the score.
        error: standard error over examples; 0 if unknown.
        sd: standard deviation over draws of demonstrations; 0 for a single draw.
        draws: scores of the draws, if there are several.
    """

    shots: int
    value: float
    error: float
    sd: float
    draws: tuple[float, ...] = ()


@dataclass(frozen=True)
class Curve:
    """A learning curve.

    Attributes:
        model: label of the model.
        task, prompt, metric, scoring: the score; `scoring` is its normalisation or method.
        points: scores in ascending order of shots.
        random: expected score of guessing; None if unknown.
        majority: score of always choosing the most frequent option; None if unknown.
    """

    model: str
    task: str
    prompt: str
    metric: str
    scoring: str
    points: tuple[Point, ...]
    random: float | None = None
    majority: float | None = None

    @property
    def baseline(self) -> float | None:
        """The higher of the baselines `random` and `majority`; None if both are unknown."""
        return max((each for each in (self.random, self.majority) if each is not None), default=None)


def curves_of(scores: Iterable[Score], model: str = "") -> list[Curve]:
    """The learning curves with several numbers of shots, in the order of the scores."""
    found: dict[tuple[str, str, str, str], list[Score]] = {}
    for score in (each for each in scores if not each.of_part and not each.is_variant):
        found.setdefault((score.task, score.prompt, score.metric, score.normalization), []).append(score)
    return [_curve(model, of_shots) for of_shots in found.values() if len(of_shots) > 1]


def first_of_each_task(curves: Sequence[Curve]) -> list[Curve]:
    """The curves of the first metric for each task, prompt, normalisation and model."""
    return list({(each.model, each.task, each.prompt, each.scoring): each for each in reversed(curves)}.values())[::-1]


def named_curves(curves: Sequence[Curve]) -> list[Curve]:
    """The curves of a chart that have a colour and a name: those with the fewest changes of the prompt, in order.

    With several axes, these are the plain prompt, then prompts with one change, then combinations as long as there is
    room. All plain prompts are named, even of many models.
    """
    changes = [curve.prompt.count(VARIANT) + curve.prompt.count(",") for curve in curves]
    most = max(MAX_NAMED, changes.count(min(changes)))
    chosen = sorted(range(len(curves)), key=changes.__getitem__)[:most]
    return [curves[index] for index in sorted(chosen)]


def scoring_words(scored: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], str]:
    """The words for normalisations in titles: the name if a task and metric have several, otherwise empty.

    Args:
        scored: triples of task, metric and normalisation.
    """
    distinct = {*scored}
    several = Counter((task, metric) for task, metric, _ in distinct)
    return {each: each[2] if several[each[:2]] > 1 else "" for each in distinct}


def title_of(*words: str, scoring: str = "") -> str:
    """A title of the words that are not empty, with the normalisation in brackets."""
    return " ".join(filter(None, (*words, scoring and f"({scoring})")))


def _curve(model: str, scores: Sequence[Score]) -> Curve:
    first = scores[0]
    points = sorted(map(_point, scores), key=lambda point: point.shots)
    metric = f"{first.average} average" if first.of_suite else first.metric
    return Curve(
        model, first.task, first.prompt, metric, first.normalization, tuple(points), first.random, first.majority
    )


def _point(score: Score) -> Point:
    draws = score.seed_values if len(score.seed_values) > 1 else ()
    return Point(score.shots, score.value, _known(score.standard_error), _known(score.seed_sd), draws)


def _known(value: float | None) -> float:
    return 0.0 if value is None or not math.isfinite(value) else value


@dataclass(frozen=True)
class BySize:
    """Scores of a task by model size or training step.

    Attributes:
        task, prompt, metric, normalization: the score.
        series: for each name, such as `4 shots`, pairs of size and score in ascending order of size.
    """

    task: str
    prompt: str
    metric: str
    series: tuple[tuple[str, tuple[tuple[float, Point], ...]], ...]
    normalization: str = ""

    def fits_of(self, fits: Iterable[ScalingFit]) -> list[ScalingFit | None]:
        """The fit of each series among the given fits; None if there is none."""
        of = {(each.task, each.prompt, each.metric, each.normalization, each.shots): each for each in fits}
        score = (self.task, self.prompt, self.metric, self.normalization)
        return [of.get((*score, points[0][1].shots)) for _, points in self.series]


def by_size(runs: Sequence[tuple[str, Manifest, Sequence[Score]]]) -> tuple[str, list[BySize]]:
    """The measure of size, and the scores of each task and metric by size; empty if all models have the same size.

    Args:
        runs: label, manifest and scores of each run. Training steps are revisions such as `step1000`.
    """
    unit, sizes = _sizes(runs)
    found: dict[tuple[str, str, str, str], dict[int, list[tuple[float, Point]]]] = {}
    for label, _, scores in runs if len({*sizes.values()}) > 1 else ():
        for score in scores if label in sizes else ():
            if not score.of_part and not score.is_variant and score.metric != PER_SHOT_LOSS:
                shots = found.setdefault((score.task, score.prompt, score.metric, score.normalization), {})
                shots.setdefault(score.shots, []).append((sizes[label], _point(score)))
    return unit, [
        BySize(
            task,
            prompt,
            metric,
            tuple((counted(k, "shot"), tuple(sorted(points, key=lambda each: each[0]))) for k, points in shots.items()),
            normalization,
        )
        for (task, prompt, metric, normalization), shots in found.items()
    ]


def _sizes(runs: Sequence[tuple[str, Manifest, Sequence[Score]]]) -> tuple[str, dict[str, float]]:
    steps = {label: manifest.training_step for label, manifest, _ in runs}
    known = {label: float(step) for label, step in steps.items() if step}
    if len({*known.values()}) > 1:
        return "training step", known
    return "parameters", {label: float(each.parameters) for label, each, _ in runs if each.parameters}
