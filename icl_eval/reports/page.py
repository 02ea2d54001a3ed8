"""A page: what stands above a table, the table, curves, signatures and notes; for a terminal, in Markdown and LaTeX."""

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
    """What a page shows.

    Attributes:
        width: columns of the terminal.
        columns: names of the columns of the table, or `all`; by default those that matter, as many as fit. `+NAME` adds
            a column to these.
        categories: whether to show the scores of all categories, even of a task with many.
        signatures: whether every score is followed by its signature.
    """

    width: int = WIDTH
    columns: tuple[str, ...] = ()
    categories: bool = False
    signatures: bool = False


DEFAULT = View()


@dataclass(frozen=True)
class Page:
    """The parts of a page, by lines.

    Attributes:
        heading: sentences above the table.
        rows: of the table, each with all its cells by column.
        signatures: every score in words, with its signature.
        notes: sentences below.
        curves: scores by number of shots.
        references: what the published numbers are, if the rows have any.
    """

    heading: Sequence[str]
    rows: Sequence[Row]
    signatures: Sequence[str]
    notes: Sequence[str]
    curves: Sequence[Curve] = ()
    references: Sequence[str] = ()

    def for_terminal(self, view: View = DEFAULT) -> str:
        """As text: tasks by shots where there are several, else a line per score, and small plots of the curves.

        Raises:
            UnknownName: there is no column of this name.
        """
        names = selected_columns(self.rows, view.columns, fit_columns(self.rows, view.width))
        grid = None if view.columns else by_shots(self.rows)
        cells = [[row.get(name, "") for name in names] for row in self.rows]
        table = draw(names, cells, NUMBERS, view.width) if grid is None else grid.draw(view.width)
        notes = self._notes([] if grid else names, f"published numbers: --columns {ALL}")
        parts = [self.heading, table, plots(self.curves, view.width), self._signatures(view), notes]
        return "\n\n".join("\n".join(part) for part in parts if part) + "\n"

    def in_markdown(self, view: View = DEFAULT) -> str:
        """As Markdown, with every column that has information.

        Raises:
            UnknownName: there is no column of this name.
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
        """As LaTeX with booktabs, the scores with their errors and the best of them in bold."""
        return latex(self.heading, self.rows, [*self._notes([]), *self._signatures(view)])

    def in_html(self, view: View = DEFAULT) -> str:
        """As a fragment of HTML, for a notebook."""
        return fragment(self.heading, self.rows, [*self._notes([]), *self._signatures(view)])

    def _notes(self, names: Collection[str], hidden: str = "") -> list[str]:
        """The notes on a table with these columns, and what to say of published numbers that have none."""
        if not self.references or {*names} & {*SHOWN_SYSTEMS}:
            return [*self.references, *self.notes]
        return [*([hidden] if hidden else []), *self.notes]

    def _signatures(self, view: View) -> Sequence[str]:
        return self.signatures if view.signatures else ()


def _escaped(cell: str) -> str:
    """A cell of a Markdown table whose text, such as a category, may come from data."""
    return escape(re.sub(r"[\\|`*\[\]]", r"\\\g<0>", cell), quote=False)
