"""A page: what stands above a table, the table, the signatures, and the notes below; for a terminal and in Markdown."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

Row = dict[str, str]
SHOWN_SYSTEMS = ("GPT-3 125M", "GPT-3 1.3B", "GPT-3 13B", "GPT-3 175B", "fine-tuned BERT-Large", "fine-tuned SOTA")
FIGURES = ("parameters", "shots", "score", "±", "95 %", "sd seeds", "eff. shots", "n", "ties", "random", "majority")
OF_DIFFERENCES = ("one", "other", "difference", "clusters")
NUMBERS = (*FIGURES, *OF_DIFFERENCES, *SHOWN_SYSTEMS)


def counted(number: int, one: str, several: str) -> str:
    """A number and its noun, such as `1 text` and `2 texts`."""
    return f"{number} {one if number == 1 else several}"


@dataclass(frozen=True)
class Page:
    """The parts of a page, by lines; a column stands in the table if some row has something in it."""

    heading: Sequence[str]
    rows: Sequence[Row]
    signatures: Sequence[str]
    notes: Sequence[str]

    @property
    def columns(self) -> list[str]:
        """Columns in which some row has something to show, references last."""
        order = dict.fromkeys(name for row in self.rows for name in row if name not in SHOWN_SYSTEMS)
        names = [*order, *SHOWN_SYSTEMS]
        return [name for name in names if any(row.get(name) for row in self.rows)]

    @property
    def _below(self) -> list[str]:
        return ["", *self.notes] if self.notes else []

    def for_terminal(self, width: int | None = None) -> str:
        """As text, with the table as wide as it takes if no width is given."""
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in self.columns:
            table.add_column(name, justify="right" if name in NUMBERS else "left", no_wrap=width is None)
        for row in self.rows:
            table.add_row(*(row.get(name, "") for name in self.columns))
        text = io.StringIO()
        console = Console(file=text, width=width or 1000, color_system=None, highlight=False, markup=False)
        console.print(table)
        lines = [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]
        return "\n".join([*self.heading, "", *lines, "", *self.signatures, *self._below]) + "\n"

    def in_markdown(self) -> str:
        """As Markdown."""
        names = self.columns
        ruler = ["---:" if name in NUMBERS else "---" for name in names]
        body = [[row.get(name, "").replace("|", "\\|") for name in names] for row in self.rows]
        lines = ["| " + " | ".join(cells) + " |" for cells in (names, ruler, *body)]
        signatures = ["```", *self.signatures, "```"]
        return "\n".join([*self.heading, "", *lines, "", *signatures, *self._below]) + "\n"
