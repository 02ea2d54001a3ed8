"""The argument `model` of a run: a name, a (model, tokenizer) pair of `transformers`, or a `LanguageModel`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from icl_eval.errors import ModelError, RunError
from icl_eval.models import (
    CAUSAL,
    LanguageModel,
    LoadConfig,
    ModelConfig,
    OutOfMemory,
    check_options,
    load,
    resolve,
    wrap_model,
)
from icl_eval.models.options import CHAT_ONLY
from icl_eval.prompts import Chat, sandbox
from icl_eval.results.run_config import RunConfig

Model = str | Path | LanguageModel | tuple[Any, Any]
PAIR_OPTIONS = {"bos", "max_length", "pll"}  # options that have an effect on a (model, tokenizer) pair
LOADED_OPTIONS = {"chat", *CHAT_ONLY}  # options that have an effect on every model that is loaded already
METRIC_OPTIONS = {"trust_remote_code"}  # allowed for every model, because it also lets metrics run code


class ChatForm(NamedTuple):
    """How the prompts of a run become conversations.

    Attributes:
        chat: renders a prompt as a conversation.
        start: ids of the special tokens at the start of every conversation.
        end: the control token at the end of a reply; empty if there is none.
        words: the words of the signature that describe the chat.
    """

    chat: Chat
    start: tuple[int, ...]
    end: str
    words: str


def name_of(model: Any) -> str:
    """The name of a model in the manifest: the name by which it is loaded, or its own name.

    Raises:
        ModelError: the value is not a model.
    """
    if isinstance(model, str | Path):
        return str(model)
    if isinstance(model, tuple):
        if len(model) != 2 or None in model:
            raise ModelError("a tuple is not a model unless it is a (model, tokenizer) pair of `transformers`")
        return getattr(model[0], "name_or_path", "") or type(model[0]).__name__
    if not isinstance(model, LanguageModel):
        raise ModelError(
            f"a {type(model).__name__} is not a model: pass a name, a (model, tokenizer) pair or a LanguageModel"
        )
    return str(model.name)


def check_model(model: Any, config: RunConfig, load_config: LoadConfig) -> None:
    """Check, before any data is read, that the model can exist and that every given option has an effect on it.

    Raises:
        ModelError: the name is a path that does not exist, or it has no revisions, or an option has no effect on it.
        RunError: an option has no effect on a model that is loaded already.
    """
    if isinstance(model, str):
        check_options(model, config, load_config)
        resolve(model, config.revision)
        return
    effective = METRIC_OPTIONS | options_of(model)
    for given, default in ((config, ModelConfig()), (load_config, LoadConfig())):
        for option, value in default:
            if option not in effective and getattr(given, option) != value:
                raise RunError(f"`{option}` has no effect on a model that is loaded already")


def options_of(model: Any) -> set[str]:
    """The options that have an effect on a model that is loaded already."""
    return LOADED_OPTIONS | (PAIR_OPTIONS if isinstance(model, tuple) else set())


def loaded(model: Any, config: RunConfig, load_config: LoadConfig) -> LanguageModel:
    """Load the model, unless it is loaded already.

    Raises:
        ModelError: it cannot be loaded, or does not fit into the memory of the device.
    """
    if isinstance(model, str):
        from icl_eval.models.network import full_device

        try:
            with full_device():
                return load(model, config, load_config)
        except OutOfMemory as error:
            raise ModelError(f"{model!r} does not fit the device's memory: {error}") from error
    if isinstance(model, tuple):
        return wrap_model(*model, bos=config.bos, max_length=config.max_length, pll=config.pll)
    return model  # type: ignore[no-any-return]


def chat_of(model: LanguageModel, config: ModelConfig) -> ChatForm | None:
    """How prompts become conversations; None if they stay plain text.

    Raises:
        ModelError: the model has no chat template, or the template cannot be used.
        UnknownName: the template does not use one of `chat_args`.
    """
    if not config.chat:
        return None
    with sandbox.watched("the chat template"):  # which renders messages to find its text around them
        template = model.chat_template(config.chat_args or {})
    if template.start and config.bos is False:
        raise ModelError("--bos no cannot leave out the BOS token that the chat template writes")
    start = template.start or (model.start if config.bos or model.kind != CAUSAL else ())
    chat = Chat(template.render, config.chat_demonstrations, config.chat_instruction, template.space)
    words = f"chat-{config.chat_demonstrations}-{config.chat_instruction}#{template.digest}"
    return ChatForm(chat, start, template.end, words)
