"""The second pass: from stored answers to scores, and from scores to comparisons, averages and fits."""
