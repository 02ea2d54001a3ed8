"""Keep a run as a baseline, run it again, and name every number that changed."""

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

TOLERANCE = 1e-4  # nats by which a log-probability may differ: float32 on another CPU stays well below
SAFE_MARGIN = 1e-3  # nats between the best two options: below it another CPU may choose the other one
DIGITS = 6


class BaselineExample(BaseModel):
    """The log-probabilities of one answered example, per option and token, or of generated texts."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    task: str
    prompt: str
    shots: int
    seed: int
    id: str
    logprobs: tuple[tuple[float, ...], ...]
    texts: tuple[str, ...] = ()  # that were generated


class BaselineScore(BaseModel):
    """One score line."""

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
    """A baseline file: its configuration, scores and examples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: RunConfig
    model_fingerprint: str
    scores: tuple[BaselineScore, ...]
    examples: tuple[BaselineExample, ...]


@dataclass(frozen=True, slots=True)
class Regression:
    """What a rerun of a baseline found: one sentence for everything that moved."""

    moved: tuple[str, ...]
    examples: int
    scores: int
    largest: float  # nats, the largest difference of a log-probability
    other_model: bool = False  # whether the fingerprint is another: then what moved need not be numerical

    def __bool__(self) -> bool:
        return bool(self.moved)


def make_baseline(run: Path, *, trust_remote_code: bool = False) -> Baseline:
    """The baseline of a finished run.

    Args:
        run: its folder.
        trust_remote_code: whether a metric may run code that is not part of icl-eval.

    Raises:
        RunError: the run is not finished, a task of it failed, or some example's decision is too close to be the same
            on another CPU.
    """
    manifest = read_finished(run)
    if manifest.failures:
        raise RunError(f"a baseline is made from a run in which no task failed: {manifest.failures[0]}", run)
    scores = [
        BaselineScore(**{name: getattr(score, name) for name in BaselineScore.model_fields})
        for score in rescore(run, trust_remote_code=trust_remote_code)
    ]
    results = list(read_examples(run / "examples.jsonl", manifest.tasks))
    for answered, scoring, (ranking, rivals) in _decisions(results, manifest, {each.normalization for each in scores}):
        if (ranking.margin < SAFE_MARGIN or rivals) and not ranking.tied:
            raise RunError(
                f"{_name(answered.cell, answered.id)} is decided by a margin of {ranking.margin:.1e} ({scoring}), "
                "and another CPU may decide otherwise; choose other tasks, seeds or another limit",
                run,
            )
    # What `auto` meant here, which it may not mean elsewhere.
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
    """Every decision that some scores depend on: by each task's own normalisation, and by the calibrations among them.

    Args:
        results: the answered examples of all cells.
        manifest: of their run.
        scorings: the normalisations and calibrations of the scores.
    """
    own = {record.task_prompt: record.normalization for record in manifest.tasks}
    for each in results:
        scoring = own[each.cell.task_prompt]
        yield each, scoring, Ranked(each.rank(scoring), each.rivals(scoring, manifest.noise or 0.0))
    for name in (name for name in CALIBRATIONS if name in scorings):
        ranked = rank_calibrated(results, manifest.tasks, name, manifest.noise)
        yield from ((each, name, ranked[key]) for each in results if (key := (each.cell, each.id)) in ranked)


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write a baseline, one example a line, so that a later change reads well in a diff."""
    entry = baseline.model_dump(mode="json")
    examples = ",\n".join(f"  {json.dumps(each, ensure_ascii=False)}" for each in entry.pop("examples"))
    scores = ",\n".join(f"  {json.dumps(each)}" for each in entry.pop("scores"))
    head = json.dumps(entry, indent=1)[:-2]
    replace_file(path, [f'{head},\n "scores": [\n{scores}\n ],\n "examples": [\n{examples}\n ]\n}}'])


def read_baseline(path: Path) -> Baseline:
    """Read a baseline file.

    Raises:
        RunError: it cannot be read or is no baseline.
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
    """Run again what a baseline describes, and compare.

    Args:
        baseline: what should still be true.
        model: another path to the same model, or a loaded one; by default the baseline's.
        options: passed on to `evaluate`: `data` for another copy of the same data, `tasks` for tasks without files.

    Raises:
        IclEvalError: it cannot be run again.
    """
    source = baseline.config.model if model is None else model
    options_of_run = _options(baseline.config, source)
    if isinstance(source, str | Path) and Path(resolve(str(source))).exists():
        options_of_run["revision"] = None  # a copy of it on this machine
    with TemporaryDirectory() as folder:
        result = evaluate(source, out=folder, alone=True, **options_of_run | options)
        if result.failures:
            raise RunError(f"the baseline cannot be run again: {result.failures[0]}")
        answered = list(read_examples(Path(folder) / "examples.jsonl"))
    found = compare(baseline, answered, result.scores)
    return replace(found, other_model=result.manifest.model_fingerprint != baseline.model_fingerprint)


