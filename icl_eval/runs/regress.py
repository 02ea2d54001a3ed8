"""`regress`: store a run as a baseline, run it again, and report every number that changed."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from icl_eval.analysis.calibration import Ranked, rank_calibrated
from icl_eval.analysis.rescore import rescore
from icl_eval.errors import RunError, counted
from icl_eval.models import DTYPES, ModelConfig, resolve
from icl_eval.results.examples import ChoiceResult, ExampleResult, read_examples
from icl_eval.results.files import replace_file
from icl_eval.results.manifest import Manifest, read_finished
from icl_eval.results.records import Cell
from icl_eval.results.run_config import RunConfig
from icl_eval.results.score import AVERAGE, Score
from icl_eval.runs.evaluate import evaluate
from icl_eval.runs.model import options_of
from icl_eval.scoring import CALIBRATIONS

TOLERANCE = 1e-4  # largest accepted difference of a log-probability in nats, well above float32 noise between CPUs
SAFE_MARGIN = 1e-3  # nats between the best two options; below it, another CPU may choose the other option
SCORE_TOLERANCE = 1e-9
DIGITS = 6


class BaselineExample(BaseModel):
    """The answer to one example: log-probabilities of each option and token, and generated texts."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    task: str
    prompt: str
    shots: int
    seed: int
    id: str
    logprobs: tuple[tuple[float, ...], ...]
    texts: tuple[str, ...] = ()  # generated


class BaselineScore(BaseModel):
    """One score of the baseline."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    task: str
    prompt: str
    metric: str
    normalization: str
    shots: int
    value: float
    average: str = ""
    category: str = ""


class Baseline(BaseModel):
    """The content of a baseline file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: RunConfig
    model_fingerprint: str
    scores: tuple[BaselineScore, ...]
    examples: tuple[BaselineExample, ...]


@dataclass(frozen=True, slots=True)
class Regression:
    """The differences between a baseline and its rerun. True if there are any.

    Attributes:
        changes: one sentence for everything that changed.
        examples: number of examples in the baseline.
        scores: number of scores in the baseline.
        largest: largest difference of a log-probability, in nats.
        other_model: whether the model has another fingerprint, so that changes may not be numerical.
    """

    changes: tuple[str, ...]
    examples: int
    scores: int
    largest: float
    other_model: bool = False

    def __bool__(self) -> bool:
        return bool(self.changes)


def make_baseline(run: Path, *, trust_remote_code: bool = False) -> Baseline:
    """Make a baseline from a finished run.

    Args:
        run: the run folder.
        trust_remote_code: whether metrics may run code that is not part of icl-eval.

    Raises:
        RunError: the run is not finished, one of its tasks failed, or the best two options of an example are so close
            that another CPU may choose the other one.
    """
    manifest = read_finished(run)
    if manifest.failures:
        raise RunError(f"a baseline needs a run in which no task failed: {manifest.failures[0]}", run)
    scores = [
        BaselineScore(**{name: getattr(score, name) for name in BaselineScore.model_fields})
        for score in rescore(run, trust_remote_code=trust_remote_code)
    ]
    results = list(read_examples(run / "examples.jsonl", manifest.tasks, manifest.examples_digest))
    for result, scoring, (ranking, rivals) in _decisions(results, manifest, {each.normalization for each in scores}):
        if (ranking.margin < SAFE_MARGIN or rivals) and not ranking.tied:
            raise RunError(
                f"{_name(result.cell, result.id)} is decided by a margin of {ranking.margin:.1e} ({scoring}), "
                "so another CPU may choose another option; use other tasks, other seeds or another limit",
                run,
            )
    # `auto` may stand for another data type on another machine.
    precision = manifest.model_words.split("|")[-1].split("-")[-1]
    config = manifest.config.model_copy(update={"dtype": precision if precision in DTYPES else manifest.config.dtype})
    return Baseline(
        config=config,
        model_fingerprint=manifest.model_fingerprint,
        scores=tuple(scores),
        examples=tuple(map(_example, results)),
    )


