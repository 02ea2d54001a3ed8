"""Tokenizers of `transformers`: encoding and decoding, special tokens, and context length.

Texts are encoded line by line, so that lines which many prompts share are encoded once. A tokenizer that first splits
texts into words encodes a line independently of the text before it, unless it joins the line break with the word before
it. The words before and after the line break are encoded to find out whether it does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

from icl_eval.errors import ModelError
from icl_eval.models.chat import ChatTemplate, TokenizerTemplate
from icl_eval.models.control_tokens import PLAIN, ControlTokens
from icl_eval.models.locking import COMPUTING
from icl_eval.models.protocol import LanguageModel

FIRST = re.compile(r"\s*\S*")
SPLITTING = {"BPE", "WordPiece", "WordLevel"}  # types of tokenizers that encode each word by itself
CACHE_SIZE = 2**24  # characters

LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_sequence_length",
    "max_seq_len",
    "seq_length",
    "context_length",
)
UNKNOWN_LENGTH = 10**9  # no context length is as large; in `transformers`, 10**30 means that it is unknown
RELATIVE = ("relative_attention_num_buckets", "relative_buckets")  # relative positions, which have no maximum

Encode = Callable[[list[str]], list[list[int]]]
TextOf = Callable[[Sequence[int]], str]  # decodes generated tokens


class TokenizerModel(LanguageModel):
    """The base class of language models with a tokenizer of `transformers`.

    Args:
        tokenizer: the tokenizer.
        name: the name in tables.
        start: special tokens before every text.
        takes_ids: whether the model takes token ids, not text.

    Raises:
        ModelError: the tokenizer has no token that could replace an empty context.
    """

    def __init__(self, tokenizer: Any, name: str, start: tuple[int, ...], *, takes_ids: bool = True) -> None:
        self.tokenizer, self.name, self.start = tokenizer, name, start
        self.fallback = fallback_token(tokenizer)
        self.controls = ControlTokens(tokenizer, takes_ids=takes_ids)
        self._lines = line_encoder(tokenizer, self.controls)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, without special tokens."""
        with COMPUTING:
            return self._lines(texts)

    def chat_template(self, arguments: Mapping[str, Any]) -> ChatTemplate:
        """The chat template of the tokenizer, with these arguments.

        Raises:
            ModelError: there is no template, or it cannot be used.
            UnknownName: the template does not use one of the arguments.
        """
        return TokenizerTemplate(self.tokenizer, self.controls, arguments)

    def decode(self, ids: Sequence[int]) -> list[str]:
        """The text of each token, for display."""
        return [self.tokenizer.decode([token]) for token in ids]


