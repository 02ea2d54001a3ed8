"""Who answers: language models behind one protocol."""

from icl_eval.models.loading import DTYPES, TINY, load_model, wrap_model
from icl_eval.models.protocol import (
    LanguageModel,
    OutOfMemory,
    Row,
    RowAnswer,
    RowModel,
    ScoreAnswer,
    ScoreRequest,
    ScoringModel,
    Sink,
    common_prefix,
)

__all__ = [
    "DTYPES",
    "TINY",
    "LanguageModel",
    "OutOfMemory",
    "Row",
    "RowAnswer",
    "RowModel",
    "ScoreAnswer",
    "ScoreRequest",
    "ScoringModel",
    "Sink",
    "common_prefix",
    "load_model",
    "wrap_model",
]
