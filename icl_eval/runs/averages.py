"""The averages of suites: what their tasks have in common, and errors that are propagated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from icl_eval.metrics import Estimate, average, independent_average
from icl_eval.runs.score import Score, figures
from icl_eval.runs.signature import suite_signature
from icl_eval.tasks import SuiteDefinition

AVERAGE = "average"


def suite_score(suite: SuiteDefinition, members: Sequence[Sequence[tuple[Estimate, Score]]]) -> tuple[Estimate, Score]:
    """The mean over tasks, a task's several metrics averaged first; errors are propagated, never averaged.

    Args:
        suite: whose average it is.
        members: of each task the estimates and lines of its metrics.
    """
    per_task = [[line for _, line in scored] for scored in members]
    firsts = [lines[0] for lines in per_task]
    seeds = max((line.seeds for line in firsts), key=len)
    means = [average([each for each, _ in scored]) for scored in members]
    found = independent_average([_for_seeds(each, len(seeds)) for each in means])
    split, shown, data = _shared(line.split for line in firsts), _shared(line.shown for line in firsts), _places(firsts)
    guesses = [_mean_or_none([line.random for line in lines]) for lines in per_task]
    return found, Score(
        task=suite.suite,
        prompt=_shared(line.prompt for line in firsts),
        metric=AVERAGE,
        normalize=_shared(line.normalize for line in firsts),
        shots=max(line.shots for line in firsts),
        seeds=seeds,
        draw=_shared(line.draw for line in firsts),
        data=data,
        split=split,
        shown=shown,
        examples=sum(line.examples for line in firsts),
        of=sum(line.of for line in firsts),
        effective_shots=sum(line.effective_shots for line in firsts) / len(firsts),
        shortened=sum(line.shortened for line in firsts),
        truncated=sum(line.truncated for line in firsts),
        ties=sum(line.ties for line in firsts),
        unstopped=sum(line.unstopped for line in firsts),
        blank=sum(line.blank for line in firsts),
        close_calls=_sum_or_none([line.close_calls for line in firsts]),
        noise_low=_mean_or_none([_mean_or_none([line.noise_low for line in lines]) for lines in per_task]),
        noise_high=_mean_or_none([_mean_or_none([line.noise_high for line in lines]) for lines in per_task]),
        random=_mean_or_none(guesses),
        majority=None,
        reference=suite.reference,
        signature=suite_signature(suite.suite, firsts, seeds, split=split, shown=shown, data=data),
        **figures(found),
    )


def _shared(values: Iterable[str]) -> str:
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else "mixed"


def _places(members: Sequence[Score]) -> str:
    return "+".join(dict.fromkeys(line.data for line in members))


def _for_seeds(found: Estimate, seeds: int) -> Estimate:
    """A task without demonstrations is asked once, and its score is the same for every seed of the others."""
    return replace(found, seed_values=found.seed_values * seeds) if len(found.seed_values) == 1 else found


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _sum_or_none(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
