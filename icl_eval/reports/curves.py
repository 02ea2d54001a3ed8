"""Learning curves: the scores of one task, prompt and metric by number of shots."""

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

MOST_NAMED = 8  # curves of a chart with a colour and a name each, unless more have the fewest changes


@dataclass(frozen=True)
class Point:
    """A score on a curve.

    Attributes:
        shots: number of demonstrations.
        value: the score.
        error: its standard error over examples; 0 if it is not known.
        sd: the standard deviation over draws of demonstrations; 0 for a single one.
        draws: the score of each draw, if there are several.
    """

    shots: int
    value: float
    error: float
    sd: float
    draws: tuple[float, ...] = ()


@dataclass(frozen=True)
class Curve:
    """Scores by number of shots.

    Attributes:
        model: whose they are.
        task, prompt, metric, scoring: of what.
        points: in ascending order of shots.
        random: what guessing scores; None if it is not known.
        majority: what always choosing the most frequent option scores; None if it is not known.
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
        """The better of guessing and of always choosing the most frequent option."""
        return max((each for each in (self.random, self.majority) if each is not None), default=None)


def curves_of(scores: Iterable[Score], model: str = "") -> list[Curve]:
    """The curves with several numbers of shots, in the order of the scores."""
    found: dict[tuple[str, str, str, str], list[Score]] = {}
    for score in (each for each in scores if not each.of_part and not each.is_variant):
        found.setdefault((score.task, score.prompt, score.metric, score.normalization), []).append(score)
    return [_curve(model, of_shots) for of_shots in found.values() if len(of_shots) > 1]


def first_of_each_task(curves: Sequence[Curve]) -> list[Curve]:
    """The curve of the first metric of each task, prompt, scoring and model."""
    return list({(each.model, each.task, each.prompt, each.scoring): each for each in reversed(curves)}.values())[::-1]


def named_curves(curves: Sequence[Curve]) -> list[Curve]:
    """The curves of a chart that get a colour and a name, in their order: those with the fewest changes of a prompt.

    In a grid of several axes, these are the plain prompt and the prompts that change one thing; combinations follow as
    long as there is room. All plain prompts have a name, even those of many models.
    """
    changes = [curve.prompt.count(VARIANT) + curve.prompt.count(",") for curve in curves]
    most = max(MOST_NAMED, changes.count(min(changes)))
    chosen = sorted(range(len(curves)), key=changes.__getitem__)[:most]
    return [curves[index] for index in sorted(chosen)]


def scoring_words(scored: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], str]:
    """What a title says of a scoring: its name if the metric of the task has several, else nothing.

    Args:
        scored: each a task, a metric and a scoring.
    """
    distinct = {*scored}
    several = Counter((task, metric) for task, metric, _ in distinct)
    return {each: each[2] if several[each[:2]] > 1 else "" for each in distinct}


def title_of(*words: str, scoring: str = "") -> str:
    """The words that are not empty, and the scoring in brackets."""
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
    """Scores of a task by the size of the model, or the step of its training.

    Attributes:
        task, prompt, metric, normalization: of what.
        series: by a name such as `4 shots`, the sizes in ascending order, each with its score.
    """

    task: str
    prompt: str
    metric: str
    series: tuple[tuple[str, tuple[tuple[float, Point], ...]], ...]
    normalization: str = ""

    def fits_of(self, fits: Iterable[ScalingFit]) -> list[ScalingFit | None]:
        """The fit of each series among those of all scores; None if it has none."""
        of = {(each.task, each.prompt, each.metric, each.normalization, each.shots): each for each in fits}
        score = (self.task, self.prompt, self.metric, self.normalization)
        return [of.get((*score, points[0][1].shots)) for _, points in self.series]


def by_size(runs: Sequence[tuple[str, Manifest, Sequence[Score]]]) -> tuple[str, list[BySize]]:
    """What models are ordered by, and the scores of each task and metric; none unless the models differ in it.

    Args:
        runs: the label, the manifest and the scores of each; steps of training are revisions such as `step1000`.
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
