"""Options of models: `ModelConfig` has those that can change a score, `LoadConfig` those that cannot."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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

WEIGHTS = (  # options for loading and placing weights
    *("dtype", "quantize", "pll", "device", "allow_pickle", "attn"),
    *("device_map", "max_memory", "offload_dir", "tensor_parallel"),
)
TOKENS = ("bos", "max_length")  # options for encoding texts
SERVING = ("served_name", "concurrency", "timeout", "retries")  # options for requests to a server
CHAT_ONLY = ("chat_args", "chat_demonstrations", "chat_instruction")


class ModelConfig(BaseModel):
    """Options that can change a score. They are described in `icl_eval.config`, and stored in the manifest."""

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
        """Sort arguments and write dates as texts, so that equal arguments give equal configurations."""
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
    """Options for loading or reaching a model, which change scores by rounding at most; see `icl_eval.config`."""

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
    """Validate options of `load_model` and split them into `ModelConfig` and `LoadConfig`.

    Raises:
        UnknownName: an option does not exist.
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


def is_endpoint(name: str) -> bool:
    """Whether the name of a model is the URL of a server."""
    return name.lower().startswith(("http://", "https://"))


def check_options(name: str, model_config: ModelConfig, load_config: LoadConfig) -> None:
    """Check that every option has an effect on this model, and that an endpoint has a tokenizer or is used with chats.

    Raises:
        ModelError: an option has no effect, or the tokenizer of an endpoint is missing.
    """
    if not is_endpoint(name):
        _refuse(SERVING, model_config, load_config, "a model that is not served")
        return
    _refuse(WEIGHTS, model_config, load_config, "a served model")
    if model_config.tokenizer is None and model_config.chat:
        _refuse(TOKENS, model_config, load_config, "a chat endpoint, which has its own tokenizer")
    elif model_config.tokenizer is None:
        raise ModelError(
            "an endpoint needs --tokenizer, the directory or Hub name of the served model's tokenizer; only with "
            "--chat may it be left out"
        )


def _refuse(options: Collection[str], model_config: ModelConfig, load_config: LoadConfig, kind: str) -> None:
    """Raise `ModelError` if one of these options is given, because it has no effect on this kind of model."""
    for given, default in ((model_config, ModelConfig()), (load_config, LoadConfig())):
        for option, value in default:
            if option in options and getattr(given, option) != value:
                raise ModelError(f"`{option}` has no effect on {kind}")
