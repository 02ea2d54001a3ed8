"""Request the log-probabilities of a prompt from a completions endpoint, and parse its answers.

There are two forms: `prompt_logprobs`, as in vLLM, and `echo` with `logprobs`, as in the OpenAI API. Servers take token
ids or only text. Tokens are counted in every answer, since a server may read other tokens than were sent.
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
from icl_eval.models.protocol import ScoreRequest
from icl_eval.models.served.endpoint import Body
from icl_eval.models.tokenization import BROKEN

DIGITS = 7  # decimals of a log-probability: below float32's own precision
ROUNDING = 1e-4  # nats
LEAST = 1e30  # nats below 0
PLAIN: Body = {
    "top_k": 0,
    "min_p": 0.0,
    "repeat_penalty": 1.0,
    "repetition_penalty": 1.0,
}  # against a server's defaults

TOP = 100  # most likely tokens that are requested where a server cannot return chosen ones
MAX_CHOSEN = (
    20  # tokens of one request: vLLM gives no more log-probabilities unless it is started with `--max-logprobs`
)


class MissingField(ModelError):  # noqa: N818 - it reads as what it says
    """An answer of an endpoint lacks a field that is needed."""


class TokenLogprob(NamedTuple):
    """The log-probability of a token and that of the most likely token at its position, in nats."""

    logprob: float
    best: float


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """Converts token ids to the prompt of a server that takes only text.

    Args:
        tokenizer: the tokenizer of the served model.
        adds_start: whether the server itself puts the start token before every text.
    """

    tokenizer: Any
    adds_start: bool = False

    def text(self, tokens: Sequence[int]) -> str:
        """The text that the server tokenizes to these tokens.

        Raises:
            ModelError: there is none: the tokenizer splits their text differently.
        """
        ids = list(tokens[1:] if self.adds_start else tokens)
        text: str = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        if self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] != ids:
            raise ModelError(
                f"the server accepts only text, and the text of the {len(ids)} tokens of a request is encoded as other "
                f"tokens; the text ends with {text[-40:]!r}"
            )
        return text

    def is_token(self, name: str, token: int) -> bool:
        """Whether a server's name of a token can mean that token; parts of characters can have any name."""
        text: str = self.tokenizer.decode([token], clean_up_tokenization_spaces=False)
        raw: str = self.tokenizer.convert_ids_to_tokens([token])[0]
        if name.startswith("token_id:"):
            return name == f"token_id:{token}"
        return BROKEN in text or name.startswith("bytes:") or name.strip() == text.strip() or name == raw


