"""With which examples: a seed and a query give an ordered draw of demonstrations."""

from icl_eval.demos.pool import Pool

__all__ = ["Pool"]
