"""A table as a fragment of HTML, in which everything from outside is escaped."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence

from icl_eval.reports.columns import NUMBERS, Row
from icl_eval.reports.layout import fit_columns
from icl_eval.reports.pivot import by_shots

WIDE = 160  # characters of a row of text that fits a notebook
KEPT = frozenset("\n\t")
HIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})  # Unicode's categories of controls, surrogates and separators of lines
DIRECTIONS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})  # bidirectional classes
BREAKS = re.compile(r"(?<=[/_,])(?=.)|(?<=.)(?=~)")  # where a long name may be broken
UNBROKEN = 18  # characters up to which a name is not broken
MARKS = frozenset("\u061c\u200e\u200f")


def visible(text: str) -> str:
    """Text whose control characters, and those that change its direction, are shown by number, such as ⟨U+202E⟩."""
    return text if text.isascii() and text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    hides = (
        (unicodedata.category(character) in HIDDEN and character not in KEPT)
        or unicodedata.bidirectional(character) in DIRECTIONS
        or character in MARKS
    )
    return f"⟨U+{ord(character):04X}⟩" if hides else character


def escaped(text: str) -> str:
    """Text for HTML, as content or as an attribute in double quotes."""
    return html.escape(visible(text), quote=True)


def breakable(text: str) -> str:
    """Text for HTML, whose long names may be broken after a slash, an underscore or a comma, and before a `~`."""
    words = escaped(text).split(" ")
    return " ".join(word if len(word) <= UNBROKEN else BREAKS.sub("<wbr>", word) for word in words)


def fragment(heading: Sequence[str], rows: Sequence[Row], notes: Sequence[str]) -> str:
    """A table with the text above and below it."""
    above, below = ("".join(f"<p>{escaped(line)}</p>" for line in lines) for lines in (heading, notes))
    return f"<div>{above}{table(rows)}{below}</div>"


def table(rows: Sequence[Row], width: int = WIDE) -> str:
    """Tasks by shots where there are several, else a row per score."""
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
    """A table of cells that are HTML already; numbers are aligned at the right."""
    align = [' style="text-align:right"' if is_number else "" for is_number in numbers]
    head = "".join(f"<th{style}>{escaped(name)}</th>" for name, style in zip(names, align, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{style}>{cell}</td>" for cell, style in zip(row, align, strict=True)) + "</tr>"
        for row in cells
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
