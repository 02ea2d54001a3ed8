"""The table of a comparison: scores of two runs side by side, and their paired differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icl_eval.errors import UnknownName
from icl_eval.reports.columns import Row, category_words, ends, number, task_words
from icl_eval.reports.notes import hidden, losses
from icl_eval.reports.page import DEFAULT, Page, View
from icl_eval.reports.sweep import distinct_lines
from icl_eval.reports.table import (
    as_json,
    comma_separated,
    data_of,
    description,
    main_scores,
    model_words,
    remarks,
    signatures,
)
from icl_eval.results.pair import entries

if TYPE_CHECKING:
    from icl_eval.results.manifest import Manifest
    from icl_eval.results.pair import Pair, Unpaired


@dataclass(frozen=True)
class _Parts:
    """The parts of a comparison: differences, scores without a difference, and the two runs."""

    pairs: Sequence[Pair]
    unpaired: Sequence[Unpaired]
    manifests: tuple[Manifest, Manifest]
    folders: tuple[str, str]

    @property
    def lines(self) -> tuple[Pair | Unpaired, ...]:
        """The lines with a difference, then those without."""
        return (*self.pairs, *self.unpaired)


def render_comparisons(
    comparisons: Sequence[tuple[Sequence[Pair], Sequence[Unpaired], tuple[Manifest, Manifest], tuple[str, str]]],
    format: str = "table",
    view: View = DEFAULT,
) -> str:
    """The paired differences of two runs, or of several runs from the same one, as text.

    Args:
        comparisons: for each comparison, the differences, the scores that were not compared, the manifests of both
            runs, and their folders as named in the heading.
        format: `table`, `md`, `latex`, `html`, `csv` or `json`.
        view: what is shown; JSON and CSV always contain everything.

    Raises:
        UnknownName: the format or a column does not exist.
    """
    parts = [_Parts(*each) for each in comparisons]
    if format == "json":
        documents = [_document(each) for each in parts]
        return as_json(documents[0] if len(documents) == 1 else {"comparisons": documents})
    if format == "csv":
        return comma_separated([entry for each in parts for entry in entries(each.lines, *_names(each))])
    if format not in PRINTED:
        raise UnknownName("format", format, [*PRINTED, "json", "csv"])
    return "\n".join(PRINTED[format](_page(each, view), view) for each in parts)


def _names(parts: _Parts) -> tuple[str, str]:
    one, other = parts.manifests
    return one.model_name, other.model_name


def _document(parts: _Parts) -> dict[str, object]:
    return {
        **{
            run: {"folder": folder, **description(each), "note": each.note}
            for (run, each), folder in zip(_runs(parts), parts.folders, strict=True)
        },
        "differences": [line.stored() for line in parts.lines],
    }


PRINTED: Mapping[str, Callable[[Page, View], str]] = {
    "table": Page.for_terminal,
    "md": Page.in_markdown,
    "latex": Page.in_latex,
    "html": Page.in_html,
}


def _page(parts: _Parts, view: View) -> Page:
    runs = _runs(parts)
    kept = {*map(id, main_scores([pair.one for pair in parts.pairs], view))}
    pairs = [pair for pair in parts.pairs if id(pair.one) in kept]
    notes = distinct_lines({run: remarks(manifest) for run, manifest in runs})
    scores = {"one": [pair.one for pair in pairs], "other": [pair.other for pair in pairs]}
    headings = [_heading(*each, folder) for each, folder in zip(runs, parts.folders, strict=True)]
    signed = zip(*(signatures(scores[run]) for run, _ in runs), strict=True)
    return Page(
        heading=[*headings, *(f"note: {note}" for note in notes)],
        rows=[_row(pair, with_prompts=_name_prompts(parts)) for pair in pairs],
        signatures=[f"{run}: {line}" for lines in signed for (run, _), line in zip(runs, lines, strict=True)],
        notes=[
            *distinct_lines({run: losses(scores[run], manifest) for run, manifest in runs}),
            *hidden([pair.one for pair in parts.pairs], scores["one"]),
            *_resampled(parts),
            *_other_inputs(parts),
            *_not_compared(parts),
        ],
    )


def _runs(parts: _Parts) -> tuple[tuple[str, Manifest], tuple[str, Manifest]]:
    one, other = parts.manifests
    return ("one", one), ("other", other)


def _heading(run: str, manifest: Manifest, folder: str) -> str:
    from icl_eval.results.members import label

    name = label(manifest.model_name, manifest.config.revision)
    where = f", run {folder}" if folder else ""
    return f"{run}: model {name} ({model_words(manifest)}), data {data_of(manifest)}{where}"


def _name_prompts(parts: _Parts) -> bool:
    """Whether rows name their prompts, because a task has several."""
    prompts = {(score.task, score.prompt) for pair in parts.pairs for score in (pair.one, pair.other)}
    return len(prompts) > len({task for task, _ in prompts})


def _row(pair: Pair, *, with_prompts: bool) -> Row:
    one, other = pair.one, pair.other
    shortened = one.shortened or other.shortened
    return {
        "task": task_words(one),
        "prompt": _both(one.prompt, other.prompt) if with_prompts else "",
        "category": category_words(one),
        "metric": one.metric,
        "scoring": one.normalization,
        "split": one.split,
        "shots": str(one.shots),
        "one": number(one.value),
        "other": number(other.value),
        "difference": number(pair.value),
        "±": number(pair.standard_error),
        "95 %": ends(pair),
        "sd seeds": number(pair.seed_sd),
        "eff. shots": _both(*(f"{score.effective_shots:.1f}" for score in (one, other))) if shortened else "",
        "p": p_value(pair.p_value),
        "p (Holm)": p_value(pair.p_holm),
        "detectable": number(pair.detectable),
        "W/L/T": "" if pair.wins is None else f"{pair.wins}/{pair.losses}/{pair.equal}",
        "n": str(one.units),
        "clusters": str(one.clusters) if one.clusters < one.units else "",
    }


def p_value(p: float | None) -> str:
    """A p-value with three decimals; nothing where it is not known."""
    return "" if p is None else "<0.001" if p < 0.0005 else number(p)


def _both(one: str, other: str) -> str:
    return one if one == other else f"{one}, {other}"


def _resampled(parts: _Parts) -> list[str]:
    """The metrics whose errors are not taken from derivatives."""
    names = dict.fromkeys(pair.one.metric for pair in parts.pairs if pair.method == "jackknife")
    return [f"± of the differences of {', '.join(names)} is the jackknife's over clusters"] if names else []


def _other_inputs(parts: _Parts) -> list[str]:
    """The calibrated scores for which the two runs used different content-free inputs or domain premises."""
    records = [{each.task_prompt: each for each in manifest.tasks} for manifest in parts.manifests]
    found = []
    for pair in parts.pairs:
        one, other = (
            of.get((score.task, score.prompt)) for of, score in zip(records, (pair.one, pair.other), strict=True)
        )
        inputs = [each.calibration_inputs(pair.one.normalization) if each else () for each in (one, other)]
        if inputs[0] != inputs[1]:
            first, second = (", ".join(map(repr, each)) for each in inputs)
            scores = f"{pair.one.task}: the {pair.one.normalization} scores are"
            found.append(f"{scores} calibrated by {first} in one run and by {second} in the other")
    return list(dict.fromkeys(found))


def _not_compared(parts: _Parts) -> list[str]:
    """The distinct reasons why scores have no difference."""
    return list(dict.fromkeys(f"not compared: {each.why}" for each in parts.unpaired))
