"""Calibrated rankings of options, computed from the stored answers of a cell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from icl_eval.errors import RunError
from icl_eval.results.examples import REPAIR, ChoiceResult, ExampleResult
from icl_eval.results.records import Cell, TaskRecord
from icl_eval.scoring import (
    CALIBRATIONS,
    CONTEXTUAL,
    TRANSDUCTIVE,
    Calibration,
    Ranking,
    close_options,
    rank,
)


class Ranked(NamedTuple):
    """The ranking of an example's options.

    Attributes:
        ranking: of the options.
        rivals: options that could be chosen in another batch; None if unknown.
    """

    ranking: Ranking
    rivals: tuple[int, ...] | None


def check_collected(records: Sequence[TaskRecord], scorings: Sequence[str]) -> None:
    """Raise `RunError` if a calibration applies to no task, or if the run does not collect the answers it needs."""
    for calibration in (name for name in CALIBRATIONS if name in scorings and records):
        if not any(record.has_labels for record in records):
            names = ", ".join(dict.fromkeys(f"{record.task} ({record.prompt})" for record in records))
            raise RunError(f"{calibration} needs a task and prompt that score the texts of options, not {names}")
        for record in records:
            collected = {**dict.fromkeys(CONTEXTUAL, record.content_free), "dc-pmi": record.domain_premise}
            if record.has_labels and not collected.get(calibration, "nothing"):
                raise RunError(
                    f"{record.task}: {calibration} needs answers that this run does not have; "
                    f"`icl-eval run --calibrate {calibration}` in the same folder adds them"
                )


def check_labels(task: str, calibration: Calibration, labels: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Raise `RunError` if a calibration needs the same labels for all examples, and they differ.

    Args:
        task: name of the task.
        calibration: name of the calibration; all but dc-pmi need the same labels.
        labels: the id of each example and the texts of its options.
    """
    first: tuple[str, ...] | None = None
    for id, texts in labels if calibration != "dc-pmi" else ():
        first = tuple(texts) if first is None else first
        if tuple(texts) != first:
            raise RunError(
                f"{task}: {calibration} calibration needs the same options in all examples, but those of {id!r} are "
                f"{', '.join(map(repr, texts))}, not {', '.join(map(repr, first))}"
            )


def rank_calibrated(
    results: Iterable[ExampleResult], records: Sequence[TaskRecord], calibration: Calibration, noise: float | None
) -> dict[tuple[Cell, str], Ranked]:
    """The calibrated rankings of all examples that can be calibrated, by cell and id.

    Args:
        results: the results of all examples of each cell.
        records: the records of the manifest.
        calibration: name of the calibration.
        noise: arithmetic noise of the log-probability of a token in nats; None if unknown.

    Raises:
        RunError: a result lacks answers for the calibration, or the examples of a cell cannot be calibrated.
    """
    labelled = {record.task_prompt: record for record in records if record.has_labels}
    cells: dict[Cell, list[ChoiceResult]] = defaultdict(list)
    for each in results:
        if isinstance(each, ChoiceResult) and each.cell.task_prompt in labelled:
            _check_stored(each, labelled[each.cell.task_prompt])
            cells[each.cell].append(each)
    ranked: dict[tuple[Cell, str], Ranked] = {}
    for cell, found in cells.items():
        check_labels(cell.task, calibration, ((each.id, [option.text for option in each.options]) for each in found))
        for part in [found] if calibration in TRANSDUCTIVE else [[each] for each in found]:
            ranked |= {(cell, each.id): value for each, value in _ranked(part, calibration, noise)}
    return ranked


def _check_stored(result: ChoiceResult, record: TaskRecord) -> None:
    """Raise `RunError` if a result lacks the answers that its run collects for calibrations."""
    option = result.options[0]
    if (len(option.content_free), bool(option.domain)) != (len(record.content_free), bool(record.domain_premise)):
        raise RunError(f"{result.cell}: example {result.id!r} lacks answers that calibration needs; {REPAIR}")


def _ranked(
    results: Sequence[ChoiceResult], calibration: Calibration, noise: float | None
) -> Iterator[tuple[ChoiceResult, Ranked]]:
    try:
        found = CALIBRATIONS[calibration]([each.options for each in results])
    except RunError as error:
        raise RunError(f"{results[0].cell}: {error.message}") from error
    scores, ties = found.scores.tolist(), found.ties.tolist()
    noises = [None] * len(scores) if found.noise is None or noise is None else (noise * found.noise).tolist()
    for each, score, spread, tie in zip(results, scores, noises, ties, strict=True):
        yield each, Ranked(rank(score, tie), None if spread is None else close_options(score, spread, tie))
