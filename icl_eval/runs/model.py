"""What `model` can be: a name, a (model, tokenizer) pair of `transformers`, or a language model."""

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
OF_A_PAIR = {"bos", "max_length", "pll"}  # options that have an effect on a pair
OF_LOADED = {"chat", *CHAT_ONLY}  # on every model that is loaded already
OF_ALL = {"trust_remote_code"}  # and on every model, since it lets metrics run code too


class ChatForm(NamedTuple):
    """The conversations of a run.

    Attributes:
        chat: how a prompt becomes one.
        start: the special tokens that each begins with.
        end: the control token that ends a reply; empty if there is none.
        words: the part of the signature.
    """

    chat: Chat
    start: tuple[int, ...]
    end: str
    words: str


def name_of(model: Any) -> str:
    """The name of a model in a manifest: the name it is loaded by, or its own.

    Raises:
        ModelError: it is not a model.
    """
    if isinstance(model, str | Path):
        return str(model)
    if isinstance(model, tuple):
        return getattr(model[0], "name_or_path", "") or type(model[0]).__name__
    if not isinstance(model, LanguageModel):
        raise ModelError(
            f"a {type(model).__name__} is not a model: pass a name, a (model, tokenizer) pair or a LanguageModel"
        )
    return str(model.name)


def check_model(model: Any, config: RunConfig, load_config: LoadConfig) -> None:
    """See, before any data is read, that a name leads somewhere and that every option has an effect on the model.

    Raises:
        ModelError: the name is a mistyped path or has no revisions, or an option has no effect on a model of this name.
        RunError: an option has no effect on a model that is loaded already.
    """
    if isinstance(model, str):
        check_options(model, config, load_config)
        resolve(model, config.revision)
        return
    effective = OF_ALL | options_of(model)
    for given, default in ((config, ModelConfig()), (load_config, LoadConfig())):
        for option, value in default:
            if option not in effective and getattr(given, option) != value:
                raise RunError(f"`{option}` has no effect on a model that is loaded already")


def options_of(model: Any) -> set[str]:
    """The options that have an effect on a model that is loaded already."""
    return OF_LOADED | (OF_A_PAIR if isinstance(model, tuple) else set())


def loaded(model: Any, config: RunConfig, load_config: LoadConfig) -> LanguageModel:
    """The model, ready for requests.

    Raises:
        ModelError: it cannot be loaded, or does not fit the device's memory.
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
    """How prompts become conversations with a model; None if they are plain text.

    Raises:
        ModelError: the model has no chat template, or it cannot be used.
        UnknownName: the template does not use an argument.
    """
    if not config.chat:
        return None
    with sandbox.watched("the chat template"):  # it renders messages to find out what it writes around them
        template = model.chat_template(config.chat_args or {})
    if template.start and config.bos is False:
        raise ModelError("--bos no cannot leave out the BOS token that the chat template writes")
    start = template.start or (model.start if config.bos or model.kind != CAUSAL else ())
    chat = Chat(template.render, config.chat_demonstrations, config.chat_instruction, template.space)
    words = f"chat-{config.chat_demonstrations}-{config.chat_instruction}#{template.digest}"
    return ChatForm(chat, start, template.end, words)
