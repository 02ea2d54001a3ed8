"""Options of a model: those that can change a score, and those that only change how it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from icl_eval.config import DEFAULTS, PLL, Attention, ModelOptions, Quantization, check_known
from icl_eval.errors import ModelError


class ModelConfig(BaseModel):
    """Options that can change a score; the manifest stores them, and `icl_eval.config` describes them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    revision: str | None = DEFAULTS["revision"]
    dtype: str = DEFAULTS["dtype"]
    bos: bool | None = DEFAULTS["bos"]
    max_length: Annotated[int, Field(ge=2)] | None = DEFAULTS["max_length"]
    quantize: Quantization | None = DEFAULTS["quantize"]
    pll: PLL = DEFAULTS["pll"]
    tokenizer: str | None = DEFAULTS["tokenizer"]
    served_name: str | None = DEFAULTS["served_name"]


class LoadConfig(BaseModel):
    """How a model is loaded or reached, which changes scores by rounding at most; `icl_eval.config` describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str | None = DEFAULTS["device"]
    trust_remote_code: bool = DEFAULTS["trust_remote_code"]
    allow_pickle: bool = DEFAULTS["allow_pickle"]
    device_map: dict[str, int | str] | str | None = DEFAULTS["device_map"]
    max_memory: dict[int | str, int | str] | None = DEFAULTS["max_memory"]
    offload_dir: Path | None = DEFAULTS["offload_dir"]
    tensor_parallel: bool = DEFAULTS["tensor_parallel"]
    attn: Attention | None = DEFAULTS["attn"]
    concurrency: Annotated[int, Field(ge=1)] = DEFAULTS["concurrency"]
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = DEFAULTS["timeout"]
    retries: Annotated[int, Field(ge=0)] = DEFAULTS["retries"]


def read_options(options: dict[str, Any]) -> tuple[ModelConfig, LoadConfig]:
    """All options of a model, checked.

    Raises:
        UnknownName: there is no such option.
        ModelError: an option has an invalid value.
    """
    check_known(options, ModelOptions.__annotations__)
    try:
        return ModelConfig(**_those_of(ModelConfig, options)), LoadConfig(**_those_of(LoadConfig, options))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ModelError(f"`{where}` cannot be {problem['input']!r}: {problem['msg']}") from error


def _those_of(model: type[BaseModel], options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in model.model_fields}
