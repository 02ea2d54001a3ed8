"""Decoding: how text is generated; requests to generate it, and the generated texts."""

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
        max_tokens: maximum number of tokens of a text.
        stop: stop strings; the text ends before the first one in its answer.
        reasoning_end: the string between reasoning and answer, such as `</think>`; None if there is no reasoning.
        reply_end: the control token that ends a reply in a chat; the text always ends before it.
        beams: number of hypotheses that beam search keeps; 1 means no beam search.
        length_penalty: alpha, at least 0; used by beam search only.
        penalty: the formula for the score of a hypothesis of n tokens: `gnmt` is logprob / ((5 + n) / 6)^alpha (Wu et
            al. 2016, arXiv 1609.08144, equation 14), `power` is logprob / n^alpha (as in `transformers`).
        samples: number of texts to draw.
        temperature: divides the log-probabilities before a token is drawn; 0 is greedy.
        top_p: nucleus sampling: draw from the smallest set of most likely tokens whose probabilities, after the
            temperature, add up to this (Holtzman et al. 2020, arXiv 1904.09751, section 3.1).
        seed: seed of the draws.

    Raises:
        ValueError: a value is out of range, or beam search is combined with sampling.
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
                raise ValueError(f"{name} must be at least 0 and finite, not {getattr(self, name)}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if self.penalty not in PENALTIES:
            raise ValueError(f"penalty must be one of {', '.join(PENALTIES)}, not {self.penalty!r}")
        if "" in self.stop:
            raise ValueError("an empty stop string would end every text at once")
        if self.reasoning_end == "":
            raise ValueError("reasoning_end must not be empty")
        if self.beams > 1 and (self.temperature or self.samples > 1):
            raise ValueError("beam search cannot be combined with sampling: beams needs temperature 0 and samples 1")
        if self.samples > 1 and not self.temperature:
            raise ValueError("samples at temperature 0 are all equal: samples needs a temperature above 0")

    def penalized(self, logprob: float, length: int) -> float:
        """The score of a hypothesis in beam search; `length` counts its tokens, including the end token."""
        if self.penalty == "gnmt":
            return float(logprob / ((5 + length) / 6) ** self.length_penalty)
        return float(logprob / length**self.length_penalty)

    def end_of(self, text: str) -> int | None:
        """The offset at which a generated text ends: before a stop string in its answer, or before `reply_end`.

        None if it has neither.
        """
        start = answer_start(text, self.reasoning_end)
        found = [] if start is None else [text.find(stop, start) for stop in self.stop]
        found += [text.find(self.reply_end)] if self.reply_end else []
        return min((at for at in found if at >= 0), default=None)

    @property
    def stops(self) -> tuple[str, ...]:
        """All strings that end a text."""
        return (*self.stop, self.reply_end) if self.reply_end else self.stop

    @property
    def method(self) -> str:
        """How tokens are chosen, as in signatures, without the seed: `greedy`, `beam4-gnmt0.6`."""
        if self.beams > 1:
            return f"beam{self.beams}-{self.penalty}{self.length_penalty:g}"
        if self.temperature:
            return f"sample{self.samples}-t{self.temperature:g}-p{self.top_p:g}"
        return "greedy"

    @property
    def ending(self) -> str:
        r"""Where a text ends, as in signatures: `max32-stop(\n)`."""
        stops = ",".join(json.dumps(stop, ensure_ascii=False)[1:-1].replace("|", "\\u007c") for stop in self.stop)
        return f"max{self.max_tokens}-stop({stops})"


def answer_start(text: str, reasoning_end: str | None) -> int | None:
    """The offset of the answer in a text: after the reasoning and white space; None if the reasoning does not end."""
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
        """A request from the token ids of a prompt.

        Raises:
            ValueError: the prompt is empty.
        """
        if not prompt:
            raise ValueError("a prompt needs at least one token")
        return cls(array("i", prompt), decoding)

    @property
    def input_length(self) -> int:
        """Number of tokens of the prompt."""
        return len(self.tokens)

    @property
    def context(self) -> int:
        """Number of tokens in the context window: those of the prompt, and the most that may be generated."""
        return len(self.tokens) + self.decoding.max_tokens

    @property
    def most_tokens(self) -> int:
        """Maximum number of generated tokens, of all samples together."""
        return self.decoding.max_tokens * self.decoding.samples

    def within(self, window: int, *, separate: bool = False) -> GenerateRequest:
        """The same request with `max_tokens` limited to what the window has left after the prompt.

        Args:
            window: context length in tokens.
            separate: whether the generated text has a window of its own, as in encoder-decoder models.

        Raises:
            ValueError: there is no room for a single token.
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
        """Hash of everything that the answer depends on: the model's fingerprint, decoding and tokens."""
        digest = hashlib.blake2b(f"{fingerprint}:{self.decoding!r}:".encode(), digest_size=12, person=b"generate")
        digest.update(self.tokens.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class GenerateAnswer:
    """The generated texts: the best hypothesis of beam search, or every sample.

    Attributes:
        texts: the texts, up to the stop string or end token and without the prompt.
        tokens: number of generated tokens of each text, including the end token or those of the stop string.
        finished: why each text ended: `stop` (a stop string), `end` (an end token), or `length` (`max_tokens`).
        scores: log-probability of the tokens of each text at temperature 1, in nats; for beam search, with its length
            penalty.
    """

    texts: tuple[str, ...]
    tokens: tuple[int, ...]
    finished: tuple[str, ...]
    scores: tuple[float, ...]


TextSink = Callable[[int, GenerateAnswer], None]  # takes the index of a request and its answer
