"""Tables as fragments of HTML, with all texts escaped."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence

from icl_eval.reports.columns import NUMBERS, Row
from icl_eval.reports.layout import fit_columns
from icl_eval.reports.pivot import by_shots

WIDTH = 160  # characters of a row that fits a notebook
KEPT = frozenset("\n\t")
HIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})  # Unicode categories of controls, surrogates and line separators
DIRECTIONS = frozenset(
    {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
)  # bidirectional classes that change the direction
BREAKS = re.compile(r"(?<=[/_,])(?=.)|(?<=.)(?=~)")  # positions at which a long name may be wrapped
UNBROKEN = 18  # names up to this number of characters are not wrapped
MARKS = frozenset("\u061c\u200e\u200f")


def visible(text: str) -> str:
    """Text in which control and direction characters are replaced by their numbers, such as ⟨U+202E⟩."""
    return text if text.isascii() and text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    hides = (
        (unicodedata.category(character) in HIDDEN and character not in KEPT)
        or unicodedata.bidirectional(character) in DIRECTIONS
        or character in MARKS
    )
    return f"⟨U+{ord(character):04X}⟩" if hides else character


def escaped(text: str) -> str:
    """Text escaped for HTML content and for attributes in double quotes."""
    return html.escape(visible(text), quote=True)


def breakable(text: str) -> str:
    """Escaped text whose long names may be wrapped after a slash, underscore or comma, and before `~`."""
    words = escaped(text).split(" ")
    return " ".join(word if len(word) <= UNBROKEN else BREAKS.sub("<wbr>", word) for word in words)


def fragment(heading: Sequence[str], rows: Sequence[Row], notes: Sequence[str]) -> str:
    """A table with lines above and below it."""
    above, below = ("".join(f"<p>{escaped(line)}</p>" for line in lines) for lines in (heading, notes))
    return f"<div>{above}{table(rows)}{below}</div>"


def table(rows: Sequence[Row], width: int = WIDTH) -> str:
    """A table of tasks by shots, or of one score per row."""
    if (grid := by_shots(rows)) is None:
        names = fit_columns(rows, width)
        numbers = [name in NUMBERS for name in names]
        return html_table(names, [[breakable(row.get(name, "")) for name in names] for row in rows], numbers)
    shots = [f"{each}-shot" for each in grid.shots]
    names = [*grid.keys, *shots, *grid.beside]
    cells = [
        [*map(breakable, key), *(scored(value, error) for value, error in scores), *map(escaped, beside)]
        for key, scores, beside in grid.rows
    ]
    return html_table(names, cells, [False] * len(grid.keys) + [True] * (len(names) - len(grid.keys)))


def scored(value: str, error: str) -> str:
    """A score with its error."""
    return f"{escaped(value)} <small>± {escaped(error)}</small>" if error else escaped(value)


def html_table(names: Sequence[str], cells: Sequence[Sequence[str]], numbers: Sequence[bool]) -> str:
    """A table of cells that are HTML; numbers are right-aligned."""
    align = [' style="text-align:right"' if is_number else "" for is_number in numbers]
    head = "".join(f"<th{style}>{escaped(name)}</th>" for name, style in zip(names, align, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{style}>{cell}</td>" for cell, style in zip(row, align, strict=True)) + "</tr>"
        for row in cells
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
