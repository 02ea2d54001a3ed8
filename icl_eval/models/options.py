"""Options of a model: those that can change a score, and those that only change how it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import to_jsonable_python

from icl_eval.config import (
    DEFAULTS,
    PLL,
    Attention,
    ChatDemonstrations,
    ChatInstruction,
    ModelOptions,
    Quantization,
    check_known,
)
from icl_eval.errors import ModelError

CHAT_ONLY = ("chat_args", "chat_demonstrations", "chat_instruction")


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
    chat: bool = DEFAULTS["chat"]
    chat_args: dict[str, Any] | None = DEFAULTS["chat_args"]
    chat_demonstrations: ChatDemonstrations = DEFAULTS["chat_demonstrations"]
    chat_instruction: ChatInstruction = DEFAULTS["chat_instruction"]

    @field_validator("chat_args", mode="before")
    @classmethod
    def _as_json(cls, arguments: Any) -> Any:
        """The same arguments are the same configuration, whatever their order; dates are texts."""
        return (
            to_jsonable_python(dict(sorted(arguments.items(), key=str))) or None
            if isinstance(arguments, Mapping)
            else arguments
        )

    @model_validator(mode="after")
    def _of_a_chat(self) -> ModelConfig:
        for option in CHAT_ONLY:
            if not self.chat and getattr(self, option) != DEFAULTS[option]:
                raise ValueError(f"`{option}` has no effect without `chat`")
        return self


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
