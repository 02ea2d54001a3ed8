"""`fit_scaling`: fit scores of finished runs as functions of the size of their models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from icl_eval.analysis.rescore import ChosenMetrics
from icl_eval.analysis.score import chosen_normalizations, estimate_examples
from icl_eval.errors import MetricError, RunError, UnknownName, counted
from icl_eval.metrics import Estimate, lower_is_better
from icl_eval.metrics.scaling import Curve, Floats
from icl_eval.metrics.uncertainty import is_known
from icl_eval.results.examples import ExampleResult, read_examples
from icl_eval.results.manifest import Manifest, read_finished
from icl_eval.results.members import is_sweep, label, read_members
from icl_eval.results.records import TaskRecord
from icl_eval.results.result import Scaling, Sweep
from icl_eval.results.scaling import UNITS, By, HeldOut, Interval, ScalingFit
from icl_eval.results.score import Score
from icl_eval.scoring import Scoring
from icl_eval.tasks import SuiteDefinition
from icl_eval.tasks.metric_names import GivenMetric

RESAMPLES = 500
MIN_MODELS = 3  # one more than the parameters of a curve without an irreducible term
MIN_FOR_IRREDUCIBLE = 5  # so that the curve is also determined without the largest model
PF_DAY = 1e15 * 24 * 3600  # floating-point operations
LOSSES = {
    "choice": "answer_loss",
    "likelihood": "bits_per_byte",
}  # losses by kind of answer, comparable between tokenizers
Tokens = float | Mapping[str, float]
Key = tuple[str, str, str, str, int]


def fit_scaling(
    runs: Sweep | str | Path | Sequence[str | Path],
    by: By = "parameters",
    *,
    tokens: Tokens | None = None,
    tokens_per_step: float | None = None,
    irreducible: bool | None = None,
    intervals: bool = True,
    normalizations: str | Sequence[str] = (),
    metrics: GivenMetric | Sequence[GivenMetric] = (),
    trust_remote_code: bool = False,
) -> Scaling:
    """Fit the scores of finished runs as functions of the sizes of their models.

    A loss, such as a perplexity, gets a power law. A score between two bounds gets a logistic curve in the loss of the
    right answers, itself a power law, or in ln x if the answers are generated. Intervals are percentiles of a bootstrap
    over clusters of examples, with the same resample for all models. They do not cover how another training run of a
    model would differ.

    Args:
        runs: a stored sweep, or folders of runs and sweeps.
        by: the measure of size: `parameters`, training `steps` (of revisions such as `step1000`), training `tokens`, or
            `compute`, which is 6 x parameters x tokens in PF-days (Kaplan et al. 2020).
        tokens: number of training tokens of all models, or of each model by name.
        tokens_per_step: number of training tokens per step, instead of `tokens`, for revisions such as `step1000`.
        irreducible: whether losses have an irreducible term; by default with five sizes or more.
        intervals: whether to compute intervals, which takes most of the time.
        normalizations: normalisations and calibrations to score by; each task's own if empty.
        metrics: names, functions or classes of metrics, which replace those of the tasks whose answers they fit.
        trust_remote_code: whether metrics may run code that is not part of icl-eval.

    Raises:
        RunError: a folder does not contain a finished run, all models have the same size, or no score can be fitted.
        UnknownName: a measure of size, a normalisation or a metric does not exist.
        MetricError: a metric fits no task of a run, or cannot score the answers of a task.
    """
    if by not in UNITS:
        raise UnknownName("size of models", by, UNITS)
    chosen, names = ChosenMetrics.of(metrics, trust_remote_code), chosen_normalizations(normalizations)
    folders = _folders(runs)
    sized = _sized([read_finished(path) for path in folders], by, tokens, tokens_per_step)
    read = [
        _Run.read(folder, manifest, size, chosen, names)
        for folder, (manifest, size) in zip(folders, sized, strict=True)
        if size is not None
    ]
    read.sort(key=lambda each: each.size)
    fits, reasons = [], [f"{_label(manifest)}: its {UNITS[by]} are not known" for manifest, size in sized if not size]
    for key in dict.fromkeys(key for each in read for key in each.lines):
        try:
            of_score = [each for each in read if key in each.lines]
            fits.append(_fit(key, of_score, by, irreducible, RESAMPLES if intervals else 0))
        except MetricError as error:
            task, prompt, metric, _, shots = key
            reasons.append(f"{task} {metric} ({prompt}, {counted(shots, 'shot')}) has no fit: {error.message}")
    if not fits:
        raise RunError(f"no score can be fitted: {'; '.join(dict.fromkeys(reasons[:MIN_MODELS]))}")
    return Scaling(tuple(fits), tuple(reasons))


@dataclass(frozen=True)
class _Run:
    """A run: its scores by key, and the losses of right answers by task, prompt and shots."""

    label: str
    size: float
    digests: Mapping[tuple[str, str], str]
    lines: Mapping[Key, tuple[Estimate, Score]]
    losses: Mapping[tuple[str, str, int], Estimate]

    @classmethod
    def read(
        cls,
        folder: Path,
        manifest: Manifest,
        size: float,
        chosen: ChosenMetrics,
        normalizations: Sequence[Scoring],
    ) -> _Run:
        """Read a run and estimate its scores and its losses per byte."""
        results = list(read_examples(folder / "examples.jsonl", manifest.tasks, manifest.examples_digest))
        lines = _estimated(results, manifest, chosen.applied(manifest.tasks), chosen, normalizations, manifest.suites)
        with_loss = [
            record.model_copy(update={"metrics": (LOSSES[record.answer],), "primary": (), "by": None, "categories": {}})
            for record in manifest.tasks
            if record.answer in LOSSES
        ]
        of_losses = {record.task_prompt for record in with_loss}
        losses = _estimated(
            (each for each in results if each.cell.task_prompt in of_losses), manifest, with_loss, chosen, ("byte",)
        )
        return cls(
            _label(manifest),
            size,
            {record.task_prompt: record.digest for record in manifest.tasks},
            {_key(score): (found, score) for found, score in lines if not (score.of_part or score.is_variant)},
            {(score.task, score.prompt, score.shots): found for found, score in losses if not score.of_suite},
        )


def _estimated(
    results: Iterable[ExampleResult],
    manifest: Manifest,
    records: Sequence[TaskRecord],
    chosen: ChosenMetrics,
    normalizations: Sequence[Scoring],
    suites: Sequence[SuiteDefinition] = (),
) -> list[tuple[Estimate, Score]]:
    """The scores of some tasks of a run, and the averages of suites."""
    return estimate_examples(
        results,
        records,
        suites,
        model_words=manifest.model_words,
        normalizations=normalizations,
        trust_remote_code=chosen.trust_remote_code,
        given=chosen.given,
    )


def _folders(runs: Sweep | str | Path | Sequence[str | Path]) -> list[Path]:
    """The distinct run folders; a sweep stands for the models that have scores."""
    if isinstance(runs, Sweep):
        if runs.folder is None:
            raise RunError("a fit reads the run folders, but this sweep was not stored: give `out` or `keep`")
        return [result.folder for result in runs if result.folder is not None]
    listed = [Path(each) for each in ([runs] if isinstance(runs, str | Path) else runs)]
    found: dict[Path, None] = {}
    for path in listed:
        members = [path / each.folder for each in read_members(path) if each.failed is None] if is_sweep(path) else []
        found |= dict.fromkeys(members or [path])
    return list(found)


def _sized(
    manifests: Sequence[Manifest], by: By, tokens: Tokens | None, tokens_per_step: float | None
) -> list[tuple[Manifest, float | None]]:
    """The manifests with the size of each model; None if the size is unknown.

    Raises:
        RunError: the number of training tokens is not given.
        UnknownName: `tokens` names a model that is not among the runs.
    """
    if by in ("tokens", "compute") and tokens is None and tokens_per_step is None:
        raise RunError(
            f"sizes in {UNITS[by]} need the number of training tokens: give `tokens`, or for revisions such as "
            "step1000 `tokens_per_step`"
        )
    names = {name for each in manifests for name in (_label(each), each.model_name)}
    for name in tokens if isinstance(tokens, Mapping) else ():
        if name not in names:
            raise UnknownName("model of these runs", name, names)
    return [(each, _size(each, by, tokens, tokens_per_step)) for each in manifests]


def _size(manifest: Manifest, by: By, tokens: Tokens | None, tokens_per_step: float | None) -> float | None:
    step = manifest.training_step
    if by == "steps":
        return step or None
    if by == "parameters":
        return manifest.parameters
    if isinstance(tokens, Mapping):
        trained = tokens.get(_label(manifest), tokens.get(manifest.model_name))
    else:
        trained = tokens if tokens is not None else step and tokens_per_step and step * tokens_per_step
    if by == "tokens" or not trained:
        return trained or None
    return 6 * manifest.parameters * trained / PF_DAY if manifest.parameters else None


def _label(manifest: Manifest) -> str:
    return label(manifest.model_name, manifest.config.revision)


def _key(score: Score) -> Key:
    return score.task, score.prompt, score.metric, score.normalization, score.shots


def _fit(key: Key, runs: Sequence[_Run], by: By, irreducible: bool | None, resamples: int) -> ScalingFit:
    """The law of one score.

    Raises:
        MetricError: there are too few models, they answered different examples, or the metric has no known form.
    """
    sizes = np.array([each.size for each in runs])
    if (found := len(np.unique(sizes))) < MIN_MODELS:
        raise MetricError(f"a fit needs {MIN_MODELS} models of different sizes, not {found}; sizes are {UNITS[by]}")
    estimates, scores = zip(*(each.lines[key] for each in runs), strict=True)
    if (
        len({each.digests.get(key[:2], "") for each in runs}) > 1
        or len({frozenset(e.influence) for e in estimates}) > 1
    ):
        raise MetricError("the models answered different examples or prompts")
    free = irreducible if irreducible is not None else found >= MIN_FOR_IRREDUCIBLE
    curve = _curve(key, runs, estimates, scores[0].random, irreducible=free)
    law, smaller = curve.fit(sizes), curve.without_largest(sizes)
    exponents, predictions = curve.resampled(sizes, resamples)
    fit = ScalingFit(
        *(*key, by),
        models=tuple(each.label for each in runs),
        sizes=tuple(map(float, sizes)),
        values=tuple(each.value for each in estimates),
        errors=tuple(each.standard_error for each in estimates),
        law=law,
        is_log=_is_log(key[2]),
        exponent=_interval(exponents),
        residual=float(np.sqrt(np.mean((curve.values[0] - law.at(sizes)) ** 2))),
        held_out=None,
    )
    if smaller is None:
        return fit
    predicted = float(replace(fit, law=smaller).at(sizes.max()))
    ends = _interval(np.exp(predictions) if fit.is_log else predictions)
    return replace(fit, held_out=HeldOut(runs[-1].label, predicted, estimates[-1].value, ends))


def _curve(
    key: Key, runs: Sequence[_Run], estimates: Sequence[Estimate], guessing: float | None, *, irreducible: bool
) -> Curve:
    """The points of a score that are fitted.

    Raises:
        MetricError: the metric is not bounded and not known to be a loss.
    """
    task, prompt, metric, _, shots = key
    low, high = estimates[0].bounds
    is_loss = lower_is_better(metric)
    if not is_loss and not np.isfinite(high - low):
        raise MetricError("the metric has no bounds, so the form of its curve is not known")
    losses = [each.losses.get((task, prompt, shots)) for each in runs]
    of_answers = [each for each in losses if each is not None and each.value > 0]
    rows = [estimates, *([of_answers] if not is_loss and len(of_answers) == len(runs) else [])]
    names = sorted(estimates[0].influence)
    values = np.array([[each.value for each in row] for row in rows])
    influence = np.array([[[each.influence[name] for name in names] for each in row] for row in rows])
    if _is_log(metric):
        values, influence = np.log(values), influence / values[..., None]
    bounds = None if is_loss else (low if guessing is None else guessing, high)
    known = all(is_known(each.standard_error) for row in rows for each in row)
    return Curve(values, influence if known else None, bounds, irreducible)


def _is_log(metric: str) -> bool:
    """Whether the logarithm of the score is fitted: the logarithm of a perplexity is a loss."""
    return metric.endswith("perplexity")


def _interval(resampled: Floats) -> Interval | None:
    """The percentile interval; None without resamples."""
    if not len(resampled):
        return None
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(float(low), float(high)) if np.isfinite([low, high]).all() else None