def _options(config: RunConfig, model: Any) -> dict[str, Any]:
    """The configuration as arguments of `evaluate`, of the model's options those that have an effect on this one."""
    of_loading = set() if isinstance(model, str | Path) else set(ModelConfig.model_fields) - options_of(model)
    return {name: getattr(config, name) for name in RunConfig.model_fields if name not in {"model", *of_loading}}


def compare(baseline: Baseline, answered: Iterable[ExampleResult], scores: Sequence[Score]) -> Regression:
    """Everything in which answers and scores differ from a baseline."""
    now = {(each.cell, each.id): each for each in answered}
    moved: list[str] = []
    largest = 0.0
    for before in baseline.examples:
        cell = Cell(before.task, before.prompt, before.shots, before.seed)
        after = now.pop((cell, before.id), None)
        if after is None:
            moved.append(f"{_name(cell, before.id)} is no longer evaluated")
            continue
        difference = _difference(before, after)
        if before.texts != after.texts:
            moved.append(f"{_name(cell, before.id)}: the text was {before.texts} and is now {after.texts}")
            continue
        largest = max(largest, difference)
        if difference > TOLERANCE:
            moved.append(f"{_name(cell, before.id)}: {_worst(before, after)}")
    moved += [f"{_name(cell, name)} was not evaluated before" for cell, name in now]
    moved += _moved_scores(baseline.scores, scores)
    return Regression(tuple(moved), len(baseline.examples), len(baseline.scores), largest)


def _example(answered: ExampleResult) -> BaselineExample:
    logprobs = tuple(tuple(round(value, DIGITS) for value in each) for each in answered.logprobs)
    return BaselineExample(**asdict(answered.cell), id=answered.id, logprobs=logprobs, texts=answered.texts)


def _difference(before: BaselineExample, after: ExampleResult) -> float:
    """The largest difference of a log-probability; infinite where options or tokens were added or lost."""
    if [len(each) for each in before.logprobs] != [len(each) for each in after.logprobs]:
        return math.inf
    pairs = zip(before.logprobs, after.logprobs, strict=True)
    return max(abs(x - y) for old, new in pairs for x, y in zip(old, new, strict=True))


def _worst(before: BaselineExample, after: ExampleResult) -> str:
    """The first option that moved, with its log-likelihood then and now."""
    if len(before.logprobs) != len(after.logprobs):
        return f"it had {counted(len(before.logprobs), 'option')} and has {len(after.logprobs)}"
    names = [repr(option.text) for option in after.options] if isinstance(after, ChoiceResult) else []
    for index, (old, new) in enumerate(zip(before.logprobs, after.logprobs, strict=True)):
        name = f"option {names[index]}" if names else f"text {index + 1}"
        if len(old) != len(new):
            return f"{name} had {counted(len(old), 'token')} and has {len(new)}"
        if max(abs(x - y) for x, y in zip(old, new, strict=True)) > TOLERANCE:
            return f"{name} had log-likelihood {sum(old):.5f} and has {sum(new):.5f}"
    raise ValueError("nothing moved")


def _moved_scores(before: Sequence[BaselineScore], after: Sequence[Score]) -> Iterator[str]:
    now = {_key(each): each.value for each in after}
    for old in before:
        words = [old.prompt, counted(old.shots, "shot"), f"by {old.normalization}", *filter(None, _key(old)[-2:])]
        name = f"score {old.task} {old.metric} ({', '.join(words)})"
        value = now.pop(_key(old), None)
        if value is None:
            yield f"{name} is missing"
        elif abs(value - old.value) > 1e-9:
            yield f"{name} was {old.value:.6f} and is {value:.6f}"
    for task, prompt, metric, _, shots, *_ in now:
        yield f"score {task} {metric} ({prompt}, {counted(shots, 'shot')}) is new"


def _key(score: BaselineScore | Score) -> tuple[str, str, str, str, int, str, str]:
    average = "" if score.metric == AVERAGE else score.average  # a suite has only one
    return score.task, score.prompt, score.metric, score.normalization, score.shots, average, score.category


def _name(cell: Cell, example: str) -> str:
    return f"{cell} example {example}"
