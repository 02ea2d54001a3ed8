"""The table of a sweep: the scores of all models, with notes that all models share listed once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from icl_eval.errors import UnknownName, counted
from icl_eval.reports.columns import Row, row_of
from icl_eval.reports.curves import curves_of
from icl_eval.reports.notes import MAX_LINES, averages, differences, hidden, losses, spreads
from icl_eval.reports.page import DEFAULT, Page, View
from icl_eval.reports.table import (
    about_references,
    as_json,
    comma_separated,
    data_of,
    description,
    entries,
    flat_entries,
    main_scores,
    model_words,
    remarks,
    signatures,
    without_variants,
)
from icl_eval.results.signal import Key, Signal, entry, key_of, signals

if TYPE_CHECKING:
    from icl_eval.results.manifest import Manifest
    from icl_eval.results.members import Member
    from icl_eval.results.score import Score

Models = Sequence[tuple["Manifest", Sequence["Score"]]]
OfTask = tuple[str, str, str, str]  # task, prompt, metric and normalisation


def render_sweep(models: Models, failures: Sequence[Member] = (), format: str = "table", view: View = DEFAULT) -> str:
    """The scores of several models as text.

    Args:
        models: manifest and scores of each model.
        failures: models without scores.
        format: one of `SWEEP_FORMATS`.
        view: what is shown; JSON and CSV always contain everything.

    Raises:
        UnknownName: the format or a column does not exist.
    """
    if format not in SWEEP_FORMATS:
        raise UnknownName("format", format, SWEEP_FORMATS)
    return SWEEP_FORMATS[format](models, failures, view)


def _csv(models: Models, failures: Sequence[Member], view: View) -> str:  # noqa: ARG001
    found = signals(models)
    return comma_separated(
        [
            {**line, **entry(found.get(key_of(score)))}
            for manifest, scores in models
            for score, line in zip(scores, flat_entries(scores, manifest), strict=True)
        ]
    )


def _json(models: Models, failures: Sequence[Member], view: View) -> str:  # noqa: ARG001
    found = signals(models)
    return as_json(
        {
            "models": [{**description(manifest), "note": manifest.note} for manifest, _ in models],
            "failures": [each.model_dump(include={"model", "revision", "failed"}) for each in failures],
            "scores": [
                {**manifest.identity(), **line, **entry(found.get(key_of(score)))}
                for manifest, scores in models
                for score, line in zip(scores, entries(scores), strict=True)
            ],
        }
    )


SWEEP_FORMATS: Mapping[str, Callable[[Models, Sequence[Member], View], str]] = {
    "table": lambda models, failures, view: _page(models, failures, view).for_terminal(view),
    "md": lambda models, failures, view: _page(models, failures, view).in_markdown(view),
    "latex": lambda models, failures, view: _page(models, failures, view).in_latex(view),
    "html": lambda models, failures, view: _page(models, failures, view).in_html(view),
    "json": _json,
    "csv": _csv,
}


def _page(models: Models, failures: Sequence[Member], view: View) -> Page:
    manifests = [manifest for manifest, _ in models]
    shown = [(manifest, main_scores(scores, view)) for manifest, scores in models]
    found = signals(shown)
    above = distinct_lines({_label(each): remarks(each) for each in manifests})
    below = distinct_lines(
        {
            _label(manifest): [*averages(scores), *hidden(scores, rows)]
            for (manifest, scores), (_, rows) in zip(models, shown, strict=True)
        }
    )
    lost = [
        f"{_label(manifest)}: {line}"
        for manifest, scores in models
        for line in (*differences(without_variants(scores)), *spreads(scores), *losses(scores, manifest))
    ]
    return Page(
        heading=[*_heading(manifests), *(f"note: {line}" for line in above)],
        rows=[
            {**_cells(manifest), **row_of(score, manifest), **_ratio(found.get(key_of(score)))}
            for manifest, scores in shown
            for score in scores
        ],
        signatures=[f"{_label(manifest)}: {line}" for manifest, scores in shown for line in signatures(scores)],
        notes=[
            *below,
            *_about_signals(found),
            *lost,
            *(f"{each.label} was not evaluated: {each.failed}" for each in failures),
        ],
        curves=[curve for manifest, scores in models for curve in curves_of(scores, _label(manifest))],
        references=list(dict.fromkeys(line for _, scores in models for line in about_references(scores))),
    )


def _heading(manifests: Sequence[Manifest]) -> list[str]:
    """The number of models, the words for the models and the data; a line per model if their words differ."""
    rules = {_label(each): model_words(each) for each in manifests}
    count = f"{len(manifests)} model{'s' * (len(manifests) > 1)}"
    data = data_of(manifests[0])
    if len(set(rules.values())) == 1:
        return [f"{count} ({model_words(manifests[0])}), data {data}"]
    return [f"{count}, data {data}", *(f"model {label} ({words})" for label, words in rules.items())]


def _cells(manifest: Manifest) -> Row:
    known = {name: value for name, value in manifest.identity().items() if value is not None}
    return {
        name: f"{value:,}" if isinstance(value := known.get(name, ""), int) else value
        for name in ("model", "revision", "parameters")
    }


def _ratio(signal: Signal | None) -> Row:
    return {} if signal is None else {"signal/noise": f"{signal.signal_to_noise:.1f}"}


def _about_signals(found: Mapping[Key, Signal]) -> list[str]:
    """Lines with the signal-to-noise ratios by task and shots, and the kind of noise."""
    lines: dict[OfTask, list[str]] = {}
    for (task, prompt, metric, normalization, shots, average, category), signal in found.items():
        if not category and not average:
            lines.setdefault((task, prompt, metric, normalization), []).append(
                f"{signal.signal_to_noise:.1f} ({counted(shots, 'shot')})"
            )
    noise = "/".join(sorted({each.noise_of for each in found.values()}))
    notes = [f"signal/noise of {_named(key, lines)}: {', '.join(each)}" for key, each in lines.items()]
    more = [f"signal/noise of {counted(len(notes) - MAX_LINES, 'more score')}: see the formats json and csv"]
    shown_notes = notes if len(notes) <= MAX_LINES else [*notes[:MAX_LINES], *more]
    about = (
        f"signal/noise: relative range over models by relative standard deviation over {noise} (Heineman et al. 2025)"
    )
    return [about, *shown_notes] if shown_notes else []


def _named(key: OfTask, keys: Collection[OfTask]) -> str:
    """The task and the metric of a score, with its normalisation and prompt if the task has several."""
    task, prompt, metric, normalization = key
    prompts, scorings = ({each[index] for each in keys if each[0] == task} for index in (1, 3))
    return f"{task} {metric}{f' ({normalization})' * (len(scorings) > 1)}{f', {prompt}' * (len(prompts) > 1)}"


def _label(manifest: Manifest) -> str:
    from icl_eval.results.members import label

    return label(manifest.model_name, manifest.config.revision)


def distinct_lines(lines: Mapping[str, Sequence[str]]) -> list[str]:
    """Distinct lines; a line that only some models have is preceded by their names."""
    models: dict[str, list[str]] = {}
    for name, of_model in lines.items():
        for line in dict.fromkeys(of_model):
            models.setdefault(line, []).append(name)
    return [line if len(names) == len(lines) else f"{', '.join(names)}: {line}" for line, names in models.items()]
