"""How a completions endpoint is asked for the log-probabilities of a prompt, and how its answer is read.

There are two forms: `prompt_logprobs`, as vLLM has it, and `echo` with `logprobs`, as OpenAI had it. Either takes token
ids or only text. What a server shows is never assumed to be what was asked: tokens are counted in every answer.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from icl_eval.errors import ModelError
from icl_eval.models.generation.text import BROKEN
from icl_eval.models.served.endpoint import Body

DIGITS = 7  # decimals of a log-probability: below float32's own precision
ROUNDING = 1e-4  # nats
LEAST = 1e30  # nats below 0
PLAIN: Body = {
    "top_k": 0,
    "min_p": 0.0,
    "repeat_penalty": 1.0,
    "repetition_penalty": 1.0,
}  # against a server's defaults


class Lacking(ModelError):  # noqa: N818 - it reads as what it says
    """An answer of an endpoint lacks something that is needed."""


class Place(NamedTuple):
    """A place of a prompt: the log-probability of its token and that of the most likely one, in nats."""

    logprob: float
    best: float


@dataclass(frozen=True, slots=True)
class Wording:
    """How token ids are put to a server that takes text alone.

    Args:
        tokenizer: the served model's.
        adds_start: whether the server puts the token before every text itself that all sequences here begin with.
    """

    tokenizer: Any
    adds_start: bool = False

    def text(self, tokens: Sequence[int]) -> str:
        """The text of which the server makes these tokens.

        Raises:
            ModelError: there is none, since the tokenizer would part it otherwise.
        """
        ids = list(tokens[1:] if self.adds_start else tokens)
        text: str = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        if self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] != ids:
            raise ModelError(
                f"the server takes text, not token ids, and the {len(ids)} tokens of a request have no text that is "
                f"encoded as they are; its end is {text[-40:]!r}"
            )
        return text

    def is_token(self, said: str, token: int) -> bool:
        """Whether what a server writes for a token can be that token; a part of a character can be written anyhow."""
        own: str = self.tokenizer.decode([token], clean_up_tokenization_spaces=False)
        piece: str = self.tokenizer.convert_ids_to_tokens([token])[0]
        if said.startswith("token_id:"):
            return said == f"token_id:{token}"
        return BROKEN in own or said.startswith("bytes:") or said.strip() == own.strip() or said == piece


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way to ask, and to read what comes.

    Args:
        model: name at the endpoint.
        echo: ask for the prompt back with `logprobs`; otherwise for `prompt_logprobs`.
        wording: makes text of tokens; none where token ids are sent.
        plain: send parameters that take back what servers do to log-probabilities before they choose a token, such as
            llama-cpp-python's penalty of repetitions; a server that knows only OpenAI's refuses them.
        hidden: tokens at the beginning of a prompt that an echo does not show.
    """

    model: str
    echo: bool = False
    wording: Wording | None = None
    plain: bool = True
    hidden: int = 0

    @property
    def name(self) -> str:
        """Part of the fingerprint."""
        form = "echo" if self.echo else "prompt_logprobs"
        return f"{form}-{'text' if self.wording else 'ids'}{'' if self.plain else '-strict'}"

    def scoring(self, tokens: Sequence[int]) -> Body:
        """The body that asks for the log-probabilities of a prompt.

        One token is written after it, since some servers take 0 for as many as fit.
        """
        form = {"echo": True, "logprobs": 1} if self.echo else {"prompt_logprobs": 1}
        return {**self._body(tokens), **form, "max_tokens": 1, "temperature": 0.0}

    def writing(self, tokens: Sequence[int], **how: Any) -> Body:
        """The body that asks for what follows a prompt."""
        return {**self._body(tokens), "logprobs": 1, **how}

    def _body(self, tokens: Sequence[int]) -> dict[str, Any]:
        prompt = self.wording.text(tokens) if self.wording else list(tokens)
        return {"model": self.model, "prompt": prompt, **(PLAIN if self.plain else {})}

    def places(self, answer: Any, tokens: Sequence[int], start: int) -> list[Place]:
        """What an answer to `scoring` says of `tokens[start:]`.

        Raises:
            ModelError: it says it not, or of other tokens.
        """
        choice = choice_of(answer)
        check_prompt_tokens(answer, len(tokens))
        if self.echo:
            return self._echoed(answer, choice, tokens, start)
        return _listed(choice, tokens, start)

    def _echoed(self, answer: Any, choice: Any, tokens: Sequence[int], start: int) -> list[Place]:
        shown = logprobs_of(choice)
        own, top, words = (_list(shown, name) for name in ("token_logprobs", "top_logprobs", "tokens"))
        count = len(own) - written_tokens(answer, choice)
        if not len(own) == len(top) == len(words) or count != len(tokens) - self.hidden:
            raise ModelError(
                f"the server shows {count} tokens of a prompt of {len(tokens)}"
                f"{f' whose first {self.hidden} it does not show' if self.hidden else ''}; it parts texts otherwise"
            )
        found = []
        for place in range(start, len(tokens)):
            index = place - self.hidden
            word = words[index]
            if self.wording and not (isinstance(word, str) and self.wording.is_token(word, tokens[place])):
                raise ModelError(
                    f"the server's token {place + 1} of a prompt is {reprlib.repr(word)} where "
                    f"{self.wording.tokenizer.decode([tokens[place]])!r} was meant; it parts texts otherwise"
                )
            found.append(_place(own[index], top[index]))
        return found


