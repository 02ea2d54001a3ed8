"""Search for n-grams of examples in text files."""

from icl_eval.ngrams.corpus import Passage, passages, text_files
from icl_eval.ngrams.index import NgramIndex, Occurrence, shared_ngrams
from icl_eval.ngrams.search import search
from icl_eval.ngrams.words import Words

__all__ = ["NgramIndex", "Occurrence", "Passage", "Words", "passages", "search", "shared_ngrams", "text_files"]
