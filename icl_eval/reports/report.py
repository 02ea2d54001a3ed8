"""The page `report.html` with scores, curves, differences and items of runs, in one file without external resources."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from icl_eval.errors import counted
from icl_eval.reports.categories import category_tables
from icl_eval.reports.columns import NUMBERS, Row, columns_of, ends, number, row_of
from icl_eval.reports.comparison import p_value
from icl_eval.reports.curves import (
    MAX_NAMED,
    Curve,
    by_size,
    curves_of,
    first_of_each_task,
    named_curves,
    scoring_words,
    title_of,
)
from icl_eval.reports.html import breakable, escaped, html_table, table
from icl_eval.reports.items import ReportRun, item_blocks
from icl_eval.reports.notes import averages, differences, losses, spreads
from icl_eval.reports.page import DEFAULT
from icl_eval.reports.svg import curve_chart, key, others_key, short_number, size_chart
from icl_eval.reports.sweep import distinct_lines
from icl_eval.reports.table import (
    about_references,
    data_of,
    main_scores,
    model_words,
    remarks,
    signatures,
    without_variants,
)

if TYPE_CHECKING:
    from icl_eval.results.pair import Pair
    from icl_eval.results.scaling import ScalingFit
    from icl_eval.results.score import Score

ASSETS = Path(__file__).resolve().parent / "page_assets"
MAX_CHARTS = 24
Pairs = Mapping[tuple[str, str], Sequence["Pair"]]  # by the labels of the first and the second run
SECTIONS = {
    "scores": "Scores",
    "curves": "Learning curves",
    "categories": "Scores by category",
    "sizes": "Scores by model",
    "differences": "Differences",
    "items": "Items",
    "notes": "Notes and signatures",
}
TOOLS = (
    *(("run", "run"), ("task", "task"), ("prompt", "prompt"), ("shots", "shots"), ("seed", "seed")),
    *(("out", "answer"), ("sort", "order")),
)
HEADS = ("", "run", "task", "prompt", "shots", "seed", "id", "answer", "right answer", "margin", "loss")
DIFFERENCES = (
    *("task", "prompt", "metric", "shots", "first", "second", "difference", "95 %", "p", "p (Holm)"),
    *("detectable", "wins", "losses", "ties", "n"),
)
POLICY = (
    "default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


def report(runs: Sequence[ReportRun], pairs: Pairs | None = None, fits: Sequence[ScalingFit] = ()) -> str:
    """The HTML page of one or several runs.

    Args:
        runs: the runs, with distinct labels.
        pairs: paired differences between runs; None if there are none.
        fits: fits of scores over the sizes of models.
    """
    sections = {
        "scores": _scores(runs),
        "curves": _curves(runs),
        "categories": _categories(runs),
        "sizes": _sizes(runs, fits),
        "differences": _differences(pairs or {}),
        "items": _items(),
        "notes": _notes(runs),
    }
    shown = {name: body for name, body in sections.items() if body}
    links = "".join(f'<a href="#{name}-section">{SECTIONS[name]}</a>' for name in shown)
    body = "".join(
        f'<section id="{name if name == "items" else f"{name}-part"}"><h2 id="{name}-section">{SECTIONS[name]}</h2>'
        f"{content}</section>"
        for name, content in shown.items()
    )
    blocks = "".join(
        f'<script type="text/plain" id="{name}">{text}</script>' for name, text in item_blocks(runs).items()
    )
    script = _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    title = escaped(" ".join(dict.fromkeys(run.label for run in runs)))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY.format(digest=digest)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title} - icl-eval</title><style>{_asset('report.css')}</style></head><body>"
        f"<header>{_heading(runs)}<nav>{links}</nav></header><main>{body}</main>{blocks}<script>{script}</script>"
        "</body></html>\n"
    )


def labels(runs: Sequence[tuple[str, Path]]) -> list[str]:
    """Distinct labels of runs: the name of the model, and the folder if several runs have the same model."""
    names = [name for name, _ in runs]
    folders = [folder.name if names.count(name) > 1 else "" for name, folder in runs]
    found = [f"{name} ({folder})" if folder else name for name, folder in zip(names, folders, strict=True)]
    repeated = {each for each in found if found.count(each) > 1}
    return [
        f"{name} ({runs[i][1]})" if each in repeated else each
        for i, (name, each) in enumerate(zip(names, found, strict=True))
    ]


@cache
def _asset(name: str) -> str:
    return (ASSETS / name).read_text("utf-8")


def _heading(runs: Sequence[ReportRun]) -> str:
    lines = []
    for run in runs:
        manifest = run.manifest
        size = "" if manifest.parameters is None else f"{short_number(manifest.parameters)} parameters, "
        lines.append(f"{run.label}: {size}{model_words(manifest)}, data {data_of(manifest)}, {manifest.started[:10]}")
    notes = distinct_lines({run.label: remarks(run.manifest) for run in runs})
    title = runs[0].label if len(runs) == 1 else f"{len(runs)} runs"
    body = "".join(f"<p>{escaped(line)}</p>" for line in lines)
    return f"<h1>{escaped(title)}</h1>{body}" + "".join(f'<p class="soft">note: {escaped(note)}</p>' for note in notes)


def _rows(runs: Sequence[tuple[ReportRun, Sequence[Score]]]) -> list[Row]:
    """The rows of scores, grouped by task; with several runs, each row names its run."""
    rows = [
        {**({"run": run.label} if len(runs) > 1 else {}), **row_of(score, run.manifest)}
        for run, scores in runs
        for score in scores
    ]
    tasks = list(dict.fromkeys(map(_task_of, rows)))
    return sorted(rows, key=lambda row: tasks.index(_task_of(row)))


def _task_of(row: Row) -> tuple[str | None, ...]:
    return tuple(row.get(name) for name in ("task", "category", "metric"))


def _scores(runs: Sequence[ReportRun]) -> str:
    rows = _rows([(run, run.scores) for run in runs])
    main = _rows([(run, main_scores(run.scores, DEFAULT)) for run in runs])
    names = columns_of(rows)
    cells = [[escaped(row.get(name, "")) for name in names] for row in rows]
    whole = html_table(names, cells, [name in NUMBERS for name in names])
    return (
        f'<div class="scroll">{table(main)}</div>'
        f'<details><summary>All columns</summary><div class="scroll">{whole}</div></details>'
    )


def _curves(runs: Sequence[ReportRun]) -> str:
    """A chart for the first metric of each task, with a line for each run, and a heat map of all tasks.

    For a single run, the lines are its prompts, some of which are named. Each normalisation has its own chart unless
    one chart has room for all lines. For several runs, each prompt has its own chart if a run has several prompts.
    """
    several = len(runs) > 1
    curves = [curve for run in runs for curve in first_of_each_task(curves_of(run.scores, run.label))]
    prompts = Counter((curve.model, curve.task, curve.scoring) for curve in curves)
    lines = Counter((curve.task, curve.metric) for curve in curves)
    found: dict[tuple[str, str, str, str], list[Curve]] = {}
    for curve in curves:
        together = not several and lines[curve.task, curve.metric] <= MAX_NAMED
        apart = several and any(prompts[run.label, curve.task, curve.scoring] > 1 for run in runs)
        key = curve.task, curve.prompt if apart else "", curve.metric, "" if together else curve.scoring
        name = _line_name(curve, curves) if together else curve.prompt
        found.setdefault(key, []).append(curve if several else replace(curve, model=name))
    if not found:
        return ""
    models = [run.label for run in runs]
    charts = []
    scored = scoring_words((curve.task, curve.metric, curve.scoring) for curve in curves)
    shown = list(found.items())[:MAX_CHARTS]
    legends = [_legend_of(members) for _, members in shown if not several]
    common = legends[0] if len(legends) > 1 and len({*legends}) == 1 else ""
    for (task, prompt, metric, scoring), members in shown:
        title = title_of(task, metric, prompt, scoring=scored.get((task, metric, scoring), ""))
        caption = f"<figcaption>{breakable(title)}</figcaption>"
        names = models if several else [curve.model for curve in named_curves(members)]
        legend = "" if several or common else _legend_of(members)
        charts.append(f"<figure>{caption}{legend}{curve_chart(members, names)}</figure>")
    more = len(found) - len(charts)
    rest = f"<p>{more} more curves are left out; all scores are in the table above.</p>" if more else ""
    note = "Bands show one standard error over examples. Small dots are single draws of demonstrations."
    return (
        f'{_legend(models)}{common}<p class="soft">{note}</p><div class="charts">{"".join(charts)}</div>'
        f"{rest}{_heat_map(list(found.values()), named=several)}"
    )


def _line_name(curve: Curve, curves: Sequence[Curve]) -> str:
    """The label of a curve in its chart: prompt, normalisation or both, depending on what differs."""
    beside = [each for each in curves if (each.task, each.metric) == (curve.task, curve.metric)]
    if len({each.scoring for each in beside}) == 1:
        return curve.prompt
    return title_of(curve.prompt, scoring=curve.scoring) if _has_others(curve, beside) else curve.scoring


def _legend_of(curves: Sequence[Curve]) -> str:
    """The legend of a chart whose lines are the prompts of a single run."""
    names = [curve.model for curve in named_curves(curves)]
    return _legend(names, len(curves) - len(names))


def _legend(names: Sequence[str], others: int = 0) -> str:
    """A legend with the names of lines and the number of unnamed ones; empty for a single line."""
    if len(names) < 2:
        return ""
    lines = "".join(f"<span>{key(index)}{breakable(name)}</span>" for index, name in enumerate(names))
    rest = f"<span>{others_key()}{counted(others, 'other')}, with names in the table</span>" if others else ""
    return f'<div class="legend">{lines}{rest}</div>'


def _heat_map(found: Sequence[Sequence[Curve]], *, named: bool) -> str:
    """A table of tasks by shots with shaded cells; empty for a single task."""
    curves = [curve for each in found for curve in each]
    if len(curves) < 2:
        return ""
    shots = sorted({point.shots for curve in curves for point in curve.points})
    scored = scoring_words((curve.task, curve.metric, curve.scoring) for curve in curves)
    lines = []
    for curve in curves:
        values = {point.shots: point.value for point in curve.points}
        low, high = (
            (0.0, 1.0) if all(0 <= v <= 1 for v in values.values()) else (min(values.values()), max(values.values()))
        )
        cells = "".join(
            f'<td style="--v:{(values[k] - low) / ((high - low) or 1):.3f};text-align:right">{values[k]:.3f}</td>'
            if k in values
            else "<td></td>"
            for k in shots
        )
        name = f"{curve.model}: {curve.task}" if named else curve.task
        prompt = curve.prompt if _has_others(curve, curves) else ""
        name = title_of(name, prompt, scoring=scored[curve.task, curve.metric, curve.scoring])
        lines.append(f"<tr><th>{breakable(name)}</th><td>{breakable(curve.metric)}</td>{cells}</tr>")
    head = "".join(f'<th style="text-align:right">{each}-shot</th>' for each in shots)
    return (
        '<h3>Tasks by shots</h3><div class="scroll"><table class="heat">'
        f"<thead><tr><th>task</th><th>metric</th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _has_others(curve: Curve, curves: Sequence[Curve]) -> bool:
    """Whether there are curves of the same task with another prompt."""
    return any(each.task == curve.task and each.prompt != curve.prompt for each in curves)


def _categories(runs: Sequence[ReportRun]) -> str:
    note = "Best first. Lines are 95 % intervals over examples, and dashed where guessing is."
    tables = category_tables([(run.label, run.scores) for run in runs])
    return f'<p class="soft">{note}</p>{tables}' if tables else ""


def _sizes(runs: Sequence[ReportRun], fits: Sequence[ScalingFit]) -> str:
    """A chart of each task by the size of the model or the step of its training; nothing unless these differ."""
    unit, found = by_size([(run.label, run.manifest, run.scores) for run in runs])
    charts = []
    prompts = {each.task: {one.prompt for one in found if one.task == each.task} for each in found}
    scored = scoring_words((each.task, each.metric, each.normalization) for each in found)
    for each in found[:MAX_CHARTS]:
        prompt = each.prompt if len(prompts[each.task]) > 1 else ""
        title = title_of(each.task, each.metric, prompt, scoring=scored[each.task, each.metric, each.normalization])
        names = _legend([name for name, _ in each.series])
        chart = size_chart(title, unit, each.series, each.fits_of(fits))
        charts.append(f"<figure><figcaption>{escaped(title)}</figcaption>{names}{chart}</figure>")
    note = "Lines are fits, as by icl-eval fit; a hollow mark is what the smaller models predict for the largest one."
    about = f'<p class="soft">{note}</p>' if fits else ""
    return f'{about}<div class="charts">{"".join(charts)}</div>' if charts else ""


def _differences(pairs: Pairs) -> str:
    """A table for every two runs, and for more than two runs a matrix with the numbers of significant differences."""
    tables = []
    names = DIFFERENCES
    for (one, other), lines in pairs.items():
        rows = [list(map(escaped, _difference(pair))) for pair in lines]
        title = f"<h3>{escaped(other)} minus {escaped(one)}</h3>"
        tables.append(f'{title}<div class="scroll">{html_table(names, rows, [i > 2 for i in range(len(names))])}</div>')
    if not tables:
        return ""
    note = (
        "Paired over the same examples. p (Holm) is adjusted for all differences of a table; detectable is the "
        "smallest true difference that is detected with a probability of 80 %; wins are examples on which the second "
        "run is better."
    )
    return f'<p class="soft">{note}</p>{_matrix(pairs)}{"".join(tables)}'


def _difference(pair: Pair) -> list[str]:
    one, other = pair.one, pair.other
    counts = ["" if each is None else str(each) for each in (pair.wins, pair.losses, pair.equal)]
    prompt = one.prompt if one.prompt == other.prompt else f"{one.prompt}, {other.prompt}"
    value = f"{number(pair.value)} ± {number(pair.standard_error)}" if pair.standard_error > 0 else number(pair.value)
    return [
        *(f"{one.task} {one.category}".strip(), prompt, one.metric, str(one.shots)),
        *(number(one.value), number(other.value), value, ends(pair)),
        *(p_value(pair.p_value), p_value(pair.p_holm), number(pair.detectable), *counts, str(one.units)),
    ]


def _matrix(pairs: Pairs) -> str:
    names = list(dict.fromkeys(name for both in pairs for name in both))
    if len(names) < 3:
        return ""
    rows = []
    for row in names:
        cells = [f"<b>{escaped(row)}</b>"]
        for column in names:
            sign = 1 if (column, row) in pairs else -1
            lines = pairs.get((column, row)) or pairs.get((row, column)) or ()
            found = [sign * pair.value > 0 for pair in lines if pair.p_holm is not None and pair.p_holm < 0.05]
            cells.append(f"{sum(found)} above, {len(found) - sum(found)} below" if lines else "")
        rows.append(cells)
    note = "<p>Significant differences (p by Holm below 0.05) of the run of a row from that of a column:</p>"
    return f'{note}<div class="scroll">{html_table(["", *names], rows, [False] * (len(names) + 1))}</div>'


def _items() -> str:
    """The controls, the list and the empty elements that the script fills."""
    tools = "".join(f'<label>{word} <select id="{name}"></select></label>' for name, word in TOOLS)
    search = '<label>text <input type="search" id="q" placeholder="press / to search"></label>'
    numbers = ("shots", "seed", "margin", "loss")
    classes = {**dict.fromkeys(numbers, " class=n"), "run": " class=run", "prompt": " class=prompt"}
    head = "".join(f"<span{classes.get(name, '')}>{name}</span>" for name in HEADS)
    return (
        f'<div id="tools">{tools}{search}</div><p id="count" aria-live="polite" class="soft">The items need '
        'JavaScript.</p><div id="matrix" class="scroll"></div><div id="list" role="listbox" tabindex="0" '
        f'aria-label="Items"><div id="space"><div class="item head">{head}</div></div></div>'
        '<div id="detail" aria-live="polite"></div>'
    )


def _notes(runs: Sequence[ReportRun]) -> str:
    notes = distinct_lines(
        {
            run.label: [
                *averages(run.scores),
                *differences(without_variants(run.scores)),
                *spreads(run.scores),
                *about_references(run.scores),
                *losses(run.scores, run.manifest),
            ]
            for run in runs
        }
    )
    prefix = {run.label: f"{run.label}: " if len(runs) > 1 else "" for run in runs}
    lines = [f"{prefix[run.label]}{line}" for run in runs for line in signatures(run.scores)]
    items = "".join(f"<li>{escaped(note)}</li>" for note in notes)
    signed = escaped("\n".join(lines))
    return (
        f'<ul class="notes">{items}</ul><details><summary>Signatures</summary><pre class="signatures">{signed}</pre>'
        "</details>"
    )