def choice_of(answer: Any) -> Any:
    """The first choice of an answer.

    Raises:
        Lacking: there is none.
    """
    try:
        choice = answer["choices"][0]
    except (KeyError, IndexError, TypeError) as error:
        raise Lacking("the server's answer has no `choices`") from error
    if not isinstance(choice, dict):
        raise Lacking("the server's answer has no `choices`")
    return choice


def logprobs_of(choice: Any) -> Any:
    """The object `logprobs` of a choice.

    Raises:
        Lacking: there is none.
    """
    shown = choice.get("logprobs")
    if not isinstance(shown, dict):
        raise Lacking("the server's answer has no `logprobs`")
    return shown


def prompt_tokens(answer: Any) -> int | None:
    """How many tokens the server says that it read."""
    return _usage(answer, "prompt_tokens")


def check_prompt_tokens(answer: Any, expected: int) -> None:
    """Raise `ModelError` if the server says that it read another number of tokens."""
    read = prompt_tokens(answer)
    if read is not None and read != expected:
        raise ModelError(f"the server read {read} tokens where {expected} were meant; it parts texts otherwise")


def counted_tokens(answer: Any) -> int | None:
    """How many tokens the server says that it generated."""
    return _usage(answer, "completion_tokens")


def written_tokens(answer: Any, choice: Any) -> int:
    """How many of at most one token were written: what the server counts, or else by why it ended."""
    counted = counted_tokens(answer)
    return counted if counted is not None else int(choice.get("finish_reason") != "stop")


def told_logprob(value: Any) -> float:
    """A log-probability in nats, rounded, and not above 0.

    Raises:
        Lacking: it is no number, or none of a probability; rounding may put it above 0 by `ROUNDING`.
    """
    if type(value) not in (int, float) or not -LEAST <= value <= ROUNDING:
        raise Lacking(f"the server gives {reprlib.repr(value)} for a log-probability that is needed")
    return round(min(float(value), 0.0), DIGITS)


def _listed(choice: Any, tokens: Sequence[int], start: int) -> list[Place]:
    """The places of `prompt_logprobs`: per token an object by token id, or null for the first."""
    listed = choice.get("prompt_logprobs")
    if not isinstance(listed, list):
        raise Lacking("the server's answer has no `prompt_logprobs`")
    if len(listed) != len(tokens):
        raise ModelError(f"the server gives `prompt_logprobs` of {len(listed)} tokens for a prompt of {len(tokens)}")
    found = []
    for token, entry in zip(tokens[start:], listed[start:], strict=True):
        try:
            values = {key: each["logprob"] for key, each in entry.items()}
            found.append(_place(values[str(token)], values))
        except (KeyError, TypeError, AttributeError) as error:
            raise Lacking(f"the server's `prompt_logprobs` do not tell of token {token}") from error
    return found


def _place(own: Any, others: Any) -> Place:
    if not isinstance(others, dict) or not others:
        raise Lacking("the server's answer has no `top_logprobs`, by which to see whether a token was the most likely")
    logprob = told_logprob(own)
    return Place(logprob, max(logprob, *(told_logprob(each) for each in others.values() if each != -math.inf)))


def _list(shown: Any, name: str) -> list[Any]:
    if not isinstance(found := shown.get(name), list):
        raise Lacking(f"the server's answer has no `{name}`")
    return found


def _usage(answer: Any, name: str) -> int | None:
    usage = answer.get("usage") if isinstance(answer, dict) else None
    counted = usage.get(name) if isinstance(usage, dict) else None
    return counted if type(counted) is int and counted >= 0 else None
