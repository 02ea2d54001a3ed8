"""The columns of tables: which are numbers, which matter most, and by which names they can be chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence

from icl_eval.errors import UnknownName

Row = dict[str, str]
SHOWN_SYSTEMS = ("GPT-3 125M", "GPT-3 1.3B", "GPT-3 13B", "GPT-3 175B", "fine-tuned BERT-Large", "fine-tuned SOTA")
SCORES = ("score", "±", "95 %", "sd seeds", "eff. shots", "n", "ties", "random", "majority", "signal/noise")
RANGE = ("median", "min", "max")
DIFFERENCES = ("one", "other", "difference", "clusters", "p", "p (Holm)", "detectable", "W/L/T")
FITS = ("models", "exponent", "irreducible", "residual", "predicted", "interval", "measured")
FIGURES = frozenset({*SCORES, *RANGE, "from baseline", *DIFFERENCES, *FITS, *SHOWN_SYSTEMS})
"""The columns of measured values and of values to compare them with; the others identify a row."""
NUMBERS = FIGURES | {"parameters", "shots"}
ALIASES = {"se": "±", "error": "±", "ci": "95 %", "interval": "95 %", "sd": "sd seeds", "normalization": "scoring"}
ALL = "all"
LARGEST = 1e7  # that is printed without an exponent, such as a perplexity
ADDED = "+"  # before the name of a column that is shown beside the default ones


def columns_of(rows: Sequence[Row]) -> list[str]:
    """The columns that are not empty in all rows, references last."""
    order = dict.fromkeys(name for row in rows for name in row if name not in SHOWN_SYSTEMS)
    return [name for name in (*order, *SHOWN_SYSTEMS) if any(row.get(name) for row in rows)]


def selected_columns(rows: Sequence[Row], requested: Sequence[str], default: Sequence[str]) -> list[str]:
    """The chosen columns, after those that identify a row; `all` selects all that are not empty.

    If every name begins with `+`, or there is none, the columns follow the `default` ones.

    Raises:
        UnknownName: there is no column of this name.
    """
    there = columns_of(rows)
    if ALL in requested or ADDED + ALL in requested:
        return there
    are_added = all(name.startswith(ADDED) for name in requested)
    names = [name.removeprefix(ADDED) for name in requested]
    known = {_key(name): name for row in rows for name in row} | {_key(name): name for name in SHOWN_SYSTEMS}
    known |= {alias: name for alias, name in ALIASES.items() if name in known.values()}
    for name in names:
        if _key(name) not in known:
            raise UnknownName("column", name, [*known.values(), ALL])
    chosen = dict.fromkeys(known[_key(name)] for name in names)
    if are_added:
        return [*dict.fromkeys([*default, *chosen])]
    identity = [name for name in there if name not in FIGURES and name not in chosen]
    return [*identity, *chosen]


def _key(name: str) -> str:
    """A name as it is compared: `sd-seeds` and `SD seeds` are one column."""
    return name.strip().lower().replace("-", " ").replace("_", " ")


def number(value: float | None) -> str:
    """A figure with three decimals, or with four digits if it is huge; nothing where it is not known."""
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:.3f}" if abs(value) < LARGEST else f"{value:.3e}"
