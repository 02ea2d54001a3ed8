"""The rule `until`: evaluate a task in blocks of examples until its scores are known well enough.

Groups of examples are taken in the pseudo-random order of samples, so the examples that were evaluated are those of a
`limit`. After each block, a confidence sequence bounds the score of every cell on the whole split. A task ends for all
of its prompts and numbers of shots at once, which keeps their scores paired. Blocks have a fixed size, and every
process sees all answers: the examples depend neither on batches nor on the number of processes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icl_eval.analysis.score import WHOLE, collect_answers
from icl_eval.errors import RunError
from icl_eval.metrics import AnyPrediction, CorpusMetric, Metric
from icl_eval.metrics import metric as metric_of
from icl_eval.metrics.means import GroupMean
from icl_eval.metrics.sequence import MeanSequence
from icl_eval.results.examples import ExampleResult
from icl_eval.results.records import KnownScore, Stopped, TaskRecord
from icl_eval.runs.cells import Prepared
from icl_eval.tasks import Example
from icl_eval.tasks.records import groups_of
from icl_eval.tasks.sampling import sampled_groups

BLOCK = 100  # groups of examples between two looks at the scores


class StoppingRule:
    """Ends the evaluation of one task.

    Args:
        until: the half-width at which a score is known well enough.
        prepared: the task with each of its prompts, which have the same examples.
        given: metrics in Python by name, which are trusted.
        trust_remote_code: whether another metric may run code that is not part of the package.

    Attributes:
        metric: the one whose scores are bounded: the first primary one that is a mean.
        evaluated: the number of examples in the blocks so far.

    Raises:
        RunError: no primary metric of the task is a mean of scores between 0 and 1.
    """

    def __init__(
        self, until: float, prepared: Sequence[Prepared], given: Mapping[str, Any], *, trust_remote_code: bool
    ) -> None:
        self.until, self._records = until, [each.record for each in prepared]
        self.metric = _mean_metric(self._records[0], {"given": given, "trust_remote_code": trust_remote_code})
        self.evaluated = 0
        self._results: list[ExampleResult] = []
        self._known: dict[tuple[str, int], MeanSequence] = {}
        self._examples, whole = prepared[0].examples, prepared[0].whole
        groups = groups_of(whole)
        is_grouped = isinstance(self.metric, GroupMean)
        sizes = Counter(dict.fromkeys(groups, 1) if is_grouped else groups)
        self._groups, self._largest = len(sizes), max(sizes.values())
        self._scale = self._largest * self._groups / sizes.total()  # of the mean over groups, to that over units
        self._total = len(whole)

    def blocks(self, failed: Collection[tuple[str, str]]) -> Iterator[list[Example]]:
        """Blocks of examples, until the scores are known; answers to a block are added before the next one is taken.

        Args:
            failed: the (task, prompt) pairs without scores; it may grow in the meantime.
        """
        examples = self._examples
        members: dict[str, list[int]] = defaultdict(list)
        for index, group in enumerate(groups_of(examples)):
            members[group].append(index)
        order = sampled_groups(members, self._records[0].task)
        for start in range(0, len(order), BLOCK):
            names = order[start : start + BLOCK]
            block = [examples[index] for name in names for index in members[name]]
            yield block
            self.evaluated += len(block)
            self._look(block, names, failed)
            left = {record.prompt for record in self._records if record.task_prompt not in failed}
            widths = [each.half_width * self._scale for (prompt, _), each in self._known.items() if prompt in left]
            if max(widths, default=0.0) <= self.until:
                return

    def add(self, result: ExampleResult) -> None:
        """Take an answered example of the block."""
        self._results.append(result)

    def stopped(self, record: TaskRecord) -> TaskRecord:
        """The record of a prompt of the task with what was evaluated."""
        scores = [
            KnownScore(shots=shots, low=each.low * self._scale, high=min(1.0, each.high * self._scale))
            for (prompt, shots), each in self._known.items()
            if prompt == record.prompt and self.evaluated < self._total
        ]
        found = Stopped(until=self.until, metric=self.metric.name, planned=record.examples, scores=tuple(scores))
        return record.model_copy(update={"examples": self.evaluated, "stopped": found})

    def _look(self, block: Sequence[Example], names: Sequence[str], failed: Collection[tuple[str, str]]) -> None:
        """Add the scores of a block's groups to the sequences."""
        group_of = {each.id: each.group for each in block} | {name: name for name in names}
        position = {name: index for index, name in enumerate(names)}
        found = collect_answers(self._results, self._records, ("own",), None)
        self._results = []
        for (task, prompt, shots, _), answers in found.items():
            if (task, prompt) in failed:
                continue
            draws = [self._by_group(each, group_of, position) for each in answers[WHOLE].draws(self.metric)]
            values = np.mean(draws, axis=0) / self._largest
            if (prompt, shots) not in self._known:
                self._known[prompt, shots] = MeanSequence(self._groups, self.until / self._scale)
            self._known[prompt, shots].add(np.clip(values, 0.0, 1.0))

    def _by_group(
        self, predictions: Sequence[AnyPrediction], group_of: Mapping[str, str], position: Mapping[str, int]
    ) -> NDArray[np.float64]:
        """The sum of the scores in each group of a block; shape (groups,)."""
        statistics = self.metric.statistics(predictions)
        sums = np.zeros(len(position))
        np.add.at(sums, [position[group_of[unit]] for unit in statistics.units], statistics.rows[:, 0])
        return sums


def _mean_metric(record: TaskRecord, trust: Mapping[str, Any]) -> Metric[Any]:
    for name in record.primary:
        found = metric_of(name, record.extract, kind=record.answer, **trust)
        if not isinstance(found, CorpusMetric) and found.proportion:
            return found
    raise RunError(
        f"`until` needs a metric that is a mean of scores between 0 and 1, and {record.task} has only "
        f"{', '.join(record.primary)}; choose one with `metrics`"
    )


def stopping_rules(
    until: float | None, prepared: Sequence[Prepared], given: Mapping[str, Any], *, trust_remote_code: bool
) -> dict[str, StoppingRule]:
    """The rule of each task by name; none without `until`.

    Raises:
        RunError: the scores of a task cannot be bounded.
    """
    by_task: dict[str, list[Prepared]] = defaultdict(list)
    for each in prepared if until is not None else ():
        by_task[each.record.task].append(each)
    return {
        name: StoppingRule(until or 0.0, each, given, trust_remote_code=trust_remote_code)
        for name, each in by_task.items()
    }
