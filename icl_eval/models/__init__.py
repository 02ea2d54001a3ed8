"""Who answers: language models behind one protocol."""

from icl_eval.models.decoding import PENALTIES, Decoding, GenerateAnswer, GenerateRequest, TextSink
from icl_eval.models.loading import DTYPES, TINY, load_model, wrap_model
from icl_eval.models.protocol import (
    GeneratingModel,
    LanguageModel,
    OutOfMemory,
    Row,
    RowAnswer,
    RowModel,
    ScoreAnswer,
    ScoreRequest,
    ScoringModel,
    Sink,
)

__all__ = [
    "DTYPES",
    "PENALTIES",
    "TINY",
    "Decoding",
    "GenerateAnswer",
    "GenerateRequest",
    "GeneratingModel",
    "LanguageModel",
    "OutOfMemory",
    "Row",
    "RowAnswer",
    "RowModel",
    "ScoreAnswer",
    "ScoreRequest",
    "ScoringModel",
    "Sink",
    "TextSink",
    "load_model",
    "wrap_model",
]
