"""The table of a run: scores with both uncertainties, baselines, published numbers and signatures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from icl_eval.errors import UnknownName, counted
from icl_eval.metrics import PER_SHOT_LOSS
from icl_eval.references import Published
from icl_eval.reports.columns import category_words, number, published_of, row_of
from icl_eval.reports.curves import curves_of
from icl_eval.reports.notes import averages, differences, hidden, losses, spreads
from icl_eval.reports.page import DEFAULT, Page, View

if TYPE_CHECKING:
    from icl_eval.results.manifest import Manifest
    from icl_eval.results.score import Score

OWN_RECORDS = frozenset({"memory", "synthetic"})
"""Kinds of data of tasks that read no records from the Hub or a directory."""
MAX_CATEGORIES = 10  # of a task with a row for each category


def render(scores: Sequence[Score], manifest: Manifest, format: str = "table", view: View = DEFAULT) -> str:
    """Scores as text.

    Args:
        scores: the scores.
        manifest: manifest of the run, for the heading.
        format: one of `FORMATS`.
        view: what is shown; JSON and CSV always contain everything.

    Raises:
        UnknownName: the format or a column does not exist.
    """
    if format not in FORMATS:
        raise UnknownName("format", format, FORMATS)
    return FORMATS[format](scores, manifest, view)


def _page(scores: Sequence[Score], manifest: Manifest, view: View) -> Page:
    heading = [*_heading(manifest), *(f"note: {note}" for note in remarks(manifest))]
    shown = main_scores(scores, view)
    rows = [row_of(score, manifest) for score in shown]
    notes = [
        *averages(scores),
        *differences(shown),
        *spreads(scores),
        *hidden(scores, shown),
        *losses(scores, manifest),
    ]
    return Page(heading, rows, signatures(shown), notes, curves_of(scores), about_references(scores))


def main_scores(scores: Sequence[Score], view: View) -> Sequence[Score]:
    """The scores that a table shows.

    Scores of tasks with many categories are left out unless the view requests them. Scores of variants of prompts and
    losses of demonstrations are left out unless the view names columns.
    """
    shown = scores if view.categories else without_many_categories(scores)
    if view.columns:
        return shown
    return [score for score in without_variants(shown) if score.metric != PER_SHOT_LOSS]


def without_variants(scores: Sequence[Score]) -> list[Score]:
    """Scores without those of variants of prompts, which have a summary."""
    return [score for score in scores if not score.is_variant]


def without_many_categories(scores: Sequence[Score]) -> list[Score]:
    """Scores without those of the categories of tasks with many categories."""
    found: dict[str, set[str]] = {}
    for score in scores:
        found.setdefault(score.task, set()).add(score.category)
    return [score for score in scores if not score.category or len(found[score.task] - {""}) <= MAX_CATEGORIES]


def _csv(scores: Sequence[Score], manifest: Manifest, view: View) -> str:  # noqa: ARG001
    return comma_separated(flat_entries(scores, manifest))


def flat_entries(scores: Sequence[Score], manifest: Manifest) -> list[dict[str, object]]:
    """The rows of a CSV file: columns for the model, then for the score."""
    return [{**manifest.identity(), **_flat(score)} for score in scores]


def comma_separated(entries: Sequence[Mapping[str, object]]) -> str:
    """Entries with equal keys as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(entries[0]) if entries else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(entries)
    return text.getvalue()


def _json(scores: Sequence[Score], manifest: Manifest, view: View) -> str:  # noqa: ARG001
    return as_json({**description(manifest), "note": manifest.note, "scores": entries(scores)})


def description(manifest: Manifest) -> dict[str, object]:
    """The JSON entries of a model, and of its tasks without scores."""
    return {
        **manifest.identity(),
        "fingerprint": manifest.model_fingerprint,
        "noise": manifest.noise,
        "failures": [each.model_dump() for each in manifest.failures],
    }


def entries(scores: Sequence[Score]) -> list[dict[str, object]]:
    """The JSON entries of scores."""
    return [
        {**score.stored(), "published": [_published_entry(each) for each in published_of(score)]} for score in scores
    ]


def as_json(document: Mapping[str, object]) -> str:
    """A document as JSON."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: Mapping[str, Callable[[Sequence[Score], Manifest, View], str]] = {
    "table": lambda scores, manifest, view: _page(scores, manifest, view).for_terminal(view),
    "md": lambda scores, manifest, view: _page(scores, manifest, view).in_markdown(view),
    "latex": lambda scores, manifest, view: _page(scores, manifest, view).in_latex(view),
    "html": lambda scores, manifest, view: _page(scores, manifest, view).in_html(view),
    "json": _json,
    "csv": _csv,
}


def _heading(manifest: Manifest) -> list[str]:
    return [f"model {manifest.model_name} ({model_words(manifest)}), data {data_of(manifest)}"]


def data_of(manifest: Manifest) -> str:
    """Where the records came from: the chosen data, or the kind of the records if none was read from there."""
    kinds = {kind for task in manifest.tasks for kind in task.data.split("+")}
    return "+".join(sorted(kinds)) if kinds and kinds <= OWN_RECORDS else manifest.config.data


def model_words(manifest: Manifest) -> str:
    """The words for the model, separated by commas."""
    return manifest.model_words.replace("|", ", ")


def remarks(manifest: Manifest) -> list[str]:
    """The notes above the table."""
    limit = manifest.prefix_sharing_limit
    computed = f"prefixes are not all shared, because {limit}" if limit else None
    bare = _without_demonstrations(manifest)
    shown = f"evaluated with 0 shots only, because there are no demonstrations: {', '.join(bare)}" if bare else None
    return [note for note in (manifest.note, shown, manifest.control_note, computed) if note]


def _without_demonstrations(manifest: Manifest) -> list[str]:
    """The tasks that were evaluated without demonstrations, in a run in which others have some."""
    if not any(manifest.config.shots):
        return []
    shown = {record.task for record in manifest.tasks if any(record.shots)}
    return list(dict.fromkeys(record.task for record in manifest.tasks if record.task not in shown))


def signatures(scores: Sequence[Score]) -> list[str]:
    """A line for each score with its value, uncertainties and signature."""
    return [f"{_named(score)} {_uncertain(score)}  {score.signature}" for score in scores]


def _named(score: Score) -> str:
    part = category_words(score) if score.of_part else ""
    return " ".join(filter(None, (score.task, part, score.metric)))


def _uncertain(score: Score) -> str:
    draws = f", {len(score.seeds)} draws: sd {number(score.seed_sd)}" if score.seed_sd is not None else ""
    effective = f", effective {score.effective_shots:.1f}" if score.shortened else ""
    error = number(score.standard_error) or "unknown"
    return f"{number(score.value)} ± {error} ({counted(score.shots, 'shot')}{draws}{effective})"


def about_references(scores: Sequence[Score]) -> list[str]:
    """A line about the published numbers, if there are any."""
    if not any(published_of(score) for score in scores):
        return []
    return [
        "GPT-3: Table H.1, whole development sets; rows with two or more shots show its few-shot scores; "
        "fine-tuned systems: test sets"
    ]


def _flat(score: Score) -> dict[str, object]:
    return {
        key: " ".join(map(str, value)) if isinstance(value, tuple) else value for key, value in score.stored().items()
    }


def _published_entry(each: Published) -> dict[str, object]:
    return {name: getattr(each, name) for name in ("system", "value", "shots", "split", "source")}
