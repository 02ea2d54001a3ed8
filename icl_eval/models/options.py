"""What of a model is asked, and how it is loaded: options that can change a score, and options that cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from icl_eval.choices import PLL, Attention, Quantization
from icl_eval.errors import ModelError, UnknownName


class Variant(BaseModel):
    """What can change a score: it stands in the manifest.

    Attributes:
        revision: of the Hub's repository.
        dtype: `float32`, `bfloat16`, `float16`, or `auto`: the checkpoint's own type on a GPU, float32 on a processor
            and for `tiny`.
        bos: whether texts begin with the BOS token; by default as the tokenizer does it.
        window: tokens to read at once, where the checkpoint does not say.
        quantize: `8bit` or `4bit` weights, made while they are loaded.
        pll: of masked language models, `l2r`: the later tokens of a word are masked with each of its tokens; or
            `plain`: each token is masked alone.
        tokenizer: a directory, a GGUF file, a name on the Hub or `tiny`, where the model brings none or another is to
            be used.
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


class Setup(BaseModel):
    """How a model is loaded or reached, which changes no score by more than rounding.

    Attributes:
        device: `cpu`, `cuda`, `cuda:1` ...; by default a GPU if there is one.
        trust_remote_code: run code from the model's repository.
        allow_pickle: load pickled weights, which can run code, where there are no safetensors.
        device_map: `auto`, `balanced`, `balanced_low_0` or `sequential`; or which modules go where, as a mapping from
            their names to numbers of GPUs, `cpu` or `disk`, or as a file with one.
        max_memory: sizes such as `20GiB` by device, that those four keep to; a device that is not named is not used.
        offload_dir: for weights on the disk; by default a folder that goes with the model.
        tensor_parallel: divide every layer among the processes that were started together.
        attn: the implementation of attention that the model must use.
        concurrency: requests to an endpoint under way at once.
        timeout: seconds without an answer of an endpoint after which a request has failed.
        retries: how often a failed request to an endpoint is sent again.
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


def split_options(options: dict[str, Any]) -> tuple[dict[str, Any], Setup]:
    """The options of a `Variant`, to be checked with what they belong to, and the rest as a `Setup`.

    Raises:
        UnknownName: there is no such option.
        ModelError: an option has a value that it cannot have.
    """
    known = [*Variant.model_fields, *Setup.model_fields]
    for name in options:
        if name not in known:
            raise UnknownName("option of a model", name, known)
    asked = {name: value for name, value in options.items() if name in Variant.model_fields}
    try:
        return asked, Setup(**{name: value for name, value in options.items() if name not in asked})
    except ValidationError as error:
        raise _unusable(error) from error


def read_options(options: dict[str, Any]) -> tuple[Variant, Setup]:
    """All options of a model, checked.

    Raises:
        UnknownName: there is no such option.
        ModelError: an option has a value that it cannot have.
    """
    asked, setup = split_options(options)
    try:
        return Variant(**asked), setup
    except ValidationError as error:
        raise _unusable(error) from error


def _unusable(error: ValidationError) -> ModelError:
    """One sentence on an option that cannot have the value it was given."""
    problem = error.errors()[0]
    return ModelError(f"`{'.'.join(map(str, problem['loc']))}` cannot be {problem['input']!r}: {problem['msg']}")
