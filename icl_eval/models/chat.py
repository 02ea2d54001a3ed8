"""Chat templates of tokenizers, which turn messages into the text of a prompt, in the sandbox of `transformers`.

A template is not trusted. The sandbox prevents that it runs code or reads files. It is an error if a template refuses a
message, leaves one out, or writes today's date.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Protocol

import jinja2
from jinja2 import meta

from icl_eval.errors import ModelError, UnknownName
from icl_eval.models.control_tokens import ControlTokens

Messages = Sequence[Mapping[str, str]]  # each with `role` and `content`

CLOCK = "strftime_now"  # the function with which templates write the date; the argument of this name is a date
GIVEN = frozenset({"messages", "add_generation_prompt", "tools", "documents", "raise_exception", CLOCK})
USER, REPLY = "Is this a question?", "It is."  # the conversation with which a template is tested
LONGEST_REASON = 200  # maximum number of characters of a template's error message


class ChatTemplate(Protocol):
    """Turns messages into the text of a prompt."""

    @property
    def start(self) -> tuple[int, ...]:
        """The special tokens at the start of every prompt."""
        ...

    @property
    def space(self) -> str:
        """The white space before a reply."""
        ...

    @property
    def end(self) -> str:
        """The control token that ends a reply; empty if there is none."""
        ...

    @property
    def digest(self) -> str:
        """A hash of the template and its arguments."""
        ...

    def render(self, messages: Messages) -> str:
        """The text of a conversation, up to the start of the assistant's reply."""
        ...


class TokenizerTemplate:
    """The chat template of a tokenizer of `transformers`, with its arguments.

    Args:
        tokenizer: the tokenizer.
        controls: its control tokens.
        arguments: arguments of the template.

    Raises:
        ModelError: there is no template, it fails, or it writes today's date.
        UnknownName: the template does not use one of the arguments.
    """

    def __init__(self, tokenizer: Any, controls: ControlTokens, arguments: Mapping[str, Any]) -> None:
        source, special = _source(tokenizer), tokenizer.special_tokens_map
        self._tokenizer, self._template, self._header = tokenizer, _compiled(source), ""
        _check_arguments(arguments, meta.find_undeclared_variables(self._template.environment.parse(source)), special)
        self._arguments = {**special, **arguments, CLOCK: _clock(arguments.get(CLOCK))}
        described = [source, dict(arguments), special]
        self.digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:8]
        prompt = self.render([_user(USER)])
        self.start = self._start(prompt)
        before, after = self._around_reply(prompt)
        self.space = before if not before.strip() else ""
        if before.strip() and "add_generation_prompt" not in source:
            self._header = before
        self.end = controls.name_in_front(after.lstrip())

    def render(self, messages: Messages) -> str:
        """The text of a conversation, up to the start of the assistant's reply.

        Raises:
            ModelError: the template refuses the messages, or leaves one out or changes it.
        """
        text = self._rendered(messages, add_generation_prompt=True) + self._header
        for message in messages:
            if message["content"].strip() not in text:
                raise ModelError(
                    f"the chat template leaves out or changes a message of the {message['role']}{_advice(messages)}"
                )
        return text

    def _rendered(self, messages: Messages, *, add_generation_prompt: bool) -> str:
        given = {"messages": list(map(dict, messages)), "add_generation_prompt": add_generation_prompt}
        try:
            return self._template.render(**self._arguments, **given, tools=None, documents=None)
        except _DateRequested as error:
            raise ModelError(
                "the chat template writes today's date, so that prompts would change every day; give a date, such as "
                f"--chat-args {CLOCK}={date.today():%Y-%m-%d}"
            ) from error
        except Exception as error:  # a template can raise anything
            reason = " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
            raise ModelError(f"the chat template refuses the messages: {reason}{_advice(messages)}") from error

    def _start(self, prompt: str) -> tuple[int, ...]:
        """The BOS token if the template writes it, else nothing."""
        first = self._tokenizer(prompt, add_special_tokens=False)["input_ids"][:1]
        return tuple(first) if first == [self._tokenizer.bos_token_id] else ()

    def _around_reply(self, prompt: str) -> tuple[str, str]:
        """What the template writes between prompt and reply, and after the reply."""
        conversation = [_user(USER), {"role": "assistant", "content": REPLY}]
        whole = self._rendered(conversation, add_generation_prompt=False)
        before, _, after = whole.removeprefix(prompt).partition(REPLY)
        return (before, after) if whole.startswith(prompt) else ("", after)


class _DateRequested(Exception):  # noqa: N818 - an event, not an error
    """A template uses the date, which is not given."""


def _clock(day: Any) -> Callable[[str], str]:
    """The function with which a template writes the date.

    Raises:
        ModelError: the given day is not a date.
    """
    if day is None:

        def refuse(_: str) -> str:
            raise _DateRequested

        return refuse
    try:
        return datetime.fromisoformat(str(day)).strftime
    except ValueError as error:
        raise ModelError(f"--chat-args {CLOCK}={day!r} is not a date such as 2026-01-31") from error


def _source(tokenizer: Any) -> str:
    """The source of a tokenizer's chat template; of several, that of the default one.

    Raises:
        ModelError: there is no template.
    """
    found = tokenizer.chat_template
    if isinstance(found, dict):
        found = found.get("default")
    if not found:
        folder = getattr(tokenizer, "name_or_path", "")
        name = f"the tokenizer of {folder}" if folder else "the tokenizer"
        raise ModelError(f"{name} has no chat template, so it cannot be used with --chat")
    return str(found)


def _compiled(source: str) -> jinja2.Template:
    """A template, compiled in the sandbox of `transformers`.

    Raises:
        ModelError: the template does not parse.
    """
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        return _compile_jinja_template(source)  # type: ignore[no-any-return]
    except (jinja2.TemplateError, RecursionError, SyntaxError, MemoryError) as error:
        raise ModelError(f"the chat template does not parse: {' '.join(str(error).split())}") from error


def _check_arguments(arguments: Mapping[str, Any], names: set[str], special: Mapping[str, Any]) -> None:
    """Raise `UnknownName` for an argument that the template does not use."""
    known = names - GIVEN - special.keys()
    for name in arguments:
        if name not in {*known, CLOCK}:
            raise UnknownName("argument of the chat template", name, known, hint="it takes none")


def _user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def _advice(messages: Messages) -> str:
    has_system = any(message["role"] == "system" for message in messages)
    advice = "--chat-instruction user puts the instruction into the first user message"
    return f"; if it takes no system message, {advice}" if has_system else ""