class LineEncoder:
    """Encodes texts line by line, with the same result as encoding whole texts.

    Args:
        encode: encodes texts without special tokens.
        splits: whether it first splits texts into words; if not, whole texts are encoded.
        cache_size: number of characters of lines and of pairs of lines after which the cache is cleared.
    """

    def __init__(self, encode: Encode, *, splits: bool, cache_size: int = CACHE_SIZE) -> None:
        self._encode, self._splits, self._cache_size = encode, splits, cache_size
        self._clear()

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of the texts."""
        if not texts or not self._splits:
            return self._encode(list(texts)) if texts else []
        if self._size > self._cache_size:
            self._clear()
        cuts = [_last_line(text) for text in texts]
        lines = {front: _lines(front) for front in {front for front, _ in cuts}}
        ends = {(lines[front][-1], last) for front, last in cuts}
        pairs = ends.union(*map(pairwise, lines.values()))
        self._compare({pair for pair in pairs if pair not in self._separable})
        joined = {front: self._joined(each) for front, each in lines.items()}
        wholes = [self._continued(joined[front], lines[front][-1], last) for front, last in cuts]
        self._encode_new(dict.fromkeys(chain.from_iterable(wholes)))
        return [list(chain.from_iterable(map(self._ids.__getitem__, whole))) for whole in wholes]

    def _clear(self) -> None:
        self._ids: dict[str, list[int]] = {}
        self._separable: dict[tuple[str, str], bool] = {}  # whether two lines can be encoded separately
        self._separable_words: dict[tuple[str, str], bool] = {}  # the same for the words before and after the break
        self._size = 0

    def _compare(self, pairs: set[tuple[str, str]]) -> None:
        words = {pair: (_last_word(pair[0]), _first_word(pair[1])) for pair in pairs}
        new = [each for each in dict.fromkeys(words.values()) if each not in self._separable_words]
        if new:
            ids = iter(self._encode([text for left, right in new for text in (left, right, left + right)]))
            self._separable_words.update((each, next(ids) + next(ids) == next(ids)) for each in new)
        self._separable.update((pair, self._separable_words[each]) for pair, each in words.items())
        self._size += sum(len(left) + len(right) for left, right in pairs)

    def _joined(self, lines: list[str]) -> list[str]:
        """The lines of a text, of which those that cannot be encoded separately are joined."""
        joined = lines[:1]
        for pair in pairwise(lines):
            if self._separable[pair]:
                joined.append(pair[1])
            else:
                joined[-1] += pair[1]
        return joined

    def _continued(self, joined: list[str], before: str, last: str) -> list[str]:
        """Joined lines with the last line added, which follows the line `before`."""
        return [*joined, last] if self._separable[before, last] else [*joined[:-1], joined[-1] + last]

    def _encode_new(self, lines: dict[str, None]) -> None:
        new = [line for line in lines if line not in self._ids]
        if new:
            self._ids.update(zip(new, self._encode(new), strict=True))
            self._size += sum(map(len, new))


def _last_line(text: str) -> tuple[str, str]:
    """A text without its last line; and the last line, with the line breaks before it."""
    end = len(text[: text.rfind("\n") + 1].rstrip())
    return text[:end], text[end:]


def _lines(text: str) -> list[str]:
    """The lines of a text with the line breaks before them.

    Blank lines belong to the line before them, as does a line if the line before it ends with a space.
    """
    lines = []
    line, *others = text.split("\n")
    for other in others:
        if line and not line[-1].isspace():
            lines.append(line)
            line = f"\n{other}"
        else:
            line = f"{line}\n{other}"
    return [*lines, line]


def _last_word(line: str) -> str:
    """The last word of a line with the space before it, which may be part of its token."""
    (word,) = line.split()[-1:] or [""]
    return line[max(len(line) - len(word) - 1, 0) :]


def _first_word(line: str) -> str:
    """The first word of a line with the line breaks before it."""
    found = FIRST.match(line)
    return found[0] if found else line


def splits_into_words(tokenizer: Any) -> bool:
    """Whether a tokenizer of `transformers` splits texts into words and encodes each word by itself."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend is not None and backend.pre_tokenizer is not None and type(backend.model).__name__ in SPLITTING


def line_encoder(tokenizer: Any, controls: ControlTokens) -> LineEncoder:
    """An encoder of texts without special tokens; names that are marked by `controls` are encoded as text."""

    def encode(texts: list[str]) -> list[list[int]]:
        encoded: list[list[int]] = tokenizer(texts, **PLAIN)["input_ids"]
        marked = [index for index, text in enumerate(texts) if controls.has_marks(text)]
        if marked:
            for index, ids in zip(marked, controls.encode([texts[index] for index in marked]), strict=True):
                encoded[index] = ids
        return encoded

    return LineEncoder(encode, splits=splits_into_words(tokenizer))


def tokenizer_digest(tokenizer: Any) -> str:
    """Hash of a tokenizer of `transformers`, including its BOS and EOS tokens."""
    described = (
        tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else str(sorted(tokenizer.get_vocab().items()))
    )
    words = f"{described}:{tokenizer.bos_token_id}:{tokenizer.eos_token_id}"
    return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()


def bos_tokens(tokenizer: Any, bos: bool | None) -> tuple[int, ...]:
    """The BOS token if every text begins with it, else nothing; by default it does if the tokenizer adds it.

    It is added to the tokens of a prompt in `prompts.tokens.with_start`.

    Raises:
        ModelError: `bos` is True, but the tokenizer has no BOS token.
    """
    if bos is None:
        first = tokenizer("a", add_special_tokens=True)["input_ids"][:1]
        bos = first == [tokenizer.bos_token_id] and tokenizer.bos_token_id is not None
    if bos and tokenizer.bos_token_id is None:
        raise ModelError("--bos yes was requested, but the tokenizer has no BOS token")
    return (tokenizer.bos_token_id,) if bos else ()


