"""Why a checkpoint cannot be loaded, in one sentence that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from icl_eval.errors import IclEvalError, ModelError
from icl_eval.models.options import LoadConfig


@contextmanager
def loading(what: str, load_config: LoadConfig) -> Iterator[None]:
    """Turn any error of a library that loads files into one sentence.

    Args:
        what: the beginning of the sentence, such as `'gpt2' cannot be loaded`.
        load_config: how it is loaded.

    Raises:
        ModelError: something cannot be loaded.
    """
    try:
        yield
    except IclEvalError:
        raise
    except Exception as error:  # libraries raise every kind of error on a bad file
        raise ModelError(f"{what}: {reason(error, load_config)}") from error


def reason(error: Exception, load_config: LoadConfig) -> str:
    """Why `transformers` cannot load a checkpoint, and the option that would help.

    Args:
        error: raised by a library.
        load_config: how the checkpoint is loaded.
    """
    text = str(error)
    if isinstance(error, RecursionError):
        return "a file of it is nested too deeply"
    if load_config.attn and ("attn_implementation" in text or "Attention" in text or "attention" in text):
        return f"--attn {load_config.attn} cannot be used: {_first_sentence(error).split('. ')[0]}"
    if "llm_int8_enable_fp32_cpu_offload" in text:
        return "quantised weights cannot be left on the CPU or the disk, and the GPUs have no room for all of them"
    if "custom code" in text or "trust_remote_code" in text:
        return "its repository has its own code, which --trust-remote-code would run"
    if "ignore_mismatched_sizes" in text:
        return "its weights do not have the shapes that its configuration gives"
    if "Weights only load failed" in text:
        return "its pickled weights hold more than tensors, such as code, and are not read"
    if "backend tokenizer" in text:
        return "it has no tokenizer, or one of a kind that needs a package that is not installed"
    if "safetensors" in text and "no file named" in text and not load_config.allow_pickle:
        return f"{_first_sentence(error)}; --allow-pickle also takes pickled weights, which can run code"
    return _first_sentence(error)


def _first_sentence(error: Exception) -> str:
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    if isinstance(error, KeyError):
        lines = [f"{lines[0]} is missing or unknown"]
    return " ".join(lines[:2] if lines[0].endswith(":") else lines[:1]) if lines else type(error).__name__
