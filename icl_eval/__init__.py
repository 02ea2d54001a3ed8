"""Measure what a language model can do from its prompt alone: zero-, one- and few-shot."""

__version__ = "0.1.0"
