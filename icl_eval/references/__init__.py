"""Reference values of scores: published numbers of other systems, and guessing baselines."""

from icl_eval.references.baselines import majority_baseline, random_baseline
from icl_eval.references.published import Published, published, published_metrics, reference_names

__all__ = ["Published", "majority_baseline", "published", "published_metrics", "random_baseline", "reference_names"]
