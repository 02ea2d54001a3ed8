"""Who answers: language models behind one protocol."""

from icl_eval.models.decoding import PENALTIES, Decoding, GenerateAnswer, GenerateRequest, TextSink
from icl_eval.models.loading import DTYPES, TINY, load, load_model, wrap_model
from icl_eval.models.options import Setup, Variant, split_options
from icl_eval.models.protocol import (
    Answer,
    ForgettingModel,
    GeneratingModel,
    LanguageModel,
    OutOfMemory,
    Request,
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
    "PENALTIES",
    "TINY",
    "Answer",
    "Decoding",
    "ForgettingModel",
    "GenerateAnswer",
    "GenerateRequest",
    "GeneratingModel",
    "LanguageModel",
    "OutOfMemory",
    "Request",
    "Row",
    "RowAnswer",
    "RowModel",
    "ScoreAnswer",
    "ScoreRequest",
    "ScoringModel",
    "Setup",
    "Sink",
    "TextSink",
    "Variant",
    "common_prefix",
    "load",
    "load_model",
    "split_options",
    "wrap_model",
]
