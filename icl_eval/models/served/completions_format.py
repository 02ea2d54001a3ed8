"""Formats of requests to completions endpoints for log-probabilities: of prompts, and of next tokens.

Those of a prompt are requested by `prompt_logprobs`, as in vLLM, or by `echo` with `logprobs`, as in the OpenAI API.
Servers take token ids or only text. The tokens in every answer are counted, because a server may tokenize differently.

Log-probabilities of a prompt are expensive: servers do not use cached prefixes for them, so they recompute the whole
prompt for each option, and some sort the vocabulary at every position. If an option is one token, it is enough to
generate one token after the context and request the log-probabilities of alternatives, once for all options.
"""

from __future__ import annotations

import math
import reprlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from icl_eval.errors import ModelError
from icl_eval.models.protocol import DIGITS, ROUNDING, ScoreRequest
from icl_eval.models.served.endpoint import Body
from icl_eval.models.tokenization import BROKEN

LEAST = 1e30  # nats below 0 that a log-probability may have
PLAIN: Body = {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "repetition_penalty": 1.0}
"""Parameters that keep a server from changing log-probabilities by default."""
TOP = 100  # number of most likely tokens to request if a server cannot return those of chosen tokens
MAX_CHOSEN = 20  # chosen tokens per request: the maximum of vLLM unless it is started with `--max-logprobs`


class MissingField(ModelError):  # noqa: N818 - it reads as what it says
    """The answer of an endpoint lacks a field that is needed."""


class TokenLogprob(NamedTuple):
    """The log-probability of a token and that of the most likely token at its position, in nats."""

    logprob: float
    best: float


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """Converts token ids to text for a server that takes only text.

    Args:
        tokenizer: the tokenizer of the served model.
        adds_start: whether the server adds the start token before every text.
    """

    tokenizer: Any
    adds_start: bool = False

    def text(self, tokens: Sequence[int]) -> str:
        """The text of these tokens, which the server will encode to the same tokens.

        Raises:
            ModelError: the text is encoded to other tokens.
        """
        ids = list(tokens[1:] if self.adds_start else tokens)
        text: str = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        if self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] != ids:
            raise ModelError(
                f"the server takes only text, and the text of a request's {len(ids)} tokens is encoded to other "
                f"tokens; it ends with {text[-40:]!r}"
            )
        return text

    def is_token(self, name: str, token: int) -> bool:
        """Whether a server's name of a token may mean this token; tokens of parts of characters may have any name."""
        text: str = self.tokenizer.decode([token], clean_up_tokenization_spaces=False)
        raw: str = self.tokenizer.convert_ids_to_tokens([token])[0]
        if name.startswith("token_id:"):
            return name == f"token_id:{token}"
        return BROKEN in text or name.startswith("bytes:") or name.strip() == text.strip() or name == raw


@dataclass(frozen=True, slots=True)
class CompletionsFormat:
    """A format of requests to a completions endpoint, and of its answers.

    Args:
        model: the name of the model at the endpoint.
        echo: whether to request an echo of the prompt with `logprobs`, or else `prompt_logprobs`.
        text_prompt: converts tokens to text; None if token ids are sent.
        plain: whether to send parameters that switch off changes of log-probabilities, such as the repetition penalty
            of llama-cpp-python; a server that only knows the parameters of OpenAI refuses them.
        hidden: number of tokens at the start of a prompt that the echo leaves out.
    """

    model: str
    echo: bool = False
    text_prompt: TextPrompt | None = None
    plain: bool = True
    hidden: int = 0

    @property
    def name(self) -> str:
        """The format as in fingerprints and signatures."""
        form = "echo" if self.echo else "prompt_logprobs"
        return f"{form}-{'text' if self.text_prompt else 'ids'}{'' if self.plain else '-strict'}"

    def scoring(self, tokens: Sequence[int]) -> Body:
        """The body of a request for the log-probabilities of a prompt.

        One token is generated, because some servers generate as many as possible if `max_tokens` is 0.
        """
        form = {"echo": True, "logprobs": 1} if self.echo else {"prompt_logprobs": 1}
        return {**self._body(tokens), **form, "max_tokens": 1, "temperature": 0.0}

    def generation(self, tokens: Sequence[int], **options: Any) -> Body:
        """The body of a request to generate text after a prompt."""
        return {**self._body(tokens), "logprobs": 1, **options}

    def _body(self, tokens: Sequence[int]) -> dict[str, Any]:
        prompt = self.text_prompt.text(tokens) if self.text_prompt else list(tokens)
        return {"model": self.model, "prompt": prompt, **(PLAIN if self.plain else {})}

    def prompt_logprobs(self, answer: Any, tokens: Sequence[int], start: int) -> list[TokenLogprob]:
        """The log-probabilities of `tokens[start:]` in the answer to a `scoring` request.

        Raises:
            ModelError: they are missing, or belong to other tokens.
        """
        choice = choice_of(answer)
        check_prompt_tokens(answer, len(tokens))
        if self.echo:
            return self._echoed(answer, choice, tokens, start)
        return _listed(choice, tokens, start)

    def _echoed(self, answer: Any, choice: Any, tokens: Sequence[int], start: int) -> list[TokenLogprob]:
        fields = logprobs_of(choice)
        values, top, names = (_list(fields, name) for name in ("token_logprobs", "top_logprobs", "tokens"))
        count = len(values) - generated_tokens(answer, choice)
        if not len(values) == len(top) == len(names) or count != len(tokens) - self.hidden:
            hidden = f", of which it hides the first {self.hidden}" if self.hidden else ""
            raise ModelError(
                f"the server returns {count} tokens of a prompt of {len(tokens)}{hidden}; it tokenizes text differently"
            )
        found = []
        for position in range(start, len(tokens)):
            index = position - self.hidden
            name = names[index]
            if self.text_prompt and not (isinstance(name, str) and self.text_prompt.is_token(name, tokens[position])):
                raise ModelError(
                    f"token {position + 1} of a prompt is {reprlib.repr(name)} at the server, but "
                    f"{self.text_prompt.tokenizer.decode([tokens[position]])!r} was sent; it tokenizes text differently"
                )
            found.append(_token_logprob(values[index], top[index]))
        return found


