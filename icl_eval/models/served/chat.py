"""A model behind an OpenAI-compatible chat endpoint, which takes messages and only returns texts.

The server applies its own chat template. So a prompt is the JSON of its messages, its tokens are the bytes of this
JSON, and the number of tokens of the served model is unknown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from icl_eval.models.chat import ChatTemplate, Messages
from icl_eval.models.decoding import Decoding, GenerateRequest, TextSink
from icl_eval.models.options import LoadConfig, ModelConfig
from icl_eval.models.protocol import UNLIMITED, LanguageModel
from icl_eval.models.served.completions_format import MissingField, choice_of
from icl_eval.models.served.endpoint import AMBIGUOUS, UNSUPPORTED, Body, Endpoint, Refusal
from icl_eval.models.served.model import ServedText, ended_text, endpoint_at, generate_texts, named_model

CHAT = "/chat/completions"
PROBE = [{"role": "user", "content": "Say yes."}]
PROBE_TOKENS = 16  # the minimum of some servers
LIMITS = ("max_tokens", "max_completion_tokens")  # names of the same parameter; new OpenAI models need the second
MOST_STOPS = 4  # stop strings that the API of OpenAI takes; texts are cut at the others here
REASONING = ("reasoning_content", "reasoning")  # fields for the reasoning before the answer


@dataclass(frozen=True, slots=True)
class JsonMessages:
    """The chat template for an endpoint, which writes messages as JSON."""

    digest: str
    start: tuple[int, ...] = ()
    space: str = ""
    end: str = ""

    def render(self, messages: Messages) -> str:
        """The messages as JSON."""
        return json.dumps(list(map(dict, messages)), ensure_ascii=False)


class ChatLM(LanguageModel):
    """A model that is served by a chat endpoint.

    Args:
        endpoint: the endpoint.
        name: the name of the model at the endpoint and in tables.
        arguments: arguments of the server's chat template; only some servers take them, such as vLLM and SGLang.

    Raises:
        ModelError: the endpoint does not answer.
    """

    window, fallback, lock = UNLIMITED, 0, nullcontext()
    scoring_limit = (
        "a chat endpoint gives no log-probabilities of given texts; with --tokenizer, prompts are sent to the "
        "completions endpoint instead"
    )

    def __init__(self, endpoint: Endpoint, name: str, arguments: Mapping[str, Any]) -> None:
        self._endpoint, self.name = endpoint, name
        self._common: dict[str, Any] = {"model": name}
        if arguments:
            self._common["chat_template_kwargs"] = dict(arguments)
        with endpoint.named():
            self._limit, self._logprobs = self._detected()
        self.precision = "served:chat" + ("+logprobs" if self._logprobs else "")
        self.fingerprint = f"{self.precision}|{name}|{json.dumps(arguments, sort_keys=True)}"

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The bytes of texts."""
        return [list(text.encode()) for text in texts]

    def decode(self, ids: Sequence[int]) -> list[str]:
        """The character of each byte."""
        return [chr(byte) for byte in ids]

    def chat_template(self, arguments: Mapping[str, Any]) -> ChatTemplate:
        """The template that writes messages as JSON; the server applies its own template."""
        described = json.dumps(dict(arguments), sort_keys=True)
        return JsonMessages(hashlib.sha256(described.encode()).hexdigest()[:8])

    def generate(self, requests: Sequence[GenerateRequest], sink: TextSink) -> None:
        """Generate replies, with one request per sample; call `sink` with each answer as soon as it is complete.

        Raises:
            ModelError: beam search is requested, or the endpoint does not answer.
        """

        def body(request: GenerateRequest, options: Body) -> Body:
            return self._body(json.loads(bytes(request.tokens.tolist())), options)

        generate_texts(self._endpoint, CHAT, requests, body, self._reply, sink)

    def _body(self, messages: Any, options: Body) -> Body:
        found = {**self._common, "messages": messages, **options}
        found[self._limit] = found.pop("max_tokens")
        if "stop" in found:
            found["stop"] = found["stop"][:MOST_STOPS]
        return {**found, "logprobs": True, "top_logprobs": 1} if self._logprobs else found

    def _detected(self) -> tuple[str, bool]:
        """The name of the parameter that limits the tokens of a reply, and whether the server has log-probabilities.

        Raises:
            ModelError: the endpoint does not answer a message.
        """
        problems: list[Refusal] = []
        for limit in LIMITS:
            for logprobs in (True, False):
                self._limit, self._logprobs = limit, logprobs
                body = self._body(PROBE, {"max_tokens": PROBE_TOKENS})
                try:
                    answer = self._endpoint.post(CHAT, body, AMBIGUOUS if logprobs else ())
                except Refusal as error:
                    if error.status not in (*UNSUPPORTED, *(AMBIGUOUS if logprobs else ())):
                        raise
                    problems.append(error)
                else:
                    choice = choice_of(answer)
                    message_of(choice)
                    return limit, _logprobs(choice) is not None
        raise problems[0]

    def _reply(self, answer: Any, decoding: Decoding) -> ServedText:
        """The reply in an answer, after its reasoning if the decoding has `reasoning_end`.

        Raises:
            ModelError: the answer lacks a field, or the text ended neither at a stop nor at its maximum length.
        """
        choice = choice_of(answer)
        message = message_of(choice)
        text, end = message.get("content") or "", decoding.reasoning_end
        reasoning = next((found for name in REASONING if isinstance(found := message.get(name), str)), "")
        if end is not None and reasoning and end not in text:
            text = f"{reasoning}{end}{text}" if text else reasoning
        values = _logprobs(choice) if self._logprobs else []
        if values is None:
            raise MissingField("the server's answer has no `logprobs`")
        return ended_text(answer, text, decoding, values)


def message_of(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message of a choice.

    Raises:
        MissingField: there is no message, or its content is not a text.
    """
    message = choice.get("message")
    if not isinstance(message, dict) or not isinstance(message.get("content", ""), str | None):
        raise MissingField("the server's answer has no `message` with a text")
    return message


def _logprobs(choice: Mapping[str, Any]) -> list[Any] | None:
    """The log-probabilities of a reply's tokens; None if the server returned none."""
    found = choice.get("logprobs")
    entries = found.get("content") if isinstance(found, dict) else None
    if not isinstance(entries, list) or not all(isinstance(each, dict) and "logprob" in each for each in entries):
        return None
    return [each["logprob"] for each in entries]


def connect_chat(url: str, model_config: ModelConfig, load_config: LoadConfig) -> ChatLM:
    """The model at a chat endpoint; the API key is read from the environment.

    Raises:
        ModelError: the endpoint cannot be reached, or does not answer a message.
        UnknownName: the endpoint has no model of this name.
    """
    endpoint = endpoint_at(url, load_config)
    name, _ = named_model(endpoint, model_config.served_name)
    return ChatLM(endpoint, name, model_config.chat_args or {})
