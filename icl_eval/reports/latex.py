"""LaTeX tables with booktabs: scores have their errors, and the best scores are in bold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from icl_eval.metrics import lower_is_better
from icl_eval.reports.columns import NUMBERS, Row
from icl_eval.reports.html import visible
from icl_eval.reports.layout import fit_columns
from icl_eval.reports.pivot import Grid, by_shots

SPECIAL = {
    **{each: f"\\{each}" for each in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$"},
}
WIDTH = 110  # characters of a row that fits on a page
WITH_ERRORS = ("score", "difference")  # columns that include the error
COMPARED = ("one", "other")


def latex(heading: Sequence[str], rows: Sequence[Row], notes: Sequence[str]) -> str:
    """A `tabular`, with the heading and the notes as comments. It requires the package booktabs."""
    head, body = _grid(rows) if (grid := by_shots(rows)) is None else _by_shots(grid, rows)
    columns = "".join("r" if is_number else "l" for _, is_number in head)
    lines = [" & ".join(cells) + r" \\" for cells in ([escaped(name) for name, _ in head], *body)]
    return "\n".join(
        [
            *_comments(heading),
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            *_comments(notes),
            "",
        ]
    )


def escaped(text: str) -> str:
    """Text with the special characters of LaTeX escaped, and without control and direction characters."""
    return "".join(SPECIAL.get(character, character) for character in _printable(text))


def _comments(lines: Iterable[str]) -> list[str]:
    return [f"% {_printable(line)}" for line in lines]


def _printable(text: str) -> str:
    """Text in one line, without control and direction characters."""
    return "".join(each for each in " ".join(text.split()) if visible(each) == each)


def _by_shots(grid: Grid, rows: Sequence[Row]) -> tuple[list[tuple[str, bool]], list[list[str]]]:
    """Head and rows of tasks by shots, with the best model in bold, or the best number of shots of a single model."""
    head = [(name, name in NUMBERS) for name in grid.keys]
    head += [*((f"{shots}-shot", True) for shots in grid.shots), *((name, True) for name in grid.beside)]
    several = "model" in grid.keys and len({row["model"] for row in rows}) > 1
    best: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for key, scores, _ in grid.rows:
        of = _without_model(grid, key)
        for shots, (value, _) in zip(grid.shots, scores, strict=True):
            best.setdefault((of, shots if several else ""), []).append(value)
    body = []
    for key, scores, beside in grid.rows:
        of, metric = _without_model(grid, key), key[grid.keys.index("metric")]
        cells = [
            _scored(value, error, is_best=value == _best(best[of, shots if several else ""], metric))
            for shots, (value, error) in zip(grid.shots, scores, strict=True)
        ]
        body.append([*map(escaped, key), *cells, *map(escaped, beside)])
    return head, body


def _without_model(grid: Grid, key: Sequence[str]) -> tuple[str, ...]:
    """The keys of a row without those of the model."""
    of_model = ("model", "revision", "parameters")
    return tuple(word for name, word in zip(grid.keys, key, strict=True) if name not in of_model)


def _grid(rows: Sequence[Row]) -> tuple[list[tuple[str, bool]], list[list[str]]]:
    """Head and rows of a table with one score or difference per row."""
    names = [name for name in fit_columns(rows, WIDTH) if name != "±"]
    return [(name, name in NUMBERS) for name in names], [[_cell(name, row, rows) for name in names] for row in rows]


def _cell(name: str, row: Row, rows: Sequence[Row]) -> str:
    value = row.get(name, "")
    if name in COMPARED:
        is_best = value == _best([row[each] for each in COMPARED], row["metric"])
        return _scored(value, "", is_best=is_best)
    if name not in WITH_ERRORS:
        return escaped(value)
    same = [each["score"] for each in rows if _of(each) == _of(row)] if name == "score" else []
    return _scored(value, row.get("±", ""), is_best=len(same) > 1 and value == _best(same, row["metric"]))


def _of(row: Row) -> tuple[str | None, ...]:
    """A key that is equal for comparable scores of several models."""
    return tuple(row.get(name) for name in ("task", "category", "prompt", "metric", "scoring", "split", "shots"))


def _best(values: Sequence[str], metric: str) -> str:
    """The best of several printed scores; empty if it is unknown whether higher or lower is better."""
    known = [each for each in values if each]
    lower = lower_is_better(metric)
    if not known or lower is None or len(known) == 1:
        return ""
    return (min if lower else max)(known, key=float)


def _scored(value: str, error: str, *, is_best: bool) -> str:
    """A score with its error in math mode."""
    if not value:
        return ""
    number = rf"\mathbf{{{value}}}" if is_best else value
    return rf"${number} \pm {error}$" if error else f"${number}$"
