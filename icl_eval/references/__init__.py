"""Beside what a score stands: published numbers of other systems, and what guessing would give."""

from icl_eval.references.baselines import majority_baseline, random_baseline
from icl_eval.references.published import Published, published, reference_names

__all__ = ["Published", "majority_baseline", "published", "random_baseline", "reference_names"]
