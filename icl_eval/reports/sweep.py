"""The table of a sweep: the lines of all models, which says once what is true of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from icl_eval.errors import UnknownName
from icl_eval.reports.page import Page, Row
from icl_eval.reports.table import (
    about_references,
    as_json,
    averages,
    comma_separated,
    data_of,
    description,
    entries,
    flat_entries,
    losses,
    model_words,
    remarks,
    row_of,
    signatures,
)

if TYPE_CHECKING:
    from icl_eval.results.manifest import Manifest
    from icl_eval.runs.result import Sweep


def render_sweep(sweep: Sweep, format: str = "table", *, width: int | None = None) -> str:
    """The score lines of several models as text.

    Args:
        sweep: the models' results.
        format: one of `FORMATS`.
        width: columns of the terminal; by default as wide as it takes.

    Raises:
        UnknownName: there is no such format.
    """
    if format not in SWEEP_FORMATS:
        raise UnknownName("format", format, SWEEP_FORMATS)
    return _page(sweep).for_terminal(width) if format == "table" else SWEEP_FORMATS[format](sweep)


def _csv(sweep: Sweep) -> str:
    return comma_separated([entry for result in sweep for entry in flat_entries(result.scores, result.manifest)])


def _json(sweep: Sweep) -> str:
    return as_json(
        {
            "models": [{**description(each.manifest), "note": each.manifest.note} for each in sweep],
            "failures": [each.model_dump(include={"model", "revision", "failed"}) for each in sweep.failures],
            "scores": [{**each.manifest.identity(), **entry} for each in sweep for entry in entries(each.scores)],
        }
    )


SWEEP_FORMATS: Mapping[str, Callable[[Sweep], str]] = {
    "table": lambda sweep: _page(sweep).for_terminal(),
    "md": lambda sweep: _page(sweep).in_markdown(),
    "json": _json,
    "csv": _csv,
}


def _page(sweep: Sweep) -> Page:
    manifests = [each.manifest for each in sweep]
    above = said_once({_label(each): remarks(each) for each in manifests})
    below = said_once(
        {_label(each.manifest): [*averages(each.scores), *about_references(each.scores)] for each in sweep}
    )
    lost = [f"{_label(each.manifest)}: {line}" for each in sweep for line in losses(each.scores, each.manifest)]
    return Page(
        heading=[*_heading(manifests), *(f"note: {line}" for line in above)],
        rows=[{**_cells(each.manifest), **row_of(score, each.manifest)} for each in sweep for score in each.scores],
        signatures=[f"{_label(each.manifest)}: {line}" for each in sweep for line in signatures(each.scores)],
        notes=[*below, *lost, *(f"{each.label} was not measured: {each.failed}" for each in sweep.failures)],
    )


def _heading(manifests: Sequence[Manifest]) -> list[str]:
    """How many models by which rules, on which data; the rules of each if they differ."""
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


def _label(manifest: Manifest) -> str:
    from icl_eval.results.members import label

    return label(manifest.model_name, manifest.ask.revision)


def said_once(sentences: Mapping[str, Sequence[str]]) -> list[str]:
    """Each sentence once: as it is if it is true of all models, else after the names of those of which it is."""
    of: dict[str, list[str]] = {}
    for name, lines in sentences.items():
        for line in lines:
            of.setdefault(line, []).append(name)
    return [line if len(names) == len(sentences) else f"{', '.join(names)}: {line}" for line, names in of.items()]
