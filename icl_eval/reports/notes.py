"""Notes below a table of scores: averages, differences, ranges, and limits of the scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from icl_eval.errors import counted
from icl_eval.metrics import PER_SHOT_LOSS
from icl_eval.reports.columns import from_baseline, number

if TYPE_CHECKING:
    from icl_eval.results.manifest import Manifest
    from icl_eval.results.score import Score

MAX_LINES = 8  # of a kind of note


def averages(scores: Sequence[Score]) -> list[str]:
    """A line for each average of a suite or of categories that says what is averaged."""
    found = {
        score.task: f"{score.task} is the {score.average} average of {score.averaged}"
        for score in scores
        if score.of_suite
    }
    of_means = {"macro": "the mean of the "}
    by_category = {
        (each.task, each.metric): f"{each.task}: `{each.average}` is {of_means.get(each.average, '')}{each.averaged}"
        for each in scores
        if each.of_part and each.average
    }
    return [*found.values(), *by_category.values()]


def differences(scores: Sequence[Score]) -> list[str]:
    """Lines with the paired differences from the baselines of axes, for all numbers of shots together."""
    scores = [score for score in _without_per_shot_losses(scores) if score.difference is not None and not score.of_part]
    found: dict[tuple[str, str, str], list[str]] = {}
    for score in scores:
        value, _ = _along_axis(score)
        key = f"{score.task} {score.metric}", _in_brackets(score, scores), f"{value} minus {score.baseline}"
        found.setdefault(key, []).append(f"{from_baseline(score)} ({counted(score.shots, 'shot')})")
    lines = [f"{named}{fixed}, {pair}: {', '.join(of_shots)}" for (named, fixed, pair), of_shots in found.items()]
    left = counted(len(lines) - MAX_LINES, "more difference")
    more = [f"{left}: see --columns from-baseline, or `difference` in the formats json and csv"]
    return [*lines[:MAX_LINES], *(more if len(lines) > MAX_LINES else [])]


def _without_per_shot_losses(scores: Sequence[Score]) -> list[Score]:
    """Scores without the losses of demonstrations, which are many and have a plot."""
    return [score for score in scores if score.metric != PER_SHOT_LOSS]


def _along_axis(score: Score) -> tuple[str, str]:
    """The value of a score on its axis, and what is constant: the prompt for calibrations, else the normalisation."""
    return (score.normalization, score.prompt) if score.axis == "calibrations" else (score.prompt, score.normalization)


def _in_brackets(score: Score, scores: Sequence[Score]) -> str:
    """What is constant along the axis, in brackets, if the task has several such axes."""
    beside = {_along_axis(each)[1] for each in scores if (each.task, each.axis) == (score.task, score.axis)}
    return f" ({_along_axis(score)[1]})" if len(beside) > 1 else ""


def spreads(scores: Sequence[Score]) -> list[str]:
    """Lines with the median and the range of the scores along each axis, and the best and worst values on it.

    Scores of single permutations and formats are left out, as in the table.
    """
    shown = [score for score in _without_per_shot_losses(scores) if not score.is_variant]
    scores = [score for score in shown if score.variants and not score.of_part]
    lines = [
        f"{score.task} {score.metric}{_in_brackets(score, scores)} ({counted(score.shots, 'shot')}), {score.prompt}: "
        f"median {number(score.median)}, range {number(score.minimum)} to {number(score.maximum)}"
        f"{f' (best {score.best}, worst {score.worst})' if score.best != score.worst else ''}"
        for score in scores
    ]
    left = counted(len(lines) - MAX_LINES, "more range")
    more = [f"{left}: see --columns median,min,max, or `minimum` in the formats json and csv"]
    return [*lines[:MAX_LINES], *(more if len(lines) > MAX_LINES else [])]


def hidden(scores: Sequence[Score], shown: Sequence[Score]) -> list[str]:
    """Lines that say where to find scores that are not in the table."""
    left = {score.task: score.by for score in scores if score.category}
    for score in shown:
        if score.category:
            left.pop(score.task, None)
    return [
        f"{task}: --categories, or the formats json and csv, have the score of each {by}" for task, by in left.items()
    ]


def losses(scores: Sequence[Score], manifest: Manifest) -> list[str]:
    """Lines about problems that affect the scores, such as dropped demonstrations and ties."""
    scores = [score for score in scores if not score.of_part and not score.variants]
    firsts = list({(s.task, s.prompt, s.shots): s for s in scores if not s.of_suite}.values())
    found = [*manifest.stopping_notes, *manifest.search_notes]
    if short := [score for score in firsts if score.shortened]:
        prompts = counted(sum(score.shortened for score in short), "prompt has", "prompts have")
        found.append(
            f"{prompts} fewer demonstrations than requested, because the context length is {manifest.window} tokens; "
            "`eff. shots` is the mean number that fitted"
        )
    if cut := sum(score.truncated for score in firsts):
        found.append(
            f"{counted(cut, 'query was', 'queries were')} cut at the start to fit the context (--overflow truncate)"
        )
    if tied := sum(score.ties for score in firsts):
        found.append(f"{counted(tied, 'answer')} had several best options; the first of them was chosen")
    found += close_calls(scores, manifest)
    if long := sum(score.hit_max_tokens for score in firsts):
        found.append(f"{counted(long, 'text was', 'texts were')} cut off at `max_tokens`")
    if unfinished := sum(score.unfinished for score in firsts):
        found.append(
            f"{counted(unfinished, 'text has', 'texts have')} no answer, as the reasoning does not end; scored as empty"
        )
    if empty := sum(score.empty for score in firsts):
        found.append(f"{counted(empty, 'text is', 'texts are')} empty and scored as such")
    found += [
        f"{task}: the rules `{rules}` find no answer in {counted(count, 'text')}, scored as empty"
        for (task, rules), count in _without_answers(scores).items()
    ]
    return [*found, *map(str, manifest.failures), *_missing_averages(manifest)]


def _without_answers(scores: Sequence[Score]) -> dict[tuple[str, str], int]:
    """The number of texts, over all cells, in which extraction rules find no answer, by task and list of rules."""
    cells: dict[tuple[str, str], dict[tuple[str, int], int]] = {}
    for score in scores:
        if score.unextracted and not score.of_suite:
            cells.setdefault((score.task, score.extraction), {})[score.prompt, score.shots] = score.unextracted
    return {key: sum(counts.values()) for key, counts in cells.items()}


def _missing_averages(manifest: Manifest) -> list[str]:
    """Lines for suites that have no average because some of their tasks failed."""
    failed = {each.task for each in manifest.failures}
    averaged = [
        (suite.suite, [task for task in manifest.tasks_of(suite) if task in failed])
        for suite in manifest.suites
        if suite.average
    ]
    return [f"{suite} has no average without {', '.join(tasks)}" for suite, tasks in averaged if tasks]


def close_calls(scores: Sequence[Score], manifest: Manifest) -> list[str]:
    """Lines for scores that arithmetic noise could change, with the range of possible values."""
    if manifest.noise is None:
        chosen = any(record.answer == "choice" for record in manifest.tasks)
        unknown = "close calls are not counted, because the arithmetic noise of this model is not known"
        return [unknown] if chosen else []
    precision = manifest.model_words.split("|")[-1]
    close = [score for score in scores if score.close_calls]
    within = f"within the arithmetic noise of {precision} ({manifest.noise:g} nats a token)"
    lines = [
        f"{score.task} {score.metric} ({counted(score.shots, 'shot')}): {_counted(score)} {within}{_movement(score)}"
        for score in close[:MAX_LINES]
    ]
    if (more := len(close) - MAX_LINES) > 0:
        scored = counted(more, "more score has", "more scores have")
        lines.append(f"{scored} close calls: see `close_calls` in the formats json and csv")
    return lines


def _counted(score: Score) -> str:
    """The number of close decisions and, for a single task, of all decisions."""
    if score.of_suite:
        return counted(score.close_calls or 0, "decision of its tasks is", "decisions of its tasks are")
    verb = "is" if score.close_calls == 1 else "are"
    return f"{score.close_calls} of {counted(score.examples * len(score.seeds), 'decision')} {verb}"


def _movement(score: Score) -> str:
    """The range of a score that its close calls allow."""
    low, high = number(score.noise_low), number(score.noise_high)
    if low == high == number(score.value):
        return ", none of which would change the score"
    return f": the score could be {low} to {high}" if low else ""
