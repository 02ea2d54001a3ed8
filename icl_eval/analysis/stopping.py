"""The option `until`: evaluate a task in blocks of examples until its scores are known to a given precision.

Groups of examples are evaluated in the pseudo-random order that `limit` uses, so the evaluated examples are those of
some `limit`. After each block, a confidence sequence bounds the score of every cell on the whole split. All prompts and
numbers of shots of a task stop together, so their scores stay paired. Blocks have a fixed size and every process sees
all answers, so the evaluated examples depend neither on batches nor on the number of processes.
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
from icl_eval.tasks import Example
from icl_eval.tasks.records import groups_of
from icl_eval.tasks.sampling import sampled_groups

BLOCK = 100  # groups of examples; after each block, the scores are bounded


class StoppingRule:
    """Decides when the evaluation of one task stops.

    Args:
        until: half-width of the confidence interval at which a score is precise enough.
        records: of the task with each of its prompts.
        examples: the examples to evaluate.
        whole: all examples of the split.
        given: metrics in Python by name, which are trusted.
        trust_remote_code: whether other metrics may run code that is not part of icl-eval.

    Attributes:
        metric: the metric whose scores are bounded: the first primary metric that is a mean.
        evaluated: number of examples in the blocks so far.

    Raises:
        RunError: no primary metric of the task is a mean of scores between 0 and 1.
    """

    def __init__(
        self,
        until: float,
        records: Sequence[TaskRecord],
        examples: Sequence[Example],
        whole: Sequence[Example],
        given: Mapping[str, Any],
        *,
        trust_remote_code: bool,
    ) -> None:
        self.until, self._records = until, records
        self.metric = _mean_metric(self._records[0], {"given": given, "trust_remote_code": trust_remote_code})
        self.evaluated = 0
        self._results: list[ExampleResult] = []
        self._known: dict[tuple[str, int], MeanSequence] = {}
        self._examples = examples
        groups = groups_of(whole)
        is_grouped = isinstance(self.metric, GroupMean)
        sizes = Counter(dict.fromkeys(groups, 1) if is_grouped else groups)
        self._groups, self._largest = len(sizes), max(sizes.values())
        self._scale = self._largest * self._groups / sizes.total()  # from the mean over groups to the mean over units
        self._total = len(whole)

    def blocks(self, failed: Collection[tuple[str, str]]) -> Iterator[list[Example]]:
        """Blocks of examples until the scores are precise enough; add the results of a block before taking the next.

        Args:
            failed: (task, prompt) pairs without scores. The collection may grow between blocks.
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
            self._update(block, names, failed)
            left = {record.prompt for record in self._records if record.task_prompt not in failed}
            widths = [each.half_width * self._scale for (prompt, _), each in self._known.items() if prompt in left]
            if max(widths, default=0.0) <= self.until:
                return

    def add(self, result: ExampleResult) -> None:
        """Add the result of an example of the current block."""
        self._results.append(result)

    def stopped(self, record: TaskRecord) -> TaskRecord:
        """The record of a prompt of the task, with the number of evaluated examples and the bounds of its scores."""
        scores = [
            KnownScore(shots=shots, low=each.low * self._scale, high=min(1.0, each.high * self._scale))
            for (prompt, shots), each in self._known.items()
            if prompt == record.prompt and self.evaluated < self._total
        ]
        stopped = Stopped(until=self.until, metric=self.metric.name, planned=record.examples, scores=tuple(scores))
        return record.model_copy(update={"examples": self.evaluated, "stopped": stopped})

    def _update(self, block: Sequence[Example], names: Sequence[str], failed: Collection[tuple[str, str]]) -> None:
        """Add the scores of the groups of a block to the confidence sequences."""
        group_of = {each.id: each.group for each in block} | {name: name for name in names}
        position = {name: index for index, name in enumerate(names)}
        answers_of_cells = collect_answers(self._results, self._records, ("own",), None)
        self._results = []
        for (task, prompt, shots, _), answers in answers_of_cells.items():
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
    """The first primary metric that is a mean of scores between 0 and 1; raises `RunError` if there is none."""
    for name in record.primary:
        found = metric_of(name, record.extract, kind=record.answer, **trust)
        if not isinstance(found, CorpusMetric) and found.proportion:
            return found
    raise RunError(
        f"`until` needs a metric that is a mean of scores between 0 and 1, and {record.task} has only "
        f"{', '.join(record.primary)}; choose one with `metrics`"
    )