def special_tokens(tokenizer: Any, bos: bool | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens that a tokenizer adds before and after a text, such as BERT's `[CLS]` and `[SEP]`.

    Args:
        tokenizer: the tokenizer.
        bos: False leaves out the tokens before a text.

    Raises:
        ModelError: `bos` is True, but the tokenizer adds nothing before a text.
    """
    bare, whole = (tokenizer("a", add_special_tokens=added)["input_ids"] for added in (False, True))
    offsets = (offset for offset in range(len(whole)) if whole[offset : offset + len(bare)] == bare)
    before = next(offsets, 0)
    start, end = tuple(whole[:before]), tuple(whole[before + len(bare) :])
    if bos and not start:
        raise ModelError("--bos yes was requested, but the tokenizer adds nothing before a text")
    return (() if bos is False else start), end


def fallback_token(tokenizer: Any) -> int:
    """The token that replaces an empty context.

    Raises:
        ModelError: the tokenizer has no suitable token.
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.cls_token_id):
        if token is not None:
            return int(token)
    raise ModelError("the tokenizer has neither a BOS nor an EOS token to begin an empty context with")


def window_of(config: Any, tokenizer: Any, requested: int | None) -> int:
    """Context length in tokens: the requested one, or by default that of the configuration or the tokenizer.

    Raises:
        ModelError: the context length is unknown, or larger than the number of positions of the model.
    """
    text = config.get_text_config()
    reported = _reported_window(text, tokenizer)
    relative = any(getattr(text, name, None) for name in RELATIVE)
    if requested is not None and reported is not None and requested > reported and not relative:
        raise ModelError(f"a context length of {requested} was requested, but that of the model is {reported}")
    if requested is None and reported is None:
        raise ModelError(
            "neither the model's configuration nor its tokenizer gives the context length; pass --max-length"
        )
    return requested or reported or 0


def _reported_window(text: Any, tokenizer: Any) -> int | None:
    for name in LENGTHS:
        if isinstance(size := getattr(text, name, None), int):
            return size
    if tokenizer.model_max_length < UNKNOWN_LENGTH:
        return int(tokenizer.model_max_length)
    return None


BEFORE = 4  # tokens of the prompt that are decoded with the generated ones; more if they begin within a character
BROKEN = "\ufffd"  # the replacement character, to which tokenizers decode a part of a character


def text_after(tokenizer: Any, prompt: Sequence[int]) -> TextOf:
    """A function that decodes the tokens generated after a prompt.

    Tokenizers may decode the first token of a text differently, and a character may consist of several tokens. So
    generated tokens are decoded together with the last tokens of the prompt.
    """
    size = BEFORE
    while BROKEN in (before := _decoded(tokenizer, prompt[-size:])) and size < len(prompt):
        size *= 2
    context = list(prompt[-size:])

    def text_of(tokens: Sequence[int]) -> str:
        return _decoded(tokenizer, [*context, *tokens])[len(before) :]

    return text_of


def text_alone(tokenizer: Any) -> TextOf:
    """A function that decodes generated tokens without a prompt, for encoder-decoder models."""

    def text_of(tokens: Sequence[int]) -> str:
        return _decoded(tokenizer, tokens)

    return text_of


class StopTokens:
    """Finds out which tokens may complete a stop string, so that a text need not be decoded after every token.

    A token completes a stop string only if it adds the last character of the string. A token adds the characters of its
    own text, with two exceptions: some tokenizers decode a space before or after it, and it may complete a character
    that the tokens before it begin, which is not in ASCII.

    Args:
        tokenizer: a tokenizer of `transformers`. If it is written in Python, it may strip texts, so any token may
            complete a stop string.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._tables: dict[frozenset[str], dict[int, bool]] = {}

    def of(self, stops: Collection[str]) -> Callable[[int], bool]:
        """A function that says whether a token may complete one of these stop strings."""
        last = frozenset(stop[-1] for stop in stops)
        is_sure = self._tokenizer.is_fast and last.isdisjoint((" ", BROKEN))
        known = self._tables.setdefault(last, {})
        watched = last if all(map(str.isascii, last)) else last | {BROKEN}

        def may_complete(token: int) -> bool:
            found = known.get(token)
            if found is None:
                found = not (is_sure and watched.isdisjoint(_decoded(self._tokenizer, [token, token])))
                known[token] = found
            return found

        return may_complete


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a text: the EOS tokens of the generation configuration and of the tokenizer."""
    eos = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = eos if isinstance(eos, list | tuple) else [eos]
    return frozenset(int(token) for token in (*ends, tokenizer.eos_token_id) if token is not None)


def _decoded(tokenizer: Any, tokens: Sequence[int]) -> str:
    text: str = tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False)
    return text