def _decisions(
    results: Sequence[ExampleResult], manifest: Manifest, scorings: Collection[str]
) -> Iterator[tuple[ExampleResult, str, Ranked]]:
    """Every ranking of options that the scores depend on, with the name of its normalisation or calibration.

    Args:
        results: the examples of all cells.
        manifest: of the run.
        scorings: the normalisations and calibrations of the scores.
    """
    normalizations = {record.task_prompt: record.normalization for record in manifest.tasks}
    for each in results:
        scoring = normalizations[each.cell.task_prompt]
        yield each, scoring, Ranked(each.rank(scoring), each.rivals(scoring, manifest.noise or 0.0))
    for name in (name for name in CALIBRATIONS if name in scorings):
        ranked = rank_calibrated(results, manifest.tasks, name, manifest.noise)
        yield from ((each, name, ranked[key]) for each in results if (key := (each.cell, each.id)) in ranked)


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write a baseline with one example per line, so that a diff shows which examples changed."""
    entry = baseline.model_dump(mode="json")
    examples = ",\n".join(f"  {json.dumps(each, ensure_ascii=False)}" for each in entry.pop("examples"))
    scores = ",\n".join(f"  {json.dumps(each)}" for each in entry.pop("scores"))
    head = json.dumps(entry, indent=1)[:-2]
    replace_file(path, [f'{head},\n "scores": [\n{scores}\n ],\n "examples": [\n{examples}\n ]\n}}'])


def read_baseline(path: Path) -> Baseline:
    """Read a baseline file.

    Raises:
        RunError: the file cannot be read or is not a baseline.
    """
    try:
        return Baseline.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"the baseline cannot be read: {error.strerror}", path) from error
    except ValidationError as error:
        problem = error.errors()[0]
        keys = ".".join(map(str, problem["loc"]))
        raise RunError(": ".join(filter(None, ("this is not a baseline", keys, problem["msg"]))), path) from error


def regress(baseline: Baseline, model: Any = None, **options: Any) -> Regression:
    """Run a baseline again and compare the answers and scores.

    Args:
        baseline: the expected answers and scores.
        model: another path to the same model, or a loaded model; by default the model of the baseline.
        options: passed to `evaluate`, for example `data` for another copy of the data, or `tasks` for `Task` objects.

    Raises:
        IclEvalError: the baseline cannot be run again.
    """
    source = baseline.config.model if model is None else model
    options_of_run = _options(baseline.config, source)
    if isinstance(source, str | Path) and Path(resolve(str(source))).exists():
        options_of_run["revision"] = None  # a local copy has no revisions
    with TemporaryDirectory() as folder:
        result = evaluate(source, out=folder, alone=True, **options_of_run | options)
        if result.failures:
            raise RunError(f"the baseline cannot be run again: {result.failures[0]}")
        results = list(read_examples(Path(folder) / "examples.jsonl"))
    found = compare(baseline, results, result.scores)
    return replace(found, other_model=result.manifest.model_fingerprint != baseline.model_fingerprint)


def _options(config: RunConfig, model: Any) -> dict[str, Any]:
    """The configuration as options of `evaluate`, without model options that have no effect on this model."""
    ineffective = set() if isinstance(model, str | Path) else set(ModelConfig.model_fields) - options_of(model)
    return {name: getattr(config, name) for name in RunConfig.model_fields if name not in {"model", *ineffective}}


def compare(baseline: Baseline, results: Iterable[ExampleResult], scores: Sequence[Score]) -> Regression:
    """The differences of results and scores from a baseline."""
    now = {(each.cell, each.id): each for each in results}
    changes: list[str] = []
    largest = 0.0
    for before in baseline.examples:
        cell = Cell(before.task, before.prompt, before.shots, before.seed)
        after = now.pop((cell, before.id), None)
        if after is None:
            changes.append(f"{_name(cell, before.id)} is no longer evaluated")
            continue
        difference = _difference(before, after)
        if before.texts != after.texts:
            changes.append(f"{_name(cell, before.id)}: the text was {before.texts} and is now {after.texts}")
            continue
        largest = max(largest, difference)
        if difference > TOLERANCE:
            changes.append(f"{_name(cell, before.id)}: {_first_change(before, after)}")
    changes += [f"{_name(cell, name)} was not evaluated before" for cell, name in now]
    changes += _changed_scores(baseline.scores, scores)
    return Regression(tuple(changes), len(baseline.examples), len(baseline.scores), largest)


def _example(result: ExampleResult) -> BaselineExample:
    logprobs = tuple(tuple(round(value, DIGITS) for value in each) for each in result.logprobs)
    return BaselineExample(**asdict(result.cell), id=result.id, logprobs=logprobs, texts=result.texts)


def _difference(before: BaselineExample, after: ExampleResult) -> float:
    """The largest difference of a log-probability in nats; infinite if options or tokens were added or removed."""
    if [len(each) for each in before.logprobs] != [len(each) for each in after.logprobs]:
        return math.inf
    pairs = zip(before.logprobs, after.logprobs, strict=True)
    return max(abs(x - y) for old, new in pairs for x, y in zip(old, new, strict=True))


def _first_change(before: BaselineExample, after: ExampleResult) -> str:
    """The first option that changed, with its log-likelihood before and after."""
    if len(before.logprobs) != len(after.logprobs):
        return f"it had {counted(len(before.logprobs), 'option')} and now has {len(after.logprobs)}"
    names = [repr(option.text) for option in after.options] if isinstance(after, ChoiceResult) else []
    for index, (old, new) in enumerate(zip(before.logprobs, after.logprobs, strict=True)):
        name = f"option {names[index]}" if names else f"text {index + 1}"
        if len(old) != len(new):
            return f"{name} had {counted(len(old), 'token')} and now has {len(new)}"
        if max(abs(x - y) for x, y in zip(old, new, strict=True)) > TOLERANCE:
            return f"{name} had log-likelihood {sum(old):.5f} and now has {sum(new):.5f}"
    raise ValueError("no option changed")


def _changed_scores(before: Sequence[BaselineScore], after: Sequence[Score]) -> Iterator[str]:
    """A sentence for every score that changed, is missing or is new."""
    now = {_key(each): each.value for each in after}
    for old in before:
        words = [old.prompt, counted(old.shots, "shot"), f"by {old.normalization}", *filter(None, _key(old)[-2:])]
        name = f"score {old.task} {old.metric} ({', '.join(words)})"
        value = now.pop(_key(old), None)
        if value is None:
            yield f"{name} is missing"
        elif abs(value - old.value) > SCORE_TOLERANCE:
            yield f"{name} was {old.value:.6f} and is now {value:.6f}"
    for task, prompt, metric, _, shots, *_ in now:
        yield f"score {task} {metric} ({prompt}, {counted(shots, 'shot')}) is new"


def _key(score: BaselineScore | Score) -> tuple[str, str, str, str, int, str, str]:
    average = "" if score.metric == AVERAGE else score.average  # a suite has only one
    return score.task, score.prompt, score.metric, score.normalization, score.shots, average, score.category


def _name(cell: Cell, example: str) -> str:
    return f"{cell} example {example}"