class Query(NamedTuple):
    """A request to a server for the next token after a context.

    Attributes:
        indices: the indices of the requests that it answers, which have the same context.
        context: the tokens of the context.
        body: the body that is sent.
    """

    indices: list[int]
    context: Sequence[int]
    body: Body


@dataclass(frozen=True)
class NextToken:
    """A format of requests for one generated token with the log-probabilities of alternatives.

    Args:
        completions: the format of requests to generate.
        tokenizer: the tokenizer of the served model.
        chosen: whether the server returns the log-probabilities of chosen tokens by their ids; if not, it returns those
            of the `TOP` most likely tokens by their texts.
    """

    completions: CompletionsFormat
    tokenizer: Any
    chosen: bool

    @property
    def name(self) -> str:
        """The format as in fingerprints and signatures."""
        return "next-ids" if self.chosen else "next-top"

    def queries(self, requests: Sequence[ScoreRequest]) -> list[Query]:
        """The requests to send, in the order of contexts, for requests with one scored token.

        Requests that score more tokens, or whose context cannot be sent to the server, are left out.
        """
        contexts: defaultdict[bytes, list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            if 0 < request.boundary == len(request.tokens) - 1:
                contexts[request.tokens[:-1].tobytes()].append(index)
        found: list[Query] = []
        for indices in sorted(contexts.values(), key=lambda indices: requests[indices[0]].tokens):
            size = MAX_CHOSEN if self.chosen else len(indices)
            for first in range(0, len(indices), size):
                some = indices[first : first + size]
                context = requests[some[0]].tokens[:-1]
                body = self.body(context, [requests[index].tokens[-1] for index in some])
                if body is not None:
                    found.append(Query(some, context, body))
        return found

    def body(self, context: Sequence[int], tokens: Sequence[int]) -> Body | None:
        """The body of a request for the log-probabilities of tokens after a context.

        None if the server takes only text and no text has exactly the tokens of the context.
        """
        try:
            body = self.completions.generation(context, max_tokens=1, temperature=0.0)
        except ModelError:
            return None
        if not self.chosen:
            return {**body, "logprobs": TOP}
        return {**body, "logprob_token_ids": list(tokens), "return_tokens_as_token_ids": True}

    def read(self, answer: Any, context: Sequence[int], tokens: Sequence[int]) -> dict[int, TokenLogprob]:
        """The log-probabilities in an answer, by token; tokens that are not among the most likely ones are missing.

        Raises:
            ModelError: the server read another context, or the answer lacks a field.
        """
        check_prompt_tokens(answer, len(context))
        top = self.top(answer)
        if not top:
            return {}  # the server generated an end token
        names = {token: self._name(token) for token in tokens}
        found = {token: checked_logprob(top[name]) for token, name in names.items() if name in top}
        best = max(map(checked_logprob, top.values()))
        return {token: TokenLogprob(logprob, best) for token, logprob in found.items()}

    def top(self, answer: Any) -> dict[str, Any]:
        """The log-probabilities of the generated token and of alternatives, by name; empty if nothing was generated.

        Raises:
            MissingField: the answer has no log-probabilities.
        """
        found = logprobs_of(choice_of(answer)).get("top_logprobs")
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise MissingField("the server's answer has no `top_logprobs`")
        return found[0] if found else {}

    def _name(self, token: int) -> str | None:
        if self.chosen:
            return f"token_id:{token}"
        text = self._text(token)
        return text if self._texts[text] == 1 else None

    def _text(self, token: int) -> str:
        return str(self.tokenizer.decode([token], clean_up_tokenization_spaces=False))

    @cached_property
    def _texts(self) -> Counter[str]:
        """How many tokens of the vocabulary have each text; only a unique text identifies its token."""
        return Counter(map(self._text, range(len(self.tokenizer))))


def choice_of(answer: Any) -> Any:
    """The first choice in an answer.

    Raises:
        MissingField: the answer has no choices.
    """
    try:
        choice = answer["choices"][0]
    except (KeyError, IndexError, TypeError) as error:
        raise MissingField("the server's answer has no `choices`") from error
    if not isinstance(choice, dict):
        raise MissingField("the server's answer has no `choices`")
    return choice


def logprobs_of(choice: Any) -> Any:
    """The object `logprobs` of a choice.

    Raises:
        MissingField: the choice does not have it.
    """
    found = choice.get("logprobs")
    if not isinstance(found, dict):
        raise MissingField("the server's answer has no `logprobs`")
    return found


def prompt_tokens(answer: Any) -> int | None:
    """Number of tokens that the server reports to have read; None if it does not report it."""
    return _usage(answer, "prompt_tokens")


def check_prompt_tokens(answer: Any, expected: int) -> None:
    """Raise `ModelError` if the server reports to have read another number of tokens."""
    read = prompt_tokens(answer)
    if read is not None and read != expected:
        raise ModelError(f"the server read {read} tokens, but {expected} were sent; it tokenizes text differently")


def completion_tokens(answer: Any) -> int | None:
    """Number of tokens that the server reports to have generated; None if it does not report it."""
    return _usage(answer, "completion_tokens")


def generated_tokens(answer: Any, choice: Any) -> int:
    """Number of generated tokens, 0 or 1: as the server reports, or else inferred from its `finish_reason`."""
    counted = completion_tokens(answer)
    return counted if counted is not None else int(choice.get("finish_reason") != "stop")


def checked_logprob(value: Any) -> float:
    """A log-probability of an answer in nats, rounded and at most 0.

    Raises:
        MissingField: it is not a number, or it is above 0 by more than a rounding error.
    """
    if type(value) not in (int, float) or not -LEAST <= value <= ROUNDING:
        raise MissingField(f"the server returns {reprlib.repr(value)} for a log-probability that is needed")
    return round(min(float(value), 0.0), DIGITS)


def _listed(choice: Any, tokens: Sequence[int], start: int) -> list[TokenLogprob]:
    """The log-probabilities in `prompt_logprobs`, which has an object by token id for each token, or null."""
    listed = choice.get("prompt_logprobs")
    if not isinstance(listed, list):
        raise MissingField("the server's answer has no `prompt_logprobs`")
    if len(listed) != len(tokens):
        raise ModelError(f"the server returns `prompt_logprobs` of {len(listed)} tokens for a prompt of {len(tokens)}")
    found = []
    for token, entry in zip(tokens[start:], listed[start:], strict=True):
        try:
            values = {key: each["logprob"] for key, each in entry.items()}
            found.append(_token_logprob(values[str(token)], values))
        except (KeyError, TypeError, AttributeError) as error:
            raise MissingField(f"the server's `prompt_logprobs` lack token {token}") from error
    return found


def _token_logprob(value: Any, top: Any) -> TokenLogprob:
    if not isinstance(top, dict) or not top:
        raise MissingField("the server's answer has no `top_logprobs`, so it is unknown which token is most likely")
    logprob = checked_logprob(value)
    return TokenLogprob(logprob, max(logprob, *(checked_logprob(each) for each in top.values() if each != -math.inf)))


def _list(fields: Any, name: str) -> list[Any]:
    if not isinstance(found := fields.get(name), list):
        raise MissingField(f"the server's answer has no `{name}`")
    return found


def _usage(answer: Any, name: str) -> int | None:
    usage = answer.get("usage") if isinstance(answer, dict) else None
    counted = usage.get(name) if isinstance(usage, dict) else None
    return counted if type(counted) is int and counted >= 0 else None
