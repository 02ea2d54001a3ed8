"""Stored answers of a cell to calibrated scores, and what prevents a task from being calibrated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from icl_eval.errors import RunError
from icl_eval.results.examples import ChoiceResult, ExampleResult
from icl_eval.results.records import Cell
from icl_eval.runs.cells import Prepared
from icl_eval.scoring import (
    CALIBRATIONS,
    Calibration,
    LabelLogprobs,
    OptionResult,
    Ranking,
    close_options,
    gaussian_mixture,
    rank,
)


class Ranked(NamedTuple):
    """The ranking of an example's options, and those that could win in another batch; None if that is not known."""

    ranking: Ranking
    rivals: tuple[int, ...] | None


def check_calibrations(prepared: Iterable[Prepared], scorings: Sequence[str]) -> None:
    """Raise `RunError` for a calibration that the answers to some task will not allow, before there are any."""
    calibrations = [name for name in CALIBRATIONS if name in scorings]
    if "prototypical" in calibrations:
        gaussian_mixture()
    for each in prepared if calibrations else ():
        if each.task.definition.answer == "choice":
            check_labels(each.task.name, calibrations[0], _labels(each))


def _labels(prepared: Prepared) -> Iterator[tuple[str, list[str]]]:
    """The id of every example, and the texts that will be scored."""
    for each in prepared.examples:
        indices = range(len(each.options))
        yield each.id, [prepared.prompt.answer(each.fields, each.options, index) for index in indices]


def check_labels(task: str, calibration: Calibration, labels: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Raise `RunError` unless all examples have the same scored texts; `labels` are ids and texts."""
    first: tuple[str, ...] | None = None
    for id, texts in labels:
        first = tuple(texts) if first is None else first
        if tuple(texts) != first or len(set(first)) < len(first):
            raise RunError(
                f"{task}: {calibration} calibration needs examples with the same options, each with another text, but "
                f"those of {id!r} are {_quoted(texts)}" + (f", not {_quoted(first)}" if tuple(texts) != first else "")
            )


def rank_calibrated(
    results: Iterable[ExampleResult], calibration: Calibration, noise: float | None
) -> dict[tuple[Cell, str], Ranked]:
    """The calibrated ranking of every example, by its cell and id.

    Args:
        results: of examples with options, all of each cell.
        calibration: its name.
        noise: nats by which the log-probability of a token may move; None if it is not known.

    Raises:
        RunError: the examples of a cell cannot be calibrated.
    """
    cells: dict[Cell, list[ChoiceResult]] = defaultdict(list)
    for each in results:
        if isinstance(each, ChoiceResult):
            cells[each.cell].append(each)
    return {key: value for cell, found in cells.items() for key, value in _ranked(cell, found, calibration, noise)}


def _ranked(
    cell: Cell, results: Sequence[ChoiceResult], calibration: Calibration, noise: float | None
) -> list[tuple[tuple[Cell, str], Ranked]]:
    check_labels(cell.task, calibration, ((each.id, [option.text for option in each.options]) for each in results))
    try:
        found = CALIBRATIONS[calibration](label_logprobs([each.options for each in results]))
    except RunError as error:
        raise RunError(f"{cell}: {error.message}") from error
    scores = found.scores.tolist()
    noises = [None] * len(scores) if found.noise is None or noise is None else (noise * found.noise).tolist()
    return [
        ((cell, each.id), Ranked(rank(score), None if spread is None else close_options(score, spread)))
        for each, score, spread in zip(results, scores, noises, strict=True)
    ]


def label_logprobs(examples: Sequence[Sequence[OptionResult]]) -> LabelLogprobs:
    """The log-probabilities of the options after their prompts, shape (examples, labels)."""
    sums = [[sum(option.logprobs) for option in options] for options in examples]
    tokens = [[len(option.logprobs) for option in options] for options in examples]
    return LabelLogprobs(np.array(sums, np.float64), np.array(tokens, np.float64))


def _quoted(texts: Iterable[str]) -> str:
    return ", ".join(map(repr, texts))
