"""Demonstrations: which examples are shown before a query, in which order, and with which labels."""

from icl_eval.demos.draws import ORGANIZATIONS, Pool
from icl_eval.demos.selection import Annotation
from icl_eval.demos.variants import (
    depends_on_seed,
    order_exists,
    positions,
    replaces_options,
    shown_label,
    shown_options,
)

__all__ = [
    "ORGANIZATIONS",
    "Annotation",
    "Pool",
    "depends_on_seed",
    "order_exists",
    "positions",
    "replaces_options",
    "shown_label",
    "shown_options",
]
