"""A page with a heading, a table, curves, signatures and notes, as text for a terminal, Markdown, LaTeX or HTML."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from html import escape

from icl_eval.reports.columns import ALL, NUMBERS, SHOWN_SYSTEMS, Row, columns_of, selected_columns
from icl_eval.reports.curves import Curve
from icl_eval.reports.html import fragment
from icl_eval.reports.latex import latex
from icl_eval.reports.layout import WIDTH, draw, fit_columns
from icl_eval.reports.pivot import by_shots
from icl_eval.reports.plot_text import plots


@dataclass(frozen=True)
class View:
    """Which parts of a page are shown.

    Attributes:
        width: width in characters.
        columns: names of columns, or `all`; by default as many useful columns as fit. `+NAME` adds one to the default.
        categories: whether to show the scores of all categories, even for a task with many.
        signatures: whether to show the signature of each score.
    """

    width: int = WIDTH
    columns: tuple[str, ...] = ()
    categories: bool = False
    signatures: bool = False


DEFAULT = View()


@dataclass(frozen=True)
class Page:
    """The parts of a page.

    Attributes:
        heading: lines above the table.
        rows: rows of the table, as cells by column.
        signatures: a line for each score with its signature.
        notes: lines below the table.
        curves: scores by number of shots.
        references: lines about the published numbers, if the rows have any.
    """

    heading: Sequence[str]
    rows: Sequence[Row]
    signatures: Sequence[str]
    notes: Sequence[str]
    curves: Sequence[Curve] = ()
    references: Sequence[str] = ()

    def for_terminal(self, view: View = DEFAULT) -> str:
        """Text with a table of tasks by shots, or of one score per line, and small plots of the curves.

        Raises:
            UnknownName: a column does not exist.
        """
        names = selected_columns(self.rows, view.columns, fit_columns(self.rows, view.width))
        grid = None if view.columns else by_shots(self.rows)
        cells = [[row.get(name, "") for name in names] for row in self.rows]
        table = draw(names, cells, NUMBERS, view.width) if grid is None else grid.draw(view.width)
        notes = self._notes([] if grid else names, f"published numbers: --columns {ALL}")
        parts = [self.heading, table, plots(self.curves, view.width), self._signatures(view), notes]
        return "\n\n".join("\n".join(part) for part in parts if part) + "\n"

    def in_markdown(self, view: View = DEFAULT) -> str:
        """Markdown with all columns that are not empty.

        Raises:
            UnknownName: a column does not exist.
        """
        names = selected_columns(self.rows, view.columns, columns_of(self.rows))
        ruler = ["---:" if name in NUMBERS else "---" for name in names]
        body = [[_escaped(row.get(name, "")) for name in names] for row in self.rows]
        lines = ["| " + " | ".join(cells) + " |" for cells in (names, ruler, *body)]
        signatures = ["```", *self.signatures, "```"] if view.signatures else []
        heading, notes = ([escape(line, quote=False) for line in part] for part in (self.heading, self._notes(names)))
        parts = [heading, lines, signatures, notes]
        return "\n\n".join("\n".join(part) for part in parts if part) + "\n"

    def in_latex(self, view: View = DEFAULT) -> str:
        """LaTeX with booktabs: scores have their errors, and the best are in bold."""
        return latex(self.heading, self.rows, [*self._notes([]), *self._signatures(view)])

    def in_html(self, view: View = DEFAULT) -> str:
        """A fragment of HTML for a notebook."""
        return fragment(self.heading, self.rows, [*self._notes([]), *self._signatures(view)])

    def _notes(self, names: Collection[str], hidden: str = "") -> list[str]:
        """The notes below a table with these columns, and `hidden` if published numbers are not shown."""
        if not self.references or {*names} & {*SHOWN_SYSTEMS}:
            return [*self.references, *self.notes]
        return [*([hidden] if hidden else []), *self.notes]

    def _signatures(self, view: View) -> Sequence[str]:
        return self.signatures if view.signatures else ()


def _escaped(cell: str) -> str:
    """A cell of a Markdown table; its text can come from data, so special characters are escaped."""
    return escape(re.sub(r"[\\|`*\[\]]", r"\\\g<0>", cell), quote=False)
