"""Tables of scores by shots: a row per task and metric, a column per number of shots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from icl_eval.reports.columns import FIGURES, Row, columns_of
from icl_eval.reports.layout import GAP, cells_of, draw, says_nothing

NOT_KEYS = FIGURES | {"shots", "few-shot split"}  # columns that may differ between the cells of a row
BESIDE = ("random", "majority")  # columns to the right of the scores, which do not depend on shots


@dataclass(frozen=True)
class Grid:
    """A table of scores by shots.

    Attributes:
        keys: names of the columns that identify a row.
        shots: numbers of shots in ascending order.
        rows: values of the keys, the score and its error for each number of shots, and values of `beside`.
        beside: names of further columns to the right of the scores.
    """

    keys: Sequence[str]
    shots: Sequence[str]
    rows: Sequence[tuple[Sequence[str], Sequence[tuple[str, str]], Sequence[str]]]
    beside: Sequence[str]

    def draw(self, width: int) -> list[str]:
        """The lines of the table: one line per row if this fits the width, otherwise errors are below the scores.

        The first keys of rows can become headings of groups of rows, if this fits and saves lines.
        """
        for form in ("{} ± {}", "{} ±{}"):
            if max(map(cells_of, lines := self._on_one_line(form))) <= width:
                return lines
        for count in range(1, len(self.keys)):
            groups = [" ".join(filter(None, key[:count])) for key, _, _ in self.rows]
            lines = [f"  {line}" for line in self._on_one_line("{} ±{}", count)]
            if max(map(cells_of, [*lines, *groups])) <= width and len([*groupby(groups)]) < len(groups):
                return [*lines[:2], *_with_headings(groups, lines[2:])]
        return self._on_two_lines(width)

    def _on_one_line(self, form: str, left_out: int = 0) -> list[str]:
        """A table with one line per row, without the first `left_out` keys."""
        shots = [f"{each}-shot" for each in self.shots]
        rows = [
            [
                *key[left_out:],
                *(form.format(value, _short(error, form)) if error else value for value, error in scores),
                *beside,
            ]
            for key, scores, beside in self.rows
        ]
        return draw([*self.keys[left_out:], *shots, *self.beside], rows, {*shots, *self.beside}, 10_000)

    def _on_two_lines(self, width: int) -> list[str]:
        """A table with errors below the scores; the columns are divided into several tables if necessary."""
        titles = [_title(key) for key, _, _ in self.rows]
        first = max(cells_of(line) for title in titles for line in title.split("\n"))
        columns = [(f"{each}-shot", [_stacked(*row[1][i]) for row in self.rows]) for i, each in enumerate(self.shots)]
        columns += [(name, [row[2][i] for row in self.rows]) for i, name in enumerate(self.beside)]
        taken = [max(cells_of(line) for cell in (name, *cells) for line in cell.split("\n")) for name, cells in columns]
        for _ in self.beside:  # further columns that do not fit are left out
            if sum(taken) + len(GAP) * len(taken) > width - first - 1:
                columns, taken = columns[:-1], taken[:-1]
        lines: list[str] = []
        while columns:
            count = _fitting(taken, width - first - 1)
            names = [name for name, _ in columns[:count]]
            cells = zip(titles, *(cells for _, cells in columns[:count]), strict=True)
            lines += [""] * bool(lines) + draw(["", *names], [[*each] for each in cells], {*names}, width)
            columns, taken = columns[count:], taken[count:]
        return lines


def by_shots(rows: Sequence[Row]) -> Grid | None:
    """Scores as a grid; None unless some task was scored with several numbers of shots."""
    names = [name for name in columns_of(rows) if name not in NOT_KEYS and not says_nothing(name, rows)]
    found: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        if "score" not in row:
            return None
        found.setdefault(tuple(row.get(name, "") for name in names), {})[row["shots"]] = row
    if all(len(of_shots) == 1 for of_shots in found.values()):
        return None
    shots = sorted({each for of_shots in found.values() for each in of_shots}, key=int)
    beside = [name for name in BESIDE if any(row.get(name) for row in rows)]
    return Grid(
        names,
        shots,
        [
            (key, [_score(of_shots.get(each, {})) for each in shots], [_beside(of_shots, name) for name in beside])
            for key, of_shots in found.items()
        ],
        beside,
    )


def _with_headings(groups: Sequence[str], lines: Sequence[str]) -> list[str]:
    """Lines, each group of neighbouring ones below its name."""
    found: list[str] = []
    for group, members in groupby(zip(groups, lines, strict=True), key=itemgetter(0)):
        found += [f" {group}", *(line for _, line in members)]
    return found


def _score(row: Row) -> tuple[str, str]:
    return row.get("score", ""), row.get("±", "")


def _beside(of_shots: dict[str, Row], name: str) -> str:
    return next((row[name] for row in of_shots.values() if row.get(name)), "")


def _title(key: Sequence[str]) -> str:
    """What a row is of, on two lines."""
    first, *rest = [word for word in key if word]
    return f"{first}\n  {' '.join(rest)}" if rest else first


def _stacked(value: str, error: str) -> str:
    return f"{value}\n±{error.removeprefix('0')}" if error else value


def _short(error: str, form: str) -> str:
    return error if "± " in form else error.removeprefix("0")


def _fitting(widths: Sequence[int], room: int) -> int:
    """How many columns fit, at least one."""
    count = 0
    for width in widths:
        room -= width + len(GAP)
        if room < 0:
            break
        count += 1
    return max(count, 1)