@dataclass(frozen=True, slots=True)
class CompletionsFormat:
    """One form of requests to a completions endpoint, and of its answers.

    Args:
        model: name at the endpoint.
        echo: request an echo of the prompt with `logprobs`; otherwise `prompt_logprobs`.
        text_prompt: converts tokens to text; None if token ids are sent.
        plain: send parameters that switch off changes of log-probabilities, such as the repetition penalty of
            llama-cpp-python; a server that knows only the parameters of OpenAI refuses them.
        hidden: tokens at the beginning of a prompt that an echo leaves out.
    """

    model: str
    echo: bool = False
    text_prompt: TextPrompt | None = None
    plain: bool = True
    hidden: int = 0

    @property
    def name(self) -> str:
        """Part of the fingerprint."""
        form = "echo" if self.echo else "prompt_logprobs"
        return f"{form}-{'text' if self.text_prompt else 'ids'}{'' if self.plain else '-strict'}"

    def scoring(self, tokens: Sequence[int]) -> Body:
        """The body that requests the log-probabilities of a prompt.

        One token is generated after it, since some servers take 0 for as many as fit.
        """
        form = {"echo": True, "logprobs": 1} if self.echo else {"prompt_logprobs": 1}
        return {**self._body(tokens), **form, "max_tokens": 1, "temperature": 0.0}

    def generation(self, tokens: Sequence[int], **options: Any) -> Body:
        """The body that requests a continuation of a prompt."""
        return {**self._body(tokens), "logprobs": 1, **options}

    def _body(self, tokens: Sequence[int]) -> dict[str, Any]:
        prompt = self.text_prompt.text(tokens) if self.text_prompt else list(tokens)
        return {"model": self.model, "prompt": prompt, **(PLAIN if self.plain else {})}

    def prompt_logprobs(self, answer: Any, tokens: Sequence[int], start: int) -> list[TokenLogprob]:
        """The log-probabilities of `tokens[start:]` in an answer to `scoring`.

        Raises:
            ModelError: they are missing, or of other tokens.
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
            raise ModelError(
                f"the server returns {count} tokens of a prompt of {len(tokens)}"
                f"{f' whose first {self.hidden} it leaves out' if self.hidden else ''}; it tokenizes text differently"
            )
        found = []
        for position in range(start, len(tokens)):
            index = position - self.hidden
            name = names[index]
            if self.text_prompt and not (isinstance(name, str) and self.text_prompt.is_token(name, tokens[position])):
                raise ModelError(
                    f"the server's token {position + 1} of a prompt is {reprlib.repr(name)} where "
                    f"{self.text_prompt.tokenizer.decode([tokens[position]])!r} was sent; it tokenizes text differently"
                )
            found.append(_token_logprob(values[index], top[index]))
        return found


class Query(NamedTuple):
    """One request to a server.

    Attributes:
        indices: of the requests that it answers, which have one context.
        context: tokens.
        body: what is sent.
    """

    indices: list[int]
    context: Sequence[int]
    body: Body


@dataclass(frozen=True)
class NextToken:
    """Requests one generated token with log-probabilities.

    Args:
        completions: the form of its requests.
        tokenizer: the served model's.
        chosen: whether the server gives the log-probabilities of chosen tokens, by their ids; otherwise it gives those
            of the `TOP` most likely ones, by their texts.
    """

    completions: CompletionsFormat
    tokenizer: Any
    chosen: bool

    @property
    def name(self) -> str:
        """Part of the signature and of the fingerprint."""
        return "next-ids" if self.chosen else "next-top"

    def queries(self, requests: Sequence[ScoreRequest]) -> list[Query]:
        """What to send, in the order of the contexts, for requests with one scored token.

        Requests with more, and those whose context the server cannot be sent, are in none.
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
        """A request for the log-probabilities of tokens after a context; none if no text has the context's tokens."""
        try:
            body = self.completions.generation(context, max_tokens=1, temperature=0.0)
        except ModelError:
            return None
        if not self.chosen:
            return {**body, "logprobs": TOP}
        return {**body, "logprob_token_ids": list(tokens), "return_tokens_as_token_ids": True}

    def read(self, answer: Any, context: Sequence[int], tokens: Sequence[int]) -> dict[int, TokenLogprob]:
        """The log-probabilities of those tokens that an answer has.

        Raises:
            ModelError: the server read another context, or an answer lacks what it should have.
        """
        check_prompt_tokens(answer, len(context))
        top = self.top(answer)
        if not top:
            return {}  # the text ends here
        names = {token: self._name(token) for token in tokens}
        found = {token: checked_logprob(top[name]) for token, name in names.items() if name in top}
        best = max(map(checked_logprob, top.values()))
        return {token: TokenLogprob(logprob, best) for token, logprob in found.items()}

    def top(self, answer: Any) -> dict[str, Any]:
        """The log-probabilities of the generated token and others; empty if nothing was generated.

        Raises:
            MissingField: the answer has none.
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
        """How many tokens of the vocabulary have each text: only a unique one says which token is meant."""
        return Counter(map(self._text, range(len(self.tokenizer))))


def choice_of(answer: Any) -> Any:
    """The first choice of an answer.

    Raises:
        MissingField: there is none.
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
        MissingField: there is none.
    """
    found = choice.get("logprobs")
    if not isinstance(found, dict):
        raise MissingField("the server's answer has no `logprobs`")
    return found


def prompt_tokens(answer: Any) -> int | None:
    """How many tokens the server reports that it read."""
    return _usage(answer, "prompt_tokens")


def check_prompt_tokens(answer: Any, expected: int) -> None:
    """Raise `ModelError` if the server reports that it read another number of tokens."""
    read = prompt_tokens(answer)
    if read is not None and read != expected:
        raise ModelError(f"the server read {read} tokens where {expected} were sent; it tokenizes text differently")


def completion_tokens(answer: Any) -> int | None:
    """How many tokens the server reports that it generated."""
    return _usage(answer, "completion_tokens")


def generated_tokens(answer: Any, choice: Any) -> int:
    """How many tokens, at most one, were generated: by the server's count, or by its reason to stop."""
    counted = completion_tokens(answer)
    return counted if counted is not None else int(choice.get("finish_reason") != "stop")


def checked_logprob(value: Any) -> float:
    """A log-probability in nats, rounded, and not above 0.

    Raises:
        MissingField: it is not a number, or above 0 by more than `ROUNDING`.
    """
    if type(value) not in (int, float) or not -LEAST <= value <= ROUNDING:
        raise MissingField(f"the server returns {reprlib.repr(value)} for a log-probability that is needed")
    return round(min(float(value), 0.0), DIGITS)


def _listed(choice: Any, tokens: Sequence[int], start: int) -> list[TokenLogprob]:
    """Parse `prompt_logprobs`: an object by token id for every token, or null for the first."""
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
        raise MissingField("the server's answer has no `top_logprobs`, which show whether a token was the most likely")
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
