"""Options of a model: those that can change a score, and those that only change how it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from icl_eval.choices import PLL, Attention, Quantization
from icl_eval.errors import ModelError, UnknownName


class ModelConfig(BaseModel):
    """Options that can change a score; the manifest stores them.

    Attributes:
        revision: of the Hub's repository.
        dtype: `float32`, `bfloat16`, `float16`, or `auto`: the type of the checkpoint on a GPU, float32 on a CPU and
            for `tiny`.
        bos: whether texts begin with the BOS token; by default as the tokenizer does.
        window: context length in tokens, if the checkpoint does not state it.
        quantize: quantise the weights to `8bit` or `4bit` while they are loaded.
        pll: for masked language models: `plain` masks one token at a time, `l2r` also the remaining tokens of its word.
        tokenizer: a directory, a GGUF file, a name on the Hub or `tiny`, if the model has none or another one is to be
            used.
        served_name: name of a served model at its endpoint; the first one there by default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    revision: str | None = None
    dtype: str = "auto"
    bos: bool | None = None
    window: Annotated[int, Field(ge=2)] | None = None
    quantize: Quantization | None = None
    pll: PLL = "l2r"
    tokenizer: str | None = None
    served_name: str | None = None


class LoadConfig(BaseModel):
    """How a model is loaded or reached, which changes scores by rounding at most.

    Attributes:
        device: `cpu`, `cuda`, `cuda:1` ...; by default a GPU if there is one.
        trust_remote_code: run code from the model's repository.
        allow_pickle: load pickled weights, which can run code, if there are no safetensors.
        device_map: `auto`, `balanced`, `balanced_low_0` or `sequential`; or a mapping from names of modules to
            numbers of GPUs, `cpu` or `disk`, or a file with one.
        max_memory: limits such as `20GiB` by device for the first four; other devices are not used.
        offload_dir: for weights on the disk; by default a temporary folder.
        tensor_parallel: divide every layer among the processes that were started together.
        attn: the implementation of attention to use.
        concurrency: requests to an endpoint under way at once.
        timeout: seconds without an answer of an endpoint after which a request has failed.
        retries: how often a failed request to an endpoint is retried.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    device_map: dict[str, int | str] | str | None = None
    max_memory: dict[int | str, int | str] | None = None
    offload_dir: Path | None = None
    tensor_parallel: bool = False
    attn: Attention | None = None
    concurrency: Annotated[int, Field(ge=1)] = 8
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 120.0
    retries: Annotated[int, Field(ge=0)] = 6


def split_options(options: dict[str, Any]) -> tuple[dict[str, Any], LoadConfig]:
    """The options of a `ModelConfig`, still unchecked, and the rest as a `LoadConfig`.

    Raises:
        UnknownName: there is no such option.
        ModelError: an option has an invalid value.
    """
    known = [*ModelConfig.model_fields, *LoadConfig.model_fields]
    for name in options:
        if name not in known:
            raise UnknownName("option of a model", name, known)
    given = {name: value for name, value in options.items() if name in ModelConfig.model_fields}
    try:
        return given, LoadConfig(**{name: value for name, value in options.items() if name not in given})
    except ValidationError as error:
        raise _unusable(error) from error


def read_options(options: dict[str, Any]) -> tuple[ModelConfig, LoadConfig]:
    """All options of a model, checked.

    Raises:
        UnknownName: there is no such option.
        ModelError: an option has an invalid value.
    """
    given, load_config = split_options(options)
    try:
        return ModelConfig(**given), load_config
    except ValidationError as error:
        raise _unusable(error) from error


def _unusable(error: ValidationError) -> ModelError:
    """An error with one sentence on an option with an invalid value."""
    problem = error.errors()[0]
    return ModelError(f"`{'.'.join(map(str, problem['loc']))}` cannot be {problem['input']!r}: {problem['msg']}")
