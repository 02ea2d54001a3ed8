"""Match the scores of two finished runs on the same examples, and explain why others have no match."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from icl_eval.analysis.averages import task_weights
from icl_eval.analysis.rescore import ChosenMetrics
from icl_eval.analysis.score import estimate_examples
from icl_eval.analysis.spread import AXES
from icl_eval.metrics import PER_SHOT_LOSS, Estimate
from icl_eval.results.examples import ExampleResult, read_examples
from icl_eval.results.manifest import Manifest, read_finished
from icl_eval.results.pair import Unpaired
from icl_eval.results.records import TaskRecord
from icl_eval.results.score import Score
from icl_eval.scoring import Scoring
from icl_eval.tasks import SuiteDefinition

DIMENSIONS = {
    "shots": "shots",
    "metric": "metric",
    "normalization": "scoring",
    "average": "average",
    "category": "category",
    "prompt": "prompt",
}
"""The fields of a key, in the order in which they are compared, with their names in messages."""
MAX_VALUES = 5  # of a dimension in a message
Examples = Mapping[str, Hashable]  # of a task, by id: what must be equal in both runs


class Key(NamedTuple):
    """What must be equal for two scores to be compared; prompts may differ if each run has only one."""

    task: str
    metric: str
    normalization: str
    shots: int
    average: str
    category: str
    prompt: str


class ScoredLine(NamedTuple):
    """A score with its estimate."""

    estimate: Estimate
    score: Score


@dataclass(frozen=True)
class Matching:
    """The scores that two runs have in common, and those that cannot be compared."""

    pairs: Sequence[tuple[ScoredLine, ScoredLine]]
    unpaired: tuple[Unpaired, ...]


def match(first: ScoredRun, second: ScoredRun) -> Matching:
    """Match the scores of two runs, in the order of the first."""
    partners = _partners(first, second)
    reasons = {key: _reason(first, second, *key) for key in dict.fromkeys(map(_subject, partners))}
    pairs = [
        (first.lines[key], second.lines[partner]) for key, partner in partners.items() if not reasons[_subject(key)]
    ]
    unpaired = [
        Unpaired("one", first.lines[key].score, reasons[_subject(key)]) for key in partners if reasons[_subject(key)]
    ]
    return Matching(pairs, (*unpaired, *_unmatched(first, second, partners)))


@dataclass(frozen=True)
class ScoredRun:
    """The parts of a run folder that are compared."""

    manifest: Manifest
    lines: Mapping[Key, ScoredLine]
    examples: Mapping[str, Examples]
    categories: Mapping[str, Mapping[str, str]]  # by task and id of the example

    def record(self, task: str) -> TaskRecord:
        """The first record of a task in the manifest; the fields used here are the same for all prompts."""
        return next(record for record in self.manifest.tasks if record.task == task)

    @property
    def unaveraged(self) -> list[Key]:
        """The keys of scores that are not means over an axis of the grid."""
        return [key for key, line in self.lines.items() if not line.score.variants]

    @property
    def suites(self) -> dict[str, SuiteDefinition]:
        """The suites of the run by name."""
        return {suite.suite: suite for suite in self.manifest.suites}

    def weighted_tasks(self, suite: str) -> dict[str, tuple[float, str, tuple[str, ...]]]:
        """The tasks of a suite, with what enters its average: weight, average over categories, and metrics."""
        records = {name: self.record(name) for name in self.manifest.tasks_of(self.suites[suite])}
        units = {name: record.examples for name, record in records.items()}
        weights = task_weights(self.suites[suite], self.suites, units)
        return {
            name: (weights[name], record.by.average if record.by else "micro", record.primary)
            for name, record in records.items()
        }

    def prompts(self, task: str, shots: int) -> set[str]:
        """The prompts with which a task was evaluated at a number of shots."""
        return {record.prompt for record in self.manifest.tasks if record.task == task and shots in record.shots}


def read_scored(path: Path, normalizations: Sequence[Scoring], metrics: ChosenMetrics) -> ScoredRun:
    """Compute the scores of a finished run.

    Raises:
        RunError: the folder does not contain a finished run, or one of its files is damaged.
        UnknownName: a metric does not exist.
        MetricError: a metric fits no task of the run, or cannot score the answers of a task.
    """
    manifest = read_finished(path)
    manifest = manifest.model_copy(update={"tasks": metrics.applied(manifest.tasks)})
    examples: dict[str, dict[str, Hashable]] = defaultdict(dict)
    categories: dict[str, dict[str, str]] = defaultdict(dict)
    estimated = estimate_examples(
        _recording(
            read_examples(path / "examples.jsonl", manifest.tasks, manifest.examples_digest), examples, categories
        ),
        manifest.tasks,
        manifest.suites,
        model_words=manifest.model_words,
        normalizations=normalizations,
        trust_remote_code=metrics.trust_remote_code,
        given=metrics.given,
    )
    lines = {_key(score): ScoredLine(found, score) for found, score in estimated}
    return ScoredRun(manifest, lines, examples, categories)


def _recording(
    results: Iterable[ExampleResult],
    examples: dict[str, dict[str, Hashable]],
    categories: dict[str, dict[str, str]],
) -> Iterator[ExampleResult]:
    """Yield results unchanged, and record their examples and categories."""
    for each in results:
        examples[each.cell.task][each.id] = each.cluster, each.group, each.question
        categories[each.cell.task][each.id] = each.category
        yield each


def _key(score: Score) -> Key:
    average = "" if score.of_suite else score.average  # a suite has only one average
    return Key(score.task, score.metric, score.normalization, score.shots, average, score.category, score.prompt)


def _subject(key: Key) -> tuple[str, bool]:
    """The task or suite of a score, and whether the score is by category."""
    return key.task, bool(key.average or key.category)


def _partners(one: ScoredRun, other: ScoredRun) -> dict[Key, Key]:
    """The keys of the scores that both runs have: that of the first run -> that of the second."""
    partners = {}
    for key in one.lines:
        prompts, others = one.prompts(key.task, key.shots), other.prompts(key.task, key.shots)
        partner = key._replace(prompt=min(others)) if len(prompts) == len(others) == 1 else key
        if partner in other.lines and _averaged_prompts(one, key) == _averaged_prompts(other, partner):
            partners[key] = partner
    return partners


def _averaged_prompts(run: ScoredRun, key: Key) -> set[str]:
    """The prompts over which a score is a mean; empty for other scores."""
    mean = run.lines[key].score
    axis = next((each for each in AXES if mean.variants and each.name == mean.axis), None)
    cell = key._replace(prompt="")
    same = [each for each in run.unaveraged if axis and each._replace(prompt="") == cell]
    return {each.prompt for each in same if axis and axis.others(run.lines[each].score) == axis.others(mean)}


@dataclass(frozen=True)
class _Mismatch:
    """How the scores of a task that only one run has differ from those of the other run.

    Attributes:
        task: the task.
        dimension: the first field of the keys that differs; empty if the other run has no score of the task.
        values, other_values: values of this field in the one run and in the other run.
    """

    task: str
    dimension: str
    values: tuple[Any, ...] = ()
    other_values: tuple[Any, ...] = ()

    @property
    def reversed(self) -> _Mismatch:
        """The mismatch as seen from the other run."""
        return replace(self, values=self.other_values, other_values=self.values)

    def sentence(self, run: str, other: str) -> str:
        """A sentence such as `rte was scored only in the first run`."""
        sentence = f"{self.task} was scored only in the {run} run"
        if not self.dimension:
            return sentence
        return f"{sentence} ({self._values(self.values)}); the {other} has {self._values(self.other_values)}"

    def _values(self, values: tuple[Any, ...]) -> str:
        word = DIMENSIONS[self.dimension]
        plural = {"category": "categories"}.get(word, f"{word}s") if word in ("metric", "prompt", "category") else word
        named = [
            *map(_value, values[:MAX_VALUES]),
            *([f"{len(values) - MAX_VALUES} more"] if len(values) > MAX_VALUES else []),
        ]
        return f"{plural if len(values) > 1 else word} {', '.join(named)}"


def _value(value: Any) -> str:
    return str(value) or "none"


def _unmatched(one: ScoredRun, other: ScoredRun, partners: Mapping[Key, Key]) -> Iterator[Unpaired]:
    """The scores that only one run has, with reasons. The same mismatch has the same sentence in both runs.

    Means over an axis are left out, because the averaged scores are listed.
    """
    matched = set(partners.values())
    first = _mismatches([key for key in one.unaveraged if key not in partners], other)
    second = _mismatches([key for key in other.unaveraged if key not in matched], one)
    for key, found in first.items():
        yield Unpaired("one", one.lines[key].score, found.sentence("first", "second") + _failed(other, "second", key))
    for key, found in second.items():
        mirrored = found.dimension and found.reversed in first.values()
        sentence = found.reversed.sentence("first", "second") if mirrored else found.sentence("second", "first")
        yield Unpaired("other", other.lines[key].score, sentence + _failed(one, "first", key))


def _failed(run: ScoredRun, name: str, key: Key) -> str:
    """The reason why a task failed in a run, as the end of a sentence; empty if it did not fail."""
    reasons = [each.reason for each in run.manifest.failures if each.task == key.task]
    return f"; it failed in the {name}: {reasons[0]}" if reasons else ""


def _mismatches(keys: Sequence[Key], other: ScoredRun) -> dict[Key, _Mismatch]:
    """How scores differ from those of another run; scores of a task that differ in the same field share a mismatch."""
    found = {key: _first_difference(key, [each for each in other.unaveraged if each.task == key.task]) for key in keys}
    merged: dict[tuple[str, str], tuple[set[Any], set[Any]]] = defaultdict(lambda: (set(), set()))
    for key, (dimension, others) in found.items():
        values = merged[key.task, dimension]
        values[0].update([getattr(key, dimension)] if dimension else [])
        values[1].update(others)
    return {
        key: _Mismatch(key.task, dimension, *(tuple(sorted(each)) for each in merged[key.task, dimension]))
        for key, (dimension, _) in found.items()
    }


def _first_difference(key: Key, others: Sequence[Key]) -> tuple[str, set[Any]]:
    """The first field in which a score differs from all others of its task, and the values of the others.

    Losses of demonstrations are only compared with each other, because their shots are not those of the grid.
    """
    alike = [each for each in others if (each.metric == PER_SHOT_LOSS) == (key.metric == PER_SHOT_LOSS)]
    if others and not alike:
        return "metric", {each.metric for each in others}
    others = alike
    for dimension in DIMENSIONS if others else ():
        same = [each for each in others if getattr(each, dimension) == getattr(key, dimension)]
        if not same:
            return dimension, {getattr(each, dimension) for each in others}
        others = same
    return "", set()


def _reason(one: ScoredRun, other: ScoredRun, name: str, by_category: bool) -> str:
    """A sentence that says why the scores of a task or suite cannot be compared; empty if they can."""
    if not any(name in run.suites for run in (one, other)):
        return _other_examples(one, other, name) or (_other_categories(one, other, name) if by_category else "")
    tasks, others = one.weighted_tasks(name), other.weighted_tasks(name)
    if tasks != others:
        return f"the average of {name} is of other tasks, metrics or weights in the second run"
    reasons = (_other_examples(one, other, task) for task in tasks)
    return next((f"the average of {name} is of other examples: {reason}" for reason in reasons if reason), "")


def _other_examples(one: ScoredRun, other: ScoredRun, task: str) -> str:
    """A sentence that says how the examples of a task differ between the runs; empty if they are the same."""
    first, second = one.record(task), other.record(task)
    if first.data != second.data:
        return f"{task} has {first.data} data in the first run and {second.data} data in the second"
    if first.split != second.split:
        splits = [each.split or "the task's own split" for each in (first, second)]
        return f"{task} was scored on {splits[0]} in the first run and on {splits[1]} in the second"
    if (first.examples, first.total_examples) != (second.examples, second.total_examples):
        return _other_samples(first, second)
    if one.examples[task] != other.examples[task]:
        differing = set(one.examples[task].items()) ^ set(other.examples[task].items())
        if first.sample != second.sample:
            return _other_samples(first, second)
        return f"{task} was scored on other examples: {min(id for id, _ in differing)!r} is not the same in both runs"
    return ""


def _other_categories(one: ScoredRun, other: ScoredRun, task: str) -> str:
    """A sentence that says how the categories of a task differ between the runs; empty if they are the same."""
    first, second = one.categories[task], other.categories[task]
    moved = min((id for id, category in first.items() if second[id] != category), default=None)
    if moved is None:
        return ""
    sentence = f"{first[moved] or 'none'} in the first run and {second[moved] or 'none'} in the second"
    return f"{task} has other categories: that of {moved!r} is {sentence}"


def _other_samples(one: TaskRecord, other: TaskRecord) -> str:
    return f"{one.task} was scored on {_sample(one)} in the first run and on {_sample(other)} in the second"


def _sample(record: TaskRecord) -> str:
    if not record.sample:
        return f"all {record.total_examples}"
    which = "the first" if record.head else f"{record.sampling or 'a'} sample of"
    return f"{which} {record.examples} of {record.total_examples}"
