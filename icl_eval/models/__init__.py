"""Who answers: language models behind one protocol."""

from icl_eval.models.decoding import PENALTIES, Decoding, GenerateAnswer, GenerateRequest, TextSink
from icl_eval.models.loading import TINY, is_current, load, load_model, resolve, wrap_model
from icl_eval.models.options import DTYPES, Setup, Variant, split_options
from icl_eval.models.protocol import (
    Answer,
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
    "is_current",
    "load",
    "load_model",
    "resolve",
    "split_options",
    "wrap_model",
]
