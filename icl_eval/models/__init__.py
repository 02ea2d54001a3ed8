"""Who answers: language models behind one protocol."""

from icl_eval.models.checkpoints.fingerprint import is_current
from icl_eval.models.checkpoints.names import TINY, check_options, resolve
from icl_eval.models.decoding import PENALTIES, Decoding, GenerateAnswer, GenerateRequest, TextSink
from icl_eval.models.encoding import as_text, unmarked
from icl_eval.models.loading import load, load_blueprint, load_model, wrap_model
from icl_eval.models.options import DTYPES, Setup, Variant, split_options
from icl_eval.models.protocol import (
    CAUSAL,
    Answer,
    CountingModel,
    ForgettingModel,
    GeneratingModel,
    LanguageModel,
    OutOfMemory,
    PendingRows,
    Request,
    Row,
    RowAnswer,
    RowModel,
    ScoreAnswer,
    ScoreRequest,
    ScoringModel,
    Sink,
    common_prefix,
    reads_apart,
)

__all__ = [
    "CAUSAL",
    "DTYPES",
    "PENALTIES",
    "TINY",
    "Answer",
    "CountingModel",
    "Decoding",
    "ForgettingModel",
    "GenerateAnswer",
    "GenerateRequest",
    "GeneratingModel",
    "LanguageModel",
    "OutOfMemory",
    "PendingRows",
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
    "as_text",
    "check_options",
    "common_prefix",
    "is_current",
    "load",
    "load_blueprint",
    "load_model",
    "reads_apart",
    "resolve",
    "split_options",
    "unmarked",
    "wrap_model",
]
