"""The columns of tables: their values for a score, which are numbers, and by which names they can be chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from icl_eval.errors import UnknownName
from icl_eval.references import Published, published

if TYPE_CHECKING:
    from icl_eval.results.manifest import Manifest
    from icl_eval.results.pair import Pair
    from icl_eval.results.score import Score

Row = dict[str, str]
SHOWN_SYSTEMS = ("GPT-3 125M", "GPT-3 1.3B", "GPT-3 13B", "GPT-3 175B", "fine-tuned BERT-Large", "fine-tuned SOTA")
SCORES = ("score", "±", "95 %", "sd seeds", "eff. shots", "n", "ties", "random", "majority", "signal/noise")
RANGE = ("median", "min", "max")
DIFFERENCES = ("one", "other", "difference", "clusters", "p", "p (Holm)", "detectable", "W/L/T")
FITS = ("models", "exponent", "irreducible", "residual", "predicted", "interval", "measured")
FIGURES = frozenset({*SCORES, *RANGE, "from baseline", *DIFFERENCES, *FITS, *SHOWN_SYSTEMS})
"""The columns of measured values and of values to compare them with; the others identify a row."""
NUMBERS = FIGURES | {"parameters", "shots"}
ALIASES = {"se": "±", "error": "±", "ci": "95 %", "interval": "95 %", "sd": "sd seeds", "normalization": "scoring"}
ALL = "all"
LARGEST = 1e7  # that is printed without an exponent, such as a perplexity
ADDED = "+"  # before the name of a column that is shown beside the default ones


def row_of(score: Score, manifest: Manifest) -> Row:
    """The cells of a score by column, with published numbers of the same protocol.

    A new column with a figure must also be one of `FIGURES`.
    """
    prompts = {record.task_prompt for record in manifest.tasks}
    several_prompts = len(prompts) > len({task for task, _ in prompts})
    row = {
        "task": task_words(score),
        **({"prompt": score.prompt} if several_prompts else {}),
        "category": category_words(score),
        "metric": f"{score.average} average" if score.of_suite else score.metric,
        "scoring": score.normalization,
        "split": score.split,
        "few-shot split": score.fewshot_split,
        "shots": str(score.shots),
        "score": number(score.value),
        "±": number(score.standard_error),
        "95 %": ends(score),
        "sd seeds": number(score.seed_sd),
        "eff. shots": f"{score.effective_shots:.1f}",
        "n": str(score.units),
        "ties": str(score.ties),
        "random": number(score.random),
        "majority": number(score.majority),
        "median": number(score.median),
        "min": number(score.minimum),
        "max": number(score.maximum),
        "from baseline": from_baseline(score),
    }
    for each in published_of(score):
        if each.system in SHOWN_SYSTEMS:  # the number of the public split precedes that of the test server
            row.setdefault(each.system, number(each.value))
    return row


def task_words(score: Score) -> str:
    """The name of a task, marked if its data is the bundled sample."""
    return score.task + (" (sample)" if _is_sample(score) else "")


def category_words(score: Score) -> str:
    """The category of a score, or its average over categories; empty for a task without categories."""
    if score.of_suite or not score.by:
        return ""
    return " ".join(score.category.split()) or score.average or "all (micro)"


def ends(line: Score | Pair) -> str:
    """A 95 % interval as text; empty if only the bounds of the metric are known."""
    if line.interval == "bounds" or not math.isfinite(line.high - line.low):
        return ""
    return f"{number(line.low)} to {number(line.high)}"


def published_of(score: Score) -> list[Published]:
    """Published numbers of the same protocol; none for sample data or other splits than the task's own."""
    if score.reference is None or score.average == "micro" or _is_sample(score) or score.split or score.fewshot_split:
        return []
    return [each for each in published(score.reference, score.metric, score.shots) if each.protocol is None]


def _is_sample(score: Score) -> bool:
    """Whether the bundled sample is part of the data, as in `sample` and `sample+memory`."""
    return "sample" in score.data.split("+")


def from_baseline(score: Score) -> str:
    """The paired difference from the baseline of an axis with its standard error; empty for a baseline."""
    if score.difference is None:
        return ""
    error = number(score.difference_error)
    return f"{score.difference:+.3f}{f' ± {error}' if error else ''}"


def columns_of(rows: Sequence[Row]) -> list[str]:
    """The columns that are not empty in all rows, references last."""
    order = dict.fromkeys(name for row in rows for name in row if name not in SHOWN_SYSTEMS)
    return [name for name in (*order, *SHOWN_SYSTEMS) if any(row.get(name) for row in rows)]


def selected_columns(rows: Sequence[Row], requested: Sequence[str], default: Sequence[str]) -> list[str]:
    """The chosen columns, after those that identify a row; `all` selects all that are not empty.

    If every name begins with `+`, or there is none, the columns follow the `default` ones.

    Raises:
        UnknownName: there is no column of this name.
    """
    there = columns_of(rows)
    if ALL in requested or ADDED + ALL in requested:
        return there
    are_added = all(name.startswith(ADDED) for name in requested)
    names = [name.removeprefix(ADDED) for name in requested]
    known = {_key(name): name for row in rows for name in row} | {_key(name): name for name in SHOWN_SYSTEMS}
    known |= {alias: name for alias, name in ALIASES.items() if name in known.values()}
    for name in names:
        if _key(name) not in known:
            raise UnknownName("column", name, [*known.values(), ALL])
    chosen = dict.fromkeys(known[_key(name)] for name in names)
    if are_added:
        return [*dict.fromkeys([*default, *chosen])]
    identity = [name for name in there if name not in FIGURES and name not in chosen]
    return [*identity, *chosen]


def _key(name: str) -> str:
    """A name as it is compared: `sd-seeds` and `SD seeds` are one column."""
    return name.strip().lower().replace("-", " ").replace("_", " ")


def number(value: float | None) -> str:
    """A figure with three decimals, or with four digits if it is huge; nothing where it is not known."""
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:.3f}" if abs(value) < LARGEST else f"{value:.3e}"
