"""Demonstrations: a seed and a query give an ordered draw of examples."""

from icl_eval.demos.pool import Pool

__all__ = ["Pool"]
