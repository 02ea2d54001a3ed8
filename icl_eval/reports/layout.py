"""Tables as lines of text that fit a width."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from icl_eval.reports.columns import Row, columns_of

WIDTH = 100  # characters, if the output is not a terminal
MIN_WIDTH = 40
GAP = "  "
MIN_COLUMN = 12  # characters to which a column of text can be narrowed
DROPPED = (
    *("fine-tuned SOTA", "fine-tuned BERT-Large", "GPT-3 13B", "GPT-3 1.3B", "GPT-3 125M", "GPT-3 175B"),
    *("median", "min", "max"),
    *(
        "ties",
        "signal/noise",
        "clusters",
        "eff. shots",
        "p",
        "detectable",
        "W/L/T",
        "majority",
        "sd seeds",
        "random",
        "n",
        "p (Holm)",
        "from baseline",
        "95 %",
        "parameters",
    ),
)
"""Columns that are left out of a table that is too wide, in this order."""


def fit_columns(rows: Sequence[Row], width: int) -> list[str]:
    """The columns of a table that fit a width: those that identify rows, and the most important numbers."""
    names = [name for name in columns_of(rows) if not says_nothing(name, rows)]
    for name in DROPPED:
        if _width(names, rows) <= width:
            break
        names = [each for each in names if each != name]
    return names


def says_nothing(name: str, rows: Sequence[Row]) -> bool:
    """Whether a column has no information, because all rows have the value that is expected."""
    values = [row.get(name, "") for row in rows]
    if name == "scoring":
        return len({(row.get("task"), row.get("metric"), row.get(name, "")) for row in rows}) == len(
            {(row.get("task"), row.get("metric")) for row in rows}
        )
    if name == "ties":
        return set(values) <= {"0", ""}
    if name == "eff. shots":
        return all(row.get(name, "") in (f"{row.get('shots')}.0", "") for row in rows)
    return False


def _width(names: Sequence[str], rows: Sequence[Row]) -> int:
    return sum(max(len(name), *(len(row.get(name, "")) for row in rows)) + len(GAP) for name in names) - len(GAP) + 1


def draw(names: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str], width: int) -> list[str]:
    """The lines of a table with a head and a rule; cells can have several lines.

    Args:
        names: names of the columns.
        rows: cells of each row.
        right: names of the columns that are right-aligned.
        width: width in characters; the widest columns of text are wrapped until the table fits, if possible.
    """
    cells = [[cell.split("\n") for cell in row] for row in ([*names], *rows)]
    widths = _narrowed([max(_longest(row[i]) for row in cells) for i in range(len(names))], names, right, width)
    broken = [[_broken(cell, widths[i]) for i, cell in enumerate(row)] for row in cells]
    lines = [
        _line([cell[n] if n < len(cell) else "" for cell in row], [name in right for name in names], widths)
        for row in broken
        for n in range(max(map(len, row)))
    ]
    head = max(map(len, broken[0]))
    rule = " " + "─" * (sum(widths) + len(GAP) * (len(widths) - 1))
    return [*lines[:head], rule, *lines[head:]]


def _longest(lines: Sequence[str]) -> int:
    return max(map(cells_of, lines))


def cells_of(text: str) -> int:
    """The width of a text in a terminal."""
    from rich.cells import cell_len

    return len(text) if text.isascii() else cell_len(text)


def _narrowed(widths: list[int], names: Sequence[str], right: Collection[str], width: int) -> list[int]:
    """Widths of columns that fit, as far as columns of text can be narrowed."""
    over = 1 + sum(widths) + len(GAP) * (len(widths) - 1) - max(width, MIN_WIDTH)
    while over > 0:
        texts = [i for i, name in enumerate(names) if name not in right and widths[i] > MIN_COLUMN]
        if not texts:
            break
        widest = max(texts, key=lambda i: widths[i])
        widths[widest] -= 1
        over -= 1
    return widths


def _broken(lines: Sequence[str], width: int) -> list[str]:
    from rich.cells import chop_cells

    return [part for line in lines for part in ([line] if cells_of(line) <= width else chop_cells(line, width))]


def _line(cells: Sequence[str], right: Sequence[bool], widths: Sequence[int]) -> str:
    padded = []
    for cell, to_the_right, width in zip(cells, right, widths, strict=True):
        space = " " * (width - cells_of(cell))
        padded.append(space + cell if to_the_right else cell + space)
    return f" {GAP.join(padded)}".rstrip()
