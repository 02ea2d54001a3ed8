"""The table of a run: scores with both uncertainties, what guessing gives, published numbers, and signatures."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from icl_eval.errors import UnknownName, counted
from icl_eval.metrics import PER_SHOT_LOSS
from icl_eval.references import Published, published
from icl_eval.reports.columns import SHOWN_SYSTEMS, Row, number
from icl_eval.reports.curves import curves_of
from icl_eval.reports.notes import averages, differences, from_baseline, hidden, losses, spreads
from icl_eval.reports.page import DEFAULT, Page, View

if TYPE_CHECKING:
    from icl_eval.results.manifest import Manifest
    from icl_eval.results.pair import Pair
    from icl_eval.results.score import Score

OF_THEIR_OWN = frozenset({"memory", "synthetic"})
"""What the records are of tasks that read none from the Hub or a directory."""
MAX_CATEGORIES = 10  # of a task, each in a row of its own


def render(scores: Sequence[Score], manifest: Manifest, format: str = "table", view: View = DEFAULT) -> str:
    """Score lines as text.

    Args:
        scores: the lines.
        manifest: of their run, for the heading.
        format: one of `FORMATS`.
        view: what is shown; JSON and CSV always have everything.

    Raises:
        UnknownName: there is no such format or column.
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

    Those of many categories are left out unless they are asked for, those of variants of prompts, and the losses of the
    answers of demonstrations, unless columns are.
    """
    shown = scores if view.categories else without_many_categories(scores)
    if view.columns:
        return shown
    return [score for score in without_variants(shown) if score.metric != PER_SHOT_LOSS]


def without_variants(scores: Sequence[Score]) -> list[Score]:
    """Scores without those of variants of prompts, which one line summarises."""
    return [score for score in scores if not score.is_variant]


def without_many_categories(scores: Sequence[Score]) -> list[Score]:
    """Scores without those of categories, if a task has more than a few of these."""
    found: dict[str, set[str]] = {}
    for score in scores:
        found.setdefault(score.task, set()).add(score.category)
    return [score for score in scores if not score.category or len(found[score.task] - {""}) <= MAX_CATEGORIES]


def _csv(scores: Sequence[Score], manifest: Manifest, view: View) -> str:  # noqa: ARG001
    return comma_separated(flat_entries(scores, manifest))


def flat_entries(scores: Sequence[Score], manifest: Manifest) -> list[dict[str, object]]:
    """The lines of a CSV file: which model, and the score."""
    return [{**manifest.identity(), **_flat(score)} for score in scores]


def comma_separated(entries: Sequence[Mapping[str, object]]) -> str:
    """Entries with the same keys as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(entries[0]) if entries else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(entries)
    return text.getvalue()


def _json(scores: Sequence[Score], manifest: Manifest, view: View) -> str:  # noqa: ARG001
    return as_json({**description(manifest), "note": manifest.note, "scores": entries(scores)})


def description(manifest: Manifest) -> dict[str, object]:
    """The entries of a model in JSON, and its tasks without scores."""
    return {
        **manifest.identity(),
        "fingerprint": manifest.model_fingerprint,
        "noise": manifest.noise,
        "failures": [each.model_dump() for each in manifest.failures],
    }


def entries(scores: Sequence[Score]) -> list[dict[str, object]]:
    """The scores as JSON has them."""
    return [{**score.stored(), "published": [_published_entry(each) for each in _published(score)]} for score in scores]


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


def row_of(score: Score, manifest: Manifest) -> Row:
    """The cells of a score, by column; published numbers of the row's own protocol beside it."""
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
    for each in _published(score):
        if each.system in SHOWN_SYSTEMS:  # the public split comes first, the test server's number after it
            row.setdefault(each.system, number(each.value))
    return row


def task_words(score: Score) -> str:
    """The name of a task, with a mark if its data is from the bundled sample."""
    return score.task + (" (sample)" if _is_sample(score) else "")


def category_words(score: Score) -> str:
    """The category, or which average over categories it is; nothing for a task without."""
    if score.of_suite or not score.by:
        return ""
    return " ".join(score.category.split()) or score.average or "all (micro)"


def ends(found: Score | Pair) -> str:
    """The ends of an interval; nothing where all that is known is what values there can be."""
    if found.interval == "bounds" or not math.isfinite(found.high - found.low):
        return ""
    return f"{number(found.low)} to {number(found.high)}"


def _published(score: Score) -> list[Published]:
    """Numbers by the row's own protocol to show beside a score; none beside sample data or other splits."""
    if score.reference is None or score.average == "micro" or _is_sample(score) or score.split or score.fewshot_split:
        return []
    return [each for each in published(score.reference, score.metric, score.shots) if each.protocol is None]


def _is_sample(score: Score) -> bool:
    """Whether the bundled sample has a part in it, as in `sample` and `sample+memory`."""
    return "sample" in score.data.split("+")


def _heading(manifest: Manifest) -> list[str]:
    return [f"model {manifest.model_name} ({model_words(manifest)}), data {data_of(manifest)}"]


def data_of(manifest: Manifest) -> str:
    """Where the records came from, for people: what was named for them, or their kind if none was read from there."""
    kinds = {kind for task in manifest.tasks for kind in task.data.split("+")}
    return "+".join(sorted(kinds)) if kinds and kinds <= OF_THEIR_OWN else manifest.config.data


def model_words(manifest: Manifest) -> str:
    """The model's rules, for people."""
    return manifest.model_words.replace("|", ", ")


def remarks(manifest: Manifest) -> list[str]:
    """The sentences above the table."""
    limit = manifest.prefix_sharing_limit
    computed = f"prefixes are not all shared, because {limit}" if limit else None
    bare = _without_demonstrations(manifest)
    shown = f"evaluated with 0 shots only, for lack of demonstrations: {', '.join(bare)}" if bare else None
    return [note for note in (manifest.note, shown, manifest.control_note, computed) if note]


def _without_demonstrations(manifest: Manifest) -> list[str]:
    """The tasks that were evaluated without demonstrations in a run that shows some to others."""
    if not any(manifest.config.shots):
        return []
    shown = {record.task for record in manifest.tasks if any(record.shots)}
    return list(dict.fromkeys(record.task for record in manifest.tasks if record.task not in shown))


def signatures(scores: Sequence[Score]) -> list[str]:
    """Every score in words, with its signature."""
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
    """What the published numbers are, if there are any."""
    if not any(_published(score) for score in scores):
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
