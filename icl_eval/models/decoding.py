"""Requests to generate text, their decoding algorithm, and the generated texts."""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

PENALTIES = ("gnmt", "power")


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a text is generated: greedily, by beam search, or by sampling.

    Args:
        max_tokens: tokens after which a text ends at the latest.
        stop: a text ends before the first of these in its answer.
        reasoning_end: what ends the reasoning before an answer, such as `</think>`; None if there is none.
        reply_end: the control token that ends a reply of a chat; a text ends before it in any case.
        beams: hypotheses that beam search keeps; 1 is greedy.
        length_penalty: alpha, which is not negative; only beam search uses it.
        penalty: `gnmt`, by which a hypothesis of n tokens scores logprob / ((5 + n) / 6)^alpha (Wu et al. 2016,
            arXiv 1609.08144, equation 14), or `power`, logprob / n^alpha (what `transformers` does).
        samples: texts to draw.
        temperature: log-probabilities are divided by it before a token is drawn; 0 is greedy.
        top_p: tokens are drawn among the fewest most likely ones that have this probability together, after the
            temperature (Holtzman et al. 2020, arXiv 1904.09751, section 3.1).
        seed: of the draws.

    Raises:
        ValueError: a value is out of range, or beam search is to draw samples; the sentence says which.
    """

    max_tokens: int
    stop: tuple[str, ...] = ("\n",)
    beams: int = 1
    length_penalty: float = 0.6
    penalty: Literal["gnmt", "power"] = "gnmt"
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    reasoning_end: str | None = None
    reply_end: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_tokens", "beams", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("length_penalty", "temperature"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number that is not negative, not {getattr(self, name)}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if self.penalty not in PENALTIES:
            raise ValueError(f"penalty must be one of {', '.join(PENALTIES)}, not {self.penalty!r}")
        if "" in self.stop:
            raise ValueError("an empty stop string would end every text at once")
        if self.reasoning_end == "":
            raise ValueError("an empty text cannot end the reasoning")
        if self.beams > 1 and (self.temperature or self.samples > 1):
            raise ValueError("beam search draws no samples: beams needs temperature 0 and samples 1")
        if self.samples > 1 and not self.temperature:
            raise ValueError("samples at temperature 0 are all the same: samples needs a temperature")

    def penalized(self, logprob: float, length: int) -> float:
        """The score by which beam search ranks a hypothesis of `length` tokens, including the end token."""
        if self.penalty == "gnmt":
            return float(logprob / ((5 + length) / 6) ** self.length_penalty)
        return float(logprob / length**self.length_penalty)

    def end_of(self, text: str) -> int | None:
        """Where a generated text ends: before a stop string in its answer, or where the reply ends; None if nowhere."""
        start = answer_start(text, self.reasoning_end)
        found = [] if start is None else [text.find(stop, start) for stop in self.stop]
        found += [text.find(self.reply_end)] if self.reply_end else []
        return min((at for at in found if at >= 0), default=None)

    @property
    def stops(self) -> tuple[str, ...]:
        """All that a text ends before."""
        return (*self.stop, self.reply_end) if self.reply_end else self.stop

    @property
    def method(self) -> str:
        """The part of the signature for how tokens are chosen, without the seed: `greedy`, `beam4-gnmt0.6`."""
        if self.beams > 1:
            return f"beam{self.beams}-{self.penalty}{self.length_penalty:g}"
        if self.temperature:
            return f"sample{self.samples}-t{self.temperature:g}-p{self.top_p:g}"
        return "greedy"

    @property
    def ending(self) -> str:
        r"""The part of the signature for where a text ends: `max32-stop(\n)`."""
        stops = ",".join(json.dumps(stop, ensure_ascii=False)[1:-1].replace("|", "\\u007c") for stop in self.stop)
        return f"max{self.max_tokens}-stop({stops})"


def answer_start(text: str, reasoning_end: str | None) -> int | None:
    """Where the answer begins in a text: after the reasoning and white space; None if the reasoning does not end."""
    if reasoning_end is None:
        return 0
    reasoning, mark, rest = text.partition(reasoning_end)
    return len(reasoning) + len(mark) + len(rest) - len(rest.lstrip()) if mark else None


@dataclass(frozen=True, slots=True, eq=False)
class GenerateRequest:
    """A request to generate text after a prompt."""

    tokens: array[int]
    decoding: Decoding

    @classmethod
    def of(cls, prompt: Sequence[int], decoding: Decoding) -> GenerateRequest:
        """A request from a list of token ids.

        Raises:
            ValueError: it is empty.
        """
        if not prompt:
            raise ValueError("a prompt needs at least one token")
        return cls(array("i", prompt), decoding)

    @property
    def input_length(self) -> int:
        """Tokens of the prompt."""
        return len(self.tokens)

    @property
    def context(self) -> int:
        """Tokens of the prompt, and the most tokens of the answer."""
        return len(self.tokens) + self.decoding.max_tokens

    @property
    def most_tokens(self) -> int:
        """The most tokens of the answer, for all samples together."""
        return self.decoding.max_tokens * self.decoding.samples

    def within(self, window: int, *, separate: bool = False) -> GenerateRequest:
        """The same request, limited to the tokens that a window leaves after the prompt.

        Args:
            window: context length in tokens.
            separate: whether the generated text has its own window.

        Raises:
            ValueError: the window leaves no tokens.
        """
        room = window - len(self.tokens)
        if separate and room >= 0:
            room = window
        if room < 1:
            raise ValueError(
                f"a prompt of {len(self.tokens)} tokens leaves no room to generate: the context length is {window}"
            )
        if self.decoding.max_tokens <= room:
            return self
        return GenerateRequest(self.tokens, replace(self.decoding, max_tokens=room))

    def key(self, fingerprint: str) -> str:
        """Hash of all that the answer depends on: the model's fingerprint, the decoding and the tokens."""
        digest = hashlib.blake2b(f"{fingerprint}:{self.decoding!r}:".encode(), digest_size=12, person=b"generate")
        digest.update(self.tokens.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class GenerateAnswer:
    """The generated texts: the best hypothesis, or every sample.

    Attributes:
        texts: without the prompt, the stop string and all after it.
        tokens: generated tokens of each text, including the end token and those of the stop string.
        finished: why each text ended: at a `stop` string, at an `end` token, or at the maximum `length`.
        scores: log-probability of each text's tokens in nats, at temperature 1; for beam search, after its penalty.
    """

    texts: tuple[str, ...]
    tokens: tuple[int, ...]
    finished: tuple[str, ...]
    scores: tuple[float, ...]


TextSink = Callable[[int, GenerateAnswer], None]  # takes a request's position and its answer
