"""Language models of all kinds: causal, encoder-decoder, masked and served ones, behind one protocol."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from icl_eval.config import DTYPES
from icl_eval.models.control_tokens import ControlTokens, about_control_tokens
from icl_eval.models.decoding import PENALTIES, Decoding, GenerateAnswer, GenerateRequest, TextSink, answer_start
from icl_eval.models.protocol import (
    CAUSAL,
    UNLIMITED,
    Answer,
    AnswerSink,
    Budget,
    LanguageModel,
    OutOfMemory,
    Plan,
    Request,
    ScoreAnswer,
    ScoreRequest,
    Sink,
    WorkItem,
    common_prefix,
)

if TYPE_CHECKING:
    from icl_eval.models.encoder import encoder_words, text_encoder
    from icl_eval.models.loading.checkpoint import TINY, resolve
    from icl_eval.models.loading.load import is_current, load, load_meta_model, load_model, load_text_reader, wrap_model
    from icl_eval.models.options import LoadConfig, ModelConfig, check_options

__all__ = [
    "CAUSAL",
    "DTYPES",
    "PENALTIES",
    "TINY",
    "UNLIMITED",
    "Answer",
    "AnswerSink",
    "Budget",
    "ControlTokens",
    "Decoding",
    "GenerateAnswer",
    "GenerateRequest",
    "LanguageModel",
    "LoadConfig",
    "ModelConfig",
    "OutOfMemory",
    "Plan",
    "Request",
    "ScoreAnswer",
    "ScoreRequest",
    "Sink",
    "TextSink",
    "WorkItem",
    "about_control_tokens",
    "answer_start",
    "check_options",
    "common_prefix",
    "encoder_words",
    "is_current",
    "load",
    "load_meta_model",
    "load_model",
    "load_text_reader",
    "resolve",
    "text_encoder",
    "wrap_model",
]

_LAZY = {
    "LoadConfig": "options",
    "TINY": "loading.checkpoint",
    "ModelConfig": "options",
    "check_options": "options",
    "is_current": "loading.load",
    "load": "loading.load",
    "load_meta_model": "loading.load",
    "load_text_reader": "loading.load",
    "load_model": "loading.load",
    "resolve": "loading.checkpoint",
    "encoder_words": "encoder",
    "text_encoder": "encoder",
    "wrap_model": "loading.load",
}


def __getattr__(name: str) -> Any:
    """Import what loads models when it is first used; a loaded model does not need it."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
